//! Chains as plain directories, for where the kernel mounts no overlay: in a container, whose own files are
//! one, or where an administrator forbids it.
//!
//! To read a chain is to make a directory in which the layers' files have further names; nothing is copied,
//! and it is mounted read-only. To write on one is to copy it, and to look afterwards at what changed since:
//! everything that is done to a file changes its inode or the time of its last change, which nobody can set.
//! What changed is moved into the layer's upper directory, so that a layer is the same whichever way it came
//! to be. Only the marks of what is gone look otherwise where overlay's own cannot be made
//! ([`overlay`](crate::overlay)).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, StatxFlags, Timespec, Timestamps};
use store::SnapshotId;

use crate::layer::{Directory, Layer, copy_metadata};
use crate::snapshots::{SnapshotError, Snapshots, open_directory};
use crate::stack::{self, open_below};
use crate::tree::Entry;
use crate::{Root, mount, walk};

/// Longer than the kernel's clock takes to the next tick, wherever times are coarse.
const TICK: Duration = Duration::from_millis(20);

/// A copy of a chain that somebody may write into.
#[derive(Debug)]
pub(crate) struct Copied {
    whole: PathBuf,
    before: Looks,
}

/// What was seen of a file.
#[derive(Debug, Clone)]
struct Seen {
    stamp: Stamp,
    times: Timestamps,
}

/// What tells one state of a file from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    is_directory: bool,
    changed: (i64, u32),
    /// Zero where the file system does not know.
    born: (i64, u32),
}

impl Stamp {
    /// Whether it is still the file of before, whatever was done to it.
    fn is_same_file(&self, before: &Stamp) -> bool {
        let who = |it: &Stamp| (it.inode, it.is_directory, it.born);
        who(self) == who(before)
    }
}

impl Seen {
    fn at(directory: &OwnedFd, name: &CStr) -> io::Result<Seen> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(directory, name, flags, wanted)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let time = |it: rustix::fs::StatxTimestamp| (it.tv_sec, it.tv_nsec);
        let timespec = |it: rustix::fs::StatxTimestamp| Timespec {
            tv_sec: it.tv_sec,
            tv_nsec: it.tv_nsec.into(),
        };
        Ok(Seen {
            stamp: Stamp {
                inode: stat.stx_ino,
                is_directory: kind == FileType::Directory,
                changed: time(stat.stx_ctime),
                born: time(stat.stx_btime),
            },
            times: Timestamps {
                last_access: timespec(stat.stx_atime),
                last_modification: timespec(stat.stx_mtime),
            },
        })
    }
}

impl Snapshots {
    /// A chain for reading, detached. The links stay until this process closes the store.
    pub(crate) fn linked(&self, top: SnapshotId) -> Result<OwnedFd, SnapshotError> {
        let mut remembered = self.remembered();
        if !remembered.linked.contains_key(&top) {
            let place = self.store.tmp_dir()?;
            drop(remembered);
            self.link_all(top, place.path())?;
            remembered = self.remembered();
            remembered.linked.insert(top, Arc::new(place));
        }
        let place = Arc::clone(&remembered.linked[&top]);
        drop(remembered);
        mount::bind_read_only(place.path())
            .map_err(|source| SnapshotError::Mount { layers: 1, source })
    }

    fn link_all(&self, top: SnapshotId, whole: &Path) -> Result<(), SnapshotError> {
        let merged = self.merged(Some(top))?;
        let layers = self.store.ancestry(top)?;
        let layers: Vec<OwnedFd> = layers
            .iter()
            .map(|row| self.open_layer_directory(row.id))
            .collect::<Result<_, _>>()?;
        let to = open_directory(whole)?;
        for (layer, entry) in merged.located() {
            stack::link(entry, &layers[layer as usize], &to)
                .map_err(SnapshotError::file("link", entry.path()))?;
        }
        let directories: Vec<(u32, &Entry)> = merged
            .located()
            .filter(|(_, entry)| entry.is_directory())
            .collect();
        for (layer, entry) in directories.into_iter().rev() {
            stack::dress(entry, &layers[layer as usize], &to)
                .map_err(SnapshotError::file("link", entry.path()))?;
        }
        Ok(())
    }

    /// Copies a chain into `whole`, an empty directory.
    pub(crate) fn copy(&self, top: SnapshotId, whole: PathBuf) -> Result<Copied, SnapshotError> {
        let merged = self.merged(Some(top))?;
        let view = Root::from_fd(self.linked(top)?);
        let layer = Layer::new(open_directory(&whole)?, None, Arc::default());
        let failed = |entry: &Entry| SnapshotError::file("copy", entry.path());
        for entry in merged.iter().filter(|it| !it.path.is_empty()) {
            let owner = (entry.uid, entry.gid);
            layer
                .take_over(&view, entry.path(), owner)
                .map_err(failed(entry))?;
        }
        // Directories changed with all that came into them.
        let to = open_directory(&whole)?;
        for entry in merged.iter().filter(|it| it.is_directory()) {
            let dress = || {
                let from = view.open_dir(entry.path())?;
                copy_metadata(from.as_fd(), open_below(&to, entry.path())?.as_fd())
            };
            dress().map_err(failed(entry))?;
        }
        std::thread::sleep(TICK);
        let before = look(&to).map_err(SnapshotError::file("read", &whole))?;
        Ok(Copied { whole, before })
    }
}

impl Copied {
    /// The directory that it is in.
    pub(crate) fn whole(&self) -> &Path {
        &self.whole
    }

    /// Moves what changed into a layer on the same chain. Nobody may write any more.
    pub(crate) fn settle(&self, layer: &Layer) -> Result<(), SnapshotError> {
        let whole = open_directory(&self.whole)?;
        let now = look(&whole).map_err(SnapshotError::file("read", &self.whole))?;
        let mut move_in = Move {
            whole: &whole,
            layer,
            now: &now,
            touched: BTreeSet::new(),
        };
        let failed = |path: &[u8]| SnapshotError::file("move", Path::new(OsStr::from_bytes(path)));
        for (path, seen) in &now {
            let before = self.before.get(path);
            if before.is_none_or(|it| it.stamp != seen.stamp) {
                move_in.change(path, seen, before).map_err(failed(path))?;
            }
        }
        for path in self.before.keys() {
            if !now.contains_key(path) && !move_in.is_hidden(path, &self.before) {
                move_in.remove(path).map_err(failed(path))?;
            }
        }
        move_in
            .dress()
            .map_err(SnapshotError::file("read", &self.whole))
    }
}

/// All paths of a tree and what is there, each directory before what is in it.
type Looks = BTreeMap<Box<[u8]>, Seen>;

/// A move from the copy into a layer.
struct Move<'a> {
    whole: &'a OwnedFd,
    layer: &'a Layer,
    now: &'a Looks,
    /// The directories of the layer whose times are to be set in the end.
    touched: BTreeSet<Box<[u8]>>,
}

impl Move<'_> {
    fn change(&mut self, path: &[u8], seen: &Seen, before: Option<&Seen>) -> io::Result<()> {
        if seen.stamp.is_directory {
            self.touched.insert(path.into());
        }
        let Some((parent, name)) = split(path) else {
            return copy_metadata(self.whole.as_fd(), self.layer.root()?.own());
        };
        let directory = self.enter(parent)?;
        if !seen.stamp.is_directory {
            directory.make_room(name)?;
            let from = open_below(self.whole, as_path(parent))?;
            return Ok(rustix::fs::renameat(&from, name, directory.own(), name)?);
        }
        let made = match before {
            Some(before) if seen.stamp.is_same_file(&before.stamp) => {
                directory.enter_or_make(name, &mut |_| Ok(()))?
            }
            // What was there is gone, and with it all that was below it.
            Some(_) => {
                directory.remove(name)?;
                directory.make_directory(name)?
            }
            None => directory.make_directory(name)?,
        };
        copy_metadata(open_below(self.whole, as_path(path))?.as_fd(), made.own())
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let Some((parent, name)) = split(path) else {
            return Ok(());
        };
        self.enter(parent)?.remove(name)
    }

    /// Whether what was at `path` went with the directory that it was in.
    fn is_hidden(&self, path: &[u8], before: &Looks) -> bool {
        let Some((parent, _)) = split(path) else {
            return true;
        };
        match (self.now.get(parent), before.get(parent)) {
            (Some(now), Some(before)) => !now.stamp.is_same_file(&before.stamp),
            _ => true,
        }
    }

    /// Opens a directory of the layer; those that lead there come along.
    fn enter(&mut self, path: &[u8]) -> io::Result<Directory> {
        let mut directory = self.layer.root()?;
        self.touched.insert(Box::default());
        let mut above = PathBuf::new();
        for name in as_path(path) {
            directory = directory.enter_or_make(name, &mut |_| Ok(()))?;
            above.push(name);
            self.touched.insert(above.as_os_str().as_bytes().into());
        }
        Ok(directory)
    }

    fn dress(&mut self) -> io::Result<()> {
        for path in std::mem::take(&mut self.touched) {
            if let Some(seen) = self.now.get(&path) {
                let directory = self.enter(&path)?;
                rustix::fs::futimens(directory.own(), &seen.times)?;
            }
        }
        Ok(())
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// The directory and the name in it; `None` for the root.
fn split(path: &[u8]) -> Option<(&[u8], &OsStr)> {
    let path = as_path(path);
    let parent = path.parent()?.as_os_str().as_bytes();
    Some((parent, path.file_name()?))
}

/// Looks at everything in a directory.
fn look(root: &OwnedFd) -> io::Result<Looks> {
    let mut looks = Looks::new();
    looks.insert(Box::default(), Seen::at(root, c"")?);
    let mut ahead = vec![Box::default()];
    while let Some(path) = ahead.pop() {
        let directory = open_below(root, as_path(&path))?;
        for name in walk::read_names(directory.as_fd())? {
            let seen = Seen::at(&directory, &name)?;
            let path = walk::joined(&path, name.to_bytes());
            if seen.stamp.is_directory {
                ahead.push(path.clone());
            }
            looks.insert(path, seen);
        }
    }
    Ok(looks)
}
