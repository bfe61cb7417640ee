//! Where what is in images comes from: the lines of the Dockerfiles, the builds, the steps.

use oci::{Digest, Key};
use rusqlite::OptionalExtension;

use crate::database::duration;
use crate::{RanStep, SnapshotId, Store, StoreError};

/// Where the entries of an image's history stand in the file that it was built from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// The file's name.
    pub file: String,
    /// One an entry: its first and its last line. `None` for what the base image brought with it.
    pub lines: Vec<Option<(u32, u32)>>,
}

impl Store {
    /// Notes where the entries of an image's history stand, unless that is known.
    pub fn put_origins(&self, image: &Digest, origins: &Origins) -> Result<(), StoreError> {
        self.write("note the origins of an image", |transaction| {
            let insert = "INSERT OR IGNORE INTO origins (image, file, lines) VALUES (?, ?, ?)";
            let lines = serde_json::to_string(&origins.lines).expect("numbers are JSON");
            transaction.prepare_cached(insert)?.execute((
                image.as_bytes(),
                &origins.file,
                lines,
            ))?;
            Ok(())
        })
    }

    /// Where the entries of an image's history stand, if it was built here.
    pub fn origins(&self, image: &Digest) -> Result<Option<Origins>, StoreError> {
        self.read("look up the origins of an image", |connection| {
            let select = "SELECT file, lines FROM origins WHERE image = ?";
            let mut statement = connection.prepare_cached(select)?;
            let found: Option<(String, String)> = statement
                .query_row([image.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(found.and_then(|(file, lines)| {
                let lines = serde_json::from_str(&lines).ok()?;
                Some(Origins { file, lines })
            }))
        })
    }

    /// The number of the first build that gave this image.
    pub fn first_build_of(&self, image: &Digest) -> Result<Option<i64>, StoreError> {
        self.read("look up builds", |connection| {
            let select = "SELECT min(id) FROM builds WHERE image = ?";
            let mut statement = connection.prepare_cached(select)?;
            Ok(statement.query_row([image.as_bytes()], |row| row.get(0))?)
        })
    }

    /// The step that made a snapshot, with the number of the build that ran it; `None` where no build
    /// in the history did.
    pub fn maker_of(&self, snapshot: SnapshotId) -> Result<Option<(i64, RanStep)>, StoreError> {
        self.read("look up the maker of a layer", |connection| {
            let select = "SELECT build, name, line, key, why, duration FROM steps
                WHERE key IN (SELECT key FROM outputs WHERE snapshot = ?) AND failure IS NULL
                ORDER BY build, position LIMIT 1";
            let mut statement = connection.prepare_cached(select)?;
            let found = statement.query_row([snapshot.0], |row| {
                let step = RanStep {
                    name: row.get(1)?,
                    line: row.get(2)?,
                    key: Key::from_bytes(row.get(3)?),
                    why: row.get(4)?,
                    duration: row.get::<_, Option<i64>>(5)?.map(duration),
                    failure: None,
                };
                Ok((row.get(0)?, step))
            });
            Ok(found.optional()?)
        })
    }
}
