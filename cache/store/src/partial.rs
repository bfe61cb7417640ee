//! Blobs of which only a part came: kept, so that the next try goes on behind it.
//!
//! `partial/HEX` is the beginning of the blob of that digest, as far as anybody knows: it is read again and
//! hashed with the rest before it counts. Whoever writes it holds it locked; what nobody goes on with goes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Fault;
use crate::{BlobWriter, Store, StoreError, locks, owner};

const DIRECTORY: &str = "partial";
/// How long a part is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Which parts are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Those with which nobody went on for long.
    Old,
    /// All with which nobody is going on.
    Idle,
}

impl Store {
    /// Goes on with a blob of which a part may have come before: what is written to it stays when it is
    /// dropped before it is committed, and also when the process is killed.
    ///
    /// The part that is there is read first, with [`BlobWriter::read_again`].
    pub fn resume_blob(&self, digest: &Digest) -> Result<BlobWriter, StoreError> {
        let opened = self.open_part(digest);
        match opened.map_err(|fault| fault.at(self.root(), "keep a part of a blob"))? {
            Some((path, file)) => BlobWriter::of_part(self, path, file),
            // Somebody else is at it.
            None => self.blob_writer(),
        }
    }

    /// The part of a blob, locked, made if there is none; `None` where somebody else has it.
    fn open_part(&self, digest: &Digest) -> Result<Option<(PathBuf, File)>, Fault> {
        let all = self.root().join(DIRECTORY);
        locks::claim_directory(&all)?;
        let path = all.join(digest.hex());
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => match lock(File::from(file), &path)? {
                    Held::Yes(file) => return Ok(Some((path, file))),
                    Held::Gone => {}
                    Held::ByAnother => return Ok(None),
                },
                // Whatever it is, it is no part.
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    owner::remove_any(&path).map_err(Fault::file("remove", &path))?;
                }
                Err(error) => return Err(Fault::file("open", &path)(error.into())),
            }
        }
    }

    /// Removes parts of blobs; gives how many bytes they had.
    pub(crate) fn remove_parts(&self, which: Parts) -> Result<u64, StoreError> {
        let all = self.root().join(DIRECTORY);
        let entries = match fs::read_dir(&all) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(StoreError::file(self.root(), "read", &all, error)),
        };
        let mut bytes = 0;
        for entry in entries.flatten() {
            let removed = remove_part(&entry.path(), which);
            bytes += removed.map_err(|fault| fault.at(self.root(), "remove a part of a blob"))?;
        }
        Ok(bytes)
    }
}

/// Removes a part, unless it is to stay; gives how many bytes it had.
fn remove_part(path: &Path, which: Parts) -> Result<u64, Fault> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_part = format!("sha256:{name}").parse::<Digest>().is_ok();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Fault::file("read", path)(error)),
    };
    if !is_part || !metadata.is_file() {
        owner::remove_any(path).map_err(Fault::file("remove", path))?;
        return Ok(0);
    }
    let age = metadata
        .modified()
        .map(|it| SystemTime::now().duration_since(it));
    let is_old = age.is_ok_and(|it| it.is_ok_and(|it| it > KEPT));
    if which == Parts::Old && !is_old {
        return Ok(0);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Fault::file("open", path)(error)),
    };
    match lock(file, path)? {
        Held::Yes(_) => {
            owner::remove_any(path).map_err(Fault::file("remove", path))?;
            Ok(metadata.len())
        }
        Held::Gone | Held::ByAnother => Ok(0),
    }
}

/// Whether a part's lock was to be had.
enum Held {
    Yes(File),
    /// It is, but the file is not the one at its path any more.
    Gone,
    ByAnother,
}

fn lock(file: File, path: &Path) -> Result<Held, Fault> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if locks::is_at(&file, path) => Ok(Held::Yes(file)),
        Ok(()) => Ok(Held::Gone),
        Err(Errno::WOULDBLOCK) => Ok(Held::ByAnother),
        Err(error) => Err(Fault::file("lock", path)(error.into())),
    }
}
