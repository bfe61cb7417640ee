//! What a process may do in a RUN, asked call by call, and that nobody else's default refuses more.
//!
//! `testdata/probe/probe.c` makes the attempts, `testdata/probe/answers.txt` has their outcomes: here, and under runc
//! with podman's system call filter and docker's fourteen capabilities. `UPDATE_EXPECT=1` writes both columns anew.

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

fn table(here: &Answers, there: &Answers) -> String {
    let there = there.by_name();
    let mut text = format!("{:<60}{:<24}{}\n", "attempt", "rbuild", "podman and runc");
    for (name, answer) in &here.0 {
        let other = there.get(name.as_str()).copied().unwrap_or("?");
        writeln!(text, "{name:<60}{:<24}{}", or_dash(answer), or_dash(other)).unwrap();
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
    let (here, there) = (here(&rbuild), under_runc(&rbuild));
    assert!(here.0.len() >= 120, "{} attempts", here.0.len());

    let theirs = there.by_name();
    let missing: Vec<_> = here
        .0
        .iter()
        .filter(|it| !theirs.contains_key(it.0.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "attempts that only one side made: {missing:?}"
    );
    let laxer: Vec<_> = here
        .0
        .iter()
        .filter(|(name, answer)| answer == ALLOW && theirs[name.as_str()] != ALLOW)
        .filter(|(name, _)| !NEWER_THAN_THEIRS.contains(&name.as_str()))
        .map(|(name, _)| (name, theirs[name.as_str()]))
        .collect();
    assert!(
        laxer.is_empty(),
        "allowed here and refused there: {laxer:?}"
    );

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
        expect::check(&path, &table(&here, &there)).unwrap();
        other.clear();
    }
    assert!(
        other.is_empty(),
        "attempt, expected answer, answer: {other:#?}"
    );
}
