//! The context of a build: brought to where steps can read it, before anything is planned.
//!
//! A directory stays where it is and is read in place. What has to be fetched, a tar, an address or
//! a repository, is unpacked into a snapshot, which is known by what it was made from: the same tar
//! or the same commit is not unpacked twice while the cache has it.

mod archive;
mod fetch;
mod from;
mod listing;
mod missing;
mod named;
mod stdin;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use export::Material;
use snapshot::{Entry, Root};
use store::{Lease, SnapshotId, StoreError};

use crate::ledger::Ledger;
use crate::report::Reporter;
use crate::{BuildError, Engine, ReadError, Request};

pub use from::{ContextFrom, DockerfileFrom, NamedFrom, NamedFromError};
pub use listing::{Excluded, Listed, Listing, Rule};

pub(crate) use fetch::text_of;
pub(crate) use listing::list;
pub(crate) use missing::hint;
pub(crate) use named::{contexts, local_name};
pub(crate) use stdin::Stdin;

/// The largest Dockerfile or ignore file that is read: 16 MiB.
pub(crate) const LARGEST_TEXT: u64 = 16 << 20;

/// The context of a build, where steps can read it.
#[derive(Debug)]
pub(crate) struct Context {
    tree: Tree,
    /// The Dockerfile, where that came and no files.
    dockerfile: Option<Vec<u8>>,
    /// From where it was fetched, and what it was.
    origin: Option<Material>,
    /// Keeps the tree from being collected.
    _lease: Option<Lease>,
}

#[derive(Debug)]
enum Tree {
    Directory(PathBuf),
    /// `None` is the empty tree.
    Snapshot(Option<SnapshotId>),
}

/// A tree in the store, and what keeps it there where it was not made just now.
#[derive(Debug)]
struct Kept {
    id: SnapshotId,
    lease: Option<Lease>,
}

impl Context {
    /// Makes the context of `request` one that can be read, which may take a server's time.
    pub(crate) fn bring(
        engine: &Engine,
        request: &Request,
        reporter: &Reporter<'_>,
        ledger: &Ledger,
    ) -> Result<Self, BuildError> {
        named::require(request)?;
        let fetching = fetch::Fetching {
            engine,
            request,
            reporter,
            ledger,
        };
        match &request.context {
            ContextFrom::Directory(path) => {
                require_directory(path)?;
                Ok(Self::of(Tree::Directory(path.clone())))
            }
            ContextFrom::Empty => Ok(Self::of(Tree::Snapshot(None))),
            ContextFrom::Stdin => fetching.stdin(),
            ContextFrom::Remote(address) => fetching.afar(address),
        }
    }

    fn of(tree: Tree) -> Self {
        Self {
            tree,
            dockerfile: None,
            origin: None,
            _lease: None,
        }
    }

    /// No files, but the Dockerfile itself.
    fn of_dockerfile(text: Vec<u8>) -> Self {
        Self {
            dockerfile: Some(text),
            ..Self::of(Tree::Snapshot(None))
        }
    }

    fn of_snapshot(kept: Kept) -> Self {
        Self {
            _lease: kept.lease,
            ..Self::of(Tree::Snapshot(Some(kept.id)))
        }
    }

    /// The same, fetched from somewhere.
    fn from(self, origin: Option<Material>) -> Self {
        Self { origin, ..self }
    }

    /// From where it was fetched, and what it was then.
    pub(crate) fn origin(&self) -> Option<&Material> {
        self.origin.as_ref()
    }

    /// The Dockerfile, where that came and no files.
    pub(crate) fn dockerfile(&self) -> Option<&[u8]> {
        self.dockerfile.as_deref()
    }

    /// Whether it is a directory of this machine, which alone has ignore files (G119) and whose
    /// Dockerfile may be named by any path.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.tree, Tree::Directory(_))
    }

    /// Whether it is this directory, named without symlinks.
    pub(crate) fn is_at(&self, directory: &Path) -> bool {
        match &self.tree {
            Tree::Directory(path) => fs::canonicalize(path).is_ok_and(|it| it == directory),
            Tree::Snapshot(_) => false,
        }
    }

    /// The snapshot that the context is; `None` where it is a directory.
    pub(crate) fn snapshot(&self) -> Option<Option<SnapshotId>> {
        match self.tree {
            Tree::Directory(_) => None,
            Tree::Snapshot(id) => Some(id),
        }
    }

    /// When the newest of its files was changed, in seconds since 1970: of a repository, the time of the
    /// commit. A directory of this machine has none that would be the same elsewhere.
    pub(crate) fn epoch(&self, engine: &Engine) -> Result<Option<i64>, ReadError> {
        let Tree::Snapshot(Some(id)) = self.tree else {
            return Ok(None);
        };
        let tree = engine.snapshots.tree(id)?;
        // Directories that a tar only implies are as old as its unpacking, and git keeps no times.
        let is_dated = |it: &&Entry| !it.is_directory() && !it.path.starts_with(b".git/");
        let times = tree.entries().iter().filter(is_dated).map(|it| it.mtime.0);
        Ok(times.max())
    }

    /// Its files, of which nothing leads outside.
    pub(crate) fn root(&self, engine: &Engine) -> io::Result<Root> {
        match &self.tree {
            Tree::Directory(path) => Root::open(path),
            Tree::Snapshot(None) => Err(io::ErrorKind::NotFound.into()),
            Tree::Snapshot(top) => {
                let tree = engine.snapshots.view(*top).map_err(io::Error::other)?;
                Ok(Root::from_fd(tree))
            }
        }
    }
}

/// Refuses what is no directory that can be read.
fn require_directory(path: &Path) -> Result<(), ReadError> {
    let path = path.to_owned();
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => match fs::read_dir(&path) {
            Ok(_) => Ok(()),
            Err(source) => Err(ReadError::UnreadableContext { path, source }),
        },
        Ok(_) => Err(ReadError::NoDirectory { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::NoContext { path }),
        Err(source) => Err(ReadError::UnreadableContext { path, source }),
    }
}

/// What was made from the thing that `key` names, if it is still there; it will be as long as the
/// build.
fn known(engine: &Engine, key: &llb::Key) -> Result<Option<Kept>, StoreError> {
    let found = engine.store.result(key)?;
    let Some(id) = found.and_then(|it| it.outputs.first().copied().flatten()) else {
        return Ok(None);
    };
    match engine.store.lease(&[id], &[]) {
        Ok(lease) => Ok(Some(Kept {
            id,
            lease: Some(lease),
        })),
        // Somebody pruned it just now.
        Err(StoreError::MissingSnapshot(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
