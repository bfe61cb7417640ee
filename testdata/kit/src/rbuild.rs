//! The command under test, run as a user runs it, in a home of its own.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use tempfile::TempDir;

use crate::{
    busybox, filter, leftovers,
    user::{self, User},
};

/// How long one command may take before it counts as hung. No test comes near it on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// One rbuild with its own store and its own working directory, both gone when it is dropped.
///
/// Dropping it also checks that nothing of it is left: no process, no mount. A test that passes and leaves something
/// behind fails.
#[derive(Debug)]
pub struct Rbuild {
    binary: PathBuf,
    home: TempDir,
    user: Option<User>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Rbuild {
    /// The `rbuild` at `binary` (a test of its crate has `env!("CARGO_BIN_EXE_rbuild")`), with an empty store.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self::below(&std::env::temp_dir(), binary)
    }

    /// The same, in a directory of its own below `directory`.
    pub fn below(directory: &Path, binary: impl Into<PathBuf>) -> Self {
        let home = tempfile::Builder::new()
            .prefix("rbuild-test.")
            .tempdir_in(directory)
            .expect("a temporary directory");
        fs::create_dir(home.path().join("work")).expect("the home is ours");
        Self {
            binary: binary.into(),
            home,
            user: None,
        }
    }

    /// The same, run by a user who is not root. The machine does not know him: to his commands alone it looks as if.
    pub fn of(user: User, binary: impl Into<PathBuf>) -> Self {
        let mut rbuild = Self::new(binary);
        user.move_in(rbuild.home());
        rbuild.user = Some(user);
        rbuild
    }

    /// The same with the image `busybox:latest` in its store.
    pub fn with_busybox(binary: impl Into<PathBuf>) -> Self {
        let rbuild = Self::new(binary);
        rbuild.import_busybox();
        rbuild
    }

    /// Brings the image `busybox:latest` into its store.
    pub fn import_busybox(&self) {
        let rbuild = self;
        let tar = rbuild.home().join("busybox.tar");
        busybox::write_rootfs_to(&tar).expect("the base image can be written");
        let tar = tar
            .to_str()
            .expect("the temporary directory has a plain name");
        rbuild.run(["image", "import", tar, "busybox"]).success();
    }

    /// The directory that holds everything of this rbuild.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `$RBUILD_ROOT` of its commands.
    pub fn root(&self) -> PathBuf {
        self.home().join("root")
    }

    /// The working directory of its commands: put the Dockerfile and the context here.
    pub fn work(&self) -> PathBuf {
        self.home().join("work")
    }

    /// Writes a file below the working directory, with the directories above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("the home is ours");
        fs::write(&path, text).expect("the home is ours");
        self
    }

    /// The command, not started yet: stdin closed, a fixed environment, the working directory set.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = match &self.user {
            None => Command::new(&self.binary),
            Some(user) => user.command(self.home(), &self.binary, "rbuild"),
        };
        command.args(args);
        self.prepare(&mut command);
        command
    }

    /// A line of shell with `rbuild` on its path, not started yet.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = match &self.user {
            None => Command::new("/bin/sh"),
            Some(user) => user.command(self.home(), &self.binary, "/bin/sh"),
        };
        command.args(["-c", line]);
        self.prepare(&mut command);
        command
    }

    /// Runs the command to its end.
    pub fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Output {
        run(&mut self.command(args))
    }

    /// `text` without what differs from run to run.
    pub fn stable(&self, text: &str) -> String {
        filter::stable(text, self.home())
    }

    fn prepare(&self, command: &mut Command) {
        let folder = match &self.user {
            None => self.binary.parent().expect("the binary stands in a folder"),
            Some(_) => &self.home().join(user::PROGRAMS),
        };
        command
            .env_clear()
            .env(
                "PATH",
                format!(
                    "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    folder.display()
                ),
            )
            .env("HOME", self.home())
            .env("RBUILD_ROOT", self.root())
            .env("LC_ALL", "C")
            .current_dir(self.work())
            // A group of its own, so that what hangs can be ended with all it started.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A backtrace is wanted when the command panics in a test, and a coverage run names its file here.
        for name in ["RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }
}

impl Drop for Rbuild {
    fn drop(&mut self) {
        let left = leftovers::settle(self.home(), Duration::from_secs(10));
        if !left.is_empty() && !thread::panicking() {
            panic!("left behind:\n{}", left.join("\n"));
        }
    }
}

impl Output {
    /// Itself, where the command succeeded.
    ///
    /// # Panics
    ///
    /// With all its output, where it did not.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "the command failed\n{}",
            self.transcript()
        );
        self
    }

    /// Itself, where the command ended with `code`.
    ///
    /// # Panics
    ///
    /// With all its output, where it did not.
    #[track_caller]
    pub fn failure(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "the command ended otherwise\n{}",
            self.transcript()
        );
        self
    }

    /// Its output and its end as lines: `out| ` before stdout, `err| ` before stderr, then `exit N` unless that is 0.
    pub fn transcript(&self) -> String {
        let mut lines = String::new();
        for (prefix, text) in [("out|", &self.stdout), ("err|", &self.stderr)] {
            for line in text.lines() {
                lines += format!("{prefix} {line}").trim_end();
                lines.push('\n');
            }
        }
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => lines += &format!("exit {code}\n"),
            (None, signal) => {
                lines += &format!("killed by signal {}\n", signal.unwrap_or_default());
            }
        }
        lines
    }
}

/// Runs `command` to its end and collects its output.
///
/// # Panics
///
/// Where it cannot start, or does not end in a minute; it is killed then.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    finish(child).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits for a command that was started with piped output, and collects that.
pub fn finish(child: Child) -> io::Result<Output> {
    finish_within(child, PATIENCE)
}

/// The same for one that may take longer, or has to be faster. It is killed where it does not end in that time.
pub fn finish_within(mut child: Child, patience: Duration) -> io::Result<Output> {
    let stdout = child.stdout.take().map(|it| thread::spawn(|| read_all(it)));
    let stderr = child.stderr.take().map(|it| thread::spawn(|| read_all(it)));
    let in_time = ends_within(&child, patience)?;
    if !in_time {
        kill_process_group(pid_of(&child), Signal::KILL)?;
    }
    let status = child.wait()?;
    let collect = |reader: Option<thread::JoinHandle<String>>| {
        reader
            .map(|it| it.join().unwrap_or_default())
            .unwrap_or_default()
    };
    let output = Output {
        status,
        stdout: collect(stdout),
        stderr: collect(stderr),
    };
    if in_time {
        Ok(output)
    } else {
        Err(io::Error::other(format!("hung\n{}", output.transcript())))
    }
}

/// Sends `signal` to a command that is not waited for yet.
pub fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(pidfd_send_signal(
        pidfd_open(pid_of(child), PidfdFlags::empty())?,
        signal,
    )?)
}

/// Whether the child ends within `patience`. Waits on the kernel's word, not on a clock.
fn ends_within(child: &Child, patience: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty())?;
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn read_all(mut from: impl io::Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_tells_the_streams_and_the_end_apart() {
        let rbuild = Rbuild::new("/bin/true");
        let output = run(&mut rbuild.shell("echo one; echo two >&2; echo; exit 3"));
        assert_eq!(output.transcript(), "out| one\nout|\nerr| two\nexit 3\n");
        output.failure(3);
        assert_eq!(
            run(&mut rbuild.shell("kill -9 $$")).transcript(),
            "killed by signal 9\n"
        );
    }

    #[test]
    fn a_command_sees_its_own_home_and_nothing_of_ours() {
        let rbuild = Rbuild::new("/bin/true");
        rbuild.write("below/file", "text");
        let output =
            run(&mut rbuild
                .shell("cat below/file; echo; echo $RBUILD_ROOT; echo $CARGO_MANIFEST_DIR"))
            .success();
        assert_eq!(rbuild.stable(&output.stdout), "text\n<home>/root\n\n");
    }
}
