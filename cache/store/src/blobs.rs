//! Blobs: bytes named by their sha256.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci::media_type::Compression;
use oci::{Digest, Sha256};
use rusqlite::{Connection, OptionalExtension, Transaction};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::database::micros;
use crate::error::Fault;
use crate::owner::{self, COMMITTED};
use crate::{Store, StoreError};

/// A blob of no more bytes is read rather than looked at; configs and manifests are.
const SMALL: u64 = 64 << 10;

/// A blob under way: write its bytes, then commit. Dropped before that, it never was, unless its part
/// is kept ([`Store::resume_blob`]).
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes hashed.
    size: u64,
    /// Bytes that were there and were not read again yet.
    before: u64,
    fate: Fate,
}

/// What becomes of the file when the writer is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Stays,
}

/// A row of the table.
struct Row {
    id: i64,
    size: u64,
    trusted: bool,
}

impl Store {
    /// Begins a blob.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self.tmp_path()?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|error| StoreError::file(self.root(), "create", &path, error))?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            hash: Sha256::default(),
            size: 0,
            before: 0,
            fate: Fate::Goes,
        })
    }

    /// Stores `bytes`, such as a config or a manifest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let mut writer = self.blob_writer()?;
        writer.append(bytes)?;
        Ok(writer.commit()?.0)
    }

    /// Where the blob's bytes are. Like every look-up of a blob, fails with
    /// [`StoreError::MissingBlob`] where there is none.
    pub fn blob_path(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        self.blob_size(digest)?;
        Ok(self.path_of(digest))
    }

    /// Opens the blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest)?;
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob(*digest),
            _ => StoreError::file(self.root(), "open", &path, error),
        })
    }

    /// Whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.blob_size(digest) {
            Ok(_) => Ok(true),
            Err(StoreError::MissingBlob(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the blob is there and its file still is what it was, as far as that can be told at
    /// once: a small one is read, a large one has to have its size.
    pub fn blob_is_whole(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.blob_size(digest) {
            Ok(size) => Ok(self.is_there(digest, size)),
            Err(StoreError::MissingBlob(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path_of(digest);
        if size <= SMALL {
            return hash_file(&path).is_ok_and(|found| found == (*digest, size));
        }
        self.has_size(digest, size)
    }

    fn has_size(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.path_of(digest)).is_ok_and(|it| it.is_file() && it.len() == size)
    }

    /// How many bytes the blob has.
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let row = self.read("look up a blob", |connection| {
            Ok(self.blob_row(connection, digest)?)
        })?;
        match row {
            None => Err(StoreError::MissingBlob(*digest)),
            Some(row) if row.trusted && self.has_size(digest, row.size) => Ok(row.size),
            Some(row) => self.verify_blob(digest, &row),
        }
    }

    /// The bytes of a blob, compared with its name: for configs and manifests. Damaged ones are
    /// missing.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest)?;
        let bytes =
            fs::read(&path).map_err(|error| StoreError::file(self.root(), "read", &path, error))?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(StoreError::MissingBlob(*digest))
        }
    }

    /// Removes the blob, if it is there, and what the store knows about its being a layer.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.write("remove a blob", |transaction| {
            Ok(delete_blob(transaction, digest)?)
        })?;
        self.clear_blobs(&[*digest])
    }

    /// The blob that holds the layer `diff_id` in the given compression, with its size.
    pub fn layer_blob(
        &self,
        diff_id: &Digest,
        compression: Compression,
    ) -> Result<Option<(Digest, u64)>, StoreError> {
        let found = self.read("look up a layer's blob", |connection| {
            let select = "SELECT digest FROM layer_blobs WHERE diff_id = ? AND compression = ?";
            let mut statement = connection.prepare_cached(select)?;
            let parameters = (diff_id.as_bytes(), word(compression));
            Ok(statement
                .query_row(parameters, |row| row.get(0).map(Digest::from_bytes))
                .optional()?)
        })?;
        let Some(digest) = found else { return Ok(None) };
        match self.blob_size(&digest) {
            Ok(size) => Ok(Some((digest, size))),
            Err(StoreError::MissingBlob(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers that `blob` holds the layer `diff_id` in the given compression.
    ///
    /// The caller has seen the uncompressed bytes and their digest; nothing else makes it true.
    pub fn record_layer_blob(
        &self,
        diff_id: &Digest,
        compression: Compression,
        blob: &Digest,
    ) -> Result<(), StoreError> {
        self.write("record a layer's blob", |transaction| {
            let size = self.require_blob(transaction, blob)?;
            let insert = "INSERT OR REPLACE INTO layer_blobs (diff_id, compression, digest, size) VALUES (?, ?, ?, ?)";
            let parameters = (diff_id.as_bytes(), word(compression), blob.as_bytes(), size);
            transaction.prepare_cached(insert)?.execute(parameters)?;
            Ok(())
        })
    }

    pub(crate) fn path_of(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Within a transaction: the size of a blob that must be there.
    pub(crate) fn require_blob(
        &self,
        connection: &Connection,
        digest: &Digest,
    ) -> Result<u64, Fault> {
        match self.blob_row(connection, digest)? {
            Some(row) if row.trusted => Ok(row.size),
            _ => Err(Fault::Store(StoreError::MissingBlob(*digest))),
        }
    }

    /// Removes the files of blobs whose rows are gone for good, unless they were stored anew.
    /// Whoever is killed before this is done leaves files that belong to nothing.
    pub(crate) fn clear_blobs(&self, digests: &[Digest]) -> Result<(), StoreError> {
        if digests.is_empty() {
            return Ok(());
        }
        self.write("remove blobs", |transaction| {
            for digest in digests {
                if self.blob_row(transaction, digest)?.is_none() {
                    let path = self.path_of(digest);
                    owner::remove_any(&path).map_err(Fault::file("remove", &path))?;
                }
            }
            Ok(())
        })
    }

    fn blob_row(&self, connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<Row>> {
        let select = "SELECT id, size, synced OR boot = ? FROM blobs WHERE digest = ?";
        let mut statement = connection.prepare_cached(select)?;
        let parameters = (&self.inner.boot, digest.as_bytes());
        statement
            .query_row(parameters, |row| {
                Ok(Row {
                    id: row.get(0)?,
                    size: row.get(1)?,
                    trusted: row.get(2)?,
                })
            })
            .optional()
    }

    /// Reads a blob that may not have reached the disk before the machine went down, or whose file
    /// is not as long as it was. It is either whole, and from now on trusted, or removed.
    fn verify_blob(&self, digest: &Digest, row: &Row) -> Result<u64, StoreError> {
        let path = self.path_of(digest);
        let found = match hash_file(&path) {
            Ok(found) => Some(found),
            Err(error) if is_lost(&error) => None,
            Err(error) => return Err(StoreError::file(self.root(), "verify", &path, error)),
        };
        let whole = found == Some((*digest, row.size));
        self.write("verify a blob", |transaction| {
            if whole {
                transaction.execute("UPDATE blobs SET synced = 1 WHERE id = ?", [row.id])?;
                return Ok(());
            }
            // Somebody may have stored it anew meanwhile.
            match self.blob_row(transaction, digest)? {
                Some(now) if now.trusted && now.id != row.id => Ok(()),
                _ => Ok(delete_blob(transaction, digest)?),
            }
        })?;
        if whole {
            return Ok(row.size);
        }
        self.clear_blobs(&[*digest])?;
        tracing::warn!(%digest, "a blob was not what it should be; removed it");
        self.read("look up a blob", |connection| {
            self.require_blob(connection, digest)
        })
    }
}

/// Removes the rows of a blob. Its file goes after the transaction, with [`Store::clear_blobs`]:
/// until its end the rows may come back.
pub(crate) fn delete_blob(transaction: &Transaction<'_>, digest: &Digest) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM layer_blobs WHERE digest = ?",
        [digest.as_bytes()],
    )?;
    transaction.execute("DELETE FROM blobs WHERE digest = ?", [digest.as_bytes()])?;
    Ok(())
}

/// Whether a failure to read what should be a blob says that there is none.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    ) || matches!(
        Errno::from_io_error(error),
        Some(Errno::LOOP | Errno::NXIO | Errno::IO | Errno::UCLEAN)
    )
}

/// Digest and size of a regular file; whatever else is at `path` counts as a directory.
pub(crate) fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    // Not blocking, because a pipe would.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut hash = Sha256::default();
    let mut buffer = vec![0; 1 << 17];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hash.finish(), size));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

impl BlobWriter {
    /// A writer that goes on behind what is in the file, which it keeps.
    pub(crate) fn of_part(store: &Store, path: PathBuf, file: File) -> Result<Self, StoreError> {
        let metadata = file.metadata();
        let metadata =
            metadata.map_err(|error| StoreError::file(store.root(), "read", &path, error))?;
        Ok(Self {
            store: store.clone(),
            path,
            file,
            hash: Sha256::default(),
            size: 0,
            before: metadata.len(),
            fate: Fate::Stays,
        })
    }

    /// How many bytes came before and were not read again yet.
    pub fn before(&self) -> u64 {
        self.before
    }

    /// Reads of what came before; 0 at its end. All of it has to be read before anything is written.
    pub fn read_again(&mut self, out: &mut [u8]) -> Result<usize, StoreError> {
        let want = usize::try_from(self.before).map_or(out.len(), |it| it.min(out.len()));
        let failed = |error| StoreError::file(self.store.root(), "read", &self.path, error);
        let count = self.file.read(&mut out[..want]).map_err(failed)?;
        if count == 0 && want > 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.hash.update(&out[..count]);
        self.size += count as u64;
        self.before -= count as u64;
        Ok(count)
    }

    /// Gives up what came before, because it cannot be a part of the blob.
    pub fn begin_anew(&mut self) -> Result<(), StoreError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| StoreError::file(self.store.root(), "empty", &self.path, error))?;
        (self.hash, self.size, self.before) = (Sha256::default(), 0, 0);
        Ok(())
    }

    /// Adds bytes, with an error that says where they should have gone.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes)
            .map_err(|error| StoreError::file(self.store.root(), "write", &self.path, error))
    }

    /// How many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.size
    }

    /// Makes the blob visible under its digest; returns that and its size.
    pub fn commit(mut self) -> Result<(Digest, u64), StoreError> {
        let digest = std::mem::take(&mut self.hash).finish();
        self.publish(&digest)?;
        self.fate = Fate::Goes;
        Ok((digest, self.size))
    }

    /// Makes the blob visible if its bytes are those of `expected`; returns its size.
    pub fn commit_expected(mut self, expected: &Digest) -> Result<u64, StoreError> {
        let found = std::mem::take(&mut self.hash).finish();
        if found != *expected {
            self.fate = Fate::Goes;
            return Err(StoreError::WrongDigest {
                expected: *expected,
                found,
            });
        }
        self.publish(&found)?;
        self.fate = Fate::Goes;
        Ok(self.size)
    }

    fn publish(&self, digest: &Digest) -> Result<(), StoreError> {
        let owner = self.store.owner_name()?;
        self.store.write("add a blob", |transaction| {
            owner::keep_blob(transaction, &owner, COMMITTED, digest)?;
            let trusted = self
                .store
                .blob_row(transaction, digest)?
                .is_some_and(|row| row.trusted);
            if trusted && self.store.is_there(digest, self.size) {
                return Ok(());
            }
            let insert =
                "INSERT OR REPLACE INTO blobs (digest, size, created, boot) VALUES (?, ?, ?, ?)";
            let parameters = (
                digest.as_bytes(),
                self.size,
                micros(Timestamp::now()),
                &self.store.inner.boot,
            );
            transaction.prepare_cached(insert)?.execute(parameters)?;
            let path = self.store.path_of(digest);
            match fs::rename(&self.path, &path) {
                // Whatever it is, it is no blob.
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    owner::remove_any(&path).map_err(Fault::file("remove", &path))?;
                    fs::rename(&self.path, &path).map_err(Fault::file("create", &path))
                }
                other => other.map_err(Fault::file("create", &path)),
            }
        })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.before > 0 {
            return Err(io::Error::other("what came before was not read again"));
        }
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Gone already if it was committed. Nothing is no part.
        if self.fate == Fate::Goes || self.size + self.before == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}
