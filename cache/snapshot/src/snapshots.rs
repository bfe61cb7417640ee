//! The snapshots of a store.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use oci::{Key, KeyHasher, Limits};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use store::{SnapshotId, Store, StoreError, TmpDir};

use crate::mount::{self, Mounting, Overlay, Place, Writes};
use crate::overlay;
use crate::owner;
use crate::packed::{self, Packing, Spooled};
use crate::tree::{Merged, Tree, TreeError};
use crate::walk::WalkError;

/// The kernel mounts no more layers over each other.
pub(crate) const MOST_LAYERS: usize = 500;
/// The file in a store's directory that says that its layers are never overlaid.
const COPIES: &str = "copies";
/// How many merged chains are remembered; more than a build looks at in turn.
const REMEMBERED_CHAINS: usize = 8;
/// The manifest of a layer that is bare is not longer, unless its root directory has a lot of attributes.
const BARE_MANIFEST: u64 = 1 << 10;

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
    /// Of layers that came and are on no chain yet.
    pub(crate) spooled: Spooled,
    /// What is below the root of every process, where it could be made.
    pub(crate) floor: Arc<OnceLock<Option<Arc<OwnedFd>>>>,
    pub(crate) ways: Arc<Ways>,
}

/// How chains are put together here.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Where somebody said so.
    wanted: Option<Mounting>,
    /// Whether no layer can be overlaid where the store is; asked when something is to be mounted.
    is_copying: OnceLock<bool>,
    /// Whether the kernel refused even the smallest overlay.
    gave_up: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Merged chains, the latest used last.
    chains: Vec<(SnapshotId, Arc<Merged>)>,
    /// Packed layers, each mounted once.
    pub(crate) mounts: HashMap<SnapshotId, Arc<OwnedFd>>,
    /// Where chains stand as directories.
    pub(crate) linked: HashMap<SnapshotId, Arc<TmpDir>>,
    /// Of which layers it is known whether they are [bare](Tree::is_bare).
    bare: HashMap<SnapshotId, bool>,
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
            spooled: Spooled::default(),
            floor: Arc::default(),
            ways: Arc::default(),
        }
    }

    /// The same, mounted in one way and no other.
    pub fn mounted(self, how: Mounting) -> Self {
        let ways = Ways {
            wanted: Some(how),
            ..Ways::default()
        };
        Self {
            ways: Arc::new(ways),
            ..self
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
        if self.is_copying() {
            return self.linked(top);
        }
        match self.overlay(self.open_layers(Some(top))?, None) {
            Err(SnapshotError::Mount { .. }) if self.gives_up() => self.linked(top),
            mounted => mounted,
        }
    }

    /// Mounts two directories over each other, to see whether layers can be.
    pub fn probe(&self) -> Result<(), SnapshotError> {
        self.try_out(self.ways.wanted)
    }

    fn takes_descriptors(&self) -> bool {
        match self.ways.wanted {
            None => !self.is_copying() && self.try_out(Some(Mounting::Descriptors)).is_ok(),
            Some(wanted) => wanted == Mounting::Descriptors,
        }
    }

    fn try_out(&self, how: Option<Mounting>) -> Result<(), SnapshotError> {
        let place = self.store.tmp_dir()?;
        let make = |name: &str| {
            let path = place.path().join(name);
            std::fs::create_dir(&path).map_err(SnapshotError::file("create", &path))?;
            open_place(path)
        };
        let lower = make("lower")?;
        let writes = Writes {
            upper: make("upper")?,
            work: make("work")?,
        };
        self.overlay_as(how, vec![lower], Some(writes)).map(drop)
    }

    /// Whether chains are copied, since no layer can be mounted over another.
    ///
    /// A store on an overlay is marked: the marks of what its layers remove are not overlayfs's own, so no
    /// overlay may ever be made of them, wherever the store goes.
    pub fn is_copying(&self) -> bool {
        let ways = &self.ways;
        if let Some(wanted) = ways.wanted {
            return wanted == Mounting::Copies;
        }
        let find = || {
            let mark = self.store.root().join(COPIES);
            let is_here = open_directory(self.store.root()).is_ok_and(overlay::is_on_overlay);
            if is_here && let Err(error) = std::fs::write(&mark, "") {
                tracing::debug!(%error, "the store is not marked");
            }
            is_here || mark.exists()
        };
        ways.gave_up.load(Ordering::Relaxed) || *ways.is_copying.get_or_init(find)
    }

    /// After a refused mount: whether it was not this mount alone, and from now on everything is copied.
    pub(crate) fn gives_up(&self) -> bool {
        if self.ways.wanted.is_some() || self.probe().is_ok() {
            return false;
        }
        self.ways.gave_up.store(true, Ordering::Relaxed);
        true
    }

    /// Mounts directories of the store over each other, topmost first.
    pub(crate) fn overlay(
        &self,
        lowers: Vec<Place>,
        writes: Option<Writes>,
    ) -> Result<OwnedFd, SnapshotError> {
        self.overlay_as(self.ways.wanted, lowers, writes)
    }

    fn overlay_as(
        &self,
        how: Option<Mounting>,
        lowers: Vec<Place>,
        writes: Option<Writes>,
    ) -> Result<OwnedFd, SnapshotError> {
        let layers = lowers.len() + usize::from(writes.is_some());
        let base = self.store.root().join("snapshots");
        let overlay = Overlay {
            base: &base,
            lowers,
            writes,
        };
        let mounted = overlay.mount(how);
        mounted.map_err(|source| SnapshotError::Mount { layers, source })
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

    /// Whether the kernel mounts tars with an index over them, and then takes such a mount, which has no name,
    /// for a layer; tried once.
    pub(crate) fn mounts_indexes(&self) -> bool {
        *self.mounts_indexes.get_or_init(|| {
            let tried = self.store.tmp_dir().map(|it| packed::probe(it.path()));
            matches!(tried, Ok(Ok(()))) && self.takes_descriptors()
        })
    }

    /// The directories of a chain's layers, topmost first, open. Those below the topmost that show nothing
    /// are left out: with each of them a mount takes longer, and so does every look for a name that is not there.
    pub(crate) fn open_layers(&self, top: Option<SnapshotId>) -> Result<Vec<Place>, SnapshotError> {
        let Some(top) = top else {
            return Ok(Vec::new());
        };
        let mut rows = self.store.ancestry(top)?;
        rows.retain(|row| row.id == top || !self.is_bare(row.id));
        if rows.len() > MOST_LAYERS {
            return Err(SnapshotError::TooManyLayers(rows.len()));
        }
        rows.iter()
            .rev()
            .map(|row| {
                let open = self.open_layer(row.id)?;
                let path = self.store.snapshot_fs(row.id);
                Ok(Place { path, open })
            })
            .collect()
    }

    /// Whether a layer is known to be bare, or says so. One whose manifest cannot be read is not: whoever
    /// opens it will say what is wrong with it.
    fn is_bare(&self, id: SnapshotId) -> bool {
        if let Some(known) = self.remembered().bare.get(&id) {
            return *known;
        }
        let manifest = std::fs::symlink_metadata(self.store.tree_path(id));
        let is_bare = manifest.is_ok_and(|it| it.len() <= BARE_MANIFEST)
            && self.tree(id).is_ok_and(|it| it.is_bare());
        self.remember_bare(id, is_bare);
        is_bare
    }

    /// Notes whether a layer is bare.
    pub(crate) fn remember_bare(&self, id: SnapshotId, is_bare: bool) {
        self.remembered().bare.insert(id, is_bare);
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

pub(crate) fn open_place(path: PathBuf) -> Result<Place, SnapshotError> {
    let open = Arc::new(open_directory(&path)?);
    Ok(Place { path, open })
}
