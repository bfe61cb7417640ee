//! The files of the store are not what they were.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode};

use super::{Campaign, Case, Outcome};
use crate::cell::Cell;
use crate::lab::{Lab, Start};
use crate::seed::Chance;

/// A file of the store that was changed behind its back.
pub(crate) struct Damages;

/// Which file.
#[derive(Debug, Clone, Copy)]
struct Class {
    name: &'static str,
    /// The directory below the root, and how the path in it begins and ends.
    below: &'static str,
    ends: &'static str,
    what: What,
    rot: Rot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    Directory,
    /// One that is not there otherwise.
    New,
}

/// Whether a build may use what was changed, without a look at it: a cached layer is not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rot {
    Unseen,
    Seen,
}

const CLASSES: &[Class] = &[
    class("database", "", "db.sqlite", What::File, Rot::Seen),
    class(
        "log of the database",
        "",
        "db.sqlite-wal",
        What::File,
        Rot::Seen,
    ),
    class(
        "index of the log",
        "",
        "db.sqlite-shm",
        What::File,
        Rot::Seen,
    ),
    class("blob", "blobs/sha256", "", What::File, Rot::Seen),
    class(
        "file of a layer",
        "snapshots",
        "/fs/",
        What::File,
        Rot::Unseen,
    ),
    class(
        "directory of a layer",
        "snapshots",
        "/fs",
        What::Directory,
        Rot::Unseen,
    ),
    class(
        "manifest of a layer",
        "snapshots",
        "/tree",
        What::File,
        Rot::Unseen,
    ),
    class("layer", "snapshots", "", What::Directory, Rot::Unseen),
    class("file of the floor", "floor", "", What::File, Rot::Seen),
    class("file of a cache mount", "mounts", "", What::File, Rot::Seen),
    class("cache mount", "mounts", "", What::Directory, Rot::Seen),
    class("memory of files", "stat", "", What::File, Rot::Seen),
    class("memory of a source", "sources", "", What::File, Rot::Seen),
    class(
        "directory of a source",
        "sources",
        "",
        What::Directory,
        Rot::Seen,
    ),
    class("lock", "locks", "stray", What::New, Rot::Seen),
    class("lock of owners", "locks", "owners", What::New, Rot::Seen),
    class("work", "tmp", "1-1-0", What::New, Rot::Seen),
    class(
        "work of the dead",
        "tmp",
        "dead-1-1-0",
        What::New,
        Rot::Seen,
    ),
    class("budget", "", "budget", What::File, Rot::Seen),
    class("directory", "", "", What::Directory, Rot::Seen),
];

const fn class(
    name: &'static str,
    below: &'static str,
    ends: &'static str,
    what: What,
    rot: Rot,
) -> Class {
    Class {
        name,
        below,
        ends,
        what,
        rot,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped,
    Halved,
    Emptied,
    Zeroed,
    Deleted,
    Directory,
    Pipe,
    Dangling,
}

const DAMAGES: &[Damage] = &[
    Damage::Flipped,
    Damage::Halved,
    Damage::Emptied,
    Damage::Zeroed,
    Damage::Deleted,
    Damage::Directory,
    Damage::Pipe,
    Damage::Dangling,
];

impl Campaign for Damages {
    fn name(&self) -> &'static str {
        "damages"
    }

    fn about(&self) -> &'static str {
        "a file of the store changed"
    }

    fn counts(&self) -> (usize, usize) {
        (2 * CLASSES.len() * DAMAGES.len(), 12)
    }

    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome> {
        let mut chance = case.chance;
        // A small run takes every so many.
        let every = (2 * CLASSES.len() * DAMAGES.len()).div_ceil(case.of).max(1);
        let number =
            case.number * every + usize::from(every > 1) * chance.below(every as u64) as usize;
        let repair_first = number % 2 == 1;
        let class = CLASSES[number / 2 % CLASSES.len()];
        let damage = DAMAGES[number / 2 / CLASSES.len() % DAMAGES.len()];
        let cell = lab.cell(Start::Built)?;
        let Some(path) = choose(&cell.root(), class, &mut chance)? else {
            cell.remove()?;
            return Ok(Outcome::Missed);
        };
        let mut run = || -> Result<Outcome> {
            change(&path, (damage, &nowhere(&cell)), &mut chance)?;
            if !repair_first {
                let built = cell.run(&lab.build())?.decent()?;
                if built && class.rot == Rot::Seen {
                    lab.judge_result(&cell)?;
                }
            }
            let repaired = cell.run(&["store", "verify", "--repair"])?;
            ensure!(
                repaired.decent()?,
                "the repair failed: {}",
                repaired.complaint()
            );
            lab.judge(&cell)?;
            ensure!(
                !nowhere(&cell).exists(),
                "a link out of the store was followed"
            );
            Ok(Outcome::Struck)
        };
        let outcome = run().with_context(|| {
            let first = if repair_first { "repaired" } else { "built" };
            let path = path.strip_prefix(cell.root()).unwrap_or(&path).display();
            format!("{} `{path}` {damage:?}, {first} first", class.name)
        })?;
        cell.remove()?;
        Ok(outcome)
    }
}

/// One of the files of a class.
fn choose(root: &Path, class: Class, chance: &mut Chance) -> Result<Option<PathBuf>> {
    let base = root.join(class.below);
    if class.what == What::New {
        return Ok(Some(base.join(class.ends)));
    }
    let mut found = Vec::new();
    let mut waiting = vec![base.clone()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            let text = path.strip_prefix(&base)?.display().to_string();
            let deep = text.contains('/');
            let fits = match class.what {
                What::Directory if class.ends.is_empty() => kind.is_dir() && !deep,
                What::Directory => kind.is_dir() && format!("/{text}").ends_with(class.ends),
                _ if class.ends.ends_with('/') => {
                    kind.is_file() && format!("/{text}").contains(class.ends)
                }
                _ if class.below.is_empty() => text == class.ends,
                _ => kind.is_file() && format!("/{text}").ends_with(class.ends),
            };
            if fits {
                found.push(path.clone());
            }
            if kind.is_dir() && !class.below.is_empty() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    Ok((!found.is_empty()).then(|| chance.pick(&found).clone()))
}

/// Where links lead: outside the store, and nothing is there.
fn nowhere(cell: &Cell) -> PathBuf {
    cell.home().join("nowhere")
}

fn change(path: &Path, (damage, nowhere): (Damage, &Path), chance: &mut Chance) -> Result<()> {
    let there = fs::symlink_metadata(path).ok();
    let file = there.as_ref().is_some_and(fs::Metadata::is_file);
    let mut bytes = if file { fs::read(path)? } else { Vec::new() };
    let remove = || match &there {
        Some(it) if it.is_dir() => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
        None => Ok(()),
    };
    match damage {
        Damage::Flipped | Damage::Halved | Damage::Emptied | Damage::Zeroed => {
            if !file {
                remove()?;
                bytes = vec![b'?'; 64];
            }
            let at = chance.below(bytes.len() as u64) as usize;
            match damage {
                Damage::Halved => bytes.truncate(bytes.len() / 2),
                Damage::Emptied => bytes.clear(),
                Damage::Zeroed => bytes.fill(0),
                _ => bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|it| *it ^= 1 << chance.below(8)),
            }
            // In place, with all that belongs to the file but its bytes.
            fs::write(path, bytes)?;
        }
        Damage::Deleted => remove()?,
        Damage::Directory => {
            remove()?;
            fs::create_dir(path)?;
        }
        Damage::Pipe => {
            remove()?;
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0)?;
        }
        Damage::Dangling => {
            remove()?;
            std::os::unix::fs::symlink(nowhere, path)?;
        }
    }
    Ok(())
}
