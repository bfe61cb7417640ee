//! Results: what the operations of builds produced, by cache key.

use std::time::Duration;

use jiff::Timestamp;
use oci::Key;
use rusqlite::{OptionalExtension, Row, params};

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
}

/// A result found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// One entry an output; `None` is the empty file system.
    pub outputs: Vec<Option<SnapshotId>>,
    /// When it was recorded.
    pub created: Timestamp,
}

impl Store {
    /// What the operation with this key produced, if all of it is still there.
    pub fn result(&self, key: &Key) -> Result<Option<Cached>, StoreError> {
        self.read("look up a result", |connection| {
            let select = "SELECT created FROM results WHERE key = ?";
            let mut statement = connection.prepare_cached(select)?;
            let created: Option<i64> = statement
                .query_row([key.as_bytes()], |row| row.get(0))
                .optional()?;
            let Some(created) = created else {
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
            }))
        })
    }

    /// Records a result, in place of an earlier one of the same key.
    pub fn record(&self, record: &Record) -> Result<(), StoreError> {
        self.write("record a result", |transaction| {
            transaction.prepare_cached("DELETE FROM outputs WHERE key = ?")?.execute([record.key.as_bytes()])?;
            let insert = "INSERT OR REPLACE INTO results (key, kind, preimage, name, started, duration, created)
                VALUES (?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(insert)?.execute(params![
                record.key.as_bytes(),
                record.kind,
                record.preimage.to_string(),
                record.name,
                micros(record.started),
                duration_micros(record.duration),
                micros(Timestamp::now()),
            ])?;
            let mut insert = transaction.prepare_cached("INSERT INTO outputs (key, position, snapshot) VALUES (?, ?, ?)")?;
            for (position, output) in record.outputs.iter().enumerate() {
                if let Some(snapshot) = output {
                    self.require_snapshot(transaction, *snapshot)?;
                }
                insert.execute((record.key.as_bytes(), position, output.map(|it| it.0)))?;
            }
            Ok(())
        })
    }

    /// The latest records of steps named `name`, newest first: what an explanation compares with.
    pub fn records_named(&self, name: &str, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.read("look up results", |connection| {
            let select = "SELECT key, kind, preimage, name, started, duration FROM results
                WHERE name = ? ORDER BY created DESC LIMIT ?";
            let mut statement = connection.prepare_cached(select)?;
            let mut records: Vec<Record> = statement
                .query_map((name, limit), read_record)?
                .collect::<rusqlite::Result<_>>()?;
            for record in &mut records {
                record.outputs = read_outputs(connection, &record.key)?;
            }
            Ok(records)
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
    })
}
