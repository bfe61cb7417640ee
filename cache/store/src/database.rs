//! The metadata database: its schema and how transactions are run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::Access;

use crate::error::Fault;
use crate::{OpenError, Store, StoreError, locks};

mod salvage;

pub(crate) use salvage::salvage;

pub(crate) const FILE: &str = "db.sqlite";

/// The schema this program writes, kept in `user_version`.
const SCHEMA: i64 = MIGRATIONS.len() as i64 + 1;

/// Schema 1.
const FIRST: &str = include_str!("database/first.sql");

/// What makes of each earlier schema the next one, the first of them of schema 1.
const MIGRATIONS: &[&str] = &[
    "
ALTER TABLE results ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE results ADD COLUMN made INTEGER;
ALTER TABLE results ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mounts ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mounts ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
CREATE TABLE steps (
    build INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    line INTEGER,
    key BLOB NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (build, position)
) WITHOUT ROWID;
",
    "
ALTER TABLE results ADD COLUMN processor INTEGER;
ALTER TABLE results ADD COLUMN memory INTEGER;
ALTER TABLE results ADD COLUMN read INTEGER;
ALTER TABLE results ADD COLUMN written INTEGER;
",
    "
CREATE TABLE platforms (
    name TEXT NOT NULL,
    platform TEXT NOT NULL,
    image BLOB NOT NULL,
    PRIMARY KEY (name, platform)
) WITHOUT ROWID;
CREATE INDEX platforms_image ON platforms (image);
",
    "
ALTER TABLE builds ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE steps ADD COLUMN duration INTEGER;
ALTER TABLE steps ADD COLUMN failure TEXT;
CREATE INDEX steps_name ON steps (name, build);
CREATE INDEX steps_key ON steps (key, build);
",
    "
CREATE TABLE origins (
    image BLOB PRIMARY KEY,
    file TEXT NOT NULL,
    lines TEXT NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE indices (
    name TEXT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE attestations (
    image BLOB NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL
) WITHOUT ROWID;
",
];

/// How many statements are kept ready: more than a build uses in turn.
const STATEMENTS: usize = 64;

/// The directories beside the database.
const DIRECTORIES: &[&str] = &[
    "blobs",
    "blobs/sha256",
    "snapshots",
    "mounts",
    "stat",
    "tmp",
    "locks",
    "sources",
    "containers",
];

/// Opens the database below `root`, creating it and the directories beside it where they are not there.
pub(crate) fn open(root: &Path) -> Result<Connection, OpenError> {
    // Every time: somebody may have tidied up by hand.
    for directory in DIRECTORIES {
        locks::claim_directory(&root.join(directory))
            .map_err(|error| OpenError::Store(error.at(root, "open")))?;
    }
    let failed = |what| move |error| OpenError::Store(StoreError::database(root, what, error));
    let connection = connect(root)?;
    match version(&connection).map_err(failed("read the schema"))? {
        SCHEMA => {}
        0 => create(root, &connection)?,
        1..SCHEMA => migrate(&connection)
            .map_err(|error| OpenError::Store(error.at(root, "bring the schema up to date")))?,
        found => {
            return Err(OpenError::Newer {
                root: root.to_owned(),
                found,
                known: SCHEMA,
            });
        }
    }
    connection
        .execute_batch("PRAGMA synchronous = NORMAL")
        .map_err(failed("set `synchronous`"))?;
    Ok(connection)
}

fn connect(root: &Path) -> Result<Connection, OpenError> {
    let path = root.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // SQLite calls a file it may not write "unable to open": ask the system for its own word. Never
    // by opening the file, since closing it again would end the locks of this process's other
    // connections.
    let asked = if path.exists() { &path } else { root };
    if let Err(error) = rustix::fs::access(asked, Access::READ_OK | Access::WRITE_OK) {
        let source = io::Error::from(error);
        return Err(OpenError::Store(match source.kind() {
            io::ErrorKind::PermissionDenied => StoreError::ReadOnly {
                root: root.to_owned(),
                source,
            },
            _ => StoreError::file(root, "open", asked, source),
        }));
    }
    for file in files(root) {
        // SQLite would follow a link to nowhere and begin a database there.
        if fs::symlink_metadata(&file).is_ok_and(|it| !it.is_file()) {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
            let source = rusqlite::Error::SqliteFailure(code, Some("no regular file".to_owned()));
            return Err(OpenError::Store(StoreError::Corrupt { path: file, source }));
        }
    }
    let configured = || {
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Closing must not wait for the disk; `durability` moves the log into the database.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    };
    configured()
        .map_err(|error| OpenError::Store(StoreError::database(root, "open a connection", error)))
}

/// The files of the database: itself, its log, and the log's index.
fn files(root: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| root.join(format!("{FILE}{end}")))
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Creates the schema, once, whoever comes first.
fn create(root: &Path, connection: &Connection) -> Result<(), OpenError> {
    let at = |error: Fault| OpenError::Store(error.at(root, "create the schema"));
    // Going over to the write-ahead log needs the database for oneself and does not wait for it.
    let _creating = locks::create(root).map_err(at)?;
    let created = || -> rusqlite::Result<()> {
        if version(connection)? == SCHEMA {
            return Ok(());
        }
        connection.execute_batch("PRAGMA journal_mode = WAL")?;
        write_schema(connection)
    };
    created().map_err(|error| at(Fault::Database(error)))
}

fn write_schema(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(FIRST)?;
    bring_up_to_date(&transaction, 1)?;
    transaction.commit()
}

/// Brings an earlier schema up to date, once, whoever comes first.
fn migrate(connection: &Connection) -> Result<(), Fault> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    bring_up_to_date(&transaction, found)?;
    Ok(transaction.commit()?)
}

fn bring_up_to_date(transaction: &Transaction<'_>, found: i64) -> rusqlite::Result<()> {
    let passed = usize::try_from(found - 1).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(passed) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA)
}

impl Store {
    /// Runs `read` on the database. `what` is the verb and its object, for errors.
    pub(crate) fn read<T>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let connection = self
            .inner
            .connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        read(&connection).map_err(|fault| fault.at(self.root(), what))
    }

    /// Runs `write` in a transaction that takes the write lock at its start, so that what it reads
    /// is still true when it writes. All of it happens or nothing.
    pub(crate) fn write<T>(
        &self,
        what: &'static str,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut connection = self
            .inner
            .connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let run = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = write(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|fault: Fault| fault.at(self.root(), what))
    }
}

pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// The inverse of [`micros`]; a time that is none (only a damaged row has one) is the epoch.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

pub(crate) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
