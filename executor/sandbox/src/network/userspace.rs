//! Network stacks in user space, for hosts where nothing can be set up: `pasta` and `slirp4netns`.
//!
//! `pasta` hands on what a namespace sends socket by socket, both families, and shows inside what the host looks like;
//! `slirp4netns` is a small network of its own, of IPv4. The first is the younger and better one, as podman sees it: it
//! is taken first where it is from when podman began to (2024). Older ones stand in where there is no `slirp4netns`: of
//! 2023 it may never pass on the answer to who says at once that he has nothing to send (`nc < /dev/null`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use super::resolv::{self, Names};
use super::routes::{self, Family};
use super::talk::Answer;
use crate::program;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    Pasta,
    Slirp,
}

/// Those that are installed, best first.
pub(super) fn installed() -> Vec<Stack> {
    let mut stacks = vec![Stack::Pasta, Stack::Slirp];
    stacks.retain(|it| it.is_installed());
    if stacks.len() > 1 && !(is_recent(&said("--version")) || is_versed(&said("--help"))) {
        stacks.reverse();
    }
    stacks
}

/// Both, best first, and why one could not be started where it could not.
pub(super) fn prospects() -> Vec<(&'static str, Answer<()>)> {
    let mut stacks = installed();
    for missing in [Stack::Pasta, Stack::Slirp] {
        if !stacks.contains(&missing) {
            stacks.push(missing);
        }
    }
    let prospect = |it: Stack| (it.name(), it.prospect());
    stacks.into_iter().map(prospect).collect()
}

/// What `pasta` says of itself.
fn said(option: &str) -> String {
    let output = Command::new(Stack::Pasta.program()).arg(option).output();
    output.map_or_else(
        |_| String::new(),
        |it| String::from_utf8_lossy(&it.stdout).into_owned(),
    )
}

/// Whether a version is a date from 2024 on.
fn is_recent(version: &str) -> bool {
    const SINCE: u32 = 20_240_000;
    let line = version.lines().next().unwrap_or_default().replace('_', "");
    let mut numbers = line.split(|it: char| !it.is_ascii_digit());
    numbers.any(|it| it.len() == 8 && it.parse().is_ok_and(|it: u32| it > SINCE))
}

/// Whether it can what it could not before 2024: Debian's says `unknown version`, of whatever date it is.
fn is_versed(help: &str) -> bool {
    help.contains("--map-host-loopback")
}

impl Stack {
    /// What the program is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stack::Pasta => "pasta",
            Stack::Slirp => "slirp4netns",
        }
    }

    fn is_installed(self) -> bool {
        program::find(self.name()).is_some()
    }

    fn program(self) -> PathBuf {
        program::find(self.name()).unwrap_or_else(|| self.name().into())
    }

    /// Whether it could be started.
    fn prospect(self) -> Answer<()> {
        const TUN: &str = "/dev/net/tun";
        if !self.is_installed() {
            return Err(format!("`{}` is not installed", self.name()));
        }
        let opened = File::options().read(true).write(true).open(TUN);
        opened
            .map(drop)
            .map_err(|error| format!("cannot open `{TUN}`: {}", error.kind()))
    }

    /// How names are found behind it.
    pub(super) fn names(self) -> Names {
        match self {
            Stack::Pasta => {
                let routes = routes::read();
                let mut families = vec![Family::Four, Family::Six];
                families.retain(|it| routes::uplink(&routes, *it).is_some());
                resolv::inside(&families)
            }
            // Its own, which asks the first of the host's.
            Stack::Slirp => resolv::with_server("10.0.2.3"),
        }
    }

    /// Where the machine is reached behind it.
    pub(super) fn host(self) -> Option<Ipv4Addr> {
        match self {
            Stack::Pasta => None,
            Stack::Slirp => Some(Ipv4Addr::new(10, 0, 2, 2)),
        }
    }

    /// Starts one and waits until the namespace has its way out.
    pub(super) fn start(self, namespace: BorrowedFd<'_>) -> Answer<Process> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        let command = match self {
            Stack::Pasta => pasta(&path),
            Stack::Slirp => slirp(&path),
        };
        Process::start(command, self.name())
    }
}

/// It drops its rights before it opens the namespace by its path, and has no way to be told to end but signals. So it
/// finds the namespace as its input, and a shell ends it when the shell's own input does.
fn pasta(namespace: &str) -> Command {
    const SCRIPT: &str = "namespace=$1; shift; \"$@\" < \"$namespace\" & child=$!; \
                          exec >&-; read -r _; kill \"$child\"; wait \"$child\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT, "sh", namespace])
        .arg(Stack::Pasta.program())
        .args([
            "--foreground",
            "--quiet",
            "--config-net",
            "--ns-ifname=eth0",
            "--no-netns-quit",
        ])
        // Nothing of the host's own is to be reached, and nothing inside from the host.
        .arg("--no-map-gw")
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
        .args([
            "--runas=0",
            "--pid=/proc/self/fd/1",
            "--netns=/proc/self/fd/0",
        ]);
    command
}

fn slirp(namespace: &str) -> Command {
    let mut command = Command::new(Stack::Slirp.program());
    command
        .args(["--configure", "--mtu=65520", "--disable-host-loopback"])
        .args(["--ready-fd=1", "--exit-fd=0"])
        .args(["--netns-type=path", namespace, "eth0"]);
    command
}

/// A running one, for one namespace. It ends with its owner, because its standard input does.
#[derive(Debug)]
pub(super) struct Process {
    process: Child,
    exit: Option<ChildStdin>,
}

impl Process {
    /// Starts a command that writes to its standard output when it is ready.
    fn start(mut command: Command, name: &str) -> Answer<Process> {
        // A file in memory and not a pipe, which nobody would empty later on.
        let complaints =
            rustix::fs::memfd_create("complaints", MemfdFlags::CLOEXEC).map(File::from);
        let command = command
            // What a terminal sends to those in front of it is none of its business.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(match &complaints {
                Ok(file) => file.try_clone().map_or_else(|_| Stdio::null(), Stdio::from),
                Err(_) => Stdio::null(),
            });
        let mut process = command
            .spawn()
            .map_err(|it| format!("cannot run `{name}`: {it}"))?;
        let (exit, ready) = (process.stdin.take(), process.stdout.take());
        let started = Process { process, exit };
        let mut byte = [0];
        match ready.map_or(Ok(0), |mut it| it.read(&mut byte)) {
            Ok(1) => Ok(started),
            Ok(_) => {
                let complaint = complaints.ok().and_then(complaint);
                let why = complaint.map_or_else(String::new, |it| format!(": {it}"));
                Err(format!("`{name}` ended at once{why}"))
            }
            Err(error) => Err(format!("`{name}` does not get ready: {error}")),
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        self.exit = None;
        // The process may be a shell, and what it has started ends with it.
        let group = Pid::from_child(&self.process);
        let killed = rustix::process::kill_process_group(group, Signal::KILL);
        self.process.wait()?;
        Ok(killed?)
    }
}

/// The first line that is about what went wrong, and not about where to say it.
fn complaint(mut file: File) -> Option<String> {
    file.rewind().ok()?;
    let text = io::read_to_string(file).ok()?;
    let mut lines = text.lines().map(str::trim);
    lines
        .find(|it| !it.is_empty() && !it.ends_with(" to syslog"))
        .map(str::to_owned)
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::debug!(%error, "a network stack does not stop");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta_is_recent_where_its_date_is() {
        for (version, recent) in [
            ("pasta 2024_02_20.1e6f92b\nCopyright Red Hat\n", true),
            ("pasta 0.0~git20250503.587980c-2\n", true),
            ("pasta 2023_12_30.f091893\n", false),
            ("pasta unknown version\n", false),
            ("", false),
        ] {
            assert_eq!(is_recent(version), recent, "{version}");
        }
    }
}
