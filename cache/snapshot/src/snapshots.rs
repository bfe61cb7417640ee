//! The snapshots of a store.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use oci::{Key, KeyHasher, Limits};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use store::{SnapshotId, Store, StoreError};

use crate::mount::{self, Overlay, Writes};
use crate::owner;
use crate::packed::{self, Packing};
use crate::tree::{Merged, Tree, TreeError};
use crate::walk::WalkError;

/// The kernel mounts no more layers over each other.
pub(crate) const MOST_LAYERS: usize = 500;
/// How many merged chains are remembered; more than a build looks at in turn.
const REMEMBERED_CHAINS: usize = 8;

/// Why something with a snapshot failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store could not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer's files could not be read.
    #[error("cannot read the files of a layer")]
    Walk(#[from] WalkError),
    /// A tree manifest in the store is not one.
    #[error("snapshot {id} has no usable tree manifest")]
    Tree {
        /// Whose manifest it is.
        id: SnapshotId,
        /// What is wrong with it.
        #[source]
        source: TreeError,
    },
    /// More layers than the kernel can mount.
    #[error("a chain of {0} layers is too long: the kernel mounts at most {MOST_LAYERS}")]
    TooManyLayers(usize),
    /// A layer that was kept in its tar cannot be mounted.
    #[error("cannot mount the tar of snapshot {id}")]
    Index {
        /// Which layer.
        id: SnapshotId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused an overlay mount.
    #[error("cannot mount a chain of {layers} layers as overlay")]
    Mount {
        /// How many.
        layers: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file or directory of the store could not be used.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// The snapshots of a store. Clones share what they remember; threads may use them at once.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pub(crate) store: Store,
    pub(crate) packing: Packing,
    limits: Arc<Limits>,
    remembered: Arc<Mutex<Remembered>>,
    mounts_indexes: Arc<OnceLock<bool>>,
}

#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Merged chains, the latest used last.
    chains: Vec<(SnapshotId, Arc<Merged>)>,
    /// Packed layers, each mounted once.
    pub(crate) mounts: HashMap<SnapshotId, Arc<OwnedFd>>,
}

impl Remembered {
    fn get(&mut self, top: SnapshotId) -> Option<Arc<Merged>> {
        let at = self.chains.iter().position(|(id, _)| *id == top)?;
        let found = self.chains.remove(at);
        let merged = Arc::clone(&found.1);
        self.chains.push(found);
        Some(merged)
    }

    fn add(&mut self, top: SnapshotId, merged: Arc<Merged>) {
        self.chains.retain(|(id, _)| *id != top);
        if self.chains.len() >= REMEMBERED_CHAINS {
            self.chains.remove(0);
        }
        self.chains.push((top, merged));
    }
}

impl Snapshots {
    /// The snapshots of `store`, with the usual limits for what comes from elsewhere.
    pub fn new(store: Store) -> Self {
        Self::limited(store, Limits::default())
    }

    /// The snapshots of `store`, with limits for what comes from elsewhere.
    pub fn limited(store: Store, limits: Limits) -> Self {
        Self {
            store,
            packing: Packing::default(),
            limits: Arc::new(limits),
            remembered: Arc::default(),
            mounts_indexes: Arc::default(),
        }
    }

    /// The same snapshots, with another choice of the layers that stay packed.
    #[must_use]
    pub fn packing(self, packing: Packing) -> Self {
        Self { packing, ..self }
    }

    /// How much of what comes from elsewhere is too much.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The store they are in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A chain, mounted read-only and detached: use the descriptor as a root, or attach it somewhere.
    pub fn view(&self, top: Option<SnapshotId>) -> Result<OwnedFd, SnapshotError> {
        let Some(top) = top else {
            return mount::empty().map_err(|source| SnapshotError::Mount { layers: 0, source });
        };
        let layers = self.open_layers(Some(top))?;
        let failed = |source| SnapshotError::Mount {
            layers: layers.len(),
            source,
        };
        // The kernel wants two lower directories where there is no upper one.
        let floor = mount::empty().map_err(failed)?;
        let lowers = layers
            .iter()
            .map(|it| it.as_fd())
            .chain([floor.as_fd()])
            .collect();
        Overlay {
            lowers,
            writes: None,
        }
        .mount()
        .map_err(failed)
    }

    /// Mounts two directories over each other, to see whether layers can be.
    pub fn probe(&self) -> Result<(), SnapshotError> {
        let place = self.store.tmp_dir()?;
        let mut open = Vec::new();
        for name in ["lower", "upper", "work"] {
            let path = place.path().join(name);
            std::fs::create_dir(&path).map_err(SnapshotError::file("create", &path))?;
            open.push(open_directory(&path)?);
        }
        let overlay = Overlay {
            lowers: vec![open[0].as_fd()],
            writes: Some(Writes {
                upper: open[1].as_fd(),
                work: open[2].as_fd(),
            }),
        };
        let mounted = overlay.mount();
        mounted
            .map(drop)
            .map_err(|source| SnapshotError::Mount { layers: 2, source })
    }

    /// The key of everything a chain holds: equal for chains of equal layers, however they were made.
    pub fn content(&self, top: Option<SnapshotId>) -> Result<Key, SnapshotError> {
        match top {
            None => Ok(KeyHasher::new("scratch").finish()),
            Some(id) => Ok(self.store.snapshot(id)?.content),
        }
    }

    /// The manifest of one layer.
    pub fn tree(&self, id: SnapshotId) -> Result<Tree, SnapshotError> {
        let path = self.store.tree_path(id);
        let bytes = read_regular(&path).map_err(SnapshotError::file("read", &path))?;
        Tree::decode(&bytes).map_err(|source| SnapshotError::Tree { id, source })
    }

    /// What a chain shows.
    pub fn merged(&self, top: Option<SnapshotId>) -> Result<Arc<Merged>, SnapshotError> {
        let Some(top) = top else {
            return Ok(Arc::default());
        };
        let mut missing = Vec::new();
        let mut next = Some(top);
        let mut merged = Arc::default();
        while let Some(id) = next {
            if let Some(known) = self.remembered().get(id) {
                merged = known;
                break;
            }
            missing.push(id);
            next = self.store.snapshot(id)?.parent;
        }
        if missing.is_empty() {
            return Ok(merged);
        }
        let mut merged = Merged::clone(&merged);
        for id in missing.into_iter().rev() {
            merged = merged.with(Arc::new(self.tree(id)?));
        }
        let merged = Arc::new(merged);
        self.remembered().add(top, Arc::clone(&merged));
        Ok(merged)
    }

    /// What a chain shows, where its files do not say themselves to whom they belong: outside of the first
    /// user namespace.
    pub fn owners(&self, top: Option<SnapshotId>) -> Result<Option<Arc<Merged>>, SnapshotError> {
        if owner::is_anybody_there() {
            return Ok(None);
        }
        self.merged(top).map(Some)
    }

    /// Whether the kernel mounts tars with an index over them; tried once.
    pub(crate) fn mounts_indexes(&self) -> bool {
        *self.mounts_indexes.get_or_init(|| {
            let tried = self.store.tmp_dir().map(|it| packed::probe(it.path()));
            matches!(tried, Ok(Ok(())))
        })
    }

    /// The directories of a chain's layers, topmost first, open.
    pub(crate) fn open_layers(
        &self,
        top: Option<SnapshotId>,
    ) -> Result<Vec<Arc<OwnedFd>>, SnapshotError> {
        let Some(top) = top else {
            return Ok(Vec::new());
        };
        let ancestry = self.store.ancestry(top)?;
        if ancestry.len() > MOST_LAYERS {
            return Err(SnapshotError::TooManyLayers(ancestry.len()));
        }
        ancestry
            .iter()
            .rev()
            .map(|row| self.open_layer(row.id))
            .collect()
    }

    pub(crate) fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a regular file. Whatever else is there counts as a directory: a pipe would keep us
/// waiting for ever.
pub(crate) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Errno::ISDIR.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, SnapshotError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| SnapshotError::file("open", path)(error.into()))
}
