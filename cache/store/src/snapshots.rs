//! Snapshots: layers on top of layers, each a directory kept in place.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci::{Digest, Key};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::blobs::hash_file;
use crate::database::{micros, timestamp};
use crate::error::Fault;
use crate::owner::{self, COMMITTED};
use crate::{Store, StoreError};

/// The number of a snapshot, for as long as the store lasts. Never given twice to things that
/// were visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub i64);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the store knows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its number.
    pub id: SnapshotId,
    /// The layer below, `None` for the lowest.
    pub parent: Option<SnapshotId>,
    /// Digest of the layer's uncompressed tar, where that was made or applied.
    pub diff_id: Option<Digest>,
    /// OCI's chain id of the layer and all below it, where their diff ids are known.
    pub chain_id: Option<Digest>,
    /// Content of the whole chain.
    pub content: Key,
    /// Merkle root of this layer's own tree manifest.
    pub tree_root: Key,
    /// Bytes of this layer's own files.
    pub size: u64,
    /// When it was committed.
    pub created: Timestamp,
    /// Whether its files are known to be on the disk. Otherwise they are only known to be there
    /// as long as the machine stays up.
    pub durable: bool,
}

/// What the committer of a snapshot knows of it; the fields are those of [`SnapshotRow`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// The layer below.
    pub parent: Option<SnapshotId>,
    /// Digest of the layer's uncompressed tar.
    pub diff_id: Option<Digest>,
    /// OCI's chain id.
    pub chain_id: Option<Digest>,
    /// Content of the whole chain.
    pub content: Key,
    /// Merkle root of this layer's own tree manifest.
    pub tree_root: Key,
    /// Bytes of this layer's own files.
    pub size: u64,
}

const COLUMNS: &str = "id, parent, diff_id, chain_id, content, tree_root, size, created, synced";

/// The same of a row that is called `below`.
const BELOW: &str = "below.id, below.parent, below.diff_id, below.chain_id, below.content, \
    below.tree_root, below.size, below.created, below.synced";

impl Store {
    /// Makes the directory `staged`, which holds `fs` (or `tar` and `index`) and `tree`, a snapshot.
    ///
    /// `staged` is in a work directory of this store and is moved away. If a snapshot of the same
    /// chain id is there already, that one is returned and `staged` stays.
    /// The snapshot is kept until this store is closed; whoever wants it longer records it as a
    /// result or in an image.
    pub fn commit_snapshot(
        &self,
        staged: &Path,
        new: &NewSnapshot,
    ) -> Result<SnapshotId, StoreError> {
        let owner = self.owner_name()?;
        self.write("add a snapshot", |transaction| {
            if let Some(parent) = new.parent {
                self.require_snapshot(transaction, parent)?;
            }
            let same = match &new.chain_id {
                Some(chain_id) => self.by_chain_id(transaction, chain_id)?,
                None => None,
            };
            let id = match same {
                Some(same) => same.id,
                None => self.insert_snapshot(transaction, staged, new)?,
            };
            owner::keep_snapshot(transaction, &owner, COMMITTED, id)?;
            Ok(id)
        })
    }

    fn insert_snapshot(
        &self,
        transaction: &Transaction<'_>,
        staged: &Path,
        new: &NewSnapshot,
    ) -> Result<SnapshotId, Fault> {
        let insert = "INSERT INTO snapshots (parent, diff_id, chain_id, content, tree_root, size, created, boot)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        transaction.prepare_cached(insert)?.execute((
            new.parent.map(|it| it.0),
            new.diff_id.as_ref().map(Digest::as_bytes),
            new.chain_id.as_ref().map(Digest::as_bytes),
            new.content.as_bytes(),
            new.tree_root.as_bytes(),
            new.size,
            micros(Timestamp::now()),
            &self.inner.boot,
        ))?;
        let id = SnapshotId(transaction.last_insert_rowid());
        let path = self.snapshot_directory(id);
        match fs::rename(staged, &path) {
            // Left by a process that was killed, or a machine that went down, between the rename
            // and the end of the transaction: no row knows it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                let aside = self.tmp_path()?;
                fs::rename(&path, &aside).map_err(Fault::file("move away", &path))?;
                fs::rename(staged, &path).map_err(Fault::file("create", &path))?;
            }
            other => other.map_err(Fault::file("create", &path))?,
        }
        Ok(id)
    }

    /// What is known of a snapshot; fails with [`StoreError::MissingSnapshot`] where it is not
    /// there or not verified.
    pub fn snapshot(&self, id: SnapshotId) -> Result<SnapshotRow, StoreError> {
        self.read("look up a snapshot", |connection| {
            self.require_snapshot(connection, id)
        })
    }

    /// Where the layer's own files are.
    pub fn snapshot_fs(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_directory(id).join("fs")
    }

    /// Where the tar of a layer is that stays packed, and has no files of its own.
    pub fn layer_tar(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_directory(id).join("tar")
    }

    /// The digest of that tar as it is now.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn layer_tar_digest(&self, id: SnapshotId) -> io::Result<Digest> {
        hash_file(&self.layer_tar(id)).map(|(digest, _)| digest)
    }

    /// Where the index over that tar is.
    pub fn layer_index(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_directory(id).join("index")
    }

    /// Whether the layer's files are there in the one form or the other, as far as that can be told at
    /// once.
    pub fn has_layer(&self, id: SnapshotId) -> bool {
        self.snapshot_fs(id).is_dir()
            || self.layer_index(id).is_file() && self.layer_tar(id).is_file()
    }

    /// Where the layer's tree manifest is.
    pub fn tree_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_directory(id).join("tree")
    }

    /// The snapshot and all its ancestors, lowest first.
    pub fn ancestry(&self, id: SnapshotId) -> Result<Vec<SnapshotRow>, StoreError> {
        self.read("look up a chain", |connection| {
            let select = format!(
                "WITH RECURSIVE chain AS (
                    SELECT {COLUMNS}, 0 AS depth FROM snapshots
                        WHERE id = ?1 AND (synced OR boot = ?2)
                    UNION ALL
                    SELECT {BELOW}, depth + 1 FROM chain JOIN snapshots AS below ON below.id = chain.parent
                        WHERE below.synced OR below.boot = ?2
                ) SELECT {COLUMNS} FROM chain ORDER BY depth DESC"
            );
            let mut statement = connection.prepare_cached(&select)?;
            let rows = statement.query_map((id.0, &self.inner.boot), read_row)?;
            let chain: Vec<SnapshotRow> = rows.collect::<rusqlite::Result<_>>()?;
            // Where it does not begin at a lowest layer, what the first that is there stands on is missing.
            match chain.first() {
                None => Err(Fault::Store(StoreError::MissingSnapshot(id))),
                Some(SnapshotRow {
                    parent: Some(missing),
                    ..
                }) => Err(Fault::Store(StoreError::MissingSnapshot(*missing))),
                Some(_) => Ok(chain),
            }
        })
    }

    /// A snapshot whose whole chain has the given chain id.
    pub fn snapshot_by_chain_id(
        &self,
        chain_id: &Digest,
    ) -> Result<Option<SnapshotRow>, StoreError> {
        self.read("look up a chain", |connection| {
            Ok(self.by_chain_id(connection, chain_id)?)
        })
    }

    /// Adds what became known of a snapshot when its tar was made.
    pub fn set_diff_id(
        &self,
        id: SnapshotId,
        diff_id: &Digest,
        chain_id: &Digest,
    ) -> Result<(), StoreError> {
        self.set_diff_ids(&[(id, *diff_id, *chain_id)])
    }

    /// The same of several snapshots: their diff ids, and the ids of the chains that they end.
    pub fn set_diff_ids(&self, known: &[(SnapshotId, Digest, Digest)]) -> Result<(), StoreError> {
        if known.is_empty() {
            return Ok(());
        }
        self.write("name a snapshot", |transaction| {
            let update = "UPDATE snapshots SET diff_id = ?, chain_id = ? WHERE id = ?";
            let mut statement = transaction.prepare_cached(update)?;
            for (id, diff_id, chain_id) in known {
                self.require_snapshot(transaction, *id)?;
                statement.execute((diff_id.as_bytes(), chain_id.as_bytes(), id.0))?;
            }
            Ok(())
        })
    }

    /// Dates a snapshot back to when its layer was first made, on another machine.
    pub fn set_created(&self, id: SnapshotId, created: Timestamp) -> Result<(), StoreError> {
        self.write("date a snapshot", |transaction| {
            let update = "UPDATE snapshots SET created = ? WHERE id = ?";
            transaction
                .prepare_cached(update)?
                .execute((micros(created), id.0))?;
            Ok(())
        })
    }

    /// All snapshots, parents before children.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>, StoreError> {
        self.read("list the snapshots", |connection| {
            Ok(self.snapshots_where(connection, "synced OR boot = ?")?)
        })
    }

    pub(crate) fn snapshot_directory(&self, id: SnapshotId) -> PathBuf {
        self.root().join("snapshots").join(id.to_string())
    }

    /// Within a transaction: a snapshot that must be there.
    pub(crate) fn require_snapshot(
        &self,
        connection: &Connection,
        id: SnapshotId,
    ) -> Result<SnapshotRow, Fault> {
        let select =
            format!("SELECT {COLUMNS} FROM snapshots WHERE id = ? AND (synced OR boot = ?)");
        let mut statement = connection.prepare_cached(&select)?;
        let found = statement
            .query_row((id.0, &self.inner.boot), read_row)
            .optional()?;
        found.ok_or(Fault::Store(StoreError::MissingSnapshot(id)))
    }

    fn by_chain_id(
        &self,
        connection: &Connection,
        chain_id: &Digest,
    ) -> rusqlite::Result<Option<SnapshotRow>> {
        let select = format!(
            "SELECT {COLUMNS} FROM snapshots WHERE chain_id = ? AND (synced OR boot = ?) ORDER BY id LIMIT 1"
        );
        let mut statement = connection.prepare_cached(&select)?;
        statement
            .query_row((chain_id.as_bytes(), &self.inner.boot), read_row)
            .optional()
    }

    /// The rows that `condition` on `snapshots` selects, by number.
    pub(crate) fn snapshots_where(
        &self,
        connection: &Connection,
        condition: &str,
    ) -> rusqlite::Result<Vec<SnapshotRow>> {
        let select = format!("SELECT {COLUMNS} FROM snapshots WHERE {condition} ORDER BY id");
        let mut statement = connection.prepare_cached(&select)?;
        statement.query_map([&self.inner.boot], read_row)?.collect()
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    Ok(SnapshotRow {
        id: SnapshotId(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(SnapshotId),
        diff_id: row.get::<_, Option<[u8; 32]>>(2)?.map(Digest::from_bytes),
        chain_id: row.get::<_, Option<[u8; 32]>>(3)?.map(Digest::from_bytes),
        content: Key::from_bytes(row.get(4)?),
        tree_root: Key::from_bytes(row.get(5)?),
        size: row.get(6)?,
        created: timestamp(row.get(7)?),
        durable: row.get(8)?,
    })
}
