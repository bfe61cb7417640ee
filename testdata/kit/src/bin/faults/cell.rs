//! One store, and the commands that work in it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kit::rbuild::{Output, finish};

/// A home with a store in it. What is in it goes when the disk it is on goes.
#[derive(Debug)]
pub(crate) struct Cell {
    rbuild: PathBuf,
    home: PathBuf,
}

impl Cell {
    /// A cell at `home`, which is made if it is not there.
    pub(crate) fn at(rbuild: &Path, home: PathBuf) -> Result<Self> {
        fs::create_dir_all(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
        Ok(Self {
            rbuild: rbuild.to_owned(),
            home,
        })
    }

    /// The directory of everything that belongs to it.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Its `$RBUILD_ROOT`.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// Fills it with a copy of another cell's store.
    pub(crate) fn copy_from(&self, other: &Cell) -> Result<()> {
        let copied = Command::new("cp")
            .arg("-a")
            .args([other.root(), self.root()])
            .status()?;
        ensure!(copied.success(), "cannot copy a store");
        Ok(())
    }

    /// Ends it: its files go.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(self.home).context("cannot remove the cell")
    }

    /// Starts a command. It dies with us.
    pub(crate) fn start(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<Child> {
        self.start_under(&[], arguments)
    }

    /// Starts a command under another one, such as a tracer.
    pub(crate) fn start_under(
        &self,
        wrapper: &[String],
        arguments: &[impl AsRef<std::ffi::OsStr>],
    ) -> Result<Child> {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(wrapper)
            .arg(&self.rbuild)
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", &self.home)
            .env("RBUILD_ROOT", self.root())
            .env("LC_ALL", "C")
            .env("RUST_BACKTRACE", "1")
            .current_dir(&self.home)
            // A group of its own, so that what hangs can be ended with all it started.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start rbuild: this needs Debian's packages util-linux and strace")
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<Ran> {
        let child = self.start(arguments)?;
        self.finish(arguments, child)
    }

    /// Waits for the end of a command that was started with these arguments.
    pub(crate) fn finish(
        &self,
        arguments: &[impl AsRef<std::ffi::OsStr>],
        child: Child,
    ) -> Result<Ran> {
        let line: Vec<_> = arguments
            .iter()
            .map(|it| it.as_ref().to_string_lossy())
            .collect();
        let line = format!("rbuild {}", line.first().map_or("", |it| it));
        let output = finish(child).with_context(|| line.clone())?;
        Ok(Ran { line, output })
    }
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    line: String,
    output: Output,
}

impl Ran {
    /// Its output, where it succeeded.
    pub(crate) fn good(self) -> Result<Output> {
        match self.output.status.success() {
            true => Ok(self.output),
            false => bail!("{} failed: {}", self.line, self.complaint()),
        }
    }

    /// Whether it succeeded; where not, it has to have failed as a command may: with words, not by a panic or a signal.
    pub(crate) fn decent(&self) -> Result<bool> {
        let said = &self.output.stderr;
        let words = !said.trim().is_empty() || !self.output.stdout.trim().is_empty();
        let decent = self.output.status.code().is_some() && words && !said.contains("panicked at");
        ensure!(
            self.output.status.success() || decent,
            "{} failed without a word to say why: {}",
            self.line,
            self.complaint()
        );
        Ok(self.output.status.success())
    }

    /// What it said on both streams.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.output.stdout, self.output.stderr)
    }

    /// How it ended, and its lines that tell why: a step's own last ones, and those of the error.
    pub(crate) fn complaint(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect();
        let block = lines.iter().skip_while(|it| !it.starts_with("> ["));
        let step: Vec<&str> = block
            .take_while(|it| !it.starts_with("---"))
            .copied()
            .collect();
        let telling =
            |it: &&str| it.contains("panicked at") || it.to_lowercase().starts_with("error:");
        let from = lines
            .iter()
            .position(telling)
            .unwrap_or(lines.len().saturating_sub(3));
        let error = &lines[from..(from + 3).min(lines.len())];
        let step = &step[step.len().saturating_sub(4)..];
        format!(
            "{} | {}",
            self.output.status,
            [step, error].concat().join(" | ")
        )
    }
}
