//! History: one row a build.

use std::time::Duration;

use jiff::Timestamp;
use oci::Digest;

use crate::database::{duration, duration_micros, micros, timestamp};
use crate::{Store, StoreError};

/// A build that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// What was built, in a few words: the context and the target.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// How many steps it had.
    pub steps: u32,
    /// How many of them were cached.
    pub cached: u32,
    /// The image, if that is what came out.
    pub image: Option<Digest>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A build in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRow {
    /// Its number.
    pub id: i64,
    /// What is known of it.
    pub build: Build,
}

impl Store {
    /// Adds a build to the history; returns its number.
    pub fn record_build(&self, build: &Build) -> Result<i64, StoreError> {
        self.write("record the build", |transaction| {
            let insert = "INSERT INTO builds (name, started, duration, steps, cached, image, error)
                VALUES (?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(insert)?.execute((
                &build.name,
                micros(build.started),
                duration_micros(build.duration),
                build.steps,
                build.cached,
                build.image.as_ref().map(Digest::as_bytes),
                &build.error,
            ))?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// The latest builds, newest first.
    pub fn builds(&self, limit: u32) -> Result<Vec<BuildRow>, StoreError> {
        self.read("list builds", |connection| {
            let select = "SELECT id, name, started, duration, steps, cached, image, error
                FROM builds ORDER BY id DESC LIMIT ?";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([limit], |row| {
                let build = Build {
                    name: row.get(1)?,
                    started: timestamp(row.get(2)?),
                    duration: duration(row.get(3)?),
                    steps: row.get(4)?,
                    cached: row.get(5)?,
                    image: row.get::<_, Option<[u8; 32]>>(6)?.map(Digest::from_bytes),
                    error: row.get(7)?,
                };
                Ok(BuildRow {
                    id: row.get(0)?,
                    build,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}
