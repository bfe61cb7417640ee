//! After the machine went down: which layers are still what they were.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;

use oci::KeyHasher;
use rustix::io::Errno;
use store::{SnapshotId, SnapshotRow};

use crate::owner;
use crate::snapshots::{SnapshotError, Snapshots};
use crate::tree::{Kind, Tree};
use crate::walk::{NothingKnown, Origin, Walk};

impl Snapshots {
    /// Compares every layer that may not have reached the disk before the machine went down with
    /// its manifest, and drops those that differ, with all that stands on them.
    ///
    /// To be called once after the store was opened. Costs one look-up where there is nothing to
    /// compare. Of several processes one does it and the others wait. Returns what was dropped.
    pub fn recover(&self) -> Result<Vec<SnapshotId>, SnapshotError> {
        if self.store.unverified()?.is_empty() {
            return Ok(Vec::new());
        }
        let _only_me = self.store.lock_key(&KeyHasher::new("recover").finish())?;
        let mut dropped = Vec::new();
        for row in self.store.unverified()? {
            if dropped.contains(&row.id) {
                continue;
            }
            if self.is_whole(&row)? {
                self.store.mark_verified(row.id)?;
            } else {
                tracing::warn!(snapshot = %row.id, "a layer was damaged when the machine went down; dropped it");
                dropped.extend(self.store.drop_snapshot(row.id)?);
            }
        }
        Ok(dropped)
    }

    /// Compares every layer of the store with its manifest, reading all files. Returns those that
    /// differ; changes nothing.
    pub fn damaged(&self) -> Result<Vec<SnapshotId>, SnapshotError> {
        let mut damaged = Vec::new();
        for row in self.store.snapshots()? {
            if !self.is_whole(&row)? {
                damaged.push(row.id);
            }
        }
        if !damaged.is_empty() {
            // What was removed meanwhile is not damaged.
            let there: Vec<SnapshotId> = self.store.snapshots()?.iter().map(|it| it.id).collect();
            damaged.retain(|id| there.contains(id));
        }
        Ok(damaged)
    }

    /// Drops the layers that are not there or whose manifest is not what the row says, with all that
    /// stands on them. The files of the others are not read. Returns what was dropped.
    ///
    /// For when something went wrong that may have its cause here.
    pub fn drop_lost(&self) -> Result<Vec<SnapshotId>, SnapshotError> {
        let mut dropped = Vec::new();
        for row in self.store.snapshots()? {
            if !dropped.contains(&row.id) && !self.is_there(&row)? {
                tracing::warn!(snapshot = %row.id, "a layer is not what it was; dropped it");
                dropped.extend(self.store.drop_snapshot(row.id)?);
            }
        }
        Ok(dropped)
    }

    fn is_there(&self, row: &SnapshotRow) -> Result<bool, SnapshotError> {
        match self.tree(row.id) {
            Ok(tree) if tree.root() != row.tree_root => return Ok(false),
            Ok(_) => {}
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.open_layer_directory(row.id) {
            Ok(_) => Ok(true),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether files and manifest are both what the row says.
    fn is_whole(&self, row: &SnapshotRow) -> Result<bool, SnapshotError> {
        let written = match self.tree(row.id) {
            Ok(tree) if tree.root() == row.tree_root => tree,
            Ok(_) => return Ok(false),
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        if let (true, Some(diff_id)) = (self.is_packed(row.id), &row.diff_id)
            && self.store.layer_tar_digest(row.id).ok().as_ref() != Some(diff_id)
        {
            return Ok(false);
        }
        let links = if owner::is_anybody_there() {
            HashMap::new()
        } else {
            owners_of_links(&written)
        };
        match self.walk_again(row.id, &links) {
            Ok(found) => Ok(found.root() == row.tree_root && are_of_one_time(&written, &found)),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn walk_again(
        &self,
        id: SnapshotId,
        links: &HashMap<Box<[u8]>, (u32, u32)>,
    ) -> Result<Tree, SnapshotError> {
        let root = self.open_layer_directory(id)?;
        let walk = Walk {
            root: root.as_fd(),
            ignore: None,
            known: &NothingKnown,
            origin: Origin::Layer,
        };
        let mut entries = walk.run(Path::new(""))?;
        for entry in &mut entries {
            if let Some((uid, gid)) = links.get(&entry.path) {
                (entry.uid, entry.gid) = (*uid, *gid);
            }
        }
        Ok(Tree::new(entries))
    }
}

/// Whether the entries have the same times. Those are not in the root, but in the layer's tar.
fn are_of_one_time(written: &Tree, found: &Tree) -> bool {
    let times = |tree: &Tree| -> Vec<_> { tree.entries().iter().map(|it| it.mtime).collect() };
    times(written) == times(found)
}

/// Owners of which nothing but the manifest knows.
fn owners_of_links(tree: &Tree) -> HashMap<Box<[u8]>, (u32, u32)> {
    let links = tree
        .entries()
        .iter()
        .filter(|it| matches!(it.kind, Kind::Symlink(_) | Kind::Fifo));
    links
        .map(|it| (it.path.clone(), (it.uid, it.gid)))
        .collect()
}

/// Whether the disk has lost something, rather than that this process could not look.
fn is_damage(error: &SnapshotError) -> bool {
    let source = match error {
        // A kernel that cannot mount it counts, too: the layer comes again, unpacked.
        SnapshotError::Tree { .. } | SnapshotError::Index { .. } => return true,
        SnapshotError::Walk(error) => &error.source,
        SnapshotError::File { source, .. } => source,
        _ => return false,
    };
    let errno = Errno::from_io_error(source);
    matches!(
        errno,
        Some(
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::LOOP
                | Errno::NXIO
                | Errno::IO
                | Errno::UCLEAN
        )
    )
}
