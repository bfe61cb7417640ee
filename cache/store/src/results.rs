//! Results: what the operations of builds produced, by cache key.

use std::time::Duration;

use jiff::Timestamp;
use oci::Key;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::database::{duration, duration_micros, micros, timestamp};
use crate::error::Fault;
use crate::{SnapshotId, Store, StoreError};

/// A result with all that is known of how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it is found by.
    pub key: Key,
    /// Which kind of key, `definition` or `content`.
    pub kind: String,
    /// The structure whose hash the key is, to tell people what changed.
    pub preimage: serde_json::Value,
    /// One entry an output; `None` is the empty file system.
    pub outputs: Vec<Option<SnapshotId>>,
    /// The step as the build showed it.
    pub name: String,
    /// When the step began.
    pub started: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Which of the things that people build it is a step of: steps of one are compared first.
    pub project: String,
    /// For a step whose result has a time to live, or that was made from one: when the oldest of
    /// them ran.
    pub made: Option<Timestamp>,
    /// What its processes used up; `None` where it has none.
    pub spent: Option<Spent>,
}

/// What the processes of a step used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Time on a processor.
    pub processor: Duration,
    /// The most memory that was in use at once, in bytes.
    pub memory: u64,
    /// Bytes that came from a disk.
    pub read: u64,
    /// Bytes that are to go to a disk.
    pub written: u64,
}

impl Spent {
    /// Two processes, one after the other.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            processor: self.processor + later.processor,
            memory: self.memory.max(later.memory),
            read: self.read + later.read,
            written: self.written + later.written,
        }
    }
}

/// A result found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// One entry an output; `None` is the empty file system.
    pub outputs: Vec<Option<SnapshotId>>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When the step began.
    pub started: Timestamp,
    /// As [`Record::made`].
    pub made: Option<Timestamp>,
}

/// Which earlier records of a step are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alike<'a> {
    /// Those of steps that were shown by exactly this name.
    Named(&'a str),
    /// Those of steps whose name begins so: the same place in the Dockerfile.
    Beginning(&'a str),
    /// Those of steps whose name ends so: the same instruction at another place.
    Ending(&'a str),
}

impl Alike<'_> {
    /// As SQL over a column `name`, with the parameter that stands for `?1`.
    pub(crate) fn condition(&self) -> (&'static str, &str) {
        match self {
            Self::Named(name) => ("name = ?1", name),
            Self::Beginning(text) => ("name >= ?1 AND substr(name, 1, length(?1)) = ?1", text),
            Self::Ending(text) => ("substr(name, -length(?1)) = ?1", text),
        }
    }
}

const COLUMNS: &str = "key, kind, preimage, name, started, duration, project, made, \
    processor, memory, read, written";

impl Store {
    /// What the operation with this key produced, if all of it is still there.
    pub fn result(&self, key: &Key) -> Result<Option<Cached>, StoreError> {
        self.read("look up a result", |connection| {
            let select = "SELECT created, started, made FROM results WHERE key = ?";
            let mut statement = connection.prepare_cached(select)?;
            let found: Option<(i64, i64, Option<i64>)> = statement
                .query_row([key.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            let Some((created, started, made)) = found else {
                return Ok(None);
            };
            let outputs = read_outputs(connection, key)?;
            for snapshot in outputs.iter().flatten() {
                match self.require_snapshot(connection, *snapshot) {
                    Ok(_) => {}
                    Err(Fault::Store(StoreError::MissingSnapshot(_))) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(Cached {
                outputs,
                created: timestamp(created),
                started: timestamp(started),
                made: made.map(timestamp),
            }))
        })
    }

    /// Records a result, in place of an earlier one of the same key.
    pub fn record(&self, record: &Record) -> Result<(), StoreError> {
        self.record_all(std::slice::from_ref(record))
    }

    /// Records several results, all of them or none.
    pub fn record_all(&self, records: &[Record]) -> Result<(), StoreError> {
        self.write("record a result", |transaction| {
            records
                .iter()
                .try_for_each(|record| self.insert_result(transaction, record))
        })
    }

    fn insert_result(&self, transaction: &Transaction<'_>, record: &Record) -> Result<(), Fault> {
        transaction
            .prepare_cached("DELETE FROM outputs WHERE key = ?")?
            .execute([record.key.as_bytes()])?;
        let insert = "INSERT OR REPLACE INTO results
            (key, kind, preimage, name, started, duration, created, project, made, used,
            processor, memory, read, written)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?7, ?10, ?11, ?12, ?13)";
        transaction.prepare_cached(insert)?.execute(params![
            record.key.as_bytes(),
            record.kind,
            record.preimage.to_string(),
            record.name,
            micros(record.started),
            duration_micros(record.duration),
            micros(Timestamp::now()),
            record.project,
            record.made.map(micros),
            record.spent.map(|it| duration_micros(it.processor)),
            record.spent.map(|it| signed(it.memory)),
            record.spent.map(|it| signed(it.read)),
            record.spent.map(|it| signed(it.written)),
        ])?;
        let mut insert = transaction
            .prepare_cached("INSERT INTO outputs (key, position, snapshot) VALUES (?, ?, ?)")?;
        for (position, output) in record.outputs.iter().enumerate() {
            if let Some(snapshot) = output {
                self.require_snapshot(transaction, *snapshot)?;
            }
            insert.execute((record.key.as_bytes(), position, output.map(|it| it.0)))?;
        }
        Ok(())
    }

    /// The latest records of steps named `name`, newest first: what an explanation compares with.
    pub fn records_named(&self, name: &str, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.records_alike(Alike::Named(name), Timestamp::MAX, limit)
    }

    /// The latest records, made before `time`, of steps that are like one, newest first.
    pub fn records_alike(
        &self,
        alike: Alike<'_>,
        time: Timestamp,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let (condition, text) = alike.condition();
        self.read("look up results", |connection| {
            let select = format!(
                "SELECT {COLUMNS} FROM results
                WHERE {condition} AND created < ?2 ORDER BY created DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&select)?;
            let mut records: Vec<Record> = statement
                .query_map((text, micros(time), limit), read_record)?
                .collect::<rusqlite::Result<_>>()?;
            for record in &mut records {
                record.outputs = read_outputs(connection, &record.key)?;
            }
            Ok(records)
        })
    }

    /// All that is known of the result with this key, whether its outputs are still there or not.
    pub fn record_of(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.read("look up a result", |connection| {
            let select = format!("SELECT {COLUMNS} FROM results WHERE key = ?");
            let mut statement = connection.prepare_cached(&select)?;
            let found = statement
                .query_row([key.as_bytes()], read_record)
                .optional()?;
            let Some(mut record) = found else {
                return Ok(None);
            };
            record.outputs = read_outputs(connection, key)?;
            Ok(Some(record))
        })
    }

    /// The keys of all results that have a snapshot among their outputs.
    pub fn keys_of(&self, snapshot: SnapshotId) -> Result<Vec<Key>, StoreError> {
        self.read("look up results", |connection| {
            let select = "SELECT DISTINCT key FROM outputs WHERE snapshot = ? ORDER BY key";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([snapshot.0], |row| row.get(0).map(Key::from_bytes))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Forgets the results recorded before `time`, so that their snapshots can be collected.
    /// Returns how many there were.
    pub fn forget_results(&self, time: Timestamp) -> Result<usize, StoreError> {
        self.write("forget results", |transaction| {
            let old = "SELECT key FROM results WHERE created < ?";
            transaction.execute(
                &format!("DELETE FROM outputs WHERE key IN ({old})"),
                [micros(time)],
            )?;
            Ok(transaction.execute("DELETE FROM results WHERE created < ?", [micros(time)])?)
        })
    }
}

fn read_outputs(
    connection: &rusqlite::Connection,
    key: &Key,
) -> rusqlite::Result<Vec<Option<SnapshotId>>> {
    let mut statement = connection
        .prepare_cached("SELECT snapshot FROM outputs WHERE key = ? ORDER BY position")?;
    let rows = statement.query_map([key.as_bytes()], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.map(SnapshotId))
    })?;
    rows.collect()
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let preimage: String = row.get(2)?;
    Ok(Record {
        key: Key::from_bytes(row.get(0)?),
        kind: row.get(1)?,
        preimage: serde_json::from_str(&preimage).unwrap_or_default(),
        outputs: Vec::new(),
        name: row.get(3)?,
        started: timestamp(row.get(4)?),
        duration: duration(row.get(5)?),
        project: row.get(6)?,
        made: row.get::<_, Option<i64>>(7)?.map(timestamp),
        spent: read_spent(row)?,
    })
}

fn read_spent(row: &Row<'_>) -> rusqlite::Result<Option<Spent>> {
    let Some(processor) = row.get(8)? else {
        return Ok(None);
    };
    let bytes = |column| -> rusqlite::Result<u64> {
        let bytes: Option<i64> = row.get(column)?;
        Ok(bytes.and_then(|it| it.try_into().ok()).unwrap_or(0))
    };
    Ok(Some(Spent {
        processor: duration(processor),
        memory: bytes(9)?,
        read: bytes(10)?,
        written: bytes(11)?,
    }))
}

/// As the database has numbers; more than that is nowhere.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
