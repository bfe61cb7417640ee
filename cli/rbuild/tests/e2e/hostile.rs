//! Steps that mean harm. `testdata/vulnerabilities.md` says which test stands against what.
//!
//! `RBUILD_RACE_ROUNDS=1000` in the environment goes on longer than is cheap.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use kit::{
    leftovers,
    rbuild::{Rbuild, finish, run, signal},
};
use rustix::process::Signal;

use super::{RBUILD, rbuild};

fn rounds(cheap: usize) -> usize {
    std::env::var("RBUILD_RACE_ROUNDS")
        .ok()
        .map_or(cheap, |it| it.parse().unwrap())
}

/// Builds a program of `testdata/probe` into the context.
fn compile(rbuild: &Rbuild, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/probe");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-static", "-O1", "-o"])
        .arg(rbuild.work().join(name))
        .arg(folder.join(format!("{name}.c")))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run(&mut compiler).success();
}

/// What a step could change of this machine, and must not.
fn machine() -> Vec<String> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let names = |path: &str| {
        let mut all: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all.join(" ")
    };
    vec![
        text("/proc/sys/kernel/hostname"),
        text("/proc/sys/kernel/core_pattern"),
        text("/proc/sys/kernel/domainname"),
        text("/proc/sys/vm/overcommit_memory"),
        text("/proc/swaps"),
        text("/proc/modules").lines().count().to_string(),
        names("/"),
        names("/etc"),
    ]
}

#[test]
fn a_storm_of_senseless_calls_changes_nothing_of_the_machine_as_root() {
    let rbuild = rbuild();
    compile(&rbuild, "storm");
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nARG ROUNDS\nARG SEED\nCOPY storm /bin/\nRUN storm storm $ROUNDS $SEED\n",
    );
    let before = machine();
    for seed in ["1", "2"] {
        let calls = format!("ROUNDS={}", rounds(100) * 100);
        let seed = format!("SEED={seed}");
        rbuild
            .run([
                "build",
                "-q",
                "--build-arg",
                &calls,
                "--build-arg",
                &seed,
                ".",
            ])
            .success();
    }
    assert_eq!(machine(), before);
}

#[test]
fn what_the_machine_has_only_so_much_of_comes_back_with_the_step_as_root() {
    let rbuild = rbuild();
    compile(&rbuild, "storm");
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nCOPY storm /bin/\nRUN storm exhaust\nRUN echo and goes on\n",
    );
    let log = rbuild
        .run(["build", "--progress=plain", "--ulimit", "nofile=2000", "."])
        .success()
        .stderr;
    for line in [
        "pipes: EMFILE",
        "inotify: EMFILE",
        "files: EMFILE",
        "network namespaces: EPERM",
        "message queues: EMFILE",
    ] {
        assert!(log.contains(line), "no `{line}` in\n{log}");
    }
    assert!(!log.contains("no end"), "{log}");
    // The machine has all of it again.
    let script = "script -qec 'echo there' /dev/null";
    run(&mut rbuild.shell(script)).success();
}

#[test]
fn a_flood_of_output_is_cut_and_takes_no_memory_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nARG MEGABYTES\nRUN yes 'a line of the flood' | head -c ${MEGABYTES}m; echo why it failed >&2; exit 9\n",
    );
    // The largest of rbuild and what it waited for, in KiB.
    let script = "import resource, subprocess, sys\n\
                  ended = subprocess.run(sys.argv[1:], stderr=open('log', 'w')).returncode\n\
                  print(ended, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n";
    rbuild.write("measure.py", script);
    let peak = |megabytes: usize, format: &str| {
        let line = format!(
            "python3 measure.py rbuild build --progress={format} --build-arg MEGABYTES={megabytes} ."
        );
        let said = run(&mut rbuild.shell(&line)).success().stdout;
        let (code, kibibytes) = said.trim().split_once(' ').unwrap();
        assert_eq!(code, "1");
        let log = fs::read_to_string(rbuild.work().join("log")).unwrap();
        assert!(log.contains("why it failed"));
        (kibibytes.parse::<u64>().unwrap(), log)
    };
    let (small, _) = peak(4, "plain");
    let (large, log) = peak(rounds(400), "plain");
    assert!(large < small + (16 << 10), "{small} KiB and {large} KiB");
    assert!(
        log.contains("[output clipped, log limit 2MiB reached: "),
        "no note"
    );
    assert!(log.len() < 8 << 20, "a log of {} bytes", log.len());
    let (raw, _) = peak(rounds(400), "rawjson");
    assert!(raw < small + (32 << 10), "{small} KiB and {raw} KiB");
}

#[test]
fn every_place_under_every_kind_of_mount_is_refused_or_inside_as_root() {
    let rbuild = rbuild();
    rbuild.write("secret", "quiet\n");
    let agent = rbuild.home().join("agent");
    let _listener = UnixListener::bind(&agent).unwrap();
    let ssh = format!("default={}", agent.display());
    let victim = rbuild.home().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "the host's").unwrap();
    let before = machine();
    let mut said = String::new();
    for target in [
        "/",
        "/proc",
        "/proc/1",
        "/proc/self/fd/3",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/null",
        "/etc/resolv.conf",
        "/link-proc",
        "/link-proc/sys",
        "/link-sys",
        "/link-dev",
        "/link-victim",
        "/link-victim/new",
        "/../../etc",
    ] {
        for kind in [
            "type=bind",
            "type=cache",
            "type=tmpfs",
            "type=secret,id=s",
            "type=ssh",
        ] {
            let dockerfile = format!(
                "FROM busybox\nRUN ln -s /proc /link-proc && ln -s /sys /link-sys && ln -s /dev /link-dev && ln -s {} /link-victim\n\
                 RUN --mount={kind},target={target} true\n",
                victim.display()
            );
            rbuild.write("Dockerfile", dockerfile);
            let output = rbuild.run([
                "build",
                "-q",
                "--secret",
                "id=s,src=secret",
                "--ssh",
                &ssh,
                ".",
            ]);
            let word = match output.status.code() {
                Some(0) => "inside".to_owned(),
                Some(1) => output.stderr.lines().last().unwrap_or_default().to_owned(),
                other => panic!("{target} {kind}: {other:?}\n{}", output.transcript()),
            };
            assert!(!word.contains("panicked"), "{word}");
            said += &format!("{target} {kind}: {}\n", rbuild.stable(&word));
            let left: Vec<_> = fs::read_dir(&victim).unwrap().collect();
            assert_eq!(left.len(), 1, "{target} {kind}: {left:?}");
        }
    }
    assert_eq!(machine(), before);
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/probe/mounts.txt");
    kit::expect::check(&expected, &said).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn a_cache_whose_directory_turns_into_a_link_out_again_and_again_never_leads_there_as_root() {
    let rbuild = rbuild();
    let canary = rbuild.home().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("of-the-host"), "").unwrap();
    rbuild.write(
        "Exchange",
        format!(
            "FROM busybox\nRUN --mount=type=cache,id=race,target=/c cd /c && mkdir -p d && ln -sfn {} l && echo started && \
             while true; do mv d x; mv l d; mv x l; done\n",
            canary.display()
        ),
    );
    // A place in a cache is one to mount at, and a part of it is one to mount.
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=race,target=/m \
         --mount=type=tmpfs,target=/m/d/sub ls /m/d /m/l /m/d/sub; echo x > /m/d/sub/x; true\n",
    );
    rbuild.write(
        "Part",
        "FROM busybox\nRUN --mount=type=cache,id=race,source=d,target=/m ls /m; echo x > /m/x; true\n",
    );
    let mut child = rbuild
        .command(["build", "--progress=plain", "-f", "Exchange", "."])
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|it| !it.contains('[') && it.ends_with(" started")));
    let mut mounted = 0;
    for round in 0..2 * rounds(15) {
        let file = ["Dockerfile", "Part"][round % 2];
        let output = rbuild.run(["build", "--progress=plain", "--no-cache", "-f", file, "."]);
        let text = output.transcript();
        match output.status.code() {
            Some(0) => mounted += 1,
            code => assert_eq!(code, Some(1), "{text}"),
        }
        assert!(!text.contains("of-the-host"), "{text}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
    }
    assert!(mounted > 0, "no round came as far as to run");
    signal(&child, Signal::INT).unwrap();
    drop(lines);
    finish(child).unwrap().failure(130);
}

#[test]
fn the_program_itself_cannot_be_written_from_inside_as_root() {
    let rbuild = rbuild();
    // The interpreter of the script is rbuild, which asks for `git` as it finds it inside.
    let git = "#!/bin/sh\n(: >> /proc/1/exe) 2>/git-said && echo opened >> /git-said\n\
               readlink /proc/1/exe >> /git-said\nexit 1\n";
    rbuild
        .write("script", "#!/proc/self/exe\n")
        .write("git", git);
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nCOPY --chmod=755 git /usr/bin/git\nCOPY --chmod=755 script /script\n\
         RUN [\"/script\", \"--nothing\"]\n",
    );
    let before = fs::read(RBUILD).unwrap();
    rbuild.run(["build", "-q", "."]).failure(1);
    let script = "while true; do for it in /proc/[0-9]*/exe; do (: >> $it) 2>/dev/null && echo opened $it; done; done";
    rbuild.write(
        "Dockerfile",
        format!("FROM busybox\nRUN (timeout 1 sh -c '{script}' &); i=0; while [ $i -lt 200 ]; do busybox true; i=$((i+1)); done\n"),
    );
    rbuild.run(["build", "-q", "."]).success();
    let same = fs::read(RBUILD).unwrap() == before;
    assert!(same, "{RBUILD} has been written");
}

/// Everything below a directory that can be read.
fn search(directory: &Path, found: &mut dyn FnMut(&Path, &[u8])) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), found);
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            if fs::File::open(entry.path()).is_ok_and(|mut it| it.read_to_end(&mut bytes).is_ok()) {
                found(&entry.path(), &bytes);
            }
        }
    }
}

#[test]
fn secrets_are_in_no_layer_config_history_log_or_file_of_the_store_as_root() {
    let rbuild = rbuild();
    let canary = |name: &str| {
        format!(
            "canary-{name}-{:016x}",
            u64::from(std::process::id()) * 2_654_435_761
        )
    };
    let (file, variable, proxy) = (canary("file"), canary("variable"), canary("proxy"));
    fs::write(rbuild.home().join("secret"), &file).unwrap();
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN \
        test -n \"$TOKEN\" && test -s /run/secrets/file && wc -c < /run/secrets/file > /length && tr '\\0' '\\n' < /proc/1/cmdline\n\
        RUN echo found-by-the-search > /control\n\
        RUN cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'\nRUN exit $CODE\n";
    let mut log = String::new();
    for code in ["1", "0"] {
        rbuild.write("Dockerfile", dockerfile.replace("$CODE", code));
        let line = format!(
            "rbuild build --progress=plain -t image --secret id=file,src=$HOME/secret --secret id=variable,env=VARIABLE --build-arg HTTP_PROXY=http://user:{proxy}@127.0.0.1:1 ."
        );
        let mut command = rbuild.shell(&line);
        command.env("VARIABLE", &variable);
        log += &run(&mut command).transcript();
    }
    log += &rbuild
        .run(["image", "inspect", "image"])
        .success()
        .transcript();
    log += &rbuild
        .run(["image", "history", "--no-trunc", "image"])
        .success()
        .transcript();
    let saved = rbuild.work().join("unpacked");
    fs::create_dir(&saved).unwrap();
    run(&mut rbuild.shell("rbuild save image | tar -x -C unpacked")).success();
    let (mut places, mut control) = (Vec::new(), false);
    let mut look = |place: String, bytes: &[u8]| {
        control |= memory_holds(bytes, b"found-by-the-search\n");
        for word in [&file, &variable, &proxy] {
            if memory_holds(bytes, word.as_bytes()) {
                places.push(format!("{word} in {place}"));
            }
        }
    };
    look(
        "what was said".to_owned(),
        log.replace(&format!("user:{proxy}@"), "").as_bytes(),
    );
    for directory in [rbuild.root(), saved] {
        search(&directory, &mut |path, bytes| {
            look(path.display().to_string(), bytes);
        });
    }
    assert!(control, "the search finds nothing at all");
    assert!(places.is_empty(), "{places:#?}");
}

fn memory_holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|it| it == word)
}

#[test]
fn builds_that_are_ended_at_any_moment_leave_nothing_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN (sleep 100000 &); i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done\nRUN sleep 100000\n",
    );
    for round in 0..rounds(24) {
        let mut child = rbuild
            .command(["build", "--no-cache", "."])
            .spawn()
            .unwrap();
        let pid = child.id();
        // Ended after so many bytes of what it says, and not after a time.
        let mut some = vec![0; round * 17 % 400];
        let _ = child.stderr.as_mut().unwrap().read_exact(&mut some);
        let how = [Signal::INT, Signal::TERM, Signal::KILL, Signal::HUP][round % 4];
        signal(&child, how).unwrap();
        finish(child).unwrap();
        let left = leftovers::cgroups_settle(pid, Duration::from_secs(10));
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    let left = leftovers::settle(rbuild.home(), Duration::from_secs(10));
    assert!(left.is_empty(), "{left:?}");
}
