//! Programs that run themselves several times at once, each time in namespaces of its own: the labs.
//!
//! A lab shares no mount, no network and no shared memory with this machine or another lab; where it wants, no process
//! either. It writes down what it finds, one line of JSON each, and ends with whoever started it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Serialize, de::DeserializeOwned};

/// Which processes a lab sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// All of the machine.
    All,
    /// Its own, all of which end with it.
    Own,
}

/// Starts `count` labs with the arguments of this process, `--lab=NUMBER` and `more`, and takes their records as they
/// come. Returns whether all ended well.
pub fn supervise<R: DeserializeOwned + Send>(
    (count, processes): (usize, Processes),
    more: &[String],
    mut take: impl FnMut(R),
) -> Result<bool> {
    let (sender, records) = mpsc::channel::<R>();
    let labs = (0..count)
        .map(|number| start(number, processes, more))
        .collect::<Result<Vec<Child>>>()?;
    thread::scope(|scope| {
        let readers: Vec<_> = labs
            .into_iter()
            .map(|lab| {
                let sender = sender.clone();
                scope.spawn(move || read(lab, &sender))
            })
            .collect();
        drop(sender);
        records.iter().for_each(&mut take);
        let mut well = true;
        for reader in readers {
            well &= reader
                .join()
                .unwrap_or_else(|_| bail!("a reader panicked"))?;
        }
        Ok(well)
    })
}

/// What a lab does first: from now on it ends with whoever started it.
pub fn enter() -> Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Writes down what a lab found.
pub fn write(record: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, record)?;
    writeln!(stdout)?;
    Ok(stdout.flush()?)
}

/// Runs this program once more, as a lab.
fn start(number: usize, processes: Processes, more: &[String]) -> Result<Child> {
    let own: &[&str] = match processes {
        Processes::All => &[],
        Processes::Own => &["--pid", "--fork", "--kill-child", "--mount-proc"],
    };
    // The first process of a namespace has to wait for orphans, which a shell does.
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--ipc",
        ])
        .args(own)
        .args(["--", "sh", "-c", "\"$@\"; exit $?", "lab"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg(format!("--lab={number}"))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a lab: this needs Debian's package util-linux")
}

/// Hands on what a lab writes down; returns whether it ended well.
fn read<R: DeserializeOwned>(mut lab: Child, records: &mpsc::Sender<R>) -> Result<bool> {
    let stdout = lab.stdout.take().context("stdout is a pipe")?;
    for line in BufReader::new(stdout).lines() {
        let record = serde_json::from_str(&line?).context("a lab wrote something odd")?;
        if records.send(record).is_err() {
            break;
        }
    }
    Ok(lab.wait()?.success())
}

/// How such a program ends: well if nothing was found. An error is put into `say`.
pub fn exit(found_nothing: Result<bool>, say: impl Fn(&str)) -> ExitCode {
    match found_nothing {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
