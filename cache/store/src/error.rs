//! How operations on an open store fail.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::ErrorCode;

use crate::SnapshotId;

/// Why an operation on the store failed. All of them fail in the same few ways.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system or the quota is full.
    #[error("no space left on the disk of the store `{root}`")]
    Full {
        /// The store's directory.
        root: PathBuf,
    },
    /// The store is on a read-only file system, or its files may not be written by this user.
    #[error("the store `{root}` cannot be written")]
    ReadOnly {
        /// The store's directory.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database contradicts itself.
    #[error("the store's database `{path}` is damaged")]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process held the database for longer than anyone should.
    #[error("the store's database `{path}` is locked by another process")]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// Any other failure of the database.
    #[error("cannot {what} in the store's database")]
    Database {
        /// The verb and its object.
        what: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A file or directory of the store could not be used.
    #[error("cannot {what} `{path}`")]
    File {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The blob is not there, or was found damaged and was removed.
    #[error("the store has no blob {0}")]
    MissingBlob(Digest),
    /// The snapshot is not there, or not verified since the machine went down.
    #[error("the store has no snapshot {0}")]
    MissingSnapshot(SnapshotId),
    /// The bytes written are not those that were announced.
    #[error("expected the bytes of {expected} but got those of {found}")]
    WrongDigest {
        /// What was announced.
        expected: Digest,
        /// What was written.
        found: Digest,
    },
}

/// What a closure that runs inside a transaction fails with, before it is known where.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(rusqlite::Error),
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// The error as the caller of the store at `root` sees it, who wanted to do `what`.
    pub(crate) fn at(self, root: &Path, what: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::File { what, path, source } => StoreError::file(root, what, &path, source),
            Self::Database(error) => StoreError::database(root, what, error),
        }
    }
}

impl StoreError {
    pub(crate) fn file(root: &Path, what: &'static str, path: &Path, source: io::Error) -> Self {
        let root = root.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { root },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { root, source },
            _ => Self::File {
                what,
                path: path.to_owned(),
                source,
            },
        }
    }

    pub(crate) fn database(root: &Path, what: &'static str, source: rusqlite::Error) -> Self {
        let path = root.join(crate::database::FILE);
        let code = source.sqlite_error_code();
        match code {
            Some(ErrorCode::DiskFull) => Self::Full {
                root: root.to_owned(),
            },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly {
                root: root.to_owned(),
                source: io::Error::other(source.to_string()),
            },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, source }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            // A write-ahead log that cannot grow is reported as a failed write, not as a full disk.
            Some(ErrorCode::SystemIoFailure) if is_full(root) => Self::Full {
                root: root.to_owned(),
            },
            _ => Self::Database { what, source },
        }
    }
}

fn is_full(root: &Path) -> bool {
    rustix::fs::statvfs(root).is_ok_and(|it| it.f_bavail == 0)
}
