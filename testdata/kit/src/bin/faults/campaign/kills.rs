//! SIGKILL at any time.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use kit::rbuild::finish;

use super::{Campaign, Case, Outcome};
use crate::lab::{Lab, Start};

/// `kill -9` of a command, at a random time within the time that it takes.
pub(crate) struct Kills;

/// What is killed, in which store. Builds are most of it.
const VICTIMS: &[(Start, Victim)] = &[
    (Start::Imported, Victim::Build),
    (Start::Built, Victim::BuildAnew),
    (Start::Imported, Victim::Build),
    (Start::Built, Victim::BuildAnew),
    (Start::Empty, Victim::Import),
    (Start::Built, Victim::Save),
    (Start::Built, Victim::Prune),
    (Start::Built, Victim::Build),
];

#[derive(Debug, Clone, Copy)]
enum Victim {
    Import,
    Build,
    BuildAnew,
    Save,
    Prune,
}

impl Campaign for Kills {
    fn name(&self) -> &'static str {
        "kills"
    }

    fn about(&self) -> &'static str {
        "SIGKILL at a random time"
    }

    fn counts(&self) -> (usize, usize) {
        (300, 8)
    }

    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome> {
        let mut chance = case.chance;
        let (start, victim) = VICTIMS[case.number % VICTIMS.len()];
        let cell = lab.cell(start)?;
        let save = cell.home().join("killed.tar").display().to_string();
        let (arguments, duration) = match victim {
            Victim::Import => (lab.import(), Duration::from_millis(60)),
            Victim::Build if start == Start::Built => (lab.build(), Duration::from_millis(80)),
            Victim::Build => (lab.build(), lab.duration()),
            Victim::BuildAnew => (lab.build_anew(), lab.duration()),
            Victim::Save => (
                words(&["image", "save", "-o", &save, "app"]),
                Duration::from_millis(80),
            ),
            Victim::Prune => (
                words(&["builder", "prune", "-af"]),
                Duration::from_millis(60),
            ),
        };
        let mut child = cell.start(&arguments)?;
        thread::sleep(Duration::from_micros(
            chance.below(duration.as_micros() as u64),
        ));
        child.kill()?;
        let pid = child.id();
        let outcome = match finish(child)?.status.code() {
            None => Outcome::Struck,
            Some(_) => Outcome::Missed,
        };
        lab.no_process(&cell)?;
        lab.judge(&cell)?;
        // A control group that was made in the very moment may wait for the next rbuild.
        lab.nothing_runs(&cell, pid)?;
        cell.remove()?;
        Ok(outcome)
    }
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|it| (*it).to_owned()).collect()
}
