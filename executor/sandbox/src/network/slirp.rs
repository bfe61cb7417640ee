//! `slirp4netns`: a network stack in user space, for hosts where nothing can be set up.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::MemfdFlags;

use super::talk::Answer;
use crate::program;

const PROGRAM: &str = "slirp4netns";

/// Where its users reach the machine.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Its own name server, which asks the host's.
pub(super) const SERVER: &str = "10.0.2.3";

/// A running one, for one namespace. It ends with its owner, because its standard input does.
#[derive(Debug)]
pub(super) struct Slirp {
    process: Child,
    exit: Option<ChildStdin>,
}

pub(super) fn is_installed() -> bool {
    program::find(PROGRAM).is_some()
}

/// Whether one could be started.
pub(super) fn prospect() -> Answer<()> {
    const TUN: &str = "/dev/net/tun";
    if !is_installed() {
        return Err(format!("`{PROGRAM}` is not installed"));
    }
    let opened = File::options().read(true).write(true).open(TUN);
    opened
        .map(drop)
        .map_err(|error| format!("cannot open `{TUN}`: {}", error.kind()))
}

impl Slirp {
    /// Starts one and waits until the namespace has its way out.
    pub(super) fn start(namespace: BorrowedFd<'_>) -> Answer<Slirp> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        // A file in memory and not a pipe, which nobody would empty later on.
        let complaints =
            rustix::fs::memfd_create("complaints", MemfdFlags::CLOEXEC).map(File::from);
        let found = program::find(PROGRAM);
        let command = Command::new(found.as_deref().unwrap_or(Path::new(PROGRAM)))
            .args([
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--ready-fd=1",
                "--exit-fd=0",
            ])
            .args(["--netns-type=path", &path, "eth0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(match &complaints {
                Ok(file) => file.try_clone().map_or_else(|_| Stdio::null(), Stdio::from),
                Err(_) => Stdio::null(),
            })
            .spawn();
        let mut process = command.map_err(|it| format!("cannot run `{PROGRAM}`: {it}"))?;
        let (exit, ready) = (process.stdin.take(), process.stdout.take());
        let slirp = Slirp { process, exit };
        let mut byte = [0];
        match ready.map_or(Ok(0), |mut it| it.read(&mut byte)) {
            Ok(1) => Ok(slirp),
            Ok(_) => {
                let complaint = complaints.ok().and_then(first_line);
                let why = complaint.map_or_else(String::new, |it| format!(": {it}"));
                Err(format!("`{PROGRAM}` ended at once{why}"))
            }
            Err(error) => Err(format!("`{PROGRAM}` does not get ready: {error}")),
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        self.exit = None;
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

fn first_line(mut file: File) -> Option<String> {
    file.rewind().ok()?;
    let text = io::read_to_string(file).ok()?;
    let mut lines = text.lines().filter(|it| !it.trim().is_empty());
    lines.next().map(|it| it.trim().to_owned())
}

impl Drop for Slirp {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::debug!(%error, "{PROGRAM} does not stop");
        }
    }
}
