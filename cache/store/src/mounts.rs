//! Cache mounts, and the remembered state of the host's files: directories and files that outlive
//! builds and are never part of a result.

use std::path::PathBuf;

use jiff::Timestamp;
use oci::{Key, KeyHasher};
use rustix::fs::FlockOperation;

use crate::database::micros;
use crate::{KeyLock, Store, StoreError, locks};

/// How a cache mount is used by steps that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any number at once.
    Shared,
    /// One after the other.
    Locked,
}

impl Store {
    /// The directory of the cache mount `id`, made if it is new. Any text is an id.
    pub fn cache_mount(&self, id: &str) -> Result<PathBuf, StoreError> {
        let name = mount_key(id).to_string();
        let path = self.root().join("mounts").join(&name);
        if path.is_dir() {
            return Ok(path);
        }
        self.write("add a cache mount", |transaction| {
            let insert = "INSERT OR IGNORE INTO mounts (directory, id, created) VALUES (?, ?, ?)";
            transaction.execute(insert, (&name, id, micros(Timestamp::now())))?;
            locks::make_directory(&path)
        })?;
        Ok(path)
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

fn mount_key(id: &str) -> Key {
    let mut key = KeyHasher::new("cache mount");
    key.text(id);
    key.finish()
}
