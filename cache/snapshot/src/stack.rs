//! Layers on other chains than those they were made on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use store::SnapshotId;

use crate::active::commit_staged;
use crate::layer::{copy_metadata, times};
use crate::overlay;
use crate::root::open_in_root;
use crate::snapshots::{SnapshotError, Snapshots, open_directory};
use crate::source::Seen;
use crate::tree::{Counting, Entry, Kind, Merged};
use crate::{Active, Lookup, Root};

impl Snapshots {
    /// The snapshots of a chain, lowest first.
    pub fn chain(&self, top: SnapshotId) -> Result<Vec<SnapshotId>, SnapshotError> {
        Ok(self.store.ancestry(top)?.iter().map(|row| row.id).collect())
    }

    /// The same layers on top of another chain: their files become further names of the files they
    /// are, nothing is copied or read.
    pub fn stack(
        &self,
        parent: Option<SnapshotId>,
        layers: &[SnapshotId],
    ) -> Result<SnapshotId, SnapshotError> {
        let mut top = parent;
        for layer in layers {
            top = Some(self.relink(top, *layer)?);
        }
        match top {
            Some(top) => Ok(top),
            // No layers on scratch: an empty one stands for it.
            None => self.prepare(None)?.commit(),
        }
    }

    /// A layer on scratch with what `upper` shows and `lower` does not, and whiteouts for what is gone.
    pub fn difference(
        &self,
        lower: SnapshotId,
        upper: SnapshotId,
    ) -> Result<SnapshotId, SnapshotError> {
        let (before, after) = (self.merged(Some(lower))?, self.merged(Some(upper))?);
        let active = self.prepare(None)?;
        let layer = active.layer()?;
        let view = Root::from_fd(self.view(Some(upper))?);
        let failed = |entry: &Entry| SnapshotError::file("copy", entry.path());
        for entry in after
            .iter()
            .filter(|entry| !entry.path.is_empty() && is_changed(entry, &before))
        {
            layer
                .take_over(&view, entry.path(), (entry.uid, entry.gid))
                .map_err(failed(entry))?;
        }
        for entry in before
            .iter()
            .filter(|entry| after.get(&entry.path).is_none())
        {
            let path = entry.path();
            let parent = path.parent().unwrap_or(Path::new(""));
            // Gone with a directory above it, or hidden by what came in its place.
            if !matches!(after.look(parent), Ok(Some(Seen::Directory))) {
                continue;
            }
            layer
                .take_over(&view, parent, (0, 0))
                .map_err(failed(entry))?;
            let directory = layer.open_own(parent).map_err(failed(entry))?;
            let name = path.file_name().unwrap_or_default();
            overlay::make_whiteout(directory.own(), name.as_encoded_bytes())
                .map_err(failed(entry))?;
        }
        drop(layer);
        active.commit()
    }

    fn relink(
        &self,
        parent: Option<SnapshotId>,
        layer: SnapshotId,
    ) -> Result<SnapshotId, SnapshotError> {
        let tree = self.tree(layer)?;
        let diff_id = self.store.snapshot(layer)?.diff_id;
        if self.is_packed(layer) {
            return self.relink_packed(parent, layer);
        }
        let active = self.prepare(parent)?;
        let from = open_directory(&self.store.snapshot_fs(layer))?;
        let to = open_directory(&active.upper())?;
        for entry in tree.entries() {
            link(entry, &from, &to).map_err(SnapshotError::file("link", entry.path()))?;
        }
        for entry in tree.entries().iter().filter(|entry| entry.is_directory()) {
            if let Kind::Directory { opaque: true } = entry.kind {
                let hide = || overlay::make_opaque(open_below(&to, entry.path())?.as_fd());
                hide().map_err(SnapshotError::file("link", entry.path()))?;
            }
            dress(entry, &from, &to).map_err(SnapshotError::file("link", entry.path()))?;
        }
        Active::commit_tree(active, &tree, diff_id)
    }

    /// A packed layer is two files; its index shows on any chain what it was made to show.
    fn relink_packed(
        &self,
        parent: Option<SnapshotId>,
        layer: SnapshotId,
    ) -> Result<SnapshotId, SnapshotError> {
        let staged = self.store.tmp_dir()?;
        let staged = staged.path().join("snapshot");
        std::fs::create_dir(&staged).map_err(SnapshotError::file("create", &staged))?;
        for from in [self.store.layer_tar(layer), self.store.layer_index(layer)] {
            let to = staged.join(from.file_name().unwrap_or_default());
            std::fs::hard_link(&from, to).map_err(SnapshotError::file("link", &from))?;
        }
        let diff_id = self.store.snapshot(layer)?.diff_id;
        commit_staged(self, parent, &staged, (&self.tree(layer)?, diff_id))
    }
}

fn is_changed(entry: &Entry, before: &Merged) -> bool {
    before
        .get(&entry.path)
        .is_none_or(|old| old.digest(Counting::All) != entry.digest(Counting::All))
}

/// Gives a directory its times, once all is in it.
pub(crate) fn dress(entry: &Entry, from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    let (from, to) = (
        open_below(from, entry.path())?,
        open_below(to, entry.path())?,
    );
    Ok(rustix::fs::futimens(
        &to,
        &times(&rustix::fs::fstat(&from)?),
    )?)
}

/// Gives what a layer has at a path another name in another tree; a directory is made anew.
pub(crate) fn link(entry: &Entry, from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    let Some(name) = entry.path().file_name() else {
        return copy_metadata(from.as_fd(), to.as_fd());
    };
    let parent = entry.path().parent().unwrap_or(Path::new(""));
    let to = open_below(to, parent)?;
    if !entry.is_directory() {
        let from = open_below(from, parent)?;
        return Ok(rustix::fs::linkat(
            &from,
            name,
            &to,
            name,
            AtFlags::empty(),
        )?);
    }
    rustix::fs::mkdirat(&to, name, Mode::from_raw_mode(0o700))?;
    let made = open_below(&to, Path::new(name))?;
    copy_metadata(open_below(from, entry.path())?.as_fd(), made.as_fd())
}

pub(crate) fn open_below(dir: &OwnedFd, path: &Path) -> std::io::Result<OwnedFd> {
    open_in_root(
        dir.as_fd(),
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}
