use std::sync::Arc;

use llb::KeyHasher;
use llb::op::{Copy, Network, OwnerNames, Security, Tree};

use super::*;
use crate::{Attributes, CopySelector, Step};

fn key(text: &str) -> llb::Key {
    KeyHasher::new("test").text(text).finish()
}

fn variables(exec: &mut Exec) -> &mut Vec<String> {
    Arc::make_mut(&mut exec.env)
}

fn run(text: &str) -> Exec {
    Exec {
        args: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        env: Arc::new(vec!["PATH=/bin".to_owned(), "GIT_SHA=1f".to_owned()]),
        unkeyed_env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: Vec::new(),
        network: Network::Default,
        security: Security::Sandbox,
        extra_hosts: BTreeMap::new(),
        hostname: "build".to_owned(),
        shm_size: None,
        devices: Vec::new(),
        ulimits: BTreeMap::new(),
        cgroup_parent: None,
        resources: Arc::default(),
        terms: llb::op::Terms::default(),
    }
}

fn copy(source: &str) -> Copy {
    Copy {
        from: Tree::Input(1),
        source: source.to_owned(),
        destination: "/app/".to_owned(),
        owner: None,
        mode: None,
        wildcard: false,
        unpack: false,
        exclude: Vec::new(),
        parents: false,
    }
}

fn origin(name: &str) -> Origin {
    Origin {
        name: name.to_owned(),
        image: None,
        id: None,
        local: false,
        files: BTreeMap::new(),
    }
}

fn base(image: &str, id: &str) -> Origin {
    Origin {
        image: Some(image.to_owned()),
        id: Some(id.to_owned()),
        ..origin(&format!("[1/3] FROM {image}"))
    }
}

fn facts(inputs: &[Origin]) -> Facts {
    let declared = Declared {
        by: "ARG".to_owned(),
        at: "Dockerfile:3".to_owned(),
    };
    Facts {
        inputs: inputs.to_vec(),
        declared: BTreeMap::from([("GIT_SHA".to_owned(), declared)]),
    }
}

fn on(content: &str) -> Vec<InputKey> {
    vec![InputKey::Content(vec![(Selector::Tree, key(content))])]
}

/// A `RUN make` on `[2/3] COPY . .`, changed by `change`.
fn exec_preimage(change: impl FnOnce(&mut Exec)) -> Value {
    let mut exec = run("make");
    change(&mut exec);
    Step::new(&Op::Exec(exec), on("tree")).preimage_with(&facts(&[origin("[2/3] COPY . .")]))
}

/// A `COPY src /app/` from the build context, changed by `change`, on a base.
fn copy_preimage(change: impl FnOnce(&mut Copy), below: &str, files: &str) -> Value {
    let mut copy = copy("/src");
    change(&mut copy);
    let selector = Selector::Copy(CopySelector {
        path: copy.source.clone(),
        wildcard: false,
        exclude: Vec::new(),
        parents: false,
        attributes: Attributes {
            mode: true,
            owner: true,
        },
    });
    let op = Op::File(File {
        actions: vec![FileAction {
            base: Tree::Input(0),
            change: FileChange::Copy(copy),
            output: true,
        }],
    });
    let mut inputs = on(below);
    inputs.push(InputKey::Content(vec![(selector, key(files))]));
    let context = Origin {
        local: true,
        ..origin("[internal] load build context")
    };
    Step::new(&op, inputs).preimage_with(&facts(&[base("busybox", "sha256:1"), context]))
}

fn check(old: &Value, new: &Value, expected: &[&str]) {
    let said: Vec<String> = differences(old, new)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn a_run_says_what_of_it_changed() {
    let old = exec_preimage(|_| {});
    type Change = fn(&mut Exec);
    let table: &[(Change, &[&str])] = &[
        (|_| {}, &[]),
        (
            |exec| exec.args[2] = "make all".into(),
            &["the command changed: `make` -> `make all`"],
        ),
        (
            |exec| variables(exec)[1] = "GIT_SHA=2e".into(),
            &["ARG GIT_SHA 1f -> 2e, declared at Dockerfile:3"],
        ),
        (
            |exec| variables(exec)[1] = "GIT_SHA=".into(),
            &["ARG GIT_SHA 1f -> \"\", declared at Dockerfile:3"],
        ),
        (
            |exec| drop(variables(exec).pop()),
            &["ARG GIT_SHA is gone, it was 1f, declared at Dockerfile:3"],
        ),
        (
            |exec| variables(exec)[0] = "PATH=/sbin".into(),
            &["ENV PATH /bin -> /sbin, from the base image"],
        ),
        (
            |exec| variables(exec).push("A=b c".into()),
            &["ENV A is new: \"b c\", from the base image"],
        ),
        (|exec| exec.cwd = "/src".into(), &["WORKDIR / -> /src"]),
        (|exec| exec.user = "web".into(), &["USER nothing -> web"]),
        (
            |exec| exec.network = Network::None,
            &["--network default -> none"],
        ),
        (
            |exec| exec.security = Security::Insecure,
            &["--security sandbox -> insecure"],
        ),
        (|exec| exec.shm_size = Some(1), &["--shm-size nothing -> 1"]),
        (
            |exec| {
                let limit = Ulimit {
                    soft: Some(1),
                    hard: None,
                };
                exec.ulimits.insert("nofile".into(), limit);
            },
            &["--ulimit nothing -> nofile=1:-1"],
        ),
        (
            |exec| {
                exec.devices.push(llb::op::Device {
                    name: "vendor.example/gpu=0".into(),
                    required: true,
                });
            },
            &["--device nothing -> vendor.example/gpu=0,required"],
        ),
        (
            |exec| exec.cgroup_parent = Some("/builds".into()),
            &["--cgroup-parent nothing -> /builds"],
        ),
        (
            |exec| Arc::make_mut(&mut exec.resources).memory = Some(1),
            &[],
        ),
        (
            |exec| drop(exec.extra_hosts.insert("db".into(), "10.0.0.1".into())),
            &["--add-host nothing -> db"],
        ),
        (
            |exec| {
                exec.mounts.push(Mount {
                    target: "/cache".into(),
                    kind: MountKind::Tmpfs { size: None },
                    read_only: false,
                    output: false,
                });
            },
            &["the mount at /cache is new"],
        ),
        (|exec| exec.unkeyed_env.push("http_proxy=x".into()), &[]),
    ];
    for (change, expected) in table {
        check(&old, &exec_preimage(change), expected);
    }
}

#[test]
fn a_copy_says_what_of_it_changed() {
    let old = copy_preimage(|_| {}, "base", "files");
    type Change = fn(&mut Copy);
    let table: &[(Change, &str)] = &[
        (
            |copy| copy.destination = "/srv/".into(),
            "destination /app/ -> /srv/",
        ),
        (
            |copy| copy.mode = Some(ModeChange::Octal(0o755)),
            "--chmod nothing -> 755",
        ),
        (
            |copy| copy.exclude.push("*.o".into()),
            "--exclude nothing -> *.o",
        ),
        (
            |copy| {
                copy.owner = Some(Owner {
                    user: UserName::Name("web".into()),
                    group: Some(UserName::Id(5)),
                    names: OwnerNames::Changed,
                });
            },
            "--chown nothing -> web:5",
        ),
    ];
    for (change, expected) in table {
        check(&old, &copy_preimage(change, "base", "files"), &[expected]);
    }
    check(
        &old,
        &copy_preimage(|_| {}, "base", "others"),
        &["src changed"],
    );
}

#[test]
fn an_input_is_named_by_what_it_is() {
    let step = |origin: Origin, content: &str| {
        Step::new(&Op::Exec(run("make")), on(content)).preimage_with(&facts(&[origin]))
    };
    check(
        &step(base("debian:bookworm", "sha256:1"), "1"),
        &step(base("debian:bookworm", "sha256:2"), "2"),
        &["base debian:bookworm moved to sha256:2"],
    );
    check(
        &step(base("debian:bookworm", "sha256:1"), "1"),
        &step(base("debian:trixie", "sha256:2"), "2"),
        &["base debian:bookworm -> debian:trixie"],
    );
    check(
        &step(origin("[2/3] COPY . ."), "1"),
        &step(origin("[2/3] COPY . ."), "2"),
        &["`[2/3] COPY . .` came out different"],
    );
}

#[test]
fn what_cannot_be_read_is_not_compared() {
    check(&serde_json::json!(null), &exec_preimage(|_| {}), &[]);
    check(
        &serde_json::json!({"op": "Dance", "inputs": []}),
        &exec_preimage(|_| {}),
        &[],
    );
}

#[test]
fn a_long_text_is_cut_to_a_sentence() {
    let old = exec_preimage(|_| {});
    let new = exec_preimage(|exec| exec.args[2] = "a\nb".into());
    check(&old, &new, &["the command changed: `make` -> `a…`"]);
}
