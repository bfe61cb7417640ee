//! Locks between processes: one file a thing, `flock`ed.
//!
//! `flock` belongs to the open file, so it also excludes the threads of one process, and it ends
//! with the process however that ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::Key;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Fault;
use crate::{Store, StoreError, owner};

const DIRECTORY: &str = "locks";

/// The sole right to produce what a key names, until dropped or until the process is gone.
///
/// Whoever waited for it looks the key up again: most likely the result is there now.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    file: File,
    /// Whether nobody else has it; a shared one may have other holders.
    exclusive: bool,
}

impl Store {
    /// Waits until nobody else produces `key`, then holds it.
    pub fn lock_key(&self, key: &Key) -> Result<KeyLock, StoreError> {
        let lock = self.lock(&key.to_string(), FlockOperation::LockExclusive)?;
        Ok(lock.expect("a waiting lock is held when it returns"))
    }

    /// Holds `key` if nobody else produces it right now.
    pub fn try_lock_key(&self, key: &Key) -> Result<Option<KeyLock>, StoreError> {
        self.lock(&key.to_string(), FlockOperation::NonBlockingLockExclusive)
    }

    pub(crate) fn lock(
        &self,
        name: &str,
        operation: FlockOperation,
    ) -> Result<Option<KeyLock>, StoreError> {
        // Whose process dies holding it must have left a sign that there is something to sweep.
        self.owner_name()?;
        take(&self.root().join(DIRECTORY).join(name), operation)
            .map_err(|fault| fault.at(self.root(), "lock"))
    }

    /// Removes the files of locks that nobody holds, left by processes that were killed.
    pub(crate) fn sweep_locks(&self) -> Result<(), StoreError> {
        let directory = self.root().join(DIRECTORY);
        let entries = fs::read_dir(&directory)
            .map_err(|error| StoreError::file(self.root(), "read", &directory, error))?;
        for entry in entries.flatten() {
            let lock = take(&entry.path(), FlockOperation::NonBlockingLockExclusive);
            drop(lock.map_err(|fault| fault.at(self.root(), "sweep"))?);
        }
        Ok(())
    }
}

/// The lock under which the store is created.
pub(crate) fn create(root: &Path) -> Result<KeyLock, Fault> {
    let lock = take(
        &root.join(DIRECTORY).join("create"),
        FlockOperation::LockExclusive,
    )?;
    Ok(lock.expect("a waiting lock is held when it returns"))
}

/// The lock under which work directories are claimed and swept; `None` if `operation` would wait.
pub(crate) fn owners(root: &Path, operation: FlockOperation) -> Result<Option<KeyLock>, Fault> {
    take(&root.join(DIRECTORY).join("owners"), operation)
}

/// A directory of the store's own user, which may be there already.
pub(crate) fn make_directory(path: &Path) -> Result<(), Fault> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Fault::file("create", path)(error))
        }
        _ => Ok(()),
    }
}

/// The same, in place of whatever else is there: for the directories of the store itself.
pub(crate) fn claim_directory(path: &Path) -> Result<(), Fault> {
    make_directory(path)?;
    if !path.is_dir() {
        fs::remove_file(path).map_err(Fault::file("remove", path))?;
        make_directory(path)?;
    }
    Ok(())
}

/// Opens and locks `path`. Its last holder removes the file, so the lock counts only if the file
/// is still the one at `path` once it is held.
fn take(path: &Path, operation: FlockOperation) -> Result<Option<KeyLock>, Fault> {
    let exclusive = matches!(
        operation,
        FlockOperation::LockExclusive | FlockOperation::NonBlockingLockExclusive
    );
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => File::from(file),
            // A link or a directory in its place is nobody's lock.
            Err(Errno::LOOP | Errno::ISDIR) => {
                owner::remove_any(path).map_err(Fault::file("remove", path))?;
                continue;
            }
            Err(error) => return Err(Fault::file("open", path)(error.into())),
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Fault::file("lock", path)(error.into())),
        }
        if is_at(&file, path) {
            return Ok(Some(KeyLock {
                path: path.to_owned(),
                file,
                exclusive,
            }));
        }
    }
}

/// Whether an open file is the one that is at `path` now.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

impl KeyLock {
    /// Whether a shared lock had no other holder, and excludes everybody now.
    fn become_sole(&self) -> bool {
        let alone = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // The kernel lets go before it takes anew: in between somebody may have come and gone.
        alone && is_at(&self.file, &self.path)
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Only a sole holder may unlink, and only before letting go.
        if self.exclusive || self.become_sole() {
            let _ = fs::remove_file(&self.path);
        }
        // Said aloud, because a child between fork and exec may still have the descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}
