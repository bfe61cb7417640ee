//! What a process can use up: control groups and its own limits, as it sees them itself. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod room;

use std::fs;
use std::path::PathBuf;

use room::{Ran, Room, finish};
use rustix::fs::{FlockOperation, flock};
use sandbox::{Limits, Resource, Rlimit, SpawnError, spawn};

fn run(script: &str, limits: Limits) -> Ran {
    let room = Room::new();
    let mut spec = room.spec(script);
    spec.limits = limits;
    finish(spawn(spec).unwrap())
}

fn refusal(limits: Limits) -> SpawnError {
    let room = Room::new();
    let mut spec = room.spec("echo it ran");
    spec.limits = limits;
    spawn(spec).expect_err("it must not start")
}

fn rlimit(name: &str, soft: Option<u64>, hard: Option<u64>) -> Limits {
    let resource = Resource::named(name).unwrap();
    Limits {
        rlimits: vec![Rlimit {
            resource,
            soft,
            hard,
        }],
        ..Limits::default()
    }
}

/// The process's group of a controller of the first version, as the host sees it.
fn group(pid: u32, controller: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|it| it == controller);
        is_it.then(|| fields.next())?
    })?;
    Some(PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}")))
}

/// Has another process start a sandbox, which looks first for what the dead have left.
fn start_elsewhere() {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    let ended = command.args(["--exact", "root_only_want_of_memory_is_told"]);
    assert!(ended.output().unwrap().status.success());
}

#[test]
fn root_only_groups_of_owners_whose_namespace_is_gone_are_removed() {
    let Some(own) = group(std::process::id(), "pids").filter(|it| it.exists()) else {
        return;
    };
    // Numbers of a namespace that nobody is in: of an owner that is dead, and of one that is not.
    let left = own.join(format!("rbuild-{}.dead", std::process::id()));
    fs::create_dir_all(left.join("0")).unwrap();
    let kept = own.join(format!("rbuild-{}.beef", std::process::id()));
    let lock = loop {
        // Before it is locked, others that look for what is left may take it away.
        let Ok(()) = fs::create_dir_all(kept.join("0")) else {
            continue;
        };
        let Ok(directory) = fs::File::open(&kept) else {
            continue;
        };
        flock(&directory, FlockOperation::LockShared).unwrap();
        if kept.join("0").exists() {
            break directory;
        }
    };
    start_elsewhere();
    assert!(!left.exists());
    assert!(kept.join("0").exists());
    drop(lock);
    let _ = fs::remove_dir(kept.join("0"));
    let _ = fs::remove_dir(kept);
}

#[test]
fn root_only_want_of_memory_is_told() {
    let limits = || Limits {
        memory: Some(16 << 20),
        ..Limits::default()
    };
    let ran = run("tail /dev/zero; echo over: $?", limits());
    assert!(ran.exit.oom_killed, "{ran:?}");
    assert_eq!(ran.stdout, "over: 137\n");
    let ran = run("true", limits());
    assert!(!ran.exit.oom_killed);
}

#[test]
fn root_only_a_later_sandbox_does_not_keep_an_earlier_ones_limits() {
    let small = Limits {
        memory: Some(8 << 20),
        memory_and_swap: Some(8 << 20),
        ..Limits::default()
    };
    let large = Limits {
        memory: Some(256 << 20),
        ..Limits::default()
    };
    let script = "dd if=/dev/zero of=/dev/null bs=32M count=1 2>/dev/null; echo $?";
    assert_eq!(run(script, small.clone()).stdout, "137\n");
    assert_eq!(run(script, large).stdout, "0\n");
    assert_eq!(run(script, small).stdout, "137\n");
    assert_eq!(run(script, Limits::default()).stdout, "0\n");
}

#[test]
fn root_only_the_peak_of_memory_is_that_of_all_processes() {
    let script = "dd if=/dev/zero of=/dev/null bs=24M count=1 2>/dev/null";
    let limits = Limits {
        memory: Some(256 << 20),
        ..Limits::default()
    };
    let peak = run(script, limits.clone()).exit.usage.max_memory;
    assert!((24 << 20..64 << 20).contains(&peak), "{peak}");
    let peak = run("true", limits).exit.usage.max_memory;
    assert!(
        peak < 24 << 20,
        "that of this one, not of an earlier one: {peak}"
    );
}

#[test]
fn root_only_a_process_runs_on_the_processors_it_was_given() {
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let limits = Limits {
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        ..Limits::default()
    };
    assert_eq!(run(script, limits).stdout, "0\n");
    let none = Limits {
        cpuset_cpus: Some("4000".to_owned()),
        ..Limits::default()
    };
    let error = refusal(none);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("cpuset.cpus=4000"), "{source}");
}

#[test]
fn root_only_shares_and_quota_of_the_processor_are_set() {
    let room = Room::new();
    let mut spec = room.spec("cat");
    spec.stdio = sandbox::Stdio::Streams {
        stdin: sandbox::Stream::Pipe,
        stdout: sandbox::Stream::Pipe,
        stderr: sandbox::Stream::Pipe,
    };
    spec.limits = Limits {
        cpu_shares: Some(512),
        cpu_quota: Some(25_000),
        cpu_period: Some(50_000),
        ..Limits::default()
    };
    let mut running = spawn(spec).unwrap();
    if let Some(group) = group(running.pid(), "cpu") {
        let read = |file| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(read("cpu.shares"), "512\n");
        assert_eq!(read("cpu.cfs_quota_us"), "25000\n");
        assert_eq!(read("cpu.cfs_period_us"), "50000\n");
    }
    drop(running.take_stdin());
    assert_eq!(running.wait().unwrap().code(), 0);
}

#[test]
fn root_only_limits_of_single_processes_are_theirs() {
    let ran = run(
        "ulimit -Sn; ulimit -Hn",
        rlimit("nofile", Some(100), Some(200)),
    );
    assert_eq!(ran.stdout, "100\n200\n");
    let ran = run("ulimit -c", rlimit("core", Some(0), Some(0)));
    assert_eq!(ran.stdout, "0\n");
    // So few that nothing could be set up with them.
    let ran = run("echo it runs", rlimit("nofile", Some(3), Some(3)));
    assert_eq!(ran.stdout, "it runs\n");
}

#[test]
fn root_only_a_hard_limit_above_the_owners_is_refused_in_a_sentence() {
    let most: u64 = fs::read_to_string("/proc/sys/fs/nr_open")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let above = Some(most + 1);
    assert_eq!(
        refusal(rlimit("nofile", above, above)).to_string(),
        format!(
            "cannot set the limit `nofile` to {0}:{0}: only a process with CAP_SYS_RESOURCE may raise a hard limit",
            most + 1
        )
    );
}
