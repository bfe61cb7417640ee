//! From a chain to plain files: a tar of all that it shows, or a directory of the host.

mod directory;
mod tar;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use store::SnapshotId;

use crate::root::open_in_root;
use crate::snapshots::{SnapshotError, Snapshots};
use crate::tree::{Entry, Merged};

/// How the files of a chain are given away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plain {
    /// The time that every file has, in seconds since 1970; its own where `None`.
    pub epoch: Option<i64>,
    /// The directory that all of it is put into; none where `None`. One component.
    pub below: Option<String>,
}

/// Why the files of a chain could not be given away.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The chain could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file of the chain could not be read.
    #[error("cannot read `{}` of the result", path.display())]
    Read {
        /// Within the chain.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody takes the bytes of the tar.
    #[error("cannot write the tar")]
    Tar(#[source] io::Error),
    /// A file of the host could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// On the host.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory of the host would have to go for a file.
    #[error("`{}` is a directory, and the result has something else there", .0.display())]
    IsDirectory(PathBuf),
}

impl Snapshots {
    /// Writes a tar of all that a chain shows: the same bytes whenever and wherever. Sockets are left
    /// out. Returns how many bytes of content there are.
    pub fn write_tar(
        &self,
        top: Option<SnapshotId>,
        plain: &Plain,
        out: &mut dyn Write,
    ) -> Result<u64, FilesError> {
        tar::write(&Shown::open(self, top)?, plain, out)
    }

    /// Puts all that a chain shows into a directory of the host, which is made where it is missing, and
    /// becomes visible whole then. What is there already stays, or is replaced file by file. Files
    /// belong to this process; sockets are left out. Returns how many bytes of content there are.
    pub fn write_directory(
        &self,
        top: Option<SnapshotId>,
        plain: &Plain,
        to: &Path,
    ) -> Result<u64, FilesError> {
        directory::write(&Shown::open(self, top)?, plain, to)
    }
}

/// What a chain shows, with its files.
struct Shown {
    merged: Arc<Merged>,
    root: OwnedFd,
}

impl Shown {
    fn open(snapshots: &Snapshots, top: Option<SnapshotId>) -> Result<Self, FilesError> {
        Ok(Self {
            merged: snapshots.merged(top)?,
            root: snapshots.view(top)?,
        })
    }

    /// All but the root directory, a directory before what is in it.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.merged.iter().filter(|entry| !entry.path.is_empty())
    }

    /// The content of a regular file.
    fn file(&self, entry: &Entry) -> Result<File, FilesError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = open_in_root(self.root.as_fd(), entry.path(), flags, Mode::empty());
        opened.map(File::from).map_err(unread(entry))
    }
}

fn unread(entry: &Entry) -> impl FnOnce(io::Error) -> FilesError {
    let path = entry.path().to_owned();
    |source| FilesError::Read { path, source }
}

/// Files that have several names, each by the first that was met.
#[derive(Default)]
struct Links(HashMap<(u64, u64), Box<[u8]>>);

impl Links {
    /// The name under which the same file was met before.
    fn first(
        &mut self,
        entry: &Entry,
        file: &File,
        link: u32,
    ) -> Result<Option<Box<[u8]>>, FilesError> {
        // Numbers of links count within a layer only, inodes in all of the chain.
        if link == 0 {
            return Ok(None);
        }
        let stat = rustix::fs::fstat(file).map_err(|error| unread(entry)(error.into()))?;
        let known = self.0.get(&(stat.st_dev, stat.st_ino)).cloned();
        if known.is_none() {
            self.0
                .insert((stat.st_dev, stat.st_ino), entry.path.clone());
        }
        Ok(known)
    }
}
