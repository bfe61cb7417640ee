//! Directories of the host, read in place.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci::Key;

use crate::checksum::{ChecksumError, Listing, Select, checksum, listed};
use crate::pattern::{Matcher, Patterns};
use crate::snapshots::{SnapshotError, Snapshots};
use crate::source::{Lookup, Seen};
use crate::tree::{Entry, Tree};
use crate::walk::{Origin, Walk, WalkError};
use crate::{Root, is_absence};

mod memory;

use memory::Memory;

/// A directory of the host without what its ignore lines leave out. Its files count as root's.
///
/// What was read of its files is remembered in the store, by device, inode, size and times, so that
/// nothing is read twice while it does not change. Dropping this writes the memory down.
#[derive(Debug)]
pub struct Local {
    directory: PathBuf,
    root: Root,
    ignore: Patterns,
    memory: Memory,
}

impl Snapshots {
    /// A directory of the host.
    pub fn local(&self, directory: &Path, ignore: Patterns) -> Result<Local, SnapshotError> {
        let directory = directory
            .canonicalize()
            .map_err(SnapshotError::file("open", directory))?;
        let root = Root::open(&directory).map_err(SnapshotError::file("open", &directory))?;
        let memory = Memory::load(self.store.root(), &directory);
        Ok(Local {
            directory,
            root,
            ignore,
            memory,
        })
    }
}

impl Local {
    /// Where it is, without symlinks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory as a root: with what is ignored.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What is left out.
    pub fn ignore(&self) -> &Patterns {
        &self.ignore
    }

    /// The key of a part of it, by the same rules as that of a chain.
    pub fn checksum(&self, select: &Select) -> Result<Key, ChecksumError> {
        checksum(self, select)
    }

    /// The key of what is at `path` as [`Select::Path`] has it, with what it was made from.
    pub fn listed(&self, path: &str) -> Result<(Key, Vec<Entry>), ChecksumError> {
        listed(self, path)
    }

    /// From now on, nothing that is learnt of its files is written down.
    pub fn keep_nothing(&self) {
        self.memory.keep_nothing();
    }

    /// The content key of a file that has not changed since it was read; then it also has no attributes.
    pub fn known_content(&self, seen: &rustix::fs::Statx) -> Option<Key> {
        self.memory.content(seen)
    }

    fn hides(&self, path: &Path) -> bool {
        !path.as_os_str().is_empty() && self.ignore.excludes(path)
    }

    fn walk(&self) -> Walk<'_> {
        let ignore = (!self.ignore.is_empty()).then_some(&self.ignore as &dyn Matcher);
        Walk {
            root: self.root.as_fd(),
            ignore,
            known: &self.memory,
            origin: Origin::Host,
        }
    }
}

impl Lookup for Local {
    fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        let seen = self.root.look(path)?;
        // Of a directory that is left out something below may have been taken back in.
        let keep = seen == Some(Seen::Directory) && !self.ignore.excludes_all_below(path);
        Ok(if self.hides(path) && !keep {
            None
        } else {
            seen
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = self.root.names(path)?;
        names.retain(|name| !matches!(self.look(&path.join(name)), Ok(None)));
        Ok(names)
    }
}

impl Listing for Local {
    fn list(&self, path: &Path) -> Result<Vec<Cow<'_, Entry>>, WalkError> {
        let tree = Tree::new(self.walk().run(path)?);
        Ok(tree.into_entries().into_iter().map(Cow::Owned).collect())
    }

    fn entry(&self, path: &Path) -> Result<Option<Cow<'_, Entry>>, WalkError> {
        match self.walk().one(path) {
            Ok(entry) => Ok(Some(Cow::Owned(entry))),
            Err(error) if is_absence(&error.source) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
