//! Runs the actions of a file op.
//!
//! Actions that build on each other write into one layer; nothing is mounted for writing.

mod copy;
mod mode;
mod owner;
mod path;
mod transfer;
mod unpack;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llb::op::{File, FileAction, FileChange, Tree};
use rustix::fs::Stat;
use snapshot::source::{Lookup, ResolveError, SourceError};
use snapshot::{Active, Layer, Local, Merged, PatternError, Root, SnapshotError, UnpackError};
use store::SnapshotId;

use crate::{Context, Ops, Ref};

/// Why a file op gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is nothing at a copy's source, or it is no path.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What is to be left out is no pattern.
    #[error(transparent)]
    Exclude(#[from] PatternError),
    /// A file cannot take the place of a directory.
    #[error("cannot replace to directory {} with file", .0.display())]
    DirectoryInTheWay(PathBuf),
    /// A directory cannot go where something else is.
    #[error("cannot copy to non-directory: {}", .0.display())]
    NotADirectory(PathBuf),
    /// A path of the changed tree leads in circles.
    #[error("{}: too many levels of symbolic links", .0.display())]
    TooManyLinks(PathBuf),
    /// There is nothing to remove.
    #[error("{path:?}: not found")]
    NothingToRemove {
        /// What was to be removed.
        path: String,
    },
    /// The name is in no `passwd`.
    #[error("unknown user {name:?}: it is not in /etc/passwd of the stage")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// The name is in no `group`.
    #[error("unknown group {name:?}: it is not in /etc/group of the stage")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// The file with the names cannot be used.
    #[error("cannot look up names in {path}")]
    Names {
        /// `/etc/passwd` or `/etc/group`.
        path: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Permissions that cannot be read.
    #[error("invalid chmod parameter: {0:?}")]
    Mode(String),
    /// A file of the source cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Within the source's tree.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Within the changed tree.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An archive cannot be unpacked.
    #[error("cannot unpack {}", path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// A directory of the session is lent for reading.
    #[error("a local directory cannot be changed")]
    LocalBase,
    /// An action refers to a tree that is not there.
    #[error("action {0} of the file op refers to a tree that does not exist")]
    NoSuchTree(usize),
    /// A layer could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It was told to stop.
    #[error("canceled")]
    Cancelled,
}

impl FileError {
    /// For `map_err`: a path of the source's tree.
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read {
            path: Path::new("/").join(path),
            source,
        }
    }

    /// For `map_err`: a path of the changed tree.
    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = Path::new("/").join(path);
            match source.kind() {
                io::ErrorKind::NotADirectory => Self::NotADirectory(path),
                _ => Self::Write { path, source },
            }
        }
    }

    /// For `map_err`: a path of the changed tree that was followed.
    fn follow(path: &Path) -> impl FnOnce(ResolveError) -> Self + use<> {
        let path = Path::new("/").join(path);
        move |error| match error {
            ResolveError::TooManyLinks => Self::TooManyLinks(path),
            ResolveError::Lookup(source) => Self::Write { path, source },
        }
    }
}

pub(crate) fn run(
    ops: &Ops,
    file: &File,
    inputs: &[Ref],
    context: &Context<'_>,
) -> Result<Vec<Ref>, FileError> {
    let mut trees = Trees {
        ops,
        inputs,
        actions: &file.actions,
        made: Vec::new(),
    };
    for (number, action) in file.actions.iter().enumerate() {
        let from = trees.source(number, action)?;
        let names = trees.names(number, action)?;
        let under_way = trees.base(number, action)?;
        let change = Change {
            layer: &under_way.layer,
            from: from.as_ref(),
            names: names.as_ref(),
            context,
        };
        change.make(&action.change)?;
        trees.made.push(Made::UnderWay(Box::new(under_way)));
    }
    trees.outputs()
}

/// A tree that is only read.
pub(crate) enum Readable {
    /// A directory of the session.
    Local(Arc<Local>),
    /// A mounted chain.
    Chain {
        /// The mount.
        root: Root,
        /// What says to whom its files belong, where they do not say it themselves.
        owners: Option<Arc<Merged>>,
    },
}

impl Readable {
    pub(crate) fn lookup(&self) -> &dyn Lookup {
        match self {
            Self::Local(local) => &**local,
            Self::Chain { root, .. } => root,
        }
    }

    pub(crate) fn root(&self) -> &Root {
        match self {
            Self::Local(local) => local.root(),
            Self::Chain { root, .. } => root,
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// To whom what is at a real path belongs. The host's users own nothing in an image.
    pub(crate) fn owner(&self, path: &Path, stat: &Stat) -> (u32, u32) {
        match self {
            Self::Local(_) => (0, 0),
            Self::Chain { owners, .. } => owners
                .as_ref()
                .and_then(|tree| tree.get(path.as_os_str().as_bytes()))
                .map_or((stat.st_uid, stat.st_gid), |entry| (entry.uid, entry.gid)),
        }
    }
}

/// One action's surroundings.
struct Change<'a> {
    layer: &'a Layer,
    from: Option<&'a Readable>,
    names: Option<&'a Readable>,
    context: &'a Context<'a>,
}

impl Change<'_> {
    fn make(&self, change: &FileChange) -> Result<(), FileError> {
        match change {
            FileChange::Copy(copy) => copy::copy(self, copy),
            FileChange::MakeFile { .. } => {
                self.layer.forget();
                path::make_file(self, change)
            }
            FileChange::MakeDirectory { path, mode, owner } => {
                path::make_directory(self, path, *mode, owner.as_ref())
            }
            FileChange::Remove {
                path,
                allow_missing,
            } => path::remove(self, path, *allow_missing),
        }
    }
}

/// The trees of one file op: inputs, and what its actions made so far.
struct Trees<'a> {
    ops: &'a Ops,
    inputs: &'a [Ref],
    actions: &'a [FileAction],
    made: Vec<Made>,
}

/// What an action made.
enum Made {
    /// A layer that the next action may go on with.
    UnderWay(Box<UnderWay>),
    /// A snapshot.
    Done(SnapshotId),
    /// A layer that another action went on with.
    Continued,
}

struct UnderWay {
    active: Active,
    layer: Layer,
}

impl Trees<'_> {
    /// The layer that an action writes into.
    fn base(&mut self, number: usize, action: &FileAction) -> Result<UnderWay, FileError> {
        let parent = match action.base {
            Tree::Scratch => None,
            Tree::Input(input) => match self.inputs.get(input) {
                Some(Ref::Snapshot(top)) => *top,
                Some(Ref::Local(_)) => return Err(FileError::LocalBase),
                None => return Err(FileError::NoSuchTree(number)),
            },
            Tree::Action(earlier) => {
                if self.is_only_use(earlier)
                    && let Some(made) = self.made.get_mut(earlier)
                    && let Made::UnderWay(under_way) = std::mem::replace(made, Made::Continued)
                {
                    return Ok(*under_way);
                }
                Some(self.finish(number, earlier)?)
            }
        };
        let active = self.ops.snapshots.prepare(parent)?;
        let layer = active.layer()?;
        Ok(UnderWay { active, layer })
    }

    /// The tree that an action copies from.
    fn source(
        &mut self,
        number: usize,
        action: &FileAction,
    ) -> Result<Option<Readable>, FileError> {
        match &action.change {
            FileChange::Copy(copy) => self.readable(number, copy.from).map(Some),
            _ => Ok(None),
        }
    }

    /// The tree in which an action's owner is looked up, if that is another than the changed one.
    fn names(&mut self, number: usize, action: &FileAction) -> Result<Option<Readable>, FileError> {
        match owner::elsewhere(&action.change) {
            Some(input) => self.readable(number, Tree::Input(input)).map(Some),
            None => Ok(None),
        }
    }

    fn readable(&mut self, number: usize, tree: Tree) -> Result<Readable, FileError> {
        let top = match tree {
            Tree::Scratch => None,
            Tree::Input(input) => match self.inputs.get(input) {
                Some(Ref::Snapshot(top)) => *top,
                Some(Ref::Local(local)) => return Ok(Readable::Local(Arc::clone(local))),
                None => return Err(FileError::NoSuchTree(number)),
            },
            Tree::Action(earlier) => Some(self.finish(number, earlier)?),
        };
        Ok(Readable::Chain {
            root: Root::from_fd(self.ops.snapshots.view(top)?),
            owners: self.ops.snapshots.owners(top)?,
        })
    }

    /// Whether nothing but the base of one later action needs what `action` made.
    fn is_only_use(&self, action: usize) -> bool {
        let tree = Tree::Action(action);
        let bases = self.actions.iter().filter(|it| it.base == tree).count();
        let copied = self
            .actions
            .iter()
            .any(|it| matches!(&it.change, FileChange::Copy(copy) if copy.from == tree));
        bases == 1 && !copied && !self.actions[action].output
    }

    /// Makes what an action made a snapshot.
    fn finish(&mut self, number: usize, action: usize) -> Result<SnapshotId, FileError> {
        let missing = || FileError::NoSuchTree(number);
        let made = self.made.get_mut(action).ok_or_else(missing)?;
        let id = match std::mem::replace(made, Made::Continued) {
            Made::UnderWay(under_way) => {
                drop(under_way.layer);
                under_way.active.commit()?
            }
            Made::Done(id) => id,
            Made::Continued => return Err(missing()),
        };
        self.made[action] = Made::Done(id);
        Ok(id)
    }

    fn outputs(&mut self) -> Result<Vec<Ref>, FileError> {
        let mut outputs = Vec::new();
        for number in 0..self.actions.len() {
            if self.actions[number].output {
                outputs.push(Ref::Snapshot(Some(self.finish(number, number)?)));
            }
        }
        Ok(outputs)
    }
}
