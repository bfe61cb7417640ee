//! Containers in the foreground, started by a process of their own whose streams and terminal the
//! test holds. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use container::{Network, RecordError, Request, State, Volume, list, remove, run};
use oci::{Digest, ImageConfig};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use snapshot::Snapshots;
use store::{SnapshotId, Store};
use tempfile::TempDir;

const BEGIN: &str = "<the container begins>\n";

/// A store with one image, which holds busybox.
struct Room {
    directory: TempDir,
    top: SnapshotId,
    id: Digest,
}

impl Room {
    fn new() -> Room {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(Store::open(&directory.path().join("store")).unwrap());
        let active = snapshots.prepare(None).unwrap();
        let bin = active.upper().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in [
            "sh", "cat", "echo", "id", "stty", "tty", "ls", "true", "hostname", "sleep", "touch",
            "pwd", "env",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        fs::create_dir(active.upper().join("etc")).unwrap();
        fs::write(active.upper().join("etc/passwd"), "web:x:7:8::/srv:\n").unwrap();
        let top = active.commit().unwrap();
        let id = snapshots.store().put_blob(b"config").unwrap();
        Room { directory, top, id }
    }

    fn store(&self) -> Store {
        Store::open(&self.directory.path().join("store")).unwrap()
    }

    fn host(&self) -> &Path {
        self.directory.path()
    }

    /// This program once more, to run a container and nothing else.
    fn command(&self, options: &str, script: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "root_only_one_container", "--nocapture"])
            .env("CONTAINER_TEST_ROOT", self.directory.path())
            .env("CONTAINER_TEST_TOP", self.top.0.to_string())
            .env("CONTAINER_TEST_ID", self.id.to_string())
            .env("CONTAINER_TEST_OPTIONS", options)
            .env("CONTAINER_TEST_SCRIPT", script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn check(&self, options: &str, script: &str, expected: (i32, &str)) {
        let output = self.command(options, script).output().unwrap();
        let got = (output.status.code().unwrap(), said(&output));
        assert_eq!(
            (got.0, got.1.as_str()),
            expected,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What the container wrote to standard output.
fn said(output: &Output) -> String {
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    all.split_once(BEGIN)
        .map(|it| it.1.to_owned())
        .unwrap_or(all)
}

/// Not a test of its own: what [`Room::command`] runs.
#[test]
fn root_only_one_container() {
    let Ok(root) = std::env::var("CONTAINER_TEST_ROOT") else {
        return;
    };
    let variable = |name: &str| std::env::var(format!("CONTAINER_TEST_{name}")).unwrap();
    let options = variable("OPTIONS");
    let value = |name: &str| {
        options
            .split(' ')
            .find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let has = |name: &str| options.split(' ').any(|it| it == name);
    let mut config = ImageConfig::default();
    config.config.env = vec!["PATH=/bin".to_owned(), "FROM=image".to_owned()];
    config.config.cmd = Some(vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        variable("SCRIPT"),
    ]);
    let request = Request {
        image: "busybox".to_owned(),
        image_id: variable("ID").parse().unwrap(),
        config,
        top: Some(SnapshotId(variable("TOP").parse().unwrap())),
        args: value("args")
            .map(|it| it.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        entrypoint: None,
        env: value("env").into_iter().collect(),
        workdir: value("workdir"),
        user: value("user"),
        hostname: value("hostname"),
        volumes: value("volume")
            .map(|target| Volume {
                source: Path::new(&root).join("volume"),
                target: target.trim_end_matches(":ro").into(),
                read_only: target.ends_with(":ro"),
            })
            .into_iter()
            .collect(),
        name: value("name"),
        network: if has("network") {
            Network::Default
        } else {
            Network::None
        },
        extra_hosts: BTreeMap::new(),
        shm_size: None,
        limits: sandbox::Limits::default(),
        read_only: false,
        tty: has("-t"),
        interactive: has("-i"),
        remove: has("--rm"),
    };
    let snapshots = Snapshots::new(Store::open(&Path::new(&root).join("store")).unwrap());
    rustix::io::write(std::io::stdout(), BEGIN.as_bytes()).unwrap();
    let code = run(&snapshots, request, &|_| ()).unwrap_or_else(|error| {
        rustix::io::write(std::io::stdout(), format!("{error}\n").as_bytes()).unwrap();
        error.exit_code()
    });
    drop(snapshots);
    std::process::exit(i32::from(code));
}

#[test]
fn root_only_exit_codes_are_those_of_the_process_or_of_docker() {
    let room = Room::new();
    room.check("--rm", "exit 42", (42, ""));
    room.check("--rm", "sh -c 'kill -9 $$'; exit $?", (137, ""));
    room.check(
        "--rm args=nowhere",
        "",
        (127, "exec: `nowhere`: executable file not found in $PATH\n"),
    );
    room.check(
        "--rm args=/etc/passwd",
        "",
        (126, "exec: `/etc/passwd`: permission denied\n"),
    );
    room.check(
        "--rm user=nobody",
        "",
        (
            125,
            "unable to find user nobody: no matching entries in passwd file\n",
        ),
    );
    room.check(
        "--rm name=../x",
        "",
        (
            125,
            "Invalid container name (../x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed\n",
        ),
    );
    room.check("--rm -t -i", "", (125, "the input device is not a TTY\n"));
    assert_eq!(list(&room.store()).unwrap(), []);
}

#[test]
fn root_only_what_is_asked_for_holds_inside() {
    let room = Room::new();
    room.check("--rm env=A=b", "echo $FROM $A $HOME", (0, "image b /\n"));
    room.check(
        "--rm user=web",
        "id; echo $HOME",
        (0, "uid=7(web) gid=8 groups=8\n/srv\n"),
    );
    room.check("--rm user=7:9", "id", (0, "uid=7(web) gid=9 groups=9\n"));
    room.check(
        "--rm hostname=there workdir=/new/deep",
        "hostname; pwd",
        (0, "there\n/new/deep\n"),
    );
    room.check("--rm args=echo,a,b", "", (0, "a b\n"));
    room.check(
        "--rm",
        "touch /file && ls /file; cat; tty",
        (1, "/file\nnot a tty\n"),
    );
}

#[test]
fn root_only_volumes_are_the_hosts_and_nothing_else_stays() {
    let room = Room::new();
    fs::create_dir(room.host().join("volume")).unwrap();
    room.check(
        "--rm volume=/data",
        "echo kept > /data/file; echo lost > /lost",
        (0, ""),
    );
    assert_eq!(
        fs::read_to_string(room.host().join("volume/file")).unwrap(),
        "kept\n"
    );
    room.check(
        "--rm volume=/data:ro",
        "cat /data/file; touch /data/x || ls /",
        (0, "kept\nbin\ndata\ndev\netc\nproc\nsys\n"),
    );
}

#[test]
fn root_only_a_name_is_one_containers_until_it_is_forgotten() {
    let room = Room::new();
    room.check("name=kept", "exit 3", (3, ""));
    let all = list(&room.store()).unwrap();
    let (record, state) = &all[0];
    assert_eq!(
        (record.name.as_str(), record.image.as_str(), all.len()),
        ("kept", "busybox", 1)
    );
    assert!(
        matches!(state, State::Exited(Some(ended)) if ended.code == 3),
        "{state:?}"
    );
    let conflict = format!(
        "Conflict. The container name \"/kept\" is already in use by container \"{}\". You have to remove (or \
         rename) that container to be able to reuse that name.\n",
        record.id
    );
    room.check("name=kept", "true", (125, &conflict));
    remove(&room.store(), "kept").unwrap();
    room.check("--rm name=kept", "true", (0, ""));
    assert_eq!(list(&room.store()).unwrap(), []);
    assert!(matches!(
        remove(&room.store(), "kept"),
        Err(RecordError::Unknown(_))
    ));
}

#[test]
fn root_only_a_killed_container_gives_its_name_back() {
    let room = Room::new();
    let (mut owner, mut stdout) =
        started(room.command("--rm name=killed", "echo ready; sleep 1000"));
    wait_for(&mut stdout, "ready");
    assert!(matches!(
        list(&room.store()).unwrap()[..],
        [(_, State::Running)]
    ));
    assert!(matches!(
        remove(&room.store(), "killed"),
        Err(RecordError::Running(_))
    ));
    owner.kill().unwrap();
    owner.wait().unwrap();
    room.check("--rm name=killed", "true", (0, ""));
}

#[test]
fn root_only_input_and_output_go_through_pipes() {
    let room = Room::new();
    let mut command = room.command("--rm -i", "cat; echo error >&2");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let large = vec![b'x'; 1 << 20];
    let mut stdin = child.stdin.take().unwrap();
    let copy = large.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(said(&output).as_bytes() == large);
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("error\n"));
}

#[test]
fn root_only_signals_are_passed_on_and_impatience_kills() {
    let room = Room::new();
    let (mut owner, mut stdout) = started(room.command(
        "--rm",
        "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done",
    ));
    wait_for(&mut stdout, "ready");
    signal(&owner, Signal::TERM);
    wait_for(&mut stdout, "caught");
    assert_eq!(owner.wait().unwrap().code(), Some(5));

    let (mut owner, mut stdout) = started(room.command(
        "--rm",
        "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done",
    ));
    wait_for(&mut stdout, "ready");
    for _ in 0..2 {
        signal(&owner, Signal::INT);
        wait_for(&mut stdout, "no");
    }
    signal(&owner, Signal::INT);
    assert_eq!(owner.wait().unwrap().code(), Some(137));
}

#[test]
fn root_only_a_terminal_is_passed_through_and_given_back() {
    let room = Room::new();
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&screen).unwrap();
    let size = |rows, columns| Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&screen, size(12, 34)).unwrap();
    let ours = ioctl_tiocgptpeer(&screen, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let end = || Stdio::from(ours.try_clone().unwrap());
    let script = "stty size; tty; echo $TERM; trap 'stty size' WINCH; echo ready; until read line; do :; done; echo got $line; exit 9";
    let mut command = room.command("--rm -t -i", script);
    let mut owner = command
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut screen = File::from(screen);
    let seen = wait_for(&mut screen, "ready");
    assert!(seen.contains("12 34\r\n/dev/pts/0\r\nxterm\r\n"), "{seen}");
    assert!(
        !tcgetattr(&ours)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    );
    tcsetwinsize(&screen, size(56, 78)).unwrap();
    signal(&owner, Signal::WINCH);
    wait_for(&mut screen, "56 78");
    screen.write_all(b"words\r").unwrap();
    wait_for(&mut screen, "got words");
    assert_eq!(owner.wait().unwrap().code(), Some(9));
    assert!(
        tcgetattr(&ours)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    );
}

fn started(mut command: Command) -> (Child, File) {
    let mut child = command.spawn().unwrap();
    let stdout = OwnedFd::from(child.stdout.take().unwrap());
    (child, File::from(stdout))
}

fn signal(to: &Child, signal: Signal) {
    kill_process(Pid::from_child(to), signal).unwrap();
}

/// Reads until a word has come; all that came.
fn wait_for(from: &mut File, word: &str) -> String {
    let mut seen = String::new();
    let mut part = [0; 4096];
    while !seen.contains(word) {
        let limit = rustix::time::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&limit)).unwrap();
        assert_ne!(ready, 0, "`{word}` does not come after {seen}");
        let count = from.read(&mut part).unwrap();
        assert_ne!(count, 0, "`{word}` did not come in {seen}");
        seen.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    seen
}
