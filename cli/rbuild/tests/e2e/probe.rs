//! What a process may do in a RUN, asked call by call, and that nobody else's default refuses more.
//!
//! `testdata/probe/probe.c` makes the attempts, `testdata/probe/answers.txt` has their outcomes: here, under podman with
//! docker's fourteen capabilities, and under runc alone, with what `runc spec` says and the filter that podman and docker
//! share; once with the three capabilities that runc has by default, and once with docker's fourteen.
//! `UPDATE_EXPECT=1` writes all columns anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kit::{
    expect,
    rbuild::{Rbuild, run},
};

use serde_json::{Value, json};

use super::rbuild;

/// What is allowed, in the words of the probe.
const ALLOW: &str = "ALLOW";

/// There is nothing: masked here, or unknown to this kernel.
const NOTHING: &str = "NOTHING";

/// Calls that are newer than the library podman's filter is written with, and harmless: it answers for them that they
/// are not there, as it does for any number it does not know.
const NEWER_THAN_THEIRS: &[&str] = &["call cachestat", "call fchmodat2", "call mseal"];

/// The answers of one run of the probe, in its order.
struct Answers(Vec<(String, String)>);

impl Answers {
    fn read(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|it| it.split_once('\t'))
                .map(|(name, answer)| (name.to_owned(), answer.trim().to_owned()))
                .collect(),
        )
    }

    fn by_name(&self) -> BTreeMap<&str, &str> {
        self.0
            .iter()
            .map(|(name, answer)| (name.as_str(), answer.as_str()))
            .collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/probe")
}

/// Builds the probe into the work directory.
fn compile(rbuild: &Rbuild) {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(rbuild.work().join("probe"))
        .arg(folder().join("probe.c"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    run(&mut compiler).success();
}

fn here(rbuild: &Rbuild) -> Answers {
    rbuild.write(
        "Dockerfile",
        "FROM busybox AS probe\nCOPY probe /bin/probe\nRUN [\"/bin/sh\", \"-c\", \"exec /bin/probe > /answers\"]\n\
         FROM scratch\nCOPY --from=probe /answers /\n",
    );
    rbuild.run(["build", "-q", "-o", "out", "."]).success();
    Answers::read(&fs::read_to_string(rbuild.work().join("out/answers")).unwrap())
}

fn under_runc(rbuild: &Rbuild) -> Answers {
    let line = "mkdir -p rootfs/bin rootfs/proc rootfs/sys rootfs/dev rootfs/etc rootfs/tmp && cp probe rootfs/bin/ && \
        podman --root $PWD/store --runroot $PWD/run --storage-driver vfs --runtime runc run --rm --network none \
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --cap-add MKNOD,NET_RAW,AUDIT_WRITE \
        --rootfs $PWD/rootfs /bin/probe";
    Answers::read(&run(&mut rbuild.shell(line)).success().stdout)
}

/// Docker's capabilities, as a step has them.
const FOURTEEN: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Under runc itself, as `runc spec` has it but for what a step needs: no terminal, and files that can be written.
fn under_runc_alone(rbuild: &Rbuild, capabilities: Option<&[&str]>) -> Answers {
    let name = format!("bundle-{}", capabilities.map_or(3, <[_]>::len));
    let bundle = rbuild.work().join(&name);
    let make = format!("mkdir -p {name} && cp -a rootfs {name}/ && cd {name} && runc spec");
    run(&mut rbuild.shell(&make)).success();
    let path = bundle.join("config.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/probe"]);
    spec["root"]["readonly"] = false.into();
    if let Some(capabilities) = capabilities {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(capabilities);
        }
        spec["process"]["capabilities"]["ambient"] = json!([]);
        spec["process"]["noNewPrivileges"] = false.into();
    }
    let held: Vec<String> =
        serde_json::from_value(spec["process"]["capabilities"]["bounding"].clone()).unwrap();
    spec["linux"]["seccomp"] = filter(&held);
    fs::write(&path, spec.to_string()).unwrap();
    let line = format!(
        "runc --root $PWD/runc-state run --bundle {name} rbuild-probe-{}-{name}",
        std::process::id()
    );
    Answers::read(&run(&mut rbuild.shell(&line)).success().stdout)
}

/// The default filter of podman and docker for a process with these capabilities, in runc's words.
fn filter(held: &[String]) -> Value {
    const PROFILE: &str = "/usr/share/containers/seccomp.json";
    let text = fs::read_to_string(PROFILE).expect("podman's package brings the filter");
    let profile: Value = serde_json::from_str(&text).unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        _ => ("arm64", "SCMP_ARCH_AARCH64"),
    };
    let names = |condition: &Value, what: &str| -> Vec<String> {
        let list = condition[what].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect()
    };
    // Versions of the kernel are all older than any that rbuild runs on.
    let applies = |rule: &&Value| {
        let (with, without) = (&rule["includes"], &rule["excludes"]);
        let architectures = names(with, "arches");
        (architectures.is_empty() || architectures.iter().any(|it| it == architecture.0))
            && !names(without, "arches")
                .iter()
                .any(|it| it == architecture.0)
            && names(with, "caps").iter().all(|it| held.contains(it))
            && !names(without, "caps").iter().any(|it| held.contains(it))
    };
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let rules: Vec<Value> = rules
        .filter(applies)
        .map(|rule| {
            let mut one = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    one[key] = rule[key].clone();
                }
            }
            one
        })
        .collect();
    let family = profile["archMap"].as_array().unwrap().iter();
    let mut family = family.filter(|it| it["architecture"] == architecture.1);
    let mut architectures = vec![json!(architecture.1)];
    let more = family
        .next()
        .and_then(|it| it["subArchitectures"].as_array());
    architectures.extend(more.into_iter().flatten().cloned());
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": rules,
    })
}

/// Under whom the attempts are made besides, in the order of the columns.
const OTHERS: [&str; 3] = ["podman and runc", "runc spec", "runc spec, 14 capabilities"];

fn table(here: &Answers, others: &[Answers; 3]) -> String {
    let line = |name: &str, cells: [&str; 4]| {
        let mut line = format!("{name:<60}");
        for cell in cells {
            write!(line, "{cell:<24}").unwrap();
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line("attempt", ["rbuild", OTHERS[0], OTHERS[1], OTHERS[2]]);
    for (name, answer) in &here.0 {
        let [first, second, third] = others.each_ref().map(|it| it.by_name()[name.as_str()]);
        text += &line(name, [answer, first, second, third].map(or_dash));
    }
    text
}

fn or_dash(answer: &str) -> &str {
    if answer.is_empty() { "-" } else { answer }
}

/// The column of rbuild in a table, by attempt.
fn expected(table: &str) -> BTreeMap<&str, &str> {
    table
        .lines()
        .skip(1)
        .map(|line| {
            let (name, rest) = line.split_at(60);
            (name.trim(), rest.split_whitespace().next().unwrap())
        })
        .collect()
}

#[test]
fn what_a_run_may_do_is_what_the_table_says_and_no_more_than_under_runc_as_root() {
    let rbuild = rbuild();
    compile(&rbuild);
    let here = here(&rbuild);
    let others = [
        under_runc(&rbuild),
        under_runc_alone(&rbuild, None),
        under_runc_alone(&rbuild, Some(&FOURTEEN)),
    ];
    assert!(here.0.len() >= 120, "{} attempts", here.0.len());

    // Nothing is left out on any side.
    let ours = here.by_name();
    for (there, whose) in others.iter().zip(OTHERS) {
        let theirs = there.by_name();
        let missing: Vec<_> = here
            .0
            .iter()
            .filter(|it| !theirs.contains_key(it.0.as_str()))
            .chain(
                there
                    .0
                    .iter()
                    .filter(|it| !ours.contains_key(it.0.as_str())),
            )
            .collect();
        assert!(
            missing.is_empty(),
            "attempts that only we or only {whose} made: {missing:?}"
        );
    }
    // What runc's own three capabilities are too few for, it allows with the fourteen, or it is refused here too.
    for (there, whose) in [(&others[0], OTHERS[0]), (&others[2], OTHERS[2])] {
        let theirs = there.by_name();
        let laxer: Vec<_> = here
            .0
            .iter()
            .filter(|(name, answer)| answer == ALLOW && theirs[name.as_str()] != ALLOW)
            .filter(|(name, _)| !NEWER_THAN_THEIRS.contains(&name.as_str()))
            .map(|(name, _)| (name, theirs[name.as_str()]))
            .collect();
        assert!(
            laxer.is_empty(),
            "allowed here and refused by {whose}: {laxer:?}"
        );
    }

    let path = folder().join("answers.txt");
    let said = fs::read_to_string(&path).unwrap_or_default();
    let expected = expected(&said);
    let mut other: Vec<_> = here
        .0
        .iter()
        .map(|(name, answer)| {
            let wanted = expected.get(name.as_str()).copied().unwrap_or("?");
            (name, wanted, or_dash(answer))
        })
        // What this kernel does not have cannot be had.
        .filter(|(_, wanted, answer)| wanted != answer && (*wanted == ALLOW || *answer != NOTHING))
        .collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        expect::check(&path, &table(&here, &others)).unwrap();
        other.clear();
    }
    assert!(
        other.is_empty(),
        "attempt, expected answer, answer: {other:#?}"
    );
}
