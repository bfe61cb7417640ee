//! A root file system of busybox alone, and processes in it.

#![expect(clippy::unwrap_used, reason = "test support")]
#![expect(dead_code, reason = "every test file uses only a part")]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use sandbox::{Exit, Running, Spec, spawn};
use tempfile::TempDir;

/// A directory to run things in.
pub(crate) struct Room {
    path: PathBuf,
    /// Removes the directory, in the process that made it.
    #[expect(dead_code, reason = "held")]
    directory: Option<TempDir>,
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit: Exit,
}

impl Room {
    pub(crate) fn new() -> Room {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let directory = tempfile::tempdir().unwrap();
        let room = Room {
            path: directory.path().to_owned(),
            directory: Some(directory),
        };
        // Other users than root walk through it.
        rustix::fs::chmod(room.path(), 0o755.into()).unwrap();
        fs::create_dir_all(room.path().join("bin")).unwrap();
        fs::copy("/bin/busybox", room.path().join("bin/busybox"))
            .expect("busybox-static is installed");
        let output = std::process::Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .unwrap();
        for applet in String::from_utf8(output.stdout).unwrap().lines() {
            if applet != "busybox" {
                symlink("busybox", room.path().join("bin").join(applet)).unwrap();
            }
        }
        room
    }

    /// One that another process made.
    pub(crate) fn existing(path: &Path) -> Room {
        Room {
            path: path.to_owned(),
            directory: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn mount(&self) -> OwnedFd {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, self.path(), flags).unwrap()
    }

    pub(crate) fn spec(&self, script: &str) -> Spec {
        let mut spec = Spec::new(self.mount(), ["/bin/sh", "-c", script]);
        spec.env = vec!["PATH=/bin".into()];
        spec
    }

    /// Runs a script as root with the defaults of a build step.
    pub(crate) fn run(&self, script: &str) -> Ran {
        finish(spawn(self.spec(script)).unwrap())
    }
}

/// Reads all a process says and waits for its end.
pub(crate) fn finish(mut running: Running) -> Ran {
    let stderr = running.take_stderr();
    let errors = std::thread::spawn(move || stderr.map(text).unwrap_or_default());
    let stdout = running.take_stdout().map(text).unwrap_or_default();
    Ran {
        stdout,
        stderr: errors.join().unwrap(),
        exit: running.wait().unwrap(),
    }
}

pub(crate) fn text(from: OwnedFd) -> String {
    let mut bytes = Vec::new();
    fs::File::from(from).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
