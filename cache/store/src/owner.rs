//! Owners, their work directories and their leases.
//!
//! An owner is a directory `tmp/PID-STARTTIME-N` whose file `lock` its process holds locked. The
//! lock says whether the owner lives; the name is for people who look.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci::Digest;
use rusqlite::{Connection, Transaction};
use rustix::fs::FlockOperation;

use crate::error::Fault;
use crate::locks::{self, make_directory};
use crate::remover::Remover;
use crate::{SnapshotId, Store, StoreError};

const LOCK: &str = "lock";
/// Work directories of the dead, ready to be removed by whoever comes by.
const DEAD: &str = "dead-";

/// One open store that has work directories or leases.
pub(crate) struct Owner {
    pub(crate) name: String,
    directory: PathBuf,
    /// Numbers the entries of the directory.
    next: u64,
    _lock: File,
}

/// A work directory below the store, on its file system. Removed when dropped, or by the next
/// open of the store if the process dies.
#[derive(Debug)]
pub struct TmpDir {
    path: PathBuf,
    /// Keeps the owner's lock.
    store: Store,
}

/// Keeps snapshots and blobs from being collected, until dropped or until the process is gone.
#[derive(Debug)]
pub struct Lease {
    id: i64,
    owner: String,
    store: Store,
}

impl Store {
    /// A fresh empty directory for work under way.
    pub fn tmp_dir(&self) -> Result<TmpDir, StoreError> {
        let path = self.tmp_path()?;
        make_directory(&path).map_err(|fault| fault.at(self.root(), "create"))?;
        Ok(TmpDir {
            path,
            store: self.clone(),
        })
    }

    /// A path in the owner's directory at which nothing is yet.
    pub(crate) fn tmp_path(&self) -> Result<PathBuf, StoreError> {
        self.with_owner(|owner| {
            owner.next += 1;
            owner.directory.join(owner.next.to_string())
        })
    }

    /// Keeps `snapshots` with all their ancestors, and `blobs`, until the lease is dropped.
    ///
    /// Fails if one of them is not there any more. What this store itself committed is kept until
    /// the store is closed, without a lease.
    pub fn lease(&self, snapshots: &[SnapshotId], blobs: &[Digest]) -> Result<Lease, StoreError> {
        let (owner, id) = self.with_owner(|owner| {
            owner.next += 1;
            (owner.name.clone(), owner.next)
        })?;
        let lease = i64::try_from(id).expect("nobody takes 2^63 leases");
        self.write("take a lease", |transaction| {
            for snapshot in snapshots {
                self.require_snapshot(transaction, *snapshot)?;
                keep_snapshot(transaction, &owner, lease, *snapshot)?;
            }
            for blob in blobs {
                self.require_blob(transaction, blob)?;
                keep_blob(transaction, &owner, lease, blob)?;
            }
            Ok(())
        })?;
        Ok(Lease {
            id: lease,
            owner,
            store: self.clone(),
        })
    }

    /// The name of this store's owner, for rows that must live as long as it.
    pub(crate) fn owner_name(&self) -> Result<String, StoreError> {
        self.with_owner(|owner| owner.name.clone())
    }

    fn with_owner<T>(&self, with: impl FnOnce(&mut Owner) -> T) -> Result<T, StoreError> {
        let mut owner = self
            .inner
            .owner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if owner.is_none() {
            *owner =
                Some(Owner::claim(self.root()).map_err(|fault| fault.at(self.root(), "claim"))?);
        }
        Ok(with(owner.as_mut().expect("claimed above")))
    }
}

/// The lease number of what a store committed and has not handed on.
pub(crate) const COMMITTED: i64 = 0;

pub(crate) fn keep_snapshot(
    transaction: &Transaction<'_>,
    owner: &str,
    lease: i64,
    snapshot: SnapshotId,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO leases (owner, lease, snapshot) VALUES (?, ?, ?)";
    transaction
        .prepare_cached(insert)?
        .execute((owner, lease, snapshot.0))?;
    Ok(())
}

pub(crate) fn keep_blob(
    transaction: &Transaction<'_>,
    owner: &str,
    lease: i64,
    blob: &Digest,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO leases (owner, lease, digest) VALUES (?, ?, ?)";
    transaction
        .prepare_cached(insert)?
        .execute((owner, lease, blob.as_bytes()))?;
    Ok(())
}

impl Owner {
    fn claim(root: &Path) -> Result<Self, Fault> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", std::process::id(), start_time());
        let directory = root.join("tmp").join(&name);
        // A directory whose lock is not taken yet must not look like that of a dead owner.
        let _claiming = locks::owners(root, FlockOperation::LockExclusive)?;
        make_directory(&directory)?;
        let path = directory.join(LOCK);
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let lock = lock.map_err(Fault::file("create", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Fault::file("lock", &path)(error.into()))?;
        Ok(Self {
            name,
            directory,
            next: 0,
            _lock: lock,
        })
    }

    /// Ends the owner's leases and removes its work. What fails here is left to the next sweep.
    pub(crate) fn leave(self, connection: &Connection) {
        let _ = connection.execute("DELETE FROM leases WHERE owner = ?", [&self.name]);
        let _ = remove_tree(&self.directory);
    }
}

/// When this process started, in clock ticks since boot: tells it from a later one of the same pid.
fn start_time() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|it| it.parse().ok())
        .unwrap_or(0)
}

/// Removes the work and ends the leases of owners that are gone. Returns their directories, now empty:
/// they are the sign that somebody died, and [`bury`] takes them away once all else that the dead left is.
pub(crate) fn sweep(root: &Path, connection: &Connection) -> Result<Vec<PathBuf>, Fault> {
    let tmp = root.join("tmp");
    let entries: Vec<_> = match fs::read_dir(&tmp) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        // Somebody tidied up by hand.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(&tmp)?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(Fault::file("read", &tmp)(error)),
    };
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    // Where somebody is at it, it is being done.
    let Some(sweeping) = locks::owners(root, FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(Vec::new());
    };
    let mut dead = Vec::new();
    for name in entries {
        let name = name.to_string_lossy().into_owned();
        let path = tmp.join(&name);
        if name.starts_with(DEAD) {
            dead.push(path);
        } else if !is_alive(&path) {
            connection.execute("DELETE FROM leases WHERE owner = ?", [&name])?;
            let aside = tmp.join(format!("{DEAD}{name}"));
            match fs::rename(&path, &aside) {
                Ok(()) => dead.push(aside),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Left by an earlier sweep that was itself killed.
                Err(_) => dead.push(path),
            }
        }
    }
    drop(sweeping);
    for path in &dead {
        tracing::debug!(path = %path.display(), "removing the work of a dead process");
        remove_contents(path).map_err(Fault::file("remove", path))?;
    }
    Ok(dead)
}

/// Takes away the directories of dead owners, of whom nothing else is left.
pub(crate) fn bury(dead: &[PathBuf]) -> Result<(), Fault> {
    dead.iter()
        .try_for_each(|path| remove_tree(path).map_err(Fault::file("remove", path)))
}

/// Whether a process has the store at `root` in use for work of its own.
pub(crate) fn anybody_lives(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("tmp"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .any(|it| is_alive(&it.path()))
}

fn is_alive(directory: &Path) -> bool {
    match File::open(directory.join(LOCK)) {
        Ok(lock) => rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}

impl TmpDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has it removed soon, while the caller goes on. For directories with next to nothing in them: the room that
    /// they take is not free yet when this returns.
    pub fn let_go(mut self) {
        let path = std::mem::take(&mut self.path);
        let remover = self.store.inner.remover.get_or_init(Remover::start);
        remover.remove(path);
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        remove_or_leave(&self.path);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A row that stays behind ends with its owner.
        let _ = self.store.write("end a lease", |transaction| {
            let delete = "DELETE FROM leases WHERE owner = ? AND lease = ?";
            Ok(transaction.execute(delete, (&self.owner, self.id))?)
        });
    }
}

/// Removes whatever is at `path`. Nothing being there is fine.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => remove_tree(path),
        other => other,
    }
}

/// Removes a tree of work; what cannot be removed is left to the next sweep.
pub(crate) fn remove_or_leave(path: &Path) {
    if let Err(error) = remove_tree(path) {
        tracing::debug!(path = %path.display(), %error, "left to the next sweep");
    }
}

/// Removes a tree that may hold anything a build can make: directories without any permission,
/// too, such as overlay's own `work/work`. Following no link. Nothing being there is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match gone(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            gone(fs::remove_dir_all(path))
        }
        // No directory, but something in its place.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => gone(fs::remove_file(path)),
        other => other,
    }
}

/// What somebody else has removed already is as good as removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what is in a directory. Its not being there is fine, and so is something else in its place, above all a link,
/// which is followed nowhere.
fn remove_contents(path: &Path) -> io::Result<()> {
    gone(for_each_in(path, |entry| remove_tree(&entry)))
}

/// Lets everything in a tree be removed. What goes meanwhile is left alone.
fn open_directories(path: &Path) -> io::Result<()> {
    gone(for_each_in(path, |entry| open_directories(&entry)))
}

/// Does something to each entry of a directory, which is opened to its owner where it is closed. Of anything else
/// there are no entries.
fn for_each_in(path: &Path, act: impl FnMut(PathBuf) -> io::Result<()>) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Ok(());
    }
    if found.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    let entries: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
    entries.into_iter().map(|it| it.path()).try_for_each(act)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_the_dead_stays_until_all_that_they_left_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let work = root.path().join("tmp/1-1-0/7");
        fs::create_dir_all(&work).unwrap();
        fs::write(work.join("file"), "half").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "the host's").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("tmp/link")).unwrap();
        // Whoever sweeps may be killed after any of it; the next one finds the sign again.
        for _ in 0..2 {
            let dead = store.read("sweep", |connection| sweep(root.path(), connection));
            let mut dead = dead.unwrap();
            dead.sort();
            let names = ["tmp/dead-1-1-0", "tmp/dead-link"];
            assert_eq!(dead, names.map(|name| root.path().join(name)));
            assert_eq!(fs::read_dir(&dead[0]).unwrap().count(), 0);
        }
        drop(Store::open(root.path()).unwrap());
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
        assert!(elsewhere.path().join("file").exists());
    }

    /// Whoever comes by while another one is at it finds less and less.
    #[test]
    fn the_dead_are_swept_by_several_at_once() {
        let root = tempfile::tempdir().unwrap();
        let places: Vec<_> = (0..200)
            .map(|it| root.path().join(it.to_string()))
            .collect();
        for place in &places {
            fs::create_dir_all(place.join("1/work/work")).unwrap();
            fs::set_permissions(place.join("1/work"), fs::Permissions::from_mode(0o000)).unwrap();
            fs::write(place.join("lock"), "").unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for place in &places {
                        remove_contents(place).unwrap();
                        remove_tree(place).unwrap();
                        open_directories(place).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
