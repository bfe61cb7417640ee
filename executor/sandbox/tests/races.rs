//! What a process inside, or another one beside it, changes while a sandbox is set up or taken down. Needs root.
//!
//! Races run a few rounds each; `SANDBOX_RACE_ROUNDS=1000` in the environment runs more.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod room;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use room::{Ran, Room, finish};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sandbox::{Mount, MountSource, SpawnError, Spec, spawn};

fn rounds() -> usize {
    std::env::var("SANDBOX_RACE_ROUNDS")
        .ok()
        .map_or(60, |it| it.parse().unwrap())
}

/// Runs a script in a room after `change` had its way with the spec.
fn run(room: &Room, script: &str, change: impl FnOnce(&mut Spec)) -> Result<Ran, SpawnError> {
    let mut spec = room.spec(script);
    change(&mut spec);
    spawn(spec).map(finish)
}

fn tmpfs(target: &str) -> Mount {
    let source = MountSource::Tmpfs {
        size: None,
        mode: 0o755,
    };
    Mount {
        source,
        target: target.into(),
        read_only: false,
    }
}

/// Exchanges two names over and over while `work` is done. How often it did.
fn exchanging(one: &Path, other: &Path, work: impl FnOnce()) -> u64 {
    /// Ends the exchange also when the work fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let _end = End(&over);
        work();
    });
    count.into_inner()
}

/// What is in a directory, name and content of each file, to be compared later.
fn all_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap())
        .map(|it| {
            let name = it.file_name().to_string_lossy().into_owned();
            (name, fs::read(it.path()).unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn root_only_a_target_that_turns_into_a_link_out_again_and_again_never_leads_there() {
    let room = Room::new();
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("file"), "the host's").unwrap();
    let before = all_of(victim.path());
    let (directory, link) = (room.path().join("volume"), room.path().join("link"));
    fs::create_dir(&directory).unwrap();
    symlink(victim.path(), &link).unwrap();
    let mut refused = 0;
    let exchanged = exchanging(&directory, &link, || {
        for _ in 0..rounds() {
            let ran = run(&room, "echo x > /volume/sub/x; cat /volume/file", |spec| {
                spec.mounts = vec![tmpfs("/volume/sub")];
            });
            match ran {
                // The link leads to a place of that name inside, and nothing is there.
                Ok(ran) => assert_eq!(ran.stdout, ""),
                Err(_) => refused += 1,
            }
            assert_eq!(all_of(victim.path()), before);
        }
    });
    assert!(exchanged > 0 && refused < rounds(), "{exchanged} {refused}");
}

#[test]
fn root_only_a_kernel_directory_that_turns_into_a_link_out_is_refused_or_mounted_over() {
    let room = Room::new();
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("null"), "the host's").unwrap();
    let before = all_of(victim.path());
    for name in ["dev", "proc", "sys"] {
        let (directory, link) = (room.path().join(name), room.path().join(format!("{name}2")));
        fs::create_dir_all(&directory).unwrap();
        symlink(victim.path(), &link).unwrap();
        exchanging(&directory, &link, || {
            for _ in 0..rounds() / 3 {
                let script = "stat -c %t:%T /dev/null /proc/kcore /proc/keys | sort -u; grep -c . /proc/self/mounts > /dev/null && echo there";
                match run(&room, script, |_| ()) {
                    // What is mounted moves with the directory: then the link is in its place, and nothing is there.
                    Ok(ran) => {
                        let harmless = ran.stdout.lines().all(|it| ["1:3", "there"].contains(&it));
                        assert!(harmless, "{} {}", ran.stdout, ran.stderr);
                    }
                    Err(error) => {
                        assert!(error.to_string().contains(&format!("/{name}")), "{error}");
                    }
                }
                assert_eq!(all_of(victim.path()), before);
            }
        });
        // Where it ended does not matter for what comes next, but it must be a directory for that.
        for path in [&directory, &link] {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir(&link);
        let _ = fs::create_dir(&directory);
    }
}

#[test]
fn root_only_a_null_device_of_the_image_is_neither_used_nor_written() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    fs::write(victim.path(), "the host's").unwrap();
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let script = "echo '|/evil' > /dev/null; stat -c %t:%T /dev/null /proc/kcore /proc/keys | sort -u; \
                  (echo '|/evil' > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused";
    for target in [
        victim.path().to_str().unwrap(),
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    ] {
        let room = Room::new();
        fs::create_dir(room.path().join("dev")).unwrap();
        symlink(target, room.path().join("dev/null")).unwrap();
        let ran = run(&room, script, |_| ()).unwrap();
        assert_eq!(ran.stdout, "1:3\nrefused\n", "{}", ran.stderr);
    }
    let room = Room::new();
    fs::create_dir(room.path().join("dev")).unwrap();
    fs::write(room.path().join("dev/null"), "an image's").unwrap();
    let ran = run(&room, script, |_| ()).unwrap();
    assert_eq!(ran.stdout, "1:3\nrefused\n", "{}", ran.stderr);
    assert_eq!(
        fs::read_to_string(room.path().join("dev/null")).unwrap(),
        "an image's"
    );
    assert_eq!(fs::read_to_string(victim.path()).unwrap(), "the host's");
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

#[test]
fn root_only_what_is_removed_after_the_run_is_what_was_made_for_it() {
    // The way to a mount's place becomes a way to somewhere else while the process runs.
    let room = Room::new();
    let victim = tempfile::tempdir().unwrap();
    fs::create_dir(victim.path().join("c")).unwrap();
    fs::write(victim.path().join("file"), "").unwrap();
    let before = all_of(victim.path());
    let script = format!(
        "mv /a/b /elsewhere && ln -s {} /a/b && mv /f /moved && ln -s {0} /f && echo swapped",
        victim.path().display()
    );
    let ran = run(&room, &script, |spec| {
        let source = MountSource::File {
            data: b"x".to_vec(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        let file = Mount {
            source,
            target: "/f/file".into(),
            read_only: true,
        };
        spec.mounts = vec![tmpfs("/a/b/c"), file];
    })
    .unwrap();
    assert_eq!(ran.stdout, "swapped\n", "{}", ran.stderr);
    assert_eq!(all_of(victim.path()), before);
    assert!(victim.path().join("c").is_dir());
}

#[test]
fn root_only_nothing_below_the_kernels_file_systems_opens_for_writing() {
    let room = Room::new();
    // A process may write about itself; whom that could hurt is itself. Root opens also what has no way of being
    // written, so only what was written counts.
    let script = "find /proc /sys -type f 2>/dev/null | grep -v '^/proc/[0-9]' | grep -v '^/proc/self/' | \
                  grep -v '^/proc/thread-self/' | while read -r it; do echo x >> $it && echo wrote $it; done 2>/dev/null | \
                  head -n 20; find /sys -type f 2>/dev/null | wc -l";
    let ran = run(&room, script, |_| ()).unwrap();
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    let files: usize = lines.pop().unwrap().parse().unwrap();
    assert!(files > 1000, "{files}");
    assert!(lines.is_empty(), "{lines:#?}");
}
