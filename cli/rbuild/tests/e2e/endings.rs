//! How rbuild ends before it is done, and that nothing is left then.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    time::Duration,
};

use kit::{
    leftovers,
    rbuild::{Rbuild, finish, signal},
};
use rustix::process::Signal;

use super::rbuild;

/// A build whose step says `started` and then never ends, with a child of its own that would outlive it.
const ENDLESS: &str = "\
FROM busybox
ARG SECONDS=100000
RUN (sleep $SECONDS &) ; echo started; sleep $SECONDS
";

/// A build that has come to its endless step.
fn started(rbuild: &Rbuild) -> Child {
    rbuild.write("Dockerfile", ENDLESS);
    let mut child = rbuild
        .command(["build", "--progress=plain", "."])
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.as_mut().unwrap());
    let seen: Vec<String> = log
        .lines()
        .map(Result::unwrap)
        .take_while(|it| it.contains('[') || !it.ends_with(" started"))
        .collect();
    assert!(
        child.try_wait().unwrap().is_none(),
        "the build ended by itself: {seen:?}"
    );
    child
}

#[track_caller]
fn nothing_is_left(rbuild: &Rbuild, pid: u32) {
    let mut left = leftovers::settle(rbuild.home(), Duration::from_secs(10));
    left.extend(leftovers::cgroups_settle(pid, Duration::from_secs(10)));
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[track_caller]
fn the_next_build_succeeds_and_sweeps(rbuild: &Rbuild) {
    rbuild
        .run(["build", "-q", "--build-arg", "SECONDS=0", "."])
        .success();
    let work: Vec<_> = std::fs::read_dir(rbuild.root().join("tmp"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert!(work.is_empty(), "work of dead builds is left: {work:?}");
}

#[test]
fn a_build_killed_in_the_middle_of_run_leaves_nothing_as_root() {
    let rbuild = rbuild();
    let mut child = started(&rbuild);
    let pid = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&rbuild, pid);
    the_next_build_succeeds_and_sweeps(&rbuild);
}

#[test]
fn an_interrupted_build_says_so_and_leaves_nothing_as_root() {
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let rbuild = rbuild();
        let child = started(&rbuild);
        let pid = child.id();
        signal(&child, number).unwrap();
        finish(child).unwrap().failure(code);
        nothing_is_left(&rbuild, pid);
        the_next_build_succeeds_and_sweeps(&rbuild);
    }
}

#[test]
fn a_container_killed_with_its_rbuild_leaves_nothing_as_root() {
    let rbuild = rbuild();
    let mut child = rbuild
        .command([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo started; sleep 100000",
        ])
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "started\n");
    let pid = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&rbuild, pid);
}

#[test]
fn what_a_step_leaves_running_ends_with_the_step_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN (setsid sleep 100000 >/dev/null 2>&1 &); echo done\n",
    );
    // A process that outlived the step would be found when `rbuild` is dropped.
    rbuild.run(["build", "-q", "."]).success();
}

#[test]
fn a_reader_that_is_gone_ends_the_command_without_a_word_as_root() {
    let rbuild = rbuild();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = rbuild.command(["image", "save", "busybox"]);
    command.stdout(writer);
    let output = kit::rbuild::run(&mut command).failure(141);
    assert_eq!(output.stderr, "");
}
