//! The power fails.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kit::rbuild::finish;

use super::{Campaign, Case, Outcome};
use crate::lab::{Lab, Start};
use kit::volume::{Cut, Kind, Volume};

/// Large enough for XFS, which wants 300 MB.
const SIZE: u64 = 320 << 20;

/// A power cut in the middle of a build, or up to a second after it said that it is done.
pub(crate) struct Cuts;

/// File systems that promise different things: the last two write names before what is in the files.
const KINDS: &[Kind] = &[
    Kind::Ext4("commit=1"),
    Kind::Xfs,
    Kind::Ext4("commit=1,data=writeback"),
    Kind::Ext4("commit=1,noauto_da_alloc,data=writeback"),
];

/// Milliseconds after the answer; the other cases are anywhere in between.
const AFTER: &[u64] = &[0, 1, 10, 100, 1000];

impl Campaign for Cuts {
    fn name(&self) -> &'static str {
        "cuts"
    }

    fn about(&self) -> &'static str {
        "power cut in a build or after its answer"
    }

    fn counts(&self) -> (usize, usize) {
        (40, 4)
    }

    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome> {
        let mut chance = case.chance;
        let kind = KINDS[case.number % KINDS.len()];
        let cut = *chance.pick(&[Cut::Losing, Cut::Journalled]);
        let start = *chance.pick(&[Start::Empty, Start::Imported, Start::Built]);
        let after = case.number / KINDS.len() % 2 == 1;
        let moment = if after {
            let any = chance.below(1000);
            *chance.pick(&[AFTER[case.number % AFTER.len()], any])
        } else {
            chance.below(lab.duration().as_millis() as u64)
        };
        let early = (chance.below(2) == 0).then(|| chance.below(moment.max(1)));
        let mut run = || -> Result<Outcome> {
            let volume = Volume::make(kind, &lab.volume(), SIZE)?;
            lab.reboot(&mut chance)?;
            let cell = lab.cell_in(volume.point(), start)?;
            volume.sync()?;
            if start == Start::Empty {
                cell.run(&lab.import())?.good()?;
            }
            let arguments = match (start, after) {
                (_, true) => quiet(lab.build_anew()),
                (Start::Built, false) => lab.build_anew(),
                _ => lab.build(),
            };
            let mut child = cell.start(&arguments)?;
            if after {
                answer(&mut child)?;
            }
            // What the kernel writes on its own can come at any time, too.
            if let Some(early) = early {
                thread::sleep(Duration::from_millis(early));
                volume.sync()?;
            }
            thread::sleep(Duration::from_millis(moment - early.unwrap_or(0)));
            let ended = child.try_wait()?.is_some();
            volume.cut(cut)?;
            let pid = child.id();
            if !ended {
                child.kill()?;
                finish(child)?;
            }
            lab.no_process(&cell)?;
            volume.restart()?;
            lab.reboot(&mut chance)?;
            if after && ended {
                lab.judge_durable(&cell)?;
            } else {
                lab.judge(&cell)?;
            }
            lab.nothing_runs(&cell, pid)?;
            Ok(if ended && !after {
                Outcome::Missed
            } else {
                Outcome::Struck
            })
        };
        run().with_context(|| {
            let when = if after {
                "after the answer"
            } else {
                "into the build"
            };
            format!("{kind:?}, {start:?}, {cut:?}, {moment} ms {when}, synced {early:?}")
        })
    }
}

/// Waits until the build says which image it made.
fn answer(child: &mut Child) -> Result<()> {
    let stdout = child.stdout.as_mut().context("stdout is a pipe")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    anyhow::ensure!(
        line.starts_with("sha256:"),
        "the build did not answer: `{line}`"
    );
    Ok(())
}

fn quiet(mut arguments: Vec<String>) -> Vec<String> {
    arguments.retain(|it| !it.starts_with("--progress"));
    arguments.insert(1, "--quiet".to_owned());
    arguments
}
