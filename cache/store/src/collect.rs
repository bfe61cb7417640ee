//! Collecting what nothing leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::{Connection, Transaction};

use crate::error::Fault;
use crate::partial::Parts;
use crate::{SnapshotId, Store, StoreError, blobs, durability, owner};

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Snapshots, by number.
    pub snapshots: Vec<SnapshotId>,
    /// Blobs, by digest.
    pub blobs: Vec<Digest>,
    /// Bytes of all of them, and of parts of blobs.
    pub bytes: u64,
}

/// All references of the store, as plain data.
#[derive(Debug, Default)]
struct References {
    /// Every snapshot, with its parent and size.
    snapshots: BTreeMap<i64, (Option<i64>, u64)>,
    /// Every blob, with its size.
    blobs: BTreeMap<Digest, u64>,
    /// Layers kept as blobs: the diff id and the blob.
    layers: Vec<(Digest, Digest)>,
    /// Diff ids of snapshots.
    diff_ids: BTreeMap<i64, Digest>,
    /// Snapshots that images, results and leases name.
    snapshot_roots: BTreeSet<i64>,
    /// Blobs that images and leases name.
    blob_roots: BTreeSet<Digest>,
    /// Layers that images name.
    layer_roots: BTreeSet<Digest>,
}

impl Store {
    /// Removes the snapshots and blobs that no image, no result and no lease leads to, the parts of
    /// blobs that nobody went on with for a day, and the leavings of processes that were killed.
    pub fn gc(&self) -> Result<Collected, StoreError> {
        let dead = self.read("sweep", |connection| owner::sweep(self.root(), connection))?;
        self.remove_leavings()?;
        owner::bury(&dead).map_err(|fault| fault.at(self.root(), "sweep"))?;
        let parts = self.remove_parts(Parts::Old)?;
        self.owner_name()?;
        // In a transaction from the start to the end: nobody refers anew to what is being removed.
        let collected = self.write("collect", |transaction| {
            let mut collected = unreachable(&read_references(transaction)?);
            collected.bytes += parts;
            durability::delete_snapshots(transaction, &collected.snapshots)?;
            for blob in &collected.blobs {
                blobs::delete_blob(transaction, blob)?;
            }
            Ok(collected)
        })?;
        self.clear_snapshots(&collected.snapshots)?;
        self.clear_blobs(&collected.blobs)?;
        Ok(collected)
    }

    /// Removes what processes that were killed left outside their work directories: the files of
    /// locks, and what they had moved into place without coming to the end of the transaction.
    pub(crate) fn remove_leavings(&self) -> Result<(), StoreError> {
        self.sweep_locks()?;
        self.sweep_stat();
        if self.orphaned()?.is_empty() {
            return Ok(());
        }
        self.owner_name()?;
        let aside = self.write("look for orphans", |transaction| self.orphans(transaction))?;
        self.remove_aside(&aside)
    }

    pub(crate) fn remove_aside(&self, aside: &[PathBuf]) -> Result<(), StoreError> {
        aside.iter().try_for_each(|path| {
            owner::remove_tree(path)
                .map_err(|error| StoreError::file(self.root(), "remove", path, error))
        })
    }

    /// Gives up what this store committed of `blobs`: those that no image, no layer and nobody's
    /// lease leads to are removed at once, instead of by the next [`Store::gc`].
    pub fn discard_blobs(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        let owner = self.owner_name()?;
        let gone = self.write("discard blobs", |transaction| {
            let mut gone = Vec::new();
            for blob in blobs {
                let digest = blob.as_bytes();
                let given_up = "DELETE FROM leases WHERE owner = ? AND lease = ? AND digest = ?";
                transaction.execute(given_up, (&owner, owner::COMMITTED, digest))?;
                let needed = "SELECT 1 FROM leases WHERE digest = ?1
                    UNION ALL SELECT 1 FROM layer_blobs WHERE digest = ?1
                    UNION ALL SELECT 1 FROM images WHERE id = ?1 OR manifest = ?1
                    UNION ALL SELECT 1 FROM indices WHERE digest = ?1
                    UNION ALL SELECT 1 FROM attestations WHERE digest = ?1";
                if !transaction.prepare_cached(needed)?.exists([digest])? {
                    blobs::delete_blob(transaction, blob)?;
                    gone.push(*blob);
                }
            }
            Ok(gone)
        })?;
        self.clear_blobs(&gone)
    }

    /// Moves away the snapshot directories and blob files that no row knows, left where a process
    /// or the machine stopped between the rename and the end of its transaction.
    fn orphans(&self, transaction: &Transaction<'_>) -> Result<Vec<PathBuf>, Fault> {
        let mut aside = Vec::new();
        let mut known = transaction.prepare("SELECT 1 FROM snapshots WHERE id = ?")?;
        for (name, path) in entries(&self.root().join("snapshots"))? {
            if name
                .parse::<i64>()
                .is_ok_and(|id| known.exists([id]).unwrap_or(true))
            {
                continue;
            }
            aside.extend(self.move_aside(&path)?);
        }
        let mut known = transaction.prepare("SELECT 1 FROM blobs WHERE digest = ?")?;
        for (name, path) in entries(&self.root().join("blobs/sha256"))? {
            let digest = format!("sha256:{name}").parse::<Digest>();
            if digest.is_ok_and(|digest| known.exists([digest.as_bytes()]).unwrap_or(true)) {
                continue;
            }
            owner::remove_any(&path).map_err(Fault::file("remove", &path))?;
        }
        Ok(aside)
    }
}

fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, Fault> {
    let entries = fs::read_dir(directory).map_err(Fault::file("read", directory))?;
    Ok(entries
        .flatten()
        .map(|it| (it.file_name().to_string_lossy().into_owned(), it.path()))
        .collect())
}

/// What can go, children before parents.
fn unreachable(references: &References) -> Collected {
    let mut kept = BTreeSet::new();
    for root in &references.snapshot_roots {
        let mut next = Some(*root);
        while let Some(id) = next.filter(|id| kept.insert(*id)) {
            next = references
                .snapshots
                .get(&id)
                .and_then(|(parent, _)| *parent);
        }
    }
    let mut layers = references.layer_roots.clone();
    layers.extend(kept.iter().filter_map(|id| references.diff_ids.get(id)));
    let mut blobs = references.blob_roots.clone();
    blobs.extend(
        references
            .layers
            .iter()
            .filter(|(diff_id, _)| layers.contains(diff_id))
            .map(|(_, blob)| *blob),
    );

    let mut collected = Collected::default();
    for (id, (_, size)) in references
        .snapshots
        .iter()
        .rev()
        .filter(|(id, _)| !kept.contains(id))
    {
        collected.snapshots.push(SnapshotId(*id));
        collected.bytes += size;
    }
    for (digest, size) in references
        .blobs
        .iter()
        .filter(|(digest, _)| !blobs.contains(digest))
    {
        collected.blobs.push(*digest);
        collected.bytes += size;
    }
    collected
}

fn read_references(connection: &Connection) -> rusqlite::Result<References> {
    let mut all = References::default();
    let digest = |bytes: [u8; 32]| Digest::from_bytes(bytes);
    let mut statement = connection.prepare("SELECT id, parent, size, diff_id FROM snapshots")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        all.snapshots.insert(id, (row.get(1)?, row.get(2)?));
        all.diff_ids.extend(
            row.get::<_, Option<_>>(3)?
                .map(|diff_id| (id, digest(diff_id))),
        );
    }
    let mut statement = connection.prepare("SELECT digest, size FROM blobs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.blobs.insert(digest(row.get(0)?), row.get(1)?);
    }
    let mut statement = connection.prepare("SELECT diff_id, digest FROM layer_blobs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.layers.push((digest(row.get(0)?), digest(row.get(1)?)));
    }
    let mut statement = connection.prepare("SELECT id, top, diff_ids, manifest FROM images")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.blob_roots.insert(digest(row.get(0)?));
        all.snapshot_roots.extend(row.get::<_, Option<i64>>(1)?);
        let diff_ids: Vec<u8> = row.get(2)?;
        all.layer_roots
            .extend(diff_ids.as_chunks::<32>().0.iter().map(|it| digest(*it)));
        all.blob_roots
            .extend(row.get::<_, Option<_>>(3)?.map(digest));
    }
    let said = "SELECT digest FROM indices UNION ALL SELECT digest FROM attestations";
    let mut statement = connection.prepare(said)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.blob_roots.insert(digest(row.get(0)?));
    }
    let roots = "SELECT snapshot, NULL FROM outputs UNION ALL SELECT snapshot, digest FROM leases";
    let mut statement = connection.prepare(roots)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.snapshot_roots.extend(row.get::<_, Option<i64>>(0)?);
        all.blob_roots
            .extend(row.get::<_, Option<_>>(1)?.map(digest));
    }
    Ok(all)
}
