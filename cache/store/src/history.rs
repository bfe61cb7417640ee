//! History: one row a build.

use std::time::Duration;

use jiff::Timestamp;
use oci::{Digest, Key};

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

/// A step that a build had to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RanStep {
    /// As the build showed it.
    pub name: String,
    /// Its first line in the Dockerfile.
    pub line: Option<u64>,
    /// What its result is on record under.
    pub key: Key,
    /// Why it ran, apart from what it depends on: `missing`, `no-cache`, `expired`.
    pub why: String,
}

impl Store {
    /// Adds a build to the history, with the steps that it ran and the keys of the results that it
    /// found; returns its number.
    pub fn record_build(
        &self,
        build: &Build,
        ran: &[RanStep],
        used: &[Key],
    ) -> Result<i64, StoreError> {
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
            let id = transaction.last_insert_rowid();
            let insert = "INSERT INTO steps (build, position, name, line, key, why)
                VALUES (?, ?, ?, ?, ?, ?)";
            for (position, step) in ran.iter().enumerate() {
                transaction.prepare_cached(insert)?.execute((
                    id,
                    position,
                    &step.name,
                    step.line,
                    step.key.as_bytes(),
                    &step.why,
                ))?;
            }
            let update = "UPDATE results SET used = ?, uses = uses + 1 WHERE key = ?";
            let now = micros(Timestamp::now());
            for key in used {
                transaction
                    .prepare_cached(update)?
                    .execute((now, key.as_bytes()))?;
            }
            Ok(id)
        })
    }

    /// The steps that a build ran, in the order in which they ended.
    pub fn ran_steps(&self, build: i64) -> Result<Vec<RanStep>, StoreError> {
        self.read("list the steps of a build", |connection| {
            let select = "SELECT name, line, key, why FROM steps WHERE build = ? ORDER BY position";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([build], |row| {
                Ok(RanStep {
                    name: row.get(0)?,
                    line: row.get(1)?,
                    key: Key::from_bytes(row.get(2)?),
                    why: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
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
