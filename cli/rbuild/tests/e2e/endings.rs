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
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
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

#[test]
fn a_build_interrupted_twice_ends_at_once_and_leaves_nothing_as_root() {
    // The pause between the two does not matter: none, and as long as it takes to say the first line.
    for _ in 0..4 {
        let rbuild = rbuild();
        let child = started(&rbuild);
        let pid = child.id();
        signal(&child, Signal::INT).unwrap();
        // It may have ended in order already, and is not waited for yet.
        let _ = signal(&child, Signal::INT);
        finish(child).unwrap().failure(130);
        nothing_is_left(&rbuild, pid);
        the_next_build_succeeds_and_sweeps(&rbuild);
    }
}

#[test]
fn a_build_whose_terminal_is_closed_leaves_nothing_as_root() {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", ENDLESS);
    let mut terminal = rbuild
        .shell("exec script -qfec 'echo $$; exec rbuild build --progress=plain .' /dev/null")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let screen = BufReader::new(terminal.stdout.take().unwrap());
    let mut lines = screen.lines().map(Result::unwrap);
    let pid: u32 = lines.next().unwrap().trim().parse().unwrap();
    let mut seen = lines.by_ref().filter(|it| !it.contains('['));
    assert!(seen.any(|it| it.trim_end().ends_with(" started")));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    nothing_is_left(&rbuild, pid);
    the_next_build_succeeds_and_sweeps(&rbuild);
}

#[test]
fn a_build_that_nobody_listens_to_any_more_comes_to_its_end_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN yes | head -c 20m; echo done > /done\nRUN cat /done\n",
    );
    let mut child = rbuild
        .command(["build", "--progress=plain", "-t", "unheard", "."])
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    log.read_line(&mut String::new()).unwrap();
    drop(log);
    finish(child).unwrap().success();
    let said = rbuild.run(["run", "--rm", "unheard", "cat", "/done"]);
    assert_eq!(said.success().stdout, "done\n");
}

#[test]
fn a_build_killed_at_any_call_around_its_control_groups_leaves_none_as_root() {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", "FROM busybox\nRUN true\n");
    // The calls with which control groups are put under guard and made; those of other threads come before.
    for (call, numbers) in [("mkdirat", 1..=6), ("sendmsg", 1..=2)] {
        for number in numbers {
            let line = format!(
                "exec strace -f -qq -o calls -e trace={call},getpid --inject={call}:signal=KILL:when={number} \
                 rbuild build -q --no-cache ."
            );
            let child = rbuild.shell(&line).spawn().unwrap();
            finish(child).unwrap();
            let calls = std::fs::read_to_string(rbuild.work().join("calls")).unwrap();
            let mut numbers: Vec<u32> = calls
                .lines()
                .filter_map(|it| it.split_whitespace().next()?.parse().ok())
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            // Every thread and child has a number; one of them is the owner's, after whom groups are named.
            for pid in numbers {
                let left = leftovers::cgroups_settle(pid, Duration::from_secs(10));
                assert!(left.is_empty(), "{call} {number}: {}", left.join("\n"));
            }
        }
    }
}

/// A number that no process can have: they end below it.
const NOBODY: u32 = 4_194_305;

#[test]
fn what_a_machine_that_lost_its_power_left_goes_with_the_next_build_as_root() {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", "FROM busybox\nRUN true\n");
    rbuild.run(["build", "-q", "."]).success();
    // Work of owners that are gone, in all stages, and links out where work would be.
    let victim = rbuild.home().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "the host's").unwrap();
    let tmp = rbuild.root().join("tmp");
    let work = tmp.join(format!("{NOBODY}-1-0"));
    std::fs::create_dir_all(work.join("2/snapshot/fs/deep/er")).unwrap();
    std::fs::write(work.join("2/snapshot/fs/file"), "half").unwrap();
    std::fs::create_dir_all(work.join("2/work/work")).unwrap();
    std::os::unix::fs::symlink(&victim, work.join("2/link")).unwrap();
    std::fs::write(tmp.join("a-file"), "half a blob").unwrap();
    std::os::unix::fs::symlink(&victim, tmp.join("a-link")).unwrap();
    // Control groups of such an owner, in every hierarchy in which there would be some.
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let namespace = rustix::fs::stat("/proc/self/ns/pid").unwrap().st_ino;
    let mut groups = Vec::new();
    for controller in ["pids", "devices"] {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let is_it = fields.next()?.split(',').any(|it| it == controller);
            is_it.then(|| fields.next())?
        });
        let Some(path) = path else { continue };
        let group = std::path::Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(path.trim_start_matches('/'))
            .join(format!("rbuild-{NOBODY}.{namespace:x}"));
        std::fs::create_dir_all(group.join("0")).unwrap();
        std::fs::create_dir_all(group.join("17")).unwrap();
        groups.push(group);
    }
    rbuild.run(["build", "-q", "--no-cache", "."]).success();
    let left: Vec<_> = std::fs::read_dir(&tmp)
        .unwrap()
        .map(|it| it.unwrap().path())
        .chain(groups.into_iter().filter(|it| it.exists()))
        .collect();
    assert!(left.is_empty(), "left: {left:?}");
    let file = std::fs::read_to_string(victim.join("file")).unwrap();
    assert_eq!(file, "the host's");
    rbuild.run(["store", "verify"]).success();
}
