//! What survives a power cut, and how the store knows.
//!
//! A row is trusted if it says `synced`, or if it was written in the boot that is still running:
//! the page cache is whole then. A row of an earlier boot that was never synced may stand for
//! files that are empty, cut short or missing.
//!
//! **Invariant:** a trusted snapshot has only trusted ancestors. A snapshot is committed only on
//! a trusted parent, and syncing covers all rows of the boot at once.

use std::fs::File;
use std::sync::mpsc;
use std::time::Duration;

use oci::Digest;
use rusqlite::{OptionalExtension, Transaction};

use crate::error::Fault;
use crate::{SnapshotId, SnapshotRow, Store, StoreError};

/// The write-ahead log is moved into the database when it is larger than this, so that opening
/// does not have to read much of it.
const LARGE_LOG: u64 = 256 << 10;

impl Store {
    /// Syncs the file system and marks what was committed before as durable. Waits no longer than
    /// `limit`; returns whether it is done. Costs nothing if there is nothing new.
    ///
    /// To be called once the user has the answer, just before the program ends.
    pub fn mark_synced(&self, limit: Duration) -> Result<bool, StoreError> {
        let Some(last) = self.last_unsynced()? else {
            self.shorten_log();
            return Ok(true);
        };
        let store = self.clone();
        let (done, finished) = mpsc::channel();
        // A slow disk must not keep the user: the thread may be left behind.
        std::thread::spawn(move || {
            let result = store.sync_and_mark(&last);
            // Whoever waits may be about to end the program, and the last store tidies up.
            drop(store);
            let _ = done.send(result);
        });
        match finished.recv_timeout(limit) {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// The last blob and snapshot of this boot that are not marked, if any.
    fn last_unsynced(&self) -> Result<Option<(i64, i64)>, StoreError> {
        self.read("look for new rows", |connection| {
            let last = |table| -> rusqlite::Result<Option<i64>> {
                let select = format!("SELECT max(id) FROM {table} WHERE synced = 0 AND boot = ?");
                connection.query_row(&select, [&self.inner.boot], |row| row.get(0))
            };
            let (blob, snapshot) = (last("blobs")?, last("snapshots")?);
            Ok((blob.is_some() || snapshot.is_some())
                .then(|| (blob.unwrap_or(0), snapshot.unwrap_or(0))))
        })
    }

    fn sync_and_mark(&self, last: &(i64, i64)) -> Result<(), StoreError> {
        let failed = |error| StoreError::file(self.root(), "sync", self.root(), error);
        let directory = File::open(self.root()).map_err(failed)?;
        rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))?;
        self.write("mark rows as durable", |transaction| {
            for (table, last) in [("blobs", last.0), ("snapshots", last.1)] {
                let update = format!(
                    "UPDATE {table} SET synced = 1 WHERE synced = 0 AND boot = ? AND id <= ?"
                );
                transaction.execute(&update, (&self.inner.boot, last))?;
            }
            Ok(())
        })?;
        self.shorten_log();
        Ok(())
    }

    /// Best effort: readers in other processes may keep the log as it is.
    fn shorten_log(&self) {
        let log = self.root().join(format!("{}-wal", crate::database::FILE));
        if std::fs::metadata(log).is_ok_and(|it| it.len() > LARGE_LOG) {
            let _ = self.read("move the log into the database", |connection| {
                Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
            });
        }
    }

    /// Snapshots of earlier boots that may not have reached the disk, parents before children.
    ///
    /// For each, the caller compares the files with the tree manifest and then says either
    /// [`Store::mark_verified`] or [`Store::drop_snapshot`]; until then no look-up returns it.
    pub fn unverified(&self) -> Result<Vec<SnapshotRow>, StoreError> {
        self.read("look for unverified snapshots", |connection| {
            Ok(self.snapshots_where(connection, "synced = 0 AND boot <> ?")?)
        })
    }

    /// Reads the blobs of earlier boots that may not have reached the disk, as their first use would.
    /// Returns those that were damaged, which are gone now.
    pub fn verify_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let waiting = self.read("look for unverified blobs", |connection| {
            let select = "SELECT digest FROM blobs WHERE synced = 0 AND boot <> ?";
            let mut statement = connection.prepare_cached(select)?;
            let digests = statement.query_map([&self.inner.boot], |row| row.get(0))?;
            Ok(digests
                .map(|bytes| bytes.map(Digest::from_bytes))
                .collect::<rusqlite::Result<Vec<_>>>()?)
        })?;
        let mut damaged = Vec::new();
        for digest in waiting {
            if !self.has_blob(&digest)? {
                damaged.push(digest);
            }
        }
        Ok(damaged)
    }

    /// The snapshot's files are what its tree manifest says. Its parent has to be trusted.
    pub fn mark_verified(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.write("mark a snapshot as verified", |transaction| {
            let select = "SELECT parent FROM snapshots WHERE id = ?";
            let parent = transaction.query_row(select, [id.0], |row| row.get(0));
            let parent: Option<i64> = parent
                .optional()?
                .ok_or(Fault::Store(StoreError::MissingSnapshot(id)))?;
            if let Some(parent) = parent {
                self.require_snapshot(transaction, SnapshotId(parent))?;
            }
            transaction.execute("UPDATE snapshots SET synced = 1 WHERE id = ?", [id.0])?;
            Ok(())
        })
    }

    /// Removes a snapshot, whether verified or not, with everything built on it: its descendants
    /// and the results that have one of them as an output. Images keep their names and lose their
    /// layers. Returns what was removed.
    pub fn drop_snapshot(&self, id: SnapshotId) -> Result<Vec<SnapshotId>, StoreError> {
        let dropped = self.write("drop a snapshot", |transaction| {
            let dropped = descendants(transaction, id)?;
            delete_snapshots(transaction, &dropped)?;
            Ok(dropped)
        })?;
        self.clear_snapshots(&dropped)?;
        Ok(dropped)
    }

    /// Removes the directories of snapshots whose rows are gone for good. Nobody else gets their
    /// numbers, and whoever is killed before this is done leaves directories that belong to nothing.
    pub(crate) fn clear_snapshots(&self, snapshots: &[SnapshotId]) -> Result<(), StoreError> {
        self.owner_name()?;
        for id in snapshots {
            let aside = self
                .move_aside(&self.snapshot_directory(*id))
                .map_err(|fault| fault.at(self.root(), "remove a snapshot"))?;
            self.remove_aside(aside.as_slice())?;
        }
        Ok(())
    }

    /// Moves a directory into this store's work directory; `None` if it is not there.
    ///
    /// Within a transaction, so the owner has to be claimed before: whoever sweeps holds the lock
    /// of the owners and waits for the database.
    pub(crate) fn move_aside(
        &self,
        path: &std::path::Path,
    ) -> Result<Option<std::path::PathBuf>, Fault> {
        let aside = self.tmp_path()?;
        match std::fs::rename(path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::file("remove", path)(error)),
        }
    }
}

/// Removes the rows of snapshots and all rows that name them. Their directories go after the
/// transaction, with [`Store::clear_snapshots`]: until its end the rows may come back.
pub(crate) fn delete_snapshots(
    transaction: &Transaction<'_>,
    snapshots: &[SnapshotId],
) -> rusqlite::Result<()> {
    for id in snapshots {
        let keys = "SELECT key FROM outputs WHERE snapshot = ?";
        transaction.execute(
            &format!("DELETE FROM results WHERE key IN ({keys})"),
            [id.0],
        )?;
        transaction.execute(
            &format!("DELETE FROM outputs WHERE key IN ({keys})"),
            [id.0],
        )?;
        transaction.execute("UPDATE images SET top = NULL WHERE top = ?", [id.0])?;
        transaction.execute("DELETE FROM leases WHERE snapshot = ?", [id.0])?;
        transaction.execute("DELETE FROM snapshots WHERE id = ?", [id.0])?;
    }
    Ok(())
}

/// A snapshot and all that stand on it, children first.
fn descendants(transaction: &Transaction<'_>, id: SnapshotId) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut found = vec![id];
    let mut statement = transaction.prepare_cached("SELECT id FROM snapshots WHERE parent = ?")?;
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = statement.query_map([parent.0], |row| row.get(0).map(SnapshotId))?;
        found.extend(children.collect::<rusqlite::Result<Vec<_>>>()?);
        next += 1;
    }
    found.reverse();
    Ok(found)
}
