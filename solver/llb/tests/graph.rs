//! Identity and structure of graphs.

use std::sync::Arc;

use llb::op::{
    Device, Exec, GitSource, GitTimes, HttpPin, HttpSource, ImageSource, LocalSource, Mount,
    MountKind, Network, Security, Source,
};
use llb::{Graph, Input, Metadata, Op, dot};
use oci::Digest;

fn exec(change: impl FnOnce(&mut Exec)) -> Op {
    let root = MountKind::Bind {
        input: Some(0),
        selector: "/".to_owned(),
    };
    let mut exec = Exec {
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "make".to_owned()],
        env: Arc::new(vec!["PATH=/bin".to_owned()]),
        unkeyed_env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: vec![Mount {
            target: "/".to_owned(),
            kind: root,
            read_only: false,
            output: true,
        }],
        network: Network::Default,
        security: Security::Sandbox,
        extra_hosts: [("peer".to_owned(), "10.0.0.1".to_owned())].into(),
        hostname: "buildkitsandbox".to_owned(),
        shm_size: None,
        devices: Vec::new(),
        ulimits: std::collections::BTreeMap::new(),
        cgroup_parent: None,
        resources: Arc::default(),
        terms: llb::op::Terms::default(),
    };
    change(&mut exec);
    Op::Exec(exec)
}

fn image(reference: &str, content: &str) -> Op {
    let id = Digest::of(content.as_bytes());
    Op::Source(Source::Image(ImageSource {
        reference: reference.to_owned(),
        id,
        diff_ids: vec![id],
    }))
}

fn named(name: &str) -> Metadata {
    Metadata {
        name: name.to_owned(),
        ..Metadata::default()
    }
}

#[test]
fn what_the_spec_keeps_out_of_a_key_is_not_in_it() {
    let plain = exec(|_| {}).digest();
    assert_eq!(
        exec(|exec| exec.unkeyed_env.push("http_proxy=x".to_owned())).digest(),
        plain
    );
    assert_eq!(
        exec(|exec| Arc::make_mut(&mut exec.resources).memory = Some(1)).digest(),
        plain
    );
    assert_eq!(
        exec(|exec| exec.extra_hosts.values_mut().for_each(|it| it.push('2'))).digest(),
        plain
    );
    assert_eq!(
        image("debian:12", "1").digest(),
        image("debian:bookworm", "1").digest()
    );
}

#[test]
fn everything_else_of_an_op_is_in_its_key() {
    let plain = exec(|_| {}).digest();
    let unlimited = llb::op::Ulimit {
        soft: None,
        hard: None,
    };
    let limited = exec(|exec| exec.ulimits.extend([("core".to_owned(), unlimited)]));
    assert_ne!(limited.digest(), exec(|_| {}).digest());
    let changes: [fn(&mut Exec); 11] = [
        |exec| {
            exec.devices.push(Device {
                name: "vendor.example/gpu".to_owned(),
                required: true,
            });
        },
        |exec| exec.cgroup_parent = Some("/builds".to_owned()),
        |exec| exec.args.push(String::new()),
        |exec| Arc::make_mut(&mut exec.env).push("A=1".to_owned()),
        |exec| exec.cwd.push_str("src"),
        |exec| exec.user.push_str("web"),
        |exec| exec.mounts[0].read_only = true,
        |exec| exec.network = Network::None,
        |exec| exec.security = Security::Insecure,
        |exec| drop(exec.extra_hosts.insert("other".to_owned(), String::new())),
        |exec| exec.hostname.clear(),
    ];
    let mut keys: Vec<llb::Key> = changes
        .into_iter()
        .map(|change| exec(change).digest())
        .collect();
    keys.push(plain);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), changes.len() + 1);
    assert_ne!(
        image("debian:12", "1").digest(),
        image("debian:12", "2").digest()
    );
}

#[test]
fn equal_vertices_are_one_and_keep_the_first_name() {
    let mut graph = Graph::default();
    let base = graph.add(
        image("debian:12", "1"),
        vec![],
        named("[a 1/2] FROM debian:12"),
    );
    let input = vec![Input {
        vertex: base,
        output: 0,
    }];
    let first = graph.add(exec(|_| {}), input.clone(), named("[a 2/2] RUN make"));
    let forced = Metadata {
        ignore_cache: true,
        ..named("[b 2/2] RUN make")
    };
    let second = graph.add(exec(|_| {}), input, forced);
    assert_eq!((first, graph.len()), (second, 2));
    assert_eq!(graph.vertex(first).metadata.name, "[a 2/2] RUN make");
    assert!(
        graph.vertex(first).metadata.ignore_cache,
        "one that ignores the cache makes both ignore it"
    );
}

#[test]
fn the_same_op_on_another_input_or_output_is_another_vertex() {
    let mut graph = Graph::default();
    let one = graph.add(image("a", "1"), vec![], named("a"));
    let two = graph.add(image("b", "2"), vec![], named("b"));
    let inputs =
        [(one, 0), (one, 1), (two, 0)].map(|(vertex, output)| vec![Input { vertex, output }]);
    let vertices = inputs.map(|inputs| graph.add(Op::Diff, inputs, named("diff")));
    assert_eq!(graph.len(), 5);
    let mut consumers: Vec<_> = graph.consumers(one).collect();
    consumers.sort_unstable();
    assert_eq!(consumers, vertices[..2]);
}

#[test]
fn dot_draws_a_box_a_vertex_and_an_arrow_an_input() {
    let mut graph = Graph::default();
    let context = LocalSource {
        name: "context".to_owned(),
        ignore: Vec::new(),
    };
    let local = graph.add(
        Op::Source(Source::Local(context)),
        vec![],
        named("load \"context\""),
    );
    let inputs = vec![
        Input {
            vertex: local,
            output: 0,
        },
        Input {
            vertex: local,
            output: 1,
        },
    ];
    graph.add(Op::Merge, inputs, named("merge"));
    let text = dot::dot(&graph);
    assert!(
        text.starts_with("digraph build {\n") && text.ends_with("}\n"),
        "{text}"
    );
    assert!(
        text.contains(r#"load \"context\""#),
        "names are quoted: {text}"
    );
    assert!(
        text.contains("v0 -> v1 [label=\"0\"];")
            && text.contains("v0 -> v1 [label=\"1 (output 1)\"];"),
        "{text}"
    );
}

fn page(url: &str, pin: Option<HttpPin>) -> Op {
    Op::Source(Source::Http(HttpSource {
        url: url.to_owned(),
        checksum: None,
        filename: "page".to_owned(),
        mode: 0o600,
        owner: (0, 0),
        pin,
    }))
}

#[test]
fn an_address_counts_until_it_is_known_what_it_answers_with() {
    let pin = |text: &str| {
        Some(HttpPin {
            content: Digest::of(text.as_bytes()),
            last_modified: None,
        })
    };
    assert_ne!(page("a", None).digest(), page("b", None).digest());
    assert_eq!(page("a", pin("1")).digest(), page("b", pin("1")).digest());
    assert_ne!(page("a", pin("1")).digest(), page("a", pin("2")).digest());
    assert_ne!(page("a", None).digest(), page("a", pin("1")).digest());
}

#[test]
fn a_commit_stands_for_the_reference_and_credentials_for_nothing() {
    let git = |remote: &str, reference: &str, pin: Option<&str>| {
        Op::Source(Source::Git(GitSource {
            remote: remote.to_owned(),
            reference: reference.to_owned(),
            checksum: None,
            subdir: "/".to_owned(),
            keep_git_dir: false,
            submodules: true,
            times: GitTimes::Checkout,
            fetch_by_commit: false,
            pin: pin.map(str::to_owned),
        }))
        .digest()
    };
    let remote = "https://example.com/a.git";
    assert_ne!(git(remote, "main", None), git(remote, "v1", None));
    assert_eq!(
        git(remote, "main", Some("abc")),
        git("https://me:secret@example.com/a.git", "v1", Some("abc"))
    );
    assert_ne!(
        git(remote, "main", Some("abc")),
        git(remote, "main", Some("abd"))
    );
}

#[test]
fn credentials_are_taken_out_of_addresses() {
    let table = [
        ("https://u:p@host/a", "https://host/a"),
        ("https://token@host:8080/a?x=1", "https://host:8080/a?x=1"),
        ("https://u:p@x@host/a@b", "https://host/a@b"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host?u@h", "https://host?u@h"),
        ("ssh://git@host/a", "ssh://git@host/a"),
        ("ssh://git:p@host/a", "ssh://host/a"),
        ("git@host:a.git", "git@host:a.git"),
    ];
    for (address, expected) in table {
        assert_eq!(llb::without_credentials(address), expected, "{address}");
    }
}
