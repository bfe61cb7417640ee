//! Docker's engine and containerd, Debian's `docker.io` and `containerd`, with stores and sockets of their own.
//!
//! Each is the first process of a process namespace, with a network and mounts of its own: it changes nothing of this
//! machine, and all it has started ends with it. Containers run in it without a network.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What each sees of this machine that it would write to otherwise.
const HIDDEN: &str = "for it in /run /opt /etc/docker; do [ ! -d $it ] || mount -t tmpfs none $it; done; \
                      ip link set lo up; exec \"$@\"";

/// A running engine. It ends when this is dropped.
#[derive(Debug)]
struct Engine {
    process: Child,
    directory: tempfile::TempDir,
}

/// Docker's engine.
#[derive(Debug)]
pub struct Docker(Engine);

/// containerd.
#[derive(Debug)]
pub struct Containerd(Engine);

impl Docker {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If Debian's package `docker.io` is not there, or the engine does not come up.
    pub fn start() -> io::Result<Self> {
        let engine = Engine::start("dockerd", |directory| {
            let config = directory.join("daemon.json");
            fs::write(&config, "{}")?;
            let at = |name: &str| directory.join(name).display().to_string();
            Ok(vec![
                format!("--config-file={}", config.display()),
                format!("--host=unix://{}", at(SOCKET)),
                format!("--data-root={}", at("data")),
                format!("--exec-root={}", at("exec")),
                format!("--pidfile={}", at("pid")),
                format!("--cgroup-parent=/{}", cgroup(directory)),
                // Layers as plain files, wherever the tests run.
                "--storage-driver=vfs".to_owned(),
                "--bridge=none".to_owned(),
                "--iptables=false".to_owned(),
                "--ip-forward=false".to_owned(),
                "--ip-masq=false".to_owned(),
            ])
        })?;
        Ok(Self(engine))
    }

    /// What stands in `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.0.at(SOCKET).display())
    }
}

impl Containerd {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If Debian's package `containerd` is not there, or it does not come up.
    pub fn start() -> io::Result<Self> {
        let engine = Engine::start("containerd", |directory| {
            let at = |name: &str| directory.join(name).display().to_string();
            let text = format!(
                "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = \"{}\"\n",
                at("data"),
                at("exec"),
                at(SOCKET),
            );
            let config = directory.join("config.toml");
            fs::write(&config, text)?;
            Ok(vec![format!("--config={}", config.display())])
        })?;
        Ok(Self(engine))
    }

    /// What stands in `CONTAINERD_ADDRESS`.
    pub fn address(&self) -> String {
        self.0.at(SOCKET).display().to_string()
    }

    /// What a command stands behind that is to see what containerd sees, as one must that runs a container.
    pub fn beside(&self) -> String {
        let pid = self.0.first_process().expect("it runs");
        format!("nsenter --target={pid} --mount --net --pid --wd=/ --")
    }
}

const SOCKET: &str = "socket";
const LOG: &str = "log";

impl Engine {
    fn start(
        program: &str,
        arguments: impl FnOnce(&Path) -> io::Result<Vec<String>>,
    ) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = fs::File::create(directory.path().join(LOG))?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child=KILL"])
            .args(["--mount-proc", "sh", "-c", HIDDEN, "sh", program])
            .args(arguments(directory.path())?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn()?;
        let mut engine = Self { process, directory };
        engine.wait_for_an_answer(program)?;
        Ok(engine)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn wait_for_an_answer(&mut self, program: &str) -> io::Result<()> {
        let since = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.at(SOCKET)).is_err() {
            let ended = self.process.try_wait()?.is_some();
            if ended || since.elapsed() > PATIENCE {
                let mut log = String::new();
                fs::File::open(self.at(LOG))?.read_to_string(&mut log)?;
                let why = format!("`{program}` does not answer; is it installed?\n{log}");
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The engine itself, as this machine counts processes.
    fn first_process(&self) -> io::Result<u32> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let first = children.split_whitespace().next();
        first
            .and_then(|it| it.parse().ok())
            .ok_or_else(|| io::Error::other("the engine has gone"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        remove_cgroups(&cgroup(self.directory.path()));
    }
}

/// The control group above those of an engine's containers, named for its directory.
fn cgroup(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    format!("kit{}", name.to_string_lossy().replace('.', "-"))
}

/// Removes a control group and those in it, in each hierarchy; none of them has a process any more, or will have none
/// in a moment.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let hierarchies = hierarchies.map(|it| it.path()).chain([root.to_owned()]);
    for group in hierarchies.map(|it| it.join(name)).filter(|it| it.is_dir()) {
        for inner in fs::read_dir(&group).into_iter().flatten().flatten() {
            drop(fs::remove_dir(inner.path()));
        }
        let since = Instant::now();
        while fs::remove_dir(&group).is_err() && since.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
