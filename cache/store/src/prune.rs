//! Makes room: removes what the budget no longer has a place for.

use std::fs;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use oci::Digest;
use rusqlite::Transaction;

use crate::budget::{self, Budget, Removal};
use crate::error::Fault;
use crate::partial::Parts;
use crate::usage::{Item, Stored};
use crate::{Sharing, SnapshotId, Store, StoreError, blobs, durability, owner};

/// How often at most the cache is looked over without anybody asking.
const THROTTLE: Duration = Duration::from_secs(600);
/// The file whose time says when that was.
const MARK: &str = "budget";

impl Store {
    /// Which items a prune would remove, and why. Removes nothing.
    pub fn plan_prune(
        &self,
        admit: &dyn Fn(&Item) -> bool,
        budget: &Budget,
    ) -> Result<Vec<Removal>, StoreError> {
        let situation = (self.disk()?, Timestamp::now());
        Ok(budget::plan(&self.usage()?, admit, budget, situation))
    }

    /// Removes what was planned, as far as it still can be: what a build began to use meanwhile, or
    /// something was built on, stays. Returns what went.
    pub fn prune(&self, planned: Vec<Removal>) -> Result<Vec<Removal>, StoreError> {
        self.owner_name()?;
        let mut gone = Vec::new();
        for removal in planned {
            let removed = match &removal.item.what {
                Stored::Snapshot(id) => self.prune_snapshot(*id)?,
                Stored::Mount(_) => self.remove_cache_mount(&removal.item.description)?,
                Stored::Source(directory) => self.remove_source(directory)?,
                Stored::Blob(digest) => self.prune_blob(digest)?,
            };
            if removed {
                gone.push(removal);
            }
        }
        Ok(gone)
    }

    /// After a build: keeps the cache within its budget, by BuildKit's defaults. Looks no more often
    /// than every ten minutes, and costs one look at a file in between.
    pub fn keep_budget(&self) -> Result<Vec<Removal>, StoreError> {
        let mark = self.root().join(MARK);
        let recent = fs::metadata(&mark)
            .and_then(|it| it.modified())
            .is_ok_and(|time| {
                SystemTime::now()
                    .duration_since(time)
                    .is_ok_and(|it| it < THROTTLE)
            });
        if recent {
            return Ok(Vec::new());
        }
        if fs::symlink_metadata(&mark).is_ok_and(|it| !it.is_file()) {
            // Nothing is written through a link, and nobody reads from a pipe.
            owner::remove_any(&mark)
                .map_err(|error| StoreError::file(self.root(), "remove", &mark, error))?;
        }
        fs::write(&mark, b"")
            .map_err(|error| StoreError::file(self.root(), "write", &mark, error))?;
        let situation = (self.disk()?, Timestamp::now());
        // The sizes that are on record say whether it is worth measuring.
        let rough = self.items()?;
        if budget::automatic(&rough, situation).is_empty() && !rough.iter().any(Item::grows) {
            return Ok(Vec::new());
        }
        self.prune(budget::automatic(&self.usage()?, situation))
    }

    /// For a build that met a full disk: removes whatever no image and no running build needs, but
    /// cache mounts last. Returns the bytes of what went: what the disk has free says less, since
    /// others write to it, and what a failed step leaves goes in its own time.
    pub fn make_room(&self) -> Result<u64, StoreError> {
        let unreachable = self.forget_parts()? + self.gc()?.bytes;
        let layers = self.plan_prune(&|item| !item.is_mutable(), &Budget::default())?;
        let mut gone = self.prune(layers)?;
        if gone.is_empty() {
            let mounts = self.plan_prune(&Item::is_mutable, &Budget::default())?;
            gone = self.prune(mounts)?;
        }
        let pruned: u64 = gone.iter().map(|removal| removal.item.size).sum();
        Ok(unreachable + pruned + self.gc()?.bytes)
    }

    /// Removes the parts of blobs with which nobody is going on; gives how many bytes they had.
    pub fn forget_parts(&self) -> Result<u64, StoreError> {
        self.remove_parts(Parts::Idle)
    }

    /// Forgets the results whose outputs images hold or that have none: of those, only the knowledge
    /// can go. Returns how many there were.
    pub fn forget_held_results(&self) -> Result<usize, StoreError> {
        self.write("forget results", |transaction| {
            let leased = "SELECT key FROM outputs JOIN leases USING (snapshot)";
            let held = format!("SELECT key FROM results WHERE key NOT IN ({leased})");
            transaction.execute(&format!("DELETE FROM outputs WHERE key IN ({held})"), [])?;
            Ok(transaction.execute(&format!("DELETE FROM results WHERE key IN ({held})"), [])?)
        })
    }

    fn prune_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let removed = self.write("remove a blob", |transaction| {
            let needed = "SELECT 1 FROM leases WHERE digest = ?";
            if transaction
                .prepare_cached(needed)?
                .exists([digest.as_bytes()])?
            {
                return Ok(false);
            }
            blobs::delete_blob(transaction, digest)?;
            Ok(true)
        })?;
        if removed {
            self.clear_blobs(&[*digest])?;
        }
        Ok(removed)
    }

    fn prune_snapshot(&self, id: SnapshotId) -> Result<bool, StoreError> {
        let removed = self.write("remove a snapshot", |transaction| {
            if is_needed(transaction, id)? {
                return Ok(false);
            }
            durability::delete_snapshots(transaction, &[id])?;
            Ok(true)
        })?;
        if removed {
            self.clear_snapshots(&[id])?;
        }
        Ok(removed)
    }

    /// Removes the cache mount `id` with all that is in it, unless a step uses it right now.
    pub fn remove_cache_mount(&self, id: &str) -> Result<bool, StoreError> {
        self.owner_name()?;
        let Some(_lock) = self.try_lock_cache_mount(id, Sharing::Locked)? else {
            return Ok(false);
        };
        let aside = self.write("remove a cache mount", |transaction| {
            transaction.execute("DELETE FROM mounts WHERE id = ?", [id])?;
            self.move_aside(&self.mount_directory(id))
        })?;
        if let Some(path) = aside {
            owner::remove_tree(&path)
                .map_err(|error| StoreError::file(self.root(), "remove", &path, error))?;
        }
        Ok(true)
    }
}

/// Whether an image, a lease or another snapshot stands on it.
fn is_needed(transaction: &Transaction<'_>, id: SnapshotId) -> Result<bool, Fault> {
    let needed = "SELECT 1 FROM snapshots WHERE parent = ?1
        UNION ALL SELECT 1 FROM leases WHERE snapshot = ?1
        UNION ALL SELECT 1 FROM images WHERE top = ?1";
    Ok(transaction.prepare_cached(needed)?.exists([id.0])?)
}
