//! What a command costs: wall clock, CPU of its whole process tree, peak memory.
//!
//! A command is run by a fresh copy of this program that makes itself the reaper of every orphan below it. When the
//! last one is reaped, what the kernel has added up for that copy's children is the cost of the command and of
//! everything it started, double forks included, and of nothing else. Work a command hands to a daemon is not among
//! its children; it is the difference of the daemon's own account before and after.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};

/// The hidden word that makes this program the one inside.
pub(crate) const INSIDE: &str = "__measure";

/// How long orphans of a finished command may live on before their account is closed without them.
const ORPHANS: Duration = Duration::from_secs(10);

/// What one run of a command cost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// From its start to its end, without orphans.
    pub(crate) wall: Duration,
    /// User and system time of the process tree, and of daemons.
    pub(crate) cpu: Duration,
    /// Bytes resident at most: of the largest process, plus those of daemons.
    pub(crate) peak: u64,
}

impl Cost {
    /// The cost of one of `count` equal parts.
    pub(crate) fn each(self, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self {
            wall: self.wall / count,
            cpu: self.cpu / count,
            peak: self.peak,
        }
    }
}

/// Runs `command` and says what it cost; `daemons` names the processes that work for it.
///
/// Fails with the end of its output where the command fails.
pub(crate) fn cost(command: &Command, daemons: &[&str]) -> Result<Cost> {
    let report = tempfile::NamedTempFile::new()?;
    let log = tempfile::NamedTempFile::new()?;
    let mut outer = Command::new(std::env::current_exe()?);
    outer
        .arg(INSIDE)
        .arg(report.path())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    outer
        .stdin(Stdio::null())
        .stdout(log.reopen()?)
        .stderr(log.reopen_append()?);
    let before = daemon::account(daemons);
    daemon::reset_peaks(daemons);
    let status = outer.status()?;
    if !status.success() {
        bail!("{} failed: {}", shown(command), tail(log.path()));
    }
    let mut cost: Cost =
        serde_json::from_slice(&fs::read(report.path())?).context("no report from inside")?;
    cost.cpu += daemon::account(daemons).saturating_sub(before);
    cost.peak += daemon::peak(daemons);
    Ok(cost)
}

/// Runs `command` without measuring it.
pub(crate) fn run(command: &Command) -> Result<()> {
    cost(command, &[]).map(drop)
}

/// The program inside: runs a command, reaps all that comes of it, writes the cost to the file named first.
pub(crate) fn inside(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let report = arguments.next().context("no file to report to")?;
    let program = arguments.next().context("no command")?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let start = Instant::now();
    let status = Command::new(&program).args(arguments).status();
    let wall = start.elapsed();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(status.success(), "{status}");
    reap_orphans()?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = duration(usage.user_time()) + duration(usage.system_time());
    let peak = u64::try_from(usage.max_rss()).unwrap_or_default() * 1024;
    serde_json::to_writer(File::create(report)?, &Cost { wall, cpu, peak })?;
    Ok(())
}

fn reap_orphans() -> Result<()> {
    let deadline = Instant::now() + ORPHANS;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() > deadline => return Ok(()),
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn duration(time: nix::sys::time::TimeVal) -> Duration {
    let microseconds = time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

fn shown(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|it| !it.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("\n")
}

trait ReopenAppend {
    fn reopen_append(&self) -> Result<File>;
}

impl ReopenAppend for tempfile::NamedTempFile {
    fn reopen_append(&self) -> Result<File> {
        Ok(File::options().append(true).open(self.path())?)
    }
}

/// The account of daemons, as `/proc` has it.
mod daemon {
    use super::{Duration, Pid, fs};

    /// What `/proc` counts time in: a hundred to the second on every architecture.
    const TICK: Duration = Duration::from_millis(10);

    /// The CPU time so far of all processes called one of `names`, and of the children they waited for.
    pub(super) fn account(names: &[&str]) -> Duration {
        let ticks: u32 = pids(names).map(ticks).sum();
        ticks * TICK
    }

    /// Makes the kernel count their peak memory anew from here.
    pub(super) fn reset_peaks(names: &[&str]) {
        for pid in pids(names) {
            let _ = fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5");
        }
    }

    /// Their peak memory since, added up.
    pub(super) fn peak(names: &[&str]) -> u64 {
        pids(names).map(high_water).sum()
    }

    fn pids(names: &[&str]) -> impl Iterator<Item = Pid> {
        let all = if names.is_empty() {
            None
        } else {
            fs::read_dir("/proc").ok()
        };
        let pids = all
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|it| it.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
                .unwrap_or_default();
            // The kernel keeps 15 bytes of a name.
            names
                .iter()
                .any(|it| it.starts_with(name.trim_end()) && !name.trim_end().is_empty())
        })
    }

    fn ticks(pid: Pid) -> u32 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        // After the name in parentheses: fields 14 to 17 are utime, stime, cutime, cstime.
        let fields = stat
            .rsplit_once(')')
            .map_or("", |it| it.1)
            .split_whitespace();
        fields
            .skip(11)
            .take(4)
            .filter_map(|it| it.parse::<u32>().ok())
            .sum()
    }

    fn high_water(pid: Pid) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))
            .unwrap_or_default();
        let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    }
}
