//! Limits, as the step that has them sees them, or as its control groups have them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use kit::leftovers;
use kit::rbuild::{finish, signal};
use rustix::process::Signal;

use super::rbuild;

/// The directories of the control groups of the step that sleeps for an rbuild: the controllers' names, and where.
fn groups_of_step(owner: u32) -> Vec<(String, PathBuf)> {
    let own = format!("/rbuild-{owner}.");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let groups = processes
        .filter_map(|it| fs::read_to_string(it.path().join("cgroup")).ok())
        .find(|it| it.contains(&own))
        .expect("the step has control groups");
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let top = match controllers {
                "" => Path::new("/sys/fs/cgroup").to_owned(),
                name => Path::new("/sys/fs/cgroup").join(name),
            };
            path.contains(&own).then(|| {
                (
                    controllers.to_owned(),
                    top.join(path.trim_start_matches('/')),
                )
            })
        })
        .collect()
}

#[test]
fn every_limit_reaches_the_step_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN ulimit -n; ulimit -c; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2; \
         grep -h _allowed_list /proc/self/status; echo started; sleep 100000\n",
    );
    let parent = format!("rbuild-test-limits-{}", std::process::id());
    let mut child = rbuild
        .command([
            "build",
            "--progress=plain",
            "--memory=64m",
            "--memory-swap=96m",
            "--cpu-shares=512",
            "--cpu-quota=50000",
            "--cpu-period=200000",
            "--cpuset-cpus=0",
            "--cpuset-mems=0",
            "--ulimit=nofile=100:200",
            "--ulimit=core=0",
            "--shm-size=8m",
            &format!("--cgroup-parent={parent}"),
            ".",
        ])
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.as_mut().unwrap());
    let said: Vec<String> = log
        .lines()
        .map(Result::unwrap)
        .take_while(|it| it.contains('[') || !it.ends_with(" started"))
        .filter_map(|it| it.splitn(3, ' ').nth(2).map(str::to_owned))
        .collect();
    let said = said.join("\n");
    for line in [
        "100",
        "0",
        "8192",
        "Cpus_allowed_list:      0",
        "Mems_allowed_list:      0",
    ] {
        assert!(said.lines().any(|it| it == line), "no `{line}` in\n{said}");
    }
    let groups = groups_of_step(child.id());
    let file = |controller: &str, file: &str| {
        let found = groups
            .iter()
            .find(|it| it.0.split(',').any(|it| it == controller));
        let text = found.map(|it| fs::read_to_string(it.1.join(file)).unwrap());
        text.map(|it| it.trim().to_owned())
    };
    let wanted = if groups.iter().any(|it| it.0.is_empty()) {
        [
            ("", "memory.max", "67108864"),
            ("", "memory.swap.max", "33554432"),
            ("", "cpu.weight", "20"),
            ("", "cpu.max", "50000 200000"),
            ("", "cpuset.cpus", "0"),
            ("", "pids.max", "32768"),
        ]
    } else {
        [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "200000"),
            ("cpuset", "cpuset.mems", "0"),
            ("pids", "pids.max", "32768"),
        ]
    };
    for (controller, name, text) in wanted {
        let found = file(controller, name);
        let weight = name == "cpu.weight" && found.is_some();
        assert!(
            weight || found.as_deref() == Some(text),
            "{name}: {found:?}"
        );
    }
    for (_, path) in &groups {
        assert!(path.to_string_lossy().contains(&parent), "{path:?}");
    }
    let pid = child.id();
    signal(&child, Signal::INT).unwrap();
    finish(child).unwrap().failure(130);
    // The guard, which ends after its owner, removes what is below the parent. That is whoever named it, and stays.
    let left = leftovers::cgroups_settle(pid, Duration::from_secs(10));
    assert!(left.is_empty(), "{left:?}");
    for (_, path) in groups {
        let parent = path.ancestors().nth(2).unwrap();
        fs::remove_dir(parent).unwrap_or_else(|error| panic!("{parent:?}: {error}"));
    }
}

#[test]
fn how_much_of_a_log_is_kept_is_what_was_asked_for_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN seq 1000000; echo the end\n",
    );
    let log = |line: &str| {
        let mut command = rbuild.shell(line);
        kit::rbuild::run(&mut command).success().stderr
    };
    let build = "rbuild build --no-cache --progress=plain";
    let short = log(&format!("{build} --step-log-max-size 4k ."));
    assert!(short.contains("log limit 4KiB reached: "), "{short}");
    assert!(short.contains(" the end\n") && short.len() < 64 << 10);
    let named = log(&format!("BUILDKIT_STEP_LOG_MAX_SIZE=4096 {build} ."));
    assert!(named.contains("log limit 4KiB reached: "), "{named}");
    // Whatever a second lets through, the first line comes in the first.
    for slow in [
        "BUILDKIT_STEP_LOG_MAX_SPEED=4096 rbuild build",
        "rbuild build --step-log-max-speed 4k",
    ] {
        let slow = log(&format!(
            "{slow} --no-cache --progress=plain --step-log-max-size=-1 ."
        ));
        assert!(
            slow.contains("log limit 4KiB/s reached: ") && slow.contains(" the end\n"),
            "{slow}"
        );
    }
    let all = log(&format!("{build} --step-log-max-size=-1 ."));
    assert!(!all.contains("clipped") && all.contains(" 654321\n"));
}
