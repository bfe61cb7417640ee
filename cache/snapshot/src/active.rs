//! A layer that is being written.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Key, KeyHasher};
use rustix::fs::Mode;
use store::{NewSnapshot, SnapshotId, TmpDir};

use crate::copies::Copied;
use crate::layer::{Layer, Written};
use crate::mount::{self, Place, Writes};
use crate::overlay;
use crate::owner;
use crate::snapshots::{MOST_LAYERS, SnapshotError, Snapshots, open_directory, open_place};
use crate::tree::{Entry, Kind, Tree};
use crate::walk::{Origin, Walk};

/// A layer under construction on top of a chain, in a work directory of the store that goes when
/// this is dropped.
#[derive(Debug)]
pub struct Active {
    snapshots: Snapshots,
    parent: Option<SnapshotId>,
    tmp: TmpDir,
    written: Arc<Written>,
    /// Whether others than this process may have written.
    mounted: AtomicBool,
    /// Where they wrote, if there is no overlay.
    copy: Mutex<Option<Copied>>,
}

impl Snapshots {
    /// Begins a layer on top of a chain.
    pub fn prepare(&self, parent: Option<SnapshotId>) -> Result<Active, SnapshotError> {
        let active = Active {
            snapshots: self.clone(),
            parent,
            tmp: self.store.tmp_dir()?,
            written: Arc::default(),
            mounted: AtomicBool::new(false),
            copy: Mutex::default(),
        };
        for directory in [active.staged(), active.upper(), active.work()] {
            fs::create_dir(&directory).map_err(SnapshotError::file("create", &directory))?;
        }
        active.take_over_root()?;
        Ok(active)
    }
}

impl Active {
    /// The chain this layer is on top of.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent
    }

    /// The directory that holds what this layer changes, in overlayfs's way.
    pub fn upper(&self) -> PathBuf {
        self.staged().join("fs")
    }

    /// The whole tree, mounted for writing and detached.
    ///
    /// Everything that holds the mount must be gone before [`Active::commit`], and while it is there
    /// nothing else may write into [`Active::upper`].
    pub fn mount(&self) -> Result<OwnedFd, SnapshotError> {
        self.mount_on(|| None)
    }

    /// The same, for the root of a process: with places for what every process is given to see, where the
    /// chain has none of its own. They never are in the layer.
    pub fn mount_root(&self) -> Result<OwnedFd, SnapshotError> {
        self.mount_on(|| self.snapshots.floor())
    }

    fn mount_on(&self, floor: impl FnOnce() -> Option<Place>) -> Result<OwnedFd, SnapshotError> {
        self.mounted.store(true, Ordering::Relaxed);
        if self.snapshots.is_copying() {
            return self.mount_copy();
        }
        let mut layers = self.snapshots.open_layers(self.parent)?;
        if layers.is_empty() {
            return bind(&self.upper());
        }
        if layers.len() < MOST_LAYERS {
            layers.extend(floor());
        }
        let writes = Writes {
            upper: open_place(self.upper())?,
            work: open_place(self.work())?,
        };
        match self.snapshots.overlay(layers, Some(writes)) {
            Err(SnapshotError::Mount { .. }) if self.snapshots.gives_up() => self.mount_copy(),
            mounted => mounted,
        }
    }

    /// The same, without overlay. What was written without a mount before would be missing.
    fn mount_copy(&self) -> Result<OwnedFd, SnapshotError> {
        let Some(parent) = self.parent else {
            return bind(&self.upper());
        };
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = &*copy {
            return bind(copy.whole());
        }
        let upper = self.upper();
        let is_written = fs::read_dir(&upper).map(|mut it| it.next().is_some());
        if is_written.map_err(SnapshotError::file("read", &upper))? {
            let error = io::Error::other("it was written without a mount before");
            return Err(SnapshotError::file("copy", &upper)(error));
        }
        let whole = self.tmp.path().join("whole");
        fs::create_dir(&whole).map_err(SnapshotError::file("create", &whole))?;
        bind(copy.insert(self.snapshots.copy(parent, whole)?).whole())
    }

    /// The whole tree for writing without a mount. While this is used the layer must not be mounted.
    pub fn layer(&self) -> Result<Layer, SnapshotError> {
        let lower = match self.parent {
            Some(_) => Some(self.snapshots.view(self.parent)?),
            None => None,
        };
        let written = Arc::clone(&self.written);
        Ok(Layer::new(open_directory(&self.upper())?, lower, written))
    }

    /// Makes the layer a snapshot: reads it once, and moves it into the store.
    pub fn commit(self) -> Result<SnapshotId, SnapshotError> {
        self.commit_as(None)
    }

    /// Commits a layer whose uncompressed tar is known.
    pub(crate) fn commit_as(self, diff_id: Option<Digest>) -> Result<SnapshotId, SnapshotError> {
        let tree = self.walk()?;
        self.commit_tree(&tree, diff_id)
    }

    /// Commits a layer of which all is known.
    pub(crate) fn commit_tree(
        self,
        tree: &Tree,
        diff_id: Option<Digest>,
    ) -> Result<SnapshotId, SnapshotError> {
        let committed = commit_staged(
            &self.snapshots,
            self.parent,
            &self.staged(),
            (tree, diff_id),
        );
        if committed.is_ok() && !self.snapshots.is_copying() {
            // What is left is what overlayfs needed to work with, and no copy of the whole tree.
            self.tmp.let_go();
        }
        committed
    }

    fn walk(&self) -> Result<Tree, SnapshotError> {
        let copy = self
            .copy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(copy) = copy {
            let below = self.snapshots.view(self.parent)?;
            let upper = open_directory(&self.upper())?;
            copy.settle(&Layer::new(upper, Some(below), Arc::default()))?;
        }
        let root = open_directory(&self.upper())?;
        let walk = Walk {
            root: root.as_fd(),
            ignore: None,
            known: &*self.written,
            origin: Origin::Layer,
        };
        let mut entries = walk.run(Path::new(""))?;
        if self.mounted.load(Ordering::Relaxed) && !owner::is_anybody_there() {
            self.keep_owners(&mut entries)?;
        }
        Ok(Tree::new(entries))
    }

    /// Gives back the owners of symlinks that the kernel copied from below when their directory entry or
    /// their times were changed: it cannot have kept a note of them.
    fn keep_owners(&self, entries: &mut [Entry]) -> Result<(), SnapshotError> {
        let is_link = |it: &Entry| matches!(it.kind, Kind::Symlink(_) | Kind::Fifo);
        if !entries.iter().any(is_link) {
            return Ok(());
        }
        let below = self.snapshots.merged(self.parent)?;
        for entry in entries.iter_mut().filter(|it| is_link(it)) {
            if let Some(old) = below.get(&entry.path)
                && old.kind == entry.kind
                && (entry.uid, entry.gid) == (0, 0)
            {
                (entry.uid, entry.gid) = (old.uid, old.gid);
            }
        }
        Ok(())
    }

    /// The root directory of a new layer looks like the one below.
    fn take_over_root(&self) -> Result<(), SnapshotError> {
        let upper = self.upper();
        let failed =
            |error: rustix::io::Errno| SnapshotError::file("prepare", &upper)(error.into());
        let dir = open_directory(&upper)?;
        let Some(parent) = self.parent else {
            return rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).map_err(failed);
        };
        let below = self.snapshots.open_layer_directory(parent)?;
        let stat = rustix::fs::fstat(&below).map_err(failed)?;
        let owner = owner::of(below.as_fd(), (stat.st_uid, stat.st_gid));
        let owner = owner.map_err(SnapshotError::file("read", &upper))?;
        if owner != (0, 0) {
            owner::give(&dir, owner).map_err(SnapshotError::file("prepare", &upper))?;
        }
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failed)?;
        let attributes = overlay::read_xattrs(below.as_fd());
        for xattr in attributes.map_err(SnapshotError::file("read", &upper))? {
            overlay::set_xattr_at(dir.as_fd(), b".", &xattr)
                .map_err(SnapshotError::file("prepare", &upper))?;
        }
        Ok(())
    }

    fn staged(&self) -> PathBuf {
        self.tmp.path().join("snapshot")
    }

    /// Beside the layer and not in it: overlayfs's own, and never committed.
    fn work(&self) -> PathBuf {
        self.tmp.path().join("work")
    }
}

/// Makes a snapshot of a directory that holds a layer's files, writing the manifest beside them.
pub(crate) fn commit_staged(
    snapshots: &Snapshots,
    parent: Option<SnapshotId>,
    staged: &Path,
    (tree, diff_id): (&Tree, Option<Digest>),
) -> Result<SnapshotId, SnapshotError> {
    let manifest = staged.join("tree");
    fs::write(&manifest, tree.encode()).map_err(SnapshotError::file("write", &manifest))?;
    let tree_root = tree.root();
    let chain_id = match diff_id {
        Some(diff_id) => snapshots.chain_id_on(parent, &diff_id)?,
        None => None,
    };
    let new = NewSnapshot {
        parent,
        diff_id,
        chain_id,
        content: content_on(&snapshots.content(parent)?, &tree_root),
        tree_root,
        size: tree.size(),
    };
    let id = snapshots.store.commit_snapshot(staged, &new)?;
    snapshots.remember_bare(id, tree.is_bare());
    Ok(id)
}

impl Snapshots {
    /// The chain id with a layer on top, if that of the chain below is known.
    pub(crate) fn chain_id_on(
        &self,
        parent: Option<SnapshotId>,
        diff_id: &Digest,
    ) -> Result<Option<Digest>, SnapshotError> {
        let Some(parent) = parent else {
            return Ok(Some(*diff_id));
        };
        let below = self.store.snapshot(parent)?.chain_id;
        Ok(below.map(|below| chain_id(&below, diff_id)))
    }
}

fn bind(directory: &Path) -> Result<OwnedFd, SnapshotError> {
    mount::bind(directory).map_err(|source| SnapshotError::Mount { layers: 1, source })
}

/// OCI's name of a chain: of the one below, and the layer on top.
pub(crate) fn chain_id(below: &Digest, diff_id: &Digest) -> Digest {
    Digest::of(format!("{below} {diff_id}").as_bytes())
}

fn content_on(below: &Key, tree_root: &Key) -> Key {
    KeyHasher::new("chain").key(below).key(tree_root).finish()
}
