//! How processes in the sandbox end, and what their terminal is like. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod room;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio as HostStdio};
use std::time::{Duration, Instant};

use room::{Room, finish};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal};
use sandbox::{Running, Spec, Status, Stdio, Terminal, User, spawn};

/// Waits until something holds, since other processes need their time.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

/// The host's processes whose command line holds a word.
fn processes(word: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|it| {
        it.file_name()
            .to_str()?
            .parse()
            .ok()
            .and_then(Pid::from_raw)
    });
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

fn first_line(from: &OwnedFd) -> String {
    let mut line = String::new();
    BufReader::new(fs::File::from(from.try_clone().unwrap()))
        .read_line(&mut line)
        .unwrap();
    line
}

#[test]
fn root_only_the_exit_code_or_the_signal_comes_back_with_what_was_used() {
    let room = Room::new();
    assert_eq!(room.run("exit 42").exit.status, Status::Code(42));
    let ran = room.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    assert!(ran.exit.usage.user > Duration::from_millis(1), "{ran:?}");
    assert!(ran.exit.usage.max_memory > 100_000, "{ran:?}");

    let running = spawn(room.spec("sleep 1000")).unwrap();
    running.handle().kill().unwrap();
    let exit = running.wait().unwrap();
    assert_eq!((exit.status, exit.code()), (Status::Signal(9), 137));
}

#[test]
fn root_only_signals_reach_a_process_that_handles_them() {
    let room = Room::new();
    let mut running =
        spawn(room.spec("trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 1; done"))
            .unwrap();
    let stdout = running.take_stdout().unwrap();
    assert_eq!(first_line(&stdout), "ready\n");
    running.handle().signal(Signal::TERM).unwrap();
    assert_eq!(first_line(&stdout), "caught\n");
    assert_eq!(running.wait().unwrap().status, Status::Code(7));
}

#[test]
fn root_only_ignored_signals_of_the_owner_are_not_handed_down() {
    // Rust ignores the signal of broken pipes.
    let ran = Room::new().run("grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status | cut -f2");
    assert_eq!(
        ran.stdout,
        "0000000000000000\n0000000000000000\n0000000000000000\n"
    );
}

#[test]
fn root_only_daemons_end_with_the_first_process() {
    let room = Room::new();
    let word = format!("{}.5", 700_000 + std::process::id());
    let script = format!(
        "trap '' TERM HUP; (setsid sleep {word} >/dev/null 2>&1 &) ; until pidof sleep >/dev/null; do :; done; echo gone"
    );
    assert_eq!(room.run(&script).stdout, "gone\n");
    assert_eq!(processes(&word), []);
}

#[test]
fn root_only_a_dropped_process_ends() {
    let room = Room::new();
    let word = format!("{}.25", 700_000 + std::process::id());
    drop(spawn(room.spec(&format!("sleep {word} & sleep {word}"))).unwrap());
    assert_eq!(processes(&word), []);
}

#[test]
fn root_only_a_process_outlives_the_thread_that_started_it() {
    let room = Room::new();
    let spec = room.spec("read line; echo $line");
    let running =
        std::thread::scope(|scope| scope.spawn(|| start_with_input(spec)).join().unwrap());
    let mut running = running;
    let stdin = running.take_stdin().unwrap();
    rustix::io::write(&stdin, b"still here\n").unwrap();
    assert_eq!(finish(running).stdout, "still here\n");
}

fn start_with_input(mut spec: Spec) -> Running {
    spec.stdio = Stdio::Streams {
        stdin: sandbox::Stream::Pipe,
        stdout: sandbox::Stream::Pipe,
        stderr: sandbox::Stream::Null,
    };
    spawn(spec).unwrap()
}

/// Not a test of its own: the owner that the next test kills, run as another process.
#[test]
fn root_only_owner_that_is_killed() {
    let Ok(word) = std::env::var("SANDBOX_TEST_WORD") else {
        return;
    };
    let room = Path::new(&std::env::var("SANDBOX_TEST_ROOM").unwrap()).to_owned();
    let room = Room::existing(&room);
    let mut spec = room.spec("");
    // The kernel forgets to kill with the parent when a set-user-ID program is executed.
    spec.args = [
        "/suid/busybox",
        "sh",
        "-c",
        &format!("(setsid sleep {word} &); sleep {word}"),
    ]
    .map(Into::into)
    .to_vec();
    spec.user = User {
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
    };
    let running = spawn(spec).unwrap();
    let _ = running.wait();
}

#[test]
fn root_only_nothing_survives_the_kill_of_its_owner() {
    let room = Room::new();
    let program = room.path().join("suid/busybox");
    fs::create_dir(room.path().join("suid")).unwrap();
    fs::copy("/bin/busybox", &program).unwrap();
    rustix::fs::chmod(&program, 0o4755.into()).unwrap();
    let word = format!("{}.125", 700_000 + std::process::id());
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "root_only_owner_that_is_killed", "--nocapture"])
        .env("SANDBOX_TEST_WORD", &word)
        .env("SANDBOX_TEST_ROOM", room.path())
        .stdout(HostStdio::null())
        .stderr(HostStdio::null())
        .spawn()
        .unwrap();
    eventually("both sleepers run", || {
        processes(&format!("sleep\0{word}")).len() >= 2
    });
    let namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let group = format!("/sys/fs/cgroup/pids/rbuild-{}.{namespace:x}", owner.id());
    let has_groups = Path::new(&group).exists();
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("all are gone", || processes(&word).is_empty());
    eventually("the control groups are gone", || {
        !Path::new(&group).exists()
    });
    assert!(has_groups || !Path::new("/sys/fs/cgroup/pids").exists());
}

fn terminal(room: &Room, script: &str) -> Running {
    let mut spec = room.spec(script);
    spec.stdio = Stdio::Terminal(Terminal {
        rows: 33,
        columns: 77,
    });
    spec.user = User {
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
    };
    spawn(spec).unwrap()
}

/// Reads a terminal until the last process has let go of it.
fn rest(terminal: &OwnedFd) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let mut file = fs::File::from(terminal.try_clone().unwrap());
    while let Ok(count @ 1..) = file.read(&mut part) {
        bytes.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

#[test]
fn root_only_a_terminal_is_the_sandboxs_own_and_controls_it() {
    let room = Room::new();
    let running = terminal(
        &room,
        "tty; stty size; : > /dev/tty && echo controlled; ls -ln /dev/pts/0 | cut -c1-10,19-29; [ -c /dev/console ] && echo console",
    );
    let screen = running.terminal().unwrap();
    let said = rest(&screen);
    running.wait().unwrap();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("/dev/pts/0"));
    assert_eq!(lines.next(), Some("33 77"));
    assert_eq!(lines.next(), Some("controlled"));
    assert!(lines.next().unwrap().starts_with("crw--w----"), "{said}");
    assert_eq!(lines.next(), Some("console"));
}

#[test]
fn root_only_a_terminal_takes_input_interrupts_and_new_sizes() {
    let room = Room::new();
    let script = "stty -echo; trap 'stty size' WINCH; trap 'echo interrupted' INT; echo ready; \
                  read line; echo got $line; read line; read line";
    let running = terminal(&room, script);
    let screen = running.terminal().unwrap();
    let mut writer = fs::File::from(screen.try_clone().unwrap());
    let expect = |word: &str| {
        let mut seen = String::new();
        let mut part = [0; 256];
        while !seen.contains(word) {
            let mut fds = [PollFd::new(&*screen, PollFlags::IN)];
            let limit = rustix::time::Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            assert_ne!(
                poll(&mut fds, Some(&limit)).unwrap(),
                0,
                "no {word} after {seen}"
            );
            let count = rustix::io::read(&*screen, &mut part).unwrap();
            seen.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    };
    expect("ready");
    writer.write_all(b"hello\n").unwrap();
    expect("got hello");
    running.handle().resize(11, 22).unwrap();
    expect("11 22");
    writer.write_all(b"\x03").unwrap();
    expect("interrupted");
    running.handle().kill().unwrap();
    running.wait().unwrap();
}
