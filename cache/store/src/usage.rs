//! What the cache holds, item by item, with what it costs and who needs it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use oci::Digest;
use rusqlite::Connection;

use crate::database::timestamp;
use crate::{SnapshotId, Store, StoreError};

/// Something that the cache holds and that can go on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub what: Stored,
    /// The layer that it stands on.
    pub parent: Option<SnapshotId>,
    /// Bytes on the disk, as du(1) counts them.
    pub size: u64,
    /// The step that made it, or the id of a cache mount.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When a build last made or found it, or something made from it.
    pub used: Timestamp,
    /// How many builds found it.
    pub uses: u64,
    /// How long it took to make.
    pub cost: Duration,
    /// Whether somebody works with it right now.
    pub in_use: bool,
    /// Whether an image consists of it: then it goes with the image and not before.
    pub shared: bool,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// A layer that a step made.
    Snapshot(SnapshotId),
    /// A cache mount, by the name of its directory.
    Mount(String),
    /// A layer's tar, kept as it travels.
    Blob(Digest),
    /// A mirror of a repository, by the name of its directory.
    Source(String),
}

impl Item {
    /// A name for it that stays: what `--filter id=` means.
    pub fn id(&self) -> String {
        match &self.what {
            Stored::Snapshot(id) => id.to_string(),
            Stored::Mount(directory) | Stored::Source(directory) => {
                directory.chars().take(25).collect()
            }
            Stored::Blob(digest) => digest.hex().chars().take(25).collect(),
        }
    }

    /// BuildKit's word for what it is.
    pub fn kind(&self) -> &'static str {
        match self.what {
            Stored::Snapshot(_) => "regular",
            Stored::Mount(_) => "exec.cachemount",
            Stored::Blob(_) => "internal",
            Stored::Source(_) => "source.git.checkout",
        }
    }

    /// Whether steps may change it.
    pub fn is_mutable(&self) -> bool {
        matches!(self.what, Stored::Mount(_))
    }

    /// Whether nobody knows its size without measuring it.
    pub(crate) fn grows(&self) -> bool {
        matches!(self.what, Stored::Mount(_) | Stored::Source(_))
    }

    /// Whether it can go.
    pub fn is_reclaimable(&self) -> bool {
        !self.in_use && !self.shared
    }
}

/// How full the file system of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
}

impl Store {
    /// Everything that the cache holds, oldest first. Walks all of its files, for their true sizes.
    pub fn usage(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = self.items()?;
        let mut seen = HashSet::new();
        for item in &mut items {
            let path = match &item.what {
                Stored::Snapshot(id) => self.snapshot_directory(*id),
                Stored::Mount(directory) => self.root().join("mounts").join(directory),
                Stored::Blob(digest) => self.path_of(digest),
                Stored::Source(directory) => self.source_path(directory),
            };
            item.size = allocated(&path, &mut seen)
                .map_err(|error| StoreError::file(self.root(), "measure", &path, error))?;
        }
        Ok(items)
    }

    /// The same with the sizes that were noted when things were made, which costs no walk. Of cache
    /// mounts and sources nothing is noted.
    pub(crate) fn items(&self) -> Result<Vec<Item>, StoreError> {
        let held = self.held_mounts()?;
        let sources = self.sources()?;
        let mut items = self.read("measure the cache", |connection| {
            Ok(read_items(connection, &held)?)
        })?;
        items.extend(sources);
        Ok(items)
    }

    /// The bytes of the whole store on the disk, as `du -s` counts them.
    pub fn allocated(&self) -> Result<u64, StoreError> {
        allocated(self.root(), &mut HashSet::new())
            .map_err(|error| StoreError::file(self.root(), "measure", self.root(), error))
    }

    /// How full the file system is.
    pub fn disk(&self) -> Result<Disk, StoreError> {
        let failed = |error: rustix::io::Errno| {
            StoreError::file(self.root(), "measure", self.root(), error.into())
        };
        let stat = rustix::fs::statvfs(self.root()).map_err(failed)?;
        Ok(Disk {
            total: stat.f_blocks * stat.f_frsize,
            free: stat.f_bavail * stat.f_frsize,
        })
    }
}

/// Bytes that everything at and below `path` takes on the disk; what was counted in `seen` is not
/// counted again. What goes away meanwhile counts as nothing.
pub(crate) fn allocated(path: &Path, seen: &mut HashSet<(u64, u64)>) -> io::Result<u64> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if gone(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut sum = 0;
    if seen.insert((metadata.dev(), metadata.ino())) {
        sum += metadata.blocks() * 512;
    }
    if metadata.is_dir() {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if gone(&error) => return Ok(sum),
            Err(error) => return Err(error),
        };
        for entry in entries {
            sum += allocated(&entry?.path(), seen)?;
        }
    }
    Ok(sum)
}

/// What is known of a snapshot from the results that it is an output of.
struct Made {
    name: String,
    cost: Duration,
    used: i64,
    uses: u64,
}

fn read_items(connection: &Connection, held: &BTreeSet<String>) -> rusqlite::Result<Vec<Item>> {
    let mut made = BTreeMap::new();
    let select = "SELECT snapshot, name, duration, used, uses FROM outputs JOIN results USING (key)
        WHERE snapshot IS NOT NULL ORDER BY results.created";
    let mut statement = connection.prepare(select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entry = made.entry(row.get::<_, i64>(0)?).or_insert(Made {
            name: row.get(1)?,
            cost: crate::database::duration(row.get(2)?),
            used: 0,
            uses: 0,
        });
        entry.used = entry.used.max(row.get(3)?);
        entry.uses += row.get::<_, u64>(4)?;
    }
    let leased = column(
        connection,
        "SELECT snapshot FROM leases WHERE snapshot NOT NULL",
    )?;
    let imaged = column(connection, "SELECT top FROM images WHERE top NOT NULL")?;

    let mut items = BTreeMap::new();
    let select = "SELECT id, parent, size, created FROM snapshots ORDER BY id";
    let mut statement = connection.prepare(select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let created: i64 = row.get(3)?;
        let known = made.get(&id);
        items.insert(
            id,
            Item {
                what: Stored::Snapshot(SnapshotId(id)),
                parent: row.get::<_, Option<i64>>(1)?.map(SnapshotId),
                size: row.get(2)?,
                description: known
                    .map_or_else(|| "a layer of an image".to_owned(), |it| it.name.clone()),
                created: timestamp(created),
                used: timestamp(known.map_or(0, |it| it.used).max(created)),
                uses: known.map_or(0, |it| it.uses),
                cost: known.map_or(Duration::ZERO, |it| it.cost),
                in_use: leased.contains(&id),
                shared: imaged.contains(&id),
            },
        );
    }
    // Children come after their parents: what is said of a child is so of all that it stands on.
    let ids: Vec<i64> = items.keys().rev().copied().collect();
    for id in ids {
        let child = items[&id].clone();
        if let Some(parent) = child.parent.and_then(|it| items.get_mut(&it.0)) {
            parent.used = parent.used.max(child.used);
            parent.in_use |= child.in_use;
            parent.shared |= child.shared;
        }
    }
    let mut items: Vec<Item> = items.into_values().collect();
    items.extend(read_blobs(connection)?);
    items.extend(read_mounts(connection, held)?);
    Ok(items)
}

/// Layers kept as tars. Those of images are part of the images.
fn read_blobs(connection: &Connection) -> rusqlite::Result<Vec<Item>> {
    let mut imaged = BTreeSet::new();
    let mut statement = connection.prepare("SELECT diff_ids FROM images")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(0)?;
        imaged.extend(bytes.as_chunks::<32>().0.iter().copied());
    }
    let select = "SELECT digest, min(diff_id), blobs.size, created,
            EXISTS (SELECT 1 FROM leases WHERE leases.digest = blobs.digest)
        FROM blobs JOIN layer_blobs USING (digest) GROUP BY digest ORDER BY blobs.id";
    let mut statement = connection.prepare(select)?;
    let rows = statement.query_map([], |row| {
        let diff_id: [u8; 32] = row.get(1)?;
        let created = timestamp(row.get(3)?);
        let size: u64 = row.get(2)?;
        Ok(Item {
            what: Stored::Blob(Digest::from_bytes(row.get(0)?)),
            parent: None,
            size,
            description: format!("the tar of layer {}", Digest::from_bytes(diff_id)),
            created,
            used: created,
            uses: 0,
            // About what compressing takes.
            cost: Duration::from_millis(size >> 14),
            in_use: row.get(4)?,
            shared: imaged.contains(&diff_id),
        })
    })?;
    rows.collect()
}

fn read_mounts(connection: &Connection, held: &BTreeSet<String>) -> rusqlite::Result<Vec<Item>> {
    let select = "SELECT directory, id, created, used, uses FROM mounts ORDER BY created";
    let mut statement = connection.prepare(select)?;
    let rows = statement.query_map([], |row| {
        let directory: String = row.get(0)?;
        let (created, used): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok(Item {
            in_use: held.contains(&directory),
            what: Stored::Mount(directory),
            parent: None,
            size: 0,
            description: row.get(1)?,
            created: timestamp(created),
            used: timestamp(created.max(used)),
            uses: row.get(4)?,
            cost: Duration::ZERO,
            shared: false,
        })
    })?;
    rows.collect()
}

fn column(connection: &Connection, select: &str) -> Result<BTreeSet<i64>, rusqlite::Error> {
    let mut statement = connection.prepare(select)?;
    statement.query_map([], |row| row.get(0))?.collect()
}
