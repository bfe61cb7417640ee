//! The disk is full.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::FallocateFlags;

use super::{Campaign, Case, Outcome};
use crate::cell::Cell;
use crate::lab::{Lab, Start};
use kit::volume::{Kind, Volume};

/// A disk that is large enough.
const SIZE: u64 = 96 << 20;
/// The room that is left goes from nothing to what the whole build takes.
const MOST: u64 = 5 << 20;

/// An import and a build on a disk with too little room, which then gets more.
pub(crate) struct Sizes;

impl Campaign for Sizes {
    fn name(&self) -> &'static str {
        "sizes"
    }

    fn about(&self) -> &'static str {
        "a disk with too little room"
    }

    fn counts(&self) -> (usize, usize) {
        (40, 4)
    }

    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome> {
        let room = MOST * case.number as u64 / case.of as u64;
        let start = [Start::Empty, Start::Imported, Start::Built][case.number / 2 % 3];
        let kind = [Kind::Tmpfs, Kind::Ext4("commit=5")][case.number % 2];
        let run = || -> Result<Outcome> {
            let volume = Volume::make(kind, &lab.volume(), SIZE)?;
            let cell = lab.cell_in(volume.point(), start)?;
            let ballast = volume.point().join("ballast");
            leave(volume.point(), &ballast, room)?;
            let mut full = false;
            if start == Start::Empty {
                full |= !works_or_is_full(lab, &cell, &lab.import())?;
            }
            if !full {
                full = !works_or_is_full(lab, &cell, &lab.build_anew())?;
            }
            if kind == Kind::Tmpfs {
                std::fs::remove_file(&ballast)?;
            }
            volume.grow(&ballast, SIZE)?;
            lab.judge(&cell)?;
            Ok(if full {
                Outcome::Struck
            } else {
                Outcome::Missed
            })
        };
        run().with_context(|| format!("{kind:?}, {start:?}, {room} bytes left"))
    }
}

/// Takes up the room of a disk but for `room` bytes.
fn leave(disk: &Path, ballast: &Path, room: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(disk)?;
    let free = stat.f_bavail * stat.f_frsize;
    let file = File::create(ballast)?;
    let length = free.saturating_sub(room);
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length).context("no ballast")
}

/// Whether a command succeeds. Where not, it says that the disk is full, and leaves nothing.
fn works_or_is_full(lab: &Lab, cell: &Cell, arguments: &[String]) -> Result<bool> {
    let child = cell.start(arguments)?;
    let pid = child.id();
    let ran = cell.finish(arguments, child)?;
    lab.nothing_runs(cell, pid)?;
    if ran.decent()? {
        return Ok(true);
    }
    let said = ran.said().to_lowercase();
    ensure!(
        said.contains("no space left"),
        "the disk was full and the command says: {}",
        ran.complaint()
    );
    Ok(false)
}
