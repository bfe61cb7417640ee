//! What a build costs that finds everything: no waiting for the disk, few questions to the kernel.

use std::collections::BTreeMap;

use kit::rbuild::run;

use super::rbuild;

/// Twenty steps, in the context and out of it.
fn twenty_steps() -> String {
    let mut dockerfile = String::from("FROM busybox\nCOPY src /src\n");
    for step in 0..18 {
        dockerfile += &format!("RUN echo {step} > /{step}\n");
    }
    dockerfile + "CMD ls\n"
}

/// How often each system call was made by a command, in all of its threads and processes.
fn counted(rbuild: &kit::rbuild::Rbuild, command: &str) -> BTreeMap<String, u64> {
    let line = format!("strace -f -c -o calls {command} > /dev/null 2>&1");
    run(&mut rbuild.shell(&line)).success();
    let table = std::fs::read_to_string(rbuild.work().join("calls")).unwrap();
    // `% time  seconds  usecs/call  calls  [errors]  syscall`, below a line of dashes, above another.
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| !line.starts_with('-'));
    rows.map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (
            fields[fields.len() - 1].to_owned(),
            fields[3].parse().unwrap(),
        )
    })
    .collect()
}

#[test]
fn a_build_of_twenty_cached_steps_never_waits_for_the_disk_as_root() {
    let rbuild = rbuild();
    rbuild
        .write("Dockerfile", twenty_steps())
        .write("src/a", "a");
    let build = "rbuild build -q --network=none -t twenty .";
    run(&mut rbuild.shell(build)).success();
    // What the first one wrote is on the disk by now; only the second is a build that finds all.
    run(&mut rbuild.shell(build)).success();
    let calls = counted(&rbuild, build);
    for waits in [
        "fsync",
        "fdatasync",
        "sync",
        "syncfs",
        "sync_file_range",
        "msync",
    ] {
        assert_eq!(calls.get(waits), None, "{calls:?}");
    }
    assert_eq!(calls.get("mount"), None, "nothing below a hit is mounted");
    // How often threads look for each other depends on what else the machine does.
    let between_threads = ["futex", "sched_yield"].map(|call| calls.get(call).unwrap_or(&0));
    let all = calls.values().sum::<u64>() - between_threads.into_iter().sum::<u64>();
    assert!(all < 1000, "{all} calls: {calls:?}");
}
