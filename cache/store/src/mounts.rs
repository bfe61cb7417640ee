//! Cache mounts, and the remembered state of the host's files: directories and files that outlive
//! builds and are never part of a result.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use oci::{Key, KeyHasher};
use rustix::fs::FlockOperation;

use crate::database::{micros, timestamp};
use crate::{KeyLock, Store, StoreError, locks};

/// How a cache mount is used by steps that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any number at once.
    Shared,
    /// One after the other.
    Locked,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its id, as `--mount=type=cache,id=` names it.
    pub id: String,
    /// Where its files are.
    pub path: PathBuf,
    /// When it was first used.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Timestamp,
    /// How many steps used it again.
    pub uses: u64,
}

impl Store {
    /// The directory of the cache mount `id`, made if it is new. Any text is an id.
    pub fn cache_mount(&self, id: &str) -> Result<PathBuf, StoreError> {
        let name = mount_key(id).to_string();
        let path = self.root().join("mounts").join(&name);
        self.write("add a cache mount", |transaction| {
            let insert = "INSERT INTO mounts (directory, id, created, used) VALUES (?1, ?2, ?3, ?3)
                ON CONFLICT (directory) DO UPDATE SET used = ?3, uses = uses + 1";
            transaction.execute(insert, (&name, id, micros(Timestamp::now())))?;
            locks::claim_directory(&path)
        })?;
        Ok(path)
    }

    /// The cache mounts, by their ids.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMount>, StoreError> {
        self.read("list cache mounts", |connection| {
            let select = "SELECT id, created, used, uses FROM mounts ORDER BY id";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([], |row| {
                let id: String = row.get(0)?;
                Ok(CacheMount {
                    path: self.mount_directory(&id),
                    id,
                    created: timestamp(row.get(1)?),
                    used: timestamp(row.get(2)?),
                    uses: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The directory of the cache mount `id`, whether there is one or not.
    pub(crate) fn mount_directory(&self, id: &str) -> PathBuf {
        self.root().join("mounts").join(mount_key(id).to_string())
    }

    /// The names of the directories of those cache mounts that steps use right now.
    pub(crate) fn held_mounts(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut held = BTreeSet::new();
        for mount in self.cache_mounts()? {
            if self
                .try_lock_cache_mount(&mount.id, Sharing::Locked)?
                .is_none()
            {
                held.insert(mount_key(&mount.id).to_string());
            }
        }
        Ok(held)
    }

    /// Waits until the cache mount may be used so, then holds it.
    pub fn lock_cache_mount(&self, id: &str, sharing: Sharing) -> Result<KeyLock, StoreError> {
        let operation = match sharing {
            Sharing::Shared => FlockOperation::LockShared,
            Sharing::Locked => FlockOperation::LockExclusive,
        };
        let lock = self.lock(&mount_key(id).to_string(), operation)?;
        Ok(lock.expect("a waiting lock is held when it returns"))
    }

    /// Holds the cache mount if it may be used so right now.
    pub fn try_lock_cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
    ) -> Result<Option<KeyLock>, StoreError> {
        let operation = match sharing {
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
            Sharing::Locked => FlockOperation::NonBlockingLockExclusive,
        };
        self.lock(&mount_key(id).to_string(), operation)
    }

    /// Where what is known of the files of one directory of the host is remembered. The file is
    /// written anew in a work directory and renamed; what it says is only ever a hint.
    pub fn stat_path(&self, directory: &Key) -> PathBuf {
        self.root().join("stat").join(directory.to_string())
    }
}

impl Store {
    /// Removes memories of files whose writer was killed. One who lives loses what it was about to
    /// remember, and will learn it again.
    pub(crate) fn sweep_stat(&self) {
        let entries = fs::read_dir(self.root().join("stat"));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|it| it == "new") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn mount_key(id: &str) -> Key {
    let mut key = KeyHasher::new("cache mount");
    key.text(id);
    key.finish()
}
