//! `rbuild run`: what a container sees, and how it ends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use kit::rbuild::{finish, run, signal};
use rustix::process::Signal;

use super::rbuild;

#[track_caller]
fn check(arguments: &[&str], expected: &str) {
    let rbuild = rbuild();
    let output = rbuild.run([&["run", "--rm", "--network", "none"], arguments].concat());
    assert_eq!(rbuild.stable(&output.transcript()), expected);
}

#[test]
fn the_exit_code_is_the_processs_own_as_root() {
    check(&["busybox", "sh", "-c", "exit 42"], "exit 42\n");
    check(&["busybox", "true"], "");
}

#[test]
fn a_killed_process_is_128_and_its_signal_as_root() {
    let script = "sh -c 'kill -9 $$'; exit $?";
    check(&["busybox", "sh", "-c", script], "err| Killed\nexit 137\n");
}

#[test]
fn what_is_asked_for_is_seen_inside_as_root() {
    check(
        &["-e", "A=b c", "busybox", "sh", "-c", "echo $A"],
        "out| b c\n",
    );
    check(&["-w", "/var/new", "busybox", "pwd"], "out| /var/new\n");
    check(
        &["-u", "user", "busybox", "id"],
        "out| uid=1000(user) gid=1000(user) groups=50(staff),1000(user)\n",
    );
    check(
        &["-u", "7:8", "busybox", "sh", "-c", "id -u; id -g"],
        "out| 7\nout| 8\n",
    );
    check(
        &["--hostname", "here", "busybox", "hostname"],
        "out| here\n",
    );
    check(&["--entrypoint", "echo", "busybox", "said"], "out| said\n");
}

#[test]
fn volumes_are_shared_and_read_only_ones_only_read_as_root() {
    let rbuild = rbuild();
    rbuild.write("shared/in", "from outside\n");
    let shared = rbuild.work().join("shared");
    let volume = format!("{}:/shared", shared.display());
    let script = "cat /shared/in; echo from inside > /shared/out";
    let output = rbuild
        .run(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script])
        .success();
    assert_eq!(output.stdout, "from outside\n");
    assert_eq!(
        std::fs::read_to_string(shared.join("out")).unwrap(),
        "from inside\n"
    );

    let read_only = format!("{volume}:ro");
    let refused = rbuild
        .run([
            "run", "--rm", "-v", &read_only, "busybox", "sh", "-c", script,
        ])
        .failure(1);
    assert!(
        refused.stderr.contains("Read-only file system"),
        "{}",
        refused.stderr
    );
}

#[test]
fn input_goes_in_only_when_asked_for_as_root() {
    let rbuild = rbuild();
    let with = run(&mut rbuild.shell("echo hello | rbuild run --rm -i busybox cat")).success();
    assert_eq!(with.stdout, "hello\n");
    let without = run(&mut rbuild.shell("echo hello | rbuild run --rm busybox cat")).success();
    assert_eq!(without.stdout, "");
}

#[test]
fn signals_are_passed_on_as_root() {
    let rbuild = rbuild();
    let script = "trap 'echo got it; exit 7' TERM; echo ready; while true; do usleep 10000; done";
    let mut child = rbuild
        .command(["run", "--rm", "busybox", "sh", "-c", script])
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(&child, Signal::TERM).unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got it\n");
    finish(child).unwrap().failure(7);
}

#[test]
fn a_terminal_is_a_real_one_as_root() {
    let rbuild = rbuild();
    // `script` gives rbuild a terminal of 50 lines and 100 columns.
    let inside = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all three";
    let line = format!("stty rows 50 cols 100; rbuild run --rm -it busybox sh -c '{inside}'");
    let mut command = rbuild.shell("script -qec \"$LINE\" /dev/null");
    command.env("LINE", line).stdin(Stdio::piped());
    let output = finish(command.spawn().unwrap()).unwrap().success();
    let lines: Vec<&str> = output.stdout.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["/dev/pts/0", "50 100", "all three"]);
}

#[test]
fn a_build_that_ends_in_another_store_leaves_the_network_as_it_is_as_root() {
    let (here, there) = (rbuild(), rbuild());
    let gateway = "ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'";
    let script = format!("echo ready; read line; ping -c 1 -W 1 $({gateway}) | grep transmitted");
    let mut child = here
        .command(["run", "--rm", "-i", "busybox", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    there.write("Dockerfile", "FROM busybox\nRUN ip route | grep default\n");
    there.run(["build", "."]).success();

    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert!(line.contains(" 0% packet loss"), "{line}");
    finish(child).unwrap().success();
}
