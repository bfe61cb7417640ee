//! What a process in the sandbox sees and may do, asked from inside. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod room;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use room::{Ran, Room, finish};
use sandbox::{
    Limits, Mount, MountSource, Privileges, SpawnError, Spec, Stdio, Stream, User, spawn,
};

fn check(script: &str, expected: &str) {
    let ran = Room::new().run(script);
    assert_eq!(ran.stdout, expected, "stderr: {}", ran.stderr);
}

/// Runs a script in a room after `change` had its way with the spec.
fn run(room: &Room, script: &str, change: impl FnOnce(&mut Spec)) -> Ran {
    let mut spec = room.spec(script);
    change(&mut spec);
    finish(spawn(spec).unwrap())
}

fn refusal(room: &Room, change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = room.spec("echo it ran");
    change(&mut spec);
    spawn(spec).expect_err("it must not start").to_string()
}

#[test]
fn root_only_only_the_listed_file_systems_are_mounted() {
    check(
        "tail -n +2 /proc/mounts | cut -d' ' -f2-3 | grep -v ' tmpfs$' | grep -v thermal_throttle",
        "/dev/pts devpts\n/proc proc\n/dev/mqueue mqueue\n/sys sysfs\n/sys/fs/cgroup cgroup2\n\
         /proc/bus proc\n/proc/fs proc\n/proc/irq proc\n/proc/sys proc\n",
    );
}

#[test]
fn root_only_mounts_carry_their_attributes() {
    let script = "for at in /dev /dev/pts /dev/shm /dev/mqueue /proc /sys /sys/fs/cgroup /proc/sys; do \
                  grep \" $at \" /proc/mounts | cut -d' ' -f2,4 | sed 's/,\\(size\\|mode\\|gid\\|ptmx\\|inode\\).*//;s/,relatime//'; done";
    check(
        script,
        "/dev rw,nosuid\n/dev/pts rw,nosuid,noexec\n/dev/shm rw,nosuid,nodev,noexec\n\
         /dev/mqueue rw,nosuid,nodev,noexec\n/proc rw,nosuid,nodev,noexec\n/sys ro,nosuid,nodev,noexec\n\
         /sys/fs/cgroup ro,nosuid,nodev,noexec\n/proc/sys ro,nosuid,nodev,noexec\n",
    );
}

#[test]
fn root_only_masked_paths_are_empty() {
    let script = "for it in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do \
                  [ ! -e $it ] || ls -A $it; done; \
                  for it in interrupts kcore keys latency_stats timer_list timer_stats sched_debug; do \
                  [ ! -e /proc/$it ] || stat -c '%F %t:%T' /proc/$it | grep -v '^character special file 1:3$'; done; \
                  cat /sys/devices/system/cpu/cpu*/thermal_throttle/* 2>/dev/null; echo done";
    check(script, "done\n");
}

#[test]
fn root_only_connections_that_linger_are_not_left_to_the_next_sandbox() {
    let room = Room::new();
    let sockets = "grep -c : /proc/net/tcp";
    let talk = format!(
        "nc -l -p 7000 -e cat & until echo hi | nc 127.0.0.1 7000; do :; done >/dev/null 2>&1; wait; {sockets}"
    );
    assert_eq!(room.run(sockets).stdout, "0\n");
    let left = room.run(&talk).stdout;
    assert_ne!(left, "0\n", "a connection that was closed lingers on");
    assert_eq!(room.run(sockets).stdout, "0\n");
}

#[test]
fn root_only_the_kernel_cannot_be_changed() {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let script = "for it in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity \
                  /sys/kernel/mm/transparent_hugepage/enabled /sys/fs/cgroup/cgroup.procs; do \
                  (echo x > $it) 2>/dev/null && echo wrote $it; done; \
                  mount -t tmpfs x /mnt 2>/dev/null && echo mounted; \
                  mount -o remount,rw /sys 2>/dev/null && echo remounted; \
                  umount /proc/keys 2>/dev/null && echo unmasked; \
                  unshare -m true 2>/dev/null && echo unshared; \
                  hostname other 2>/dev/null && echo renamed; \
                  date -s 2001-01-01 >/dev/null 2>&1; [ $(date +%Y) = 2001 ] && echo dated; \
                  dmesg 2>/dev/null | head -c 1; echo done";
    check(script, "done\n");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        before
    );
}

#[test]
fn root_only_only_harmless_devices_open() {
    let script = "cd /tmp 2>/dev/null || mkdir /tmp && cd /tmp; \
                  for it in 'mem c 1 1' 'kmsg c 1 11' 'vda b 254 0' 'loop b 7 0' 'fuse c 10 229' 'tun c 10 200'; do \
                  mknod $it && (: < ${it%% *}) 2>/dev/null && echo opened $it; done; \
                  mknod null c 1 3 && : < null && : > /dev/null && head -c 2 /dev/zero | wc -c; \
                  head -c 1 /dev/urandom | wc -c; (echo x > /dev/full) 2>/dev/null || echo full";
    check(script, "2\n1\nfull\n");
}

#[test]
fn root_only_root_has_fourteen_capabilities_and_a_filter() {
    check(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'",
        "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\n\
         CapBnd:00000000a80425fb\nCapAmb:0000000000000000\nNoNewPrivs:0\nSeccomp:2\n",
    );
}

#[test]
fn root_only_another_user_has_no_capabilities_but_can_become_root_by_a_set_user_id_program() {
    let room = Room::new();
    fs::copy("/bin/busybox", room.path().join("bin/id-of-root")).unwrap();
    rustix::fs::chmod(room.path().join("bin/id-of-root"), 0o4755.into()).unwrap();
    symlink("/bin/id-of-root", room.path().join("bin/suid")).unwrap();
    let script = "id; umask; grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | tr -d '\\t'; \
                  grep CapEff /proc/self/status | cut -f2; (: > /root-file) 2>/dev/null || echo refused; \
                  echo there > /dev/stdout";
    let ran = run(&room, script, |spec| {
        spec.user = User {
            uid: 1000,
            gid: 50,
            groups: vec![7, 50],
        }
    });
    assert_eq!(
        ran.stdout,
        "uid=1000 gid=50 groups=7,50\n0022\nCapPrm:0000000000000000\nCapEff:0000000000000000\n\
         CapBnd:00000000a80425fb\n0000000000000000\nrefused\nthere\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn root_only_the_insecure_mode_lifts_the_walls_and_nothing_else_does() {
    let script = "grep -E '^(CapEff|Seccomp:)' /proc/self/status | tr -d '\\t'; mount -t tmpfs x /mnt && echo mounted";
    let room = Room::new();
    fs::create_dir(room.path().join("mnt")).unwrap();
    let ran = run(&room, script, |spec| spec.privileges = Privileges::Insecure);
    assert!(ran.stdout.ends_with("Seccomp:0\nmounted\n"), "{ran:?}");
    assert!(!ran.stdout.contains("a80425fb"), "{ran:?}");
    assert!(run(&room, script, |_| ()).stdout.ends_with("Seccomp:2\n"));
}

#[test]
fn root_only_what_the_insecure_mode_changes_of_its_hosts_no_other_sandbox_sees() {
    let room = Room::new();
    let with_hosts = |spec: &mut Spec| spec.hosts = Some(b"told\n".to_vec());
    let script =
        "mount -o remount,bind,rw /etc/hosts && echo changed >> /etc/hosts; cat /etc/hosts";
    assert_eq!(run(&room, "cat /etc/hosts", with_hosts).stdout, "told\n");
    let ran = run(&room, script, |spec| {
        with_hosts(spec);
        spec.privileges = Privileges::Insecure;
    });
    assert_eq!(ran.stdout, "told\nchanged\n", "{}", ran.stderr);
    assert_eq!(run(&room, "cat /etc/hosts", with_hosts).stdout, "told\n");
}

#[test]
fn root_only_no_descriptor_but_three_gets_in() {
    // One without close-on-exec, as a careless library would leave it.
    let leaked = fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    check("cd /proc/self/fd && echo *", "0 1 2 3\n");
    let ran = run(&Room::new(), "", |spec| {
        spec.args = ["/bin/ls", "-l", "/proc/self/fd"].map(Into::into).to_vec();
    });
    let targets = ran
        .stdout
        .lines()
        .filter_map(|it| it.split(" -> ").nth(1))
        .map(|it| it.split('[').next().unwrap());
    assert_eq!(targets.collect::<Vec<_>>(), ["/dev/null", "pipe:", "pipe:"]);
    drop(leaked);
}

#[test]
fn root_only_every_namespace_is_its_own() {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let ran = Room::new()
        .run("for it in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$it; done");
    let inside: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(inside.len(), kinds.len());
    for (kind, inside) in kinds.iter().zip(inside) {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(host.to_str().unwrap(), inside, "{kind}");
    }
}

#[test]
fn root_only_nothing_of_the_host_shows_in_process_or_environment() {
    check(
        "echo $$; sleep 9 > /dev/null 2>&1 & all=$(ps); echo \"$all\" | wc -l; env | grep -v '^\\(PWD\\|SHLVL\\)='; hostname",
        "1\n4\nPATH=/bin\nbuildkitsandbox\n",
    );
}

#[test]
fn root_only_a_command_that_is_not_there_or_cannot_run_is_told_apart() {
    let room = Room::new();
    fs::write(room.path().join("bin/text"), "no program").unwrap();
    fs::write(room.path().join("bin/script"), "#!/nowhere\n").unwrap();
    fs::write(room.path().join("bin/garbage"), b"\x01\x02").unwrap();
    for (name, mode) in [("script", 0o755), ("garbage", 0o755)] {
        rustix::fs::chmod(room.path().join("bin").join(name), mode.into()).unwrap();
    }
    let with = |args: &[&str]| {
        refusal(&room, |spec| {
            spec.args = args.iter().map(Into::into).collect();
        })
    };
    assert_eq!(
        with(&["nowhere"]),
        "exec: `nowhere`: executable file not found in $PATH"
    );
    assert_eq!(
        with(&["/bin/nowhere"]),
        "exec: `/bin/nowhere`: no such file or directory"
    );
    assert_eq!(
        with(&["script"]),
        "exec: `script`: executable file not found in $PATH"
    );
    assert_eq!(with(&["text"]), "exec: `text`: permission denied");
    assert_eq!(with(&["/bin"]), "exec: `/bin`: permission denied");
    assert_eq!(with(&["garbage"]), "exec: `garbage`: exec format error");
    assert_eq!(with(&[]), "no command");
    assert_eq!(with(&["a\0b"]), "`a\\0b` holds a zero byte");
}

#[test]
fn root_only_the_directory_to_start_in_must_be_inside() {
    let room = Room::new();
    symlink("/proc/self/fd/3", room.path().join("out")).unwrap();
    let at = |path: &str| {
        let mut spec = room.spec("pwd; cat ../../../../etc/hostname");
        spec.cwd = path.into();
        spawn(spec)
            .map(finish)
            .map(|ran| ran.stdout)
            .map_err(|error| match error {
                SpawnError::Directory { path, .. } => path.display().to_string(),
                other => panic!("{other}"),
            })
    };
    assert_eq!(at("/bin"), Ok("/bin\n".to_owned()));
    assert_eq!(at("/nowhere"), Err("/nowhere".to_owned()));
    // Every descriptor that the child has while it sets itself up, and a link to one.
    for fd in 3..40 {
        let path = format!("/proc/self/fd/{fd}");
        match at(&path) {
            // A mount of the sandbox itself.
            Ok(said) => assert!(
                said.starts_with('/') && said.lines().count() == 1,
                "{path}: {said}"
            ),
            Err(refused) => assert_eq!(refused, path),
        }
    }
    assert!(at("/out").map_or(true, |said| said.lines().count() == 1));
}

#[test]
fn root_only_mounts_are_made_in_order_and_their_places_go_again() {
    let room = Room::new();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "from the host\n").unwrap();
    fs::create_dir(room.path().join("etc")).unwrap();
    fs::write(room.path().join("etc/motd"), "from the image\n").unwrap();
    let etc = || fs::metadata(room.path().join("etc")).unwrap();
    let before = etc();
    let mount = |source, target: &str, read_only| Mount {
        source,
        target: target.into(),
        read_only,
    };
    let script = "cat /data/file /run/secrets/a /etc/motd /etc/hosts; stat -c '%a %u:%g' /run/secrets/a; ls /data/deep; \
                  (echo x > /data/file) 2>/dev/null || echo read-only; (echo x > /etc/hosts) 2>/dev/null || echo read-only; \
                  echo y > /scratch/y && df -k /scratch | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /scratch";
    let ran = run(&room, script, |spec| {
        spec.hosts = Some(b"hosts\n".to_vec());
        spec.mounts = vec![
            mount(
                MountSource::Tmpfs {
                    size: Some(1 << 16),
                    mode: 0o1777,
                },
                "/scratch",
                false,
            ),
            mount(
                MountSource::Tmpfs {
                    size: None,
                    mode: 0o755,
                },
                "/data",
                false,
            ),
            mount(MountSource::Host(host.path().into()), "/data/deep", true),
            mount(
                MountSource::Host(host.path().join("file")),
                "/data/file",
                true,
            ),
            mount(
                MountSource::File {
                    data: b"secret\n".to_vec(),
                    mode: 0o400,
                    uid: 3,
                    gid: 4,
                },
                "/run/secrets/a",
                true,
            ),
        ];
    });
    assert_eq!(
        ran.stdout,
        "from the host\nsecret\nfrom the image\nhosts\n400 3:4\nfile\nread-only\nread-only\n64\n1777\n",
        "{}",
        ran.stderr
    );
    let mut left: Vec<_> = fs::read_dir(room.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["bin", "etc"]);
    assert_eq!(fs::read_dir(room.path().join("etc")).unwrap().count(), 1);
    assert_eq!(
        (etc().mtime(), etc().mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
}

#[test]
fn root_only_a_place_that_was_used_stays() {
    let room = Room::new();
    let tmpfs = || MountSource::Tmpfs {
        size: None,
        mode: 0o755,
    };
    let ran = run(&room, "echo kept > /a/b/file", |spec| {
        spec.mounts = vec![Mount {
            source: tmpfs(),
            target: "/a/b/c".into(),
            read_only: false,
        }];
    });
    assert_eq!(ran.exit.code(), 0);
    assert_eq!(
        fs::read_to_string(room.path().join("a/b/file")).unwrap(),
        "kept\n"
    );
    assert!(!room.path().join("a/b/c").exists());
}

#[test]
fn root_only_a_mount_follows_links_inside_and_never_out() {
    let room = Room::new();
    let victim = tempfile::tempdir().unwrap();
    let up = format!("../../../../../..{}", victim.path().display());
    symlink(victim.path(), room.path().join("absolute")).unwrap();
    symlink(up, room.path().join("climbing")).unwrap();
    for link in ["/absolute", "/climbing"] {
        let ran = run(
            &room,
            &format!("echo x > {link}/sub/x; cat {link}/sub/x"),
            |spec| {
                let source = MountSource::Tmpfs {
                    size: None,
                    mode: 0o755,
                };
                spec.mounts = vec![Mount {
                    source,
                    target: Path::new(link).join("sub"),
                    read_only: false,
                }];
            },
        );
        assert_eq!(ran.stdout, "x\n", "{}", ran.stderr);
    }
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    assert!(
        !room
            .path()
            .join(victim.path().strip_prefix("/").unwrap())
            .exists()
    );
}

#[test]
fn root_only_the_kernels_file_systems_cannot_be_mounted_over() {
    let room = Room::new();
    symlink("/proc", room.path().join("link")).unwrap();
    for target in [
        "/proc",
        "/proc/1",
        "/sys",
        "/sys/firmware",
        "/link",
        "/link/sys",
        "/a/../proc",
        "/",
    ] {
        let message = refusal(&room, |spec| {
            let source = MountSource::Tmpfs {
                size: None,
                mode: 0o755,
            };
            spec.mounts = vec![Mount {
                source,
                target: target.into(),
                read_only: false,
            }];
        });
        assert!(
            message.starts_with(&format!("cannot mount at `{target}`")),
            "{message}"
        );
    }
}

#[test]
fn root_only_a_link_in_place_of_a_kernel_directory_is_refused() {
    for name in ["proc", "sys", "dev"] {
        let room = Room::new();
        let victim = tempfile::tempdir().unwrap();
        symlink(victim.path(), room.path().join(name)).unwrap();
        assert_eq!(
            refusal(&room, |_| ()),
            format!("cannot mount at `/{name}`: it is a symbolic link")
        );
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    }
}

#[test]
fn root_only_a_read_only_root_can_not_be_written() {
    let room = Room::new();
    let script = "(: > /file) 2>/dev/null || echo read-only; : > /dev/shm/file && echo writable";
    let ran = run(&room, script, |spec| spec.read_only_rootfs = true);
    assert_eq!(ran.stdout, "read-only\nwritable\n");
}

#[test]
fn root_only_a_fork_bomb_hits_the_limit() {
    let room = Room::new();
    let script = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo unlimited";
    let ran = run(&room, script, |spec| {
        spec.limits = Limits {
            pids: Some(20),
            ..Limits::default()
        }
    });
    assert_eq!(ran.stdout, "");
    assert_ne!(ran.exit.code(), 0);
    assert!(ran.stderr.contains("can't fork"), "{}", ran.stderr);
}

#[test]
fn root_only_input_comes_through_a_pipe_or_a_given_file() {
    let room = Room::new();
    let streams = |stdin| Stdio::Streams {
        stdin,
        stdout: Stream::Pipe,
        stderr: Stream::Pipe,
    };
    let mut spec = room.spec("cat; echo end");
    spec.stdio = streams(Stream::Pipe);
    let mut running = spawn(spec).unwrap();
    let stdin = running.take_stdin().unwrap();
    rustix::io::write(&stdin, b"written\n").unwrap();
    drop(stdin);
    assert_eq!(finish(running).stdout, "written\nend\n");

    let (read, write) = std::io::pipe().unwrap();
    rustix::io::write(&write, b"given\n").unwrap();
    drop(write);
    let ran = run(&room, "cat; echo end", |spec| {
        spec.stdio = streams(Stream::Given(read.into()));
    });
    assert_eq!(ran.stdout, "given\nend\n");
}
