//! Git repositories made for a test, and served to it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::loopback::listening;

/// A repository with a work tree.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// An empty one at `path`, whose branch is `main`.
    ///
    /// # Errors
    /// If git is missing or fails.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let repository = Self {
            path: path.to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch=main", "."])?;
        Ok(repository)
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &str, content: &str) -> io::Result<()> {
        let path = self.path.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)
    }

    /// Writes a file that can be run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_program(&self, path: &str, content: &str) -> io::Result<()> {
        self.write(path, content)?;
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn link(&self, path: &str, to: &str) -> io::Result<()> {
        symlink(to, self.path.join(path))
    }

    /// Commits everything and gives the commit's id.
    ///
    /// # Errors
    /// If git fails.
    pub fn commit(&self, message: &str) -> io::Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it and gives what it says.
    ///
    /// # Errors
    /// If git is missing or fails.
    pub fn git(&self, arguments: &[&str]) -> io::Result<String> {
        let mut command = command(Path::new("git"));
        command.arg("-C").arg(&self.path).args(arguments);
        let output = command.output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("git {arguments:?}: {words}")));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.trim_end().to_owned())
    }
}

/// Git that knows nothing of the person who tests.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Somebody")
        .env("GIT_AUTHOR_EMAIL", "somebody@example.com")
        .env("GIT_COMMITTER_NAME", "Somebody")
        .env("GIT_COMMITTER_EMAIL", "somebody@example.com")
        .env("GIT_AUTHOR_DATE", "2020-01-02T03:04:05Z")
        .env("GIT_COMMITTER_DATE", "2020-01-02T03:04:05Z");
    command
}

/// Serves all repositories below a directory, as `git://`. It ends when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If `git daemon` is missing or does not answer.
    pub fn start(directory: &Path) -> io::Result<Self> {
        // Not through `git`, which would leave it behind when it is killed.
        let programs = Command::new("git").arg("--exec-path").output()?.stdout;
        let programs = PathBuf::from(String::from_utf8_lossy(&programs).trim());
        let (process, port) = listening("git daemon", |port| {
            command(&programs.join("git-daemon"))
                .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", directory.display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })?;
        Ok(Self { process, port })
    }

    /// The address of a repository below the directory.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
