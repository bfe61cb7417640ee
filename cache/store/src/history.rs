//! History: one row a build.

use std::time::Duration;

use jiff::Timestamp;
use oci::{Digest, Key};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use crate::database::{duration, duration_micros, micros, timestamp};
use crate::{Alike, Store, StoreError};

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
    /// Which of the things that people build it is, as [`Record::project`](crate::Record::project).
    pub project: String,
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
#[derive(Debug, Clone, PartialEq)]
pub struct RanStep {
    /// As the build showed it.
    pub name: String,
    /// Its first line in the Dockerfile.
    pub line: Option<u64>,
    /// What its result is on record under.
    pub key: Key,
    /// Why it ran, apart from what it depends on: `missing`, `no-cache`, `expired`.
    pub why: String,
    /// How long it took; `None` in the history of earlier programs.
    pub duration: Option<Duration>,
    /// What is known of it if it failed: then nothing is on record under its key.
    pub failure: Option<Failure>,
}

/// What is known of a step that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub error: String,
    /// As [`Record::kind`](crate::Record::kind).
    pub kind: String,
    /// As [`Record::preimage`](crate::Record::preimage).
    pub preimage: serde_json::Value,
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
            let insert = "INSERT INTO builds
                (name, started, duration, steps, cached, image, error, project)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(insert)?.execute((
                &build.name,
                micros(build.started),
                duration_micros(build.duration),
                build.steps,
                build.cached,
                build.image.as_ref().map(Digest::as_bytes),
                &build.error,
                &build.project,
            ))?;
            let id = transaction.last_insert_rowid();
            let insert = "INSERT INTO steps
                (build, position, name, line, key, why, duration, failure)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            for (position, step) in ran.iter().enumerate() {
                transaction.prepare_cached(insert)?.execute((
                    id,
                    position,
                    &step.name,
                    step.line,
                    step.key.as_bytes(),
                    &step.why,
                    step.duration.map(duration_micros),
                    step.failure.as_ref().map(written),
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
            let select = "SELECT name, line, key, why, duration, failure FROM steps
                WHERE build = ? ORDER BY position";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([build], |row| {
                Ok(RanStep {
                    name: row.get(0)?,
                    line: row.get(1)?,
                    key: Key::from_bytes(row.get(2)?),
                    why: row.get(3)?,
                    duration: row.get::<_, Option<i64>>(4)?.map(duration),
                    failure: row.get::<_, Option<String>>(5)?.and_then(|it| read(&it)),
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// How long the latest run that ended well of a step like one took; `project` is whose builds are
    /// looked at, all where `None`.
    pub fn last_duration(
        &self,
        alike: Alike<'_>,
        project: Option<&str>,
    ) -> Result<Option<Duration>, StoreError> {
        let (condition, text) = alike.condition();
        self.read("look up how long a step took", |connection| {
            let select = format!(
                "SELECT duration FROM steps
                WHERE {condition} AND duration NOT NULL AND failure IS NULL
                AND (?2 IS NULL OR build IN (SELECT id FROM builds WHERE project = ?2))
                ORDER BY build DESC, position DESC LIMIT 1"
            );
            let mut statement = connection.prepare_cached(&select)?;
            let found: Option<i64> = statement
                .query_row((text, project), |row| row.get(0))
                .optional()?;
            Ok(found.map(duration))
        })
    }

    /// Whether a step with this key failed in a build before `build`.
    pub fn failed_before(&self, key: &Key, build: i64) -> Result<bool, StoreError> {
        self.read("look up failures", |connection| {
            let select = "SELECT 1 FROM steps WHERE key = ? AND build < ? AND failure NOT NULL";
            let mut statement = connection.prepare_cached(select)?;
            Ok(statement.exists((key.as_bytes(), build))?)
        })
    }

    /// The latest builds, newest first.
    pub fn builds(&self, limit: u32) -> Result<Vec<BuildRow>, StoreError> {
        self.read("list builds", |connection| {
            let select = "SELECT id, name, started, duration, steps, cached, image, error, project
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
                    project: row.get(8)?,
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

fn written(failure: &Failure) -> String {
    serde_json::to_string(failure).expect("a failure is plain data")
}

fn read(failure: &str) -> Option<Failure> {
    serde_json::from_str(failure).ok()
}
