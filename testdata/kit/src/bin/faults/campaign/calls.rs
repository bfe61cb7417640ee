//! SIGKILL at one system call.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use kit::rbuild::finish;

use super::{Campaign, Case, Outcome};
use crate::lab::{Lab, Start};

/// The calls by which the store changes: the commit of a layer, of a blob, of a row.
const CALLS: &[&str] = &[
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "link",
    "linkat",
    "pwrite64",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "flock",
    "setxattr",
    "fchmod",
];

/// How often another place is tried where the first was not reached.
const TRIES: usize = 4;

/// SIGKILL of a build at the nth of its calls of one kind, evenly over all of them.
#[derive(Default)]
pub(crate) struct Calls {
    places: OnceCell<Vec<Place>>,
}

/// The nth call of a kind in one thread: the last one there is, as counted, and any before it as a target.
#[derive(Debug, Clone, Copy)]
struct Place {
    call: &'static str,
    number: usize,
}

impl Campaign for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn about(&self) -> &'static str {
        "SIGKILL at the nth call of the commit path"
    }

    fn counts(&self) -> (usize, usize) {
        (60, 5)
    }

    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome> {
        let places = match self.places.get() {
            Some(places) => places,
            None => {
                let places = places(lab)?;
                self.places.get_or_init(|| places)
            }
        };
        let mut chance = case.chance;
        // Every kind in turn, each from its first call to its last.
        let (kind, turn) = (case.number % places.len(), case.number / places.len());
        let turns = case.of.div_ceil(places.len()).max(1);
        let mut place = places[kind];
        place.number = 1 + place.number * turn / turns;
        for _ in 0..TRIES {
            if strike(lab, place)? == Outcome::Struck {
                return Ok(Outcome::Struck);
            }
            // Which thread does what is different each time: an earlier one of the same kind, then.
            place.number = 1 + chance.below(place.number as u64) as usize;
        }
        Ok(Outcome::Missed)
    }
}

fn strike(lab: &Lab, place: Place) -> Result<Outcome> {
    let Place { call, number } = place;
    let strike = || -> Result<Outcome> {
        let cell = lab.cell(Start::Imported)?;
        let inject = format!("--inject={call}:signal=KILL:when={number}");
        let child = cell.start_under(&trace("/dev/null", call, &[&inject]), &lab.build())?;
        let pid = child.id();
        let outcome = match finish(child)?.status.code() {
            None => Outcome::Struck,
            Some(_) => Outcome::Missed,
        };
        lab.no_process(&cell)?;
        if outcome == Outcome::Struck {
            lab.judge(&cell)?;
            // Not before: who cleans up after the killed one may have come to the same call.
            lab.nothing_runs(&cell, pid)?;
        }
        cell.remove()?;
        Ok(outcome)
    };
    strike().with_context(|| format!("killed at {call} number {number} of a thread"))
}

/// The last call of each kind in an undisturbed build. A tracer counts them thread by thread.
fn places(lab: &Lab) -> Result<Vec<Place>> {
    let cell = lab.cell(Start::Imported)?;
    let log = cell.home().join("calls");
    let child = cell.start_under(
        &trace(&log.display().to_string(), &CALLS.join(","), &[]),
        &lab.build(),
    )?;
    let pid = child.id();
    finish(child)?;
    // The tracer ends after what it traces.
    lab.nothing_runs(&cell, pid)?;
    let text = fs::read_to_string(&log)?;
    cell.remove()?;
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in text.lines() {
        let begun = line
            .split_once(' ')
            .and_then(|(thread, rest)| Some((thread, rest.trim_start().split_once('(')?.0)));
        if let Some(place) = begun {
            *counts.entry(place).or_default() += 1;
        }
    }
    let mut places = Vec::new();
    for call in CALLS {
        let of_threads = counts.iter().filter(|((_, it), _)| it == call);
        let most = of_threads.map(|(_, count)| *count).max().unwrap_or(0);
        places.extend((most > 0).then_some(Place { call, number: most }));
    }
    anyhow::ensure!(
        !places.is_empty(),
        "strace saw no call: {}",
        text.lines().next().unwrap_or("")
    );
    Ok(places)
}

/// The tracer, beside what it traces and not above it, and let go where a step's own program begins.
fn trace(log: &str, calls: &str, more: &[&str]) -> Vec<String> {
    let only = format!("--trace={calls}");
    let line = [
        "strace", "-D", "-f", "-qq", "-b", "execve", "-o", log, &only,
    ];
    line.iter().chain(more).map(|it| (*it).to_owned()).collect()
}
