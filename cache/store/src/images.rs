//! The catalog of images and their names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oci::{Digest, Platform, Reference};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::database::{micros, timestamp};
use crate::{SnapshotId, Store, StoreError};

/// What the store knows of an image. Its config is the blob `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Digest of the config.
    pub id: Digest,
    /// The uppermost layer's snapshot. `None` where the image has no layers, or where they were
    /// lost when the machine went down.
    pub top: Option<SnapshotId>,
    /// The layers, lowest first, as in the config.
    pub diff_ids: Vec<Digest>,
    /// The manifest it came with, where it came with one.
    pub manifest: Option<Digest>,
    /// The config's time, to the microsecond.
    pub created: Option<Timestamp>,
    /// Bytes of all layers' files.
    pub size: u64,
}

/// Why a word does not lead to an image.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No image of that name, and none whose id begins so.
    #[error("No such image: {0}")]
    Unknown(String),
    /// The beginning of more than one id.
    #[error("the id prefix `{prefix}` is that of {count} images")]
    Ambiguous {
        /// The word.
        prefix: String,
        /// How many ids begin so.
        count: usize,
    },
    /// Neither an id nor a name.
    #[error(transparent)]
    Malformed(#[from] oci::ReferenceError),
    /// The look-up itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Adds an image, or what is new about it, and gives it `names`, taking them from the images
    /// that have them. All of it happens or nothing.
    ///
    /// The config blob and the snapshot have to be there.
    pub fn put_image(&self, image: &ImageRecord, names: &[Reference]) -> Result<(), StoreError> {
        self.write("add an image", |transaction| {
            self.require_blob(transaction, &image.id)?;
            if let Some(top) = image.top {
                self.require_snapshot(transaction, top)?;
            }
            let insert =
                "INSERT OR REPLACE INTO images (id, top, diff_ids, manifest, created, size)
                VALUES (?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(insert)?.execute((
                image.id.as_bytes(),
                image.top.map(|it| it.0),
                image
                    .diff_ids
                    .iter()
                    .flat_map(|it| *it.as_bytes())
                    .collect::<Vec<u8>>(),
                image.manifest.as_ref().map(Digest::as_bytes),
                image.created.map(micros),
                image.size,
            ))?;
            for name in names {
                let others = beside(transaction, name)?;
                set_name(transaction, name, &image.id)?;
                forget(transaction, &others)?;
            }
            Ok(())
        })
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        self.read("look up an image", |connection| {
            Ok(image_by_id(connection, id)?)
        })
    }

    /// All images with their names, newest first; of those that go by one name, for several platforms,
    /// the one that has it.
    pub fn images(&self) -> Result<Vec<(ImageRecord, Vec<Reference>)>, StoreError> {
        self.read("list images", |connection| {
            let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
            let mut statement =
                connection.prepare_cached("SELECT image, name FROM names ORDER BY name")?;
            let rows = statement.query_map([], |row| {
                Ok((Digest::from_bytes(row.get(0)?), row.get::<_, String>(1)?))
            })?;
            for row in rows {
                let (image, name) = row?;
                names
                    .entry(image)
                    .or_default()
                    .extend(name.parse::<Reference>());
            }
            // One that is there only beside another has that one's names.
            let select = format!(
                "SELECT {COLUMNS} FROM images WHERE id IN (SELECT image FROM names)
                    OR id NOT IN (SELECT image FROM platforms) ORDER BY created DESC, id"
            );
            let mut statement = connection.prepare_cached(&select)?;
            let images = statement
                .query_map([], read_image)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(images
                .into_iter()
                .map(|image| {
                    let names = names.remove(&image.id).unwrap_or_default();
                    (image, names)
                })
                .collect())
        })
    }

    /// The images that no name leads to.
    pub fn dangling_images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let images = self.images()?;
        Ok(images
            .into_iter()
            .filter(|(_, names)| names.is_empty())
            .map(|(image, _)| image)
            .collect())
    }

    /// The names of an image, in order.
    pub fn names(&self, id: &Digest) -> Result<Vec<Reference>, StoreError> {
        self.read("look up names", |connection| Ok(names_of(connection, id)?))
    }

    /// When an image was last given a name.
    pub fn last_tagged(&self, id: &Digest) -> Result<Option<Timestamp>, StoreError> {
        self.read("look up names", |connection| {
            let select = "SELECT max(tagged) FROM names WHERE image = ?";
            let tagged: Option<i64> =
                connection.query_row(select, [id.as_bytes()], |row| row.get(0))?;
            Ok(tagged.map(timestamp))
        })
    }

    /// Gives an image a name; returns the image that had it, if it was another.
    pub fn tag(&self, name: &Reference, id: &Digest) -> Result<Option<Digest>, StoreError> {
        self.write("name an image", |transaction| {
            if image_by_id(transaction, id)?.is_none() {
                return Err(StoreError::MissingBlob(*id).into());
            }
            let before = image_named(transaction, name)?;
            let others = beside(transaction, name)?;
            set_name(transaction, name, id)?;
            forget(transaction, &others)?;
            Ok(before.filter(|before| before != id))
        })
    }

    /// Gives images for several platforms one name. The host's has it, or else the first; the others
    /// stand beside it and go when it loses the name.
    pub fn tag_platforms(
        &self,
        name: &Reference,
        images: &[(Platform, Digest)],
    ) -> Result<(), StoreError> {
        let host = Platform::host();
        let of_host = images.iter().find(|(platform, _)| *platform == host);
        let Some((_, first)) = of_host.or(images.first()) else {
            return Ok(());
        };
        self.write("name images", |transaction| {
            for (_, id) in images {
                if image_by_id(transaction, id)?.is_none() {
                    return Err(StoreError::MissingBlob(*id).into());
                }
            }
            let before = beside(transaction, name)?;
            set_name(transaction, name, first)?;
            let insert =
                "INSERT OR REPLACE INTO platforms (name, platform, image) VALUES (?, ?, ?)";
            let mut insert = transaction.prepare_cached(insert)?;
            for (platform, id) in images {
                insert.execute((name.to_string(), platform.to_string(), id.as_bytes()))?;
            }
            Ok(forget(transaction, &before)?)
        })
    }

    /// Keeps the index that says of the images of a name, for several platforms, what else there is to
    /// say. It goes when the name does, or comes to mean something else.
    ///
    /// The index has to be there, as a blob.
    pub fn keep_index(&self, name: &Reference, index: &Digest) -> Result<(), StoreError> {
        self.write("keep an index", |transaction| {
            self.require_blob(transaction, index)?;
            let insert = "INSERT OR REPLACE INTO indices (name, digest) VALUES (?, ?)";
            transaction.execute(insert, (name.to_string(), index.as_bytes()))?;
            Ok(())
        })
    }

    /// The index of the images of a name, where one was kept.
    pub fn index(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
        self.read("look up an index", |connection| {
            let select = "SELECT digest FROM indices WHERE name = ?";
            let mut statement = connection.prepare_cached(select)?;
            let found = statement.query_row([name.to_string()], |row| row.get(0));
            Ok(found.optional()?.map(Digest::from_bytes))
        })
    }

    /// Keeps what is said about an image, as long as that is there; nothing where `said` is `None`.
    ///
    /// What is said has to be there, as a blob.
    pub fn keep_attestations(
        &self,
        image: &Digest,
        said: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.write("keep attestations", |transaction| {
            let Some(said) = said else {
                let delete = "DELETE FROM attestations WHERE image = ?";
                transaction.execute(delete, [image.as_bytes()])?;
                return Ok(());
            };
            self.require_blob(transaction, said)?;
            let insert = "INSERT OR REPLACE INTO attestations (image, digest) VALUES (?, ?)";
            transaction.execute(insert, (image.as_bytes(), said.as_bytes()))?;
            Ok(())
        })
    }

    /// What is said about an image, where that was kept.
    pub fn attestations(&self, image: &Digest) -> Result<Option<Digest>, StoreError> {
        self.read("look up attestations", |connection| {
            let select = "SELECT digest FROM attestations WHERE image = ?";
            let mut statement = connection.prepare_cached(select)?;
            let found = statement.query_row([image.as_bytes()], |row| row.get(0));
            Ok(found.optional()?.map(Digest::from_bytes))
        })
    }

    /// The images that go by a name for several platforms; empty where it is the name of one.
    pub fn platforms(&self, name: &Reference) -> Result<Vec<(Platform, Digest)>, StoreError> {
        self.read("look up images", |connection| {
            Ok(siblings(connection, name)?)
        })
    }

    /// Takes a name away; returns the image that had it.
    pub fn untag(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
        self.write("take a name away", |transaction| {
            let before = image_named(transaction, name)?;
            take_name(transaction, name)?;
            Ok(before)
        })
    }

    /// Removes an image and all its names; returns whether it was there. Its layers and blobs go
    /// with the next [`Store::gc`], if nothing else needs them.
    pub fn remove_image(&self, id: &Digest) -> Result<bool, StoreError> {
        self.write("remove an image", |transaction| {
            for name in names_of(transaction, id)? {
                take_name(transaction, &name)?;
            }
            transaction.execute("DELETE FROM platforms WHERE image = ?", [id.as_bytes()])?;
            transaction.execute("DELETE FROM origins WHERE image = ?", [id.as_bytes()])?;
            transaction.execute("DELETE FROM attestations WHERE image = ?", [id.as_bytes()])?;
            Ok(transaction.execute("DELETE FROM images WHERE id = ?", [id.as_bytes()])? > 0)
        })
    }

    /// The image that has this very name.
    pub fn image_named(&self, name: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        self.read("look up an image", |connection| {
            match image_named(connection, name)? {
                Some(id) => Ok(image_by_id(connection, &id)?),
                None => Ok(None),
            }
        })
    }

    /// The image that people mean by `word`, in docker's order: a whole id, a name, then the
    /// beginning of an id.
    pub fn resolve(&self, word: &str) -> Result<ImageRecord, ResolveError> {
        let unknown = || ResolveError::Unknown(word.to_owned());
        let digits = word.strip_prefix("sha256:").unwrap_or(word);
        if let Ok(id) = format!("sha256:{digits}").parse() {
            return self.image(&id)?.ok_or_else(unknown);
        }
        let name = word.parse::<Reference>();
        if let Ok(name) = &name
            && let Some(image) = self.image_named(name)?
        {
            return Ok(image);
        }
        let is_prefix = !digits.is_empty()
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return Err(name.map_or_else(ResolveError::Malformed, |_| unknown()));
        }
        let mut found = self.images_by_prefix(digits)?;
        match found.len() {
            0 => Err(unknown()),
            1 => Ok(found.remove(0)),
            count => Err(ResolveError::Ambiguous {
                prefix: word.to_owned(),
                count,
            }),
        }
    }

    fn images_by_prefix(&self, digits: &str) -> Result<Vec<ImageRecord>, StoreError> {
        self.read("look up images", |connection| {
            let select =
                format!("SELECT {COLUMNS} FROM images WHERE lower(hex(id)) LIKE ? ORDER BY id");
            let mut statement = connection.prepare_cached(&select)?;
            Ok(statement
                .query_map([format!("{digits}%")], read_image)?
                .collect::<rusqlite::Result<_>>()?)
        })
    }
}

const COLUMNS: &str = "id, top, diff_ids, manifest, created, size";

fn image_by_id(connection: &Connection, id: &Digest) -> rusqlite::Result<Option<ImageRecord>> {
    let select = format!("SELECT {COLUMNS} FROM images WHERE id = ?");
    connection
        .prepare_cached(&select)?
        .query_row([id.as_bytes()], read_image)
        .optional()
}

fn image_named(connection: &Connection, name: &Reference) -> rusqlite::Result<Option<Digest>> {
    let mut statement = connection.prepare_cached("SELECT image FROM names WHERE name = ?")?;
    statement
        .query_row([name.to_string()], |row| row.get(0).map(Digest::from_bytes))
        .optional()
}

fn names_of(connection: &Connection, id: &Digest) -> rusqlite::Result<Vec<Reference>> {
    let mut statement =
        connection.prepare_cached("SELECT name FROM names WHERE image = ? ORDER BY name")?;
    let names = statement.query_map([id.as_bytes()], |row| row.get::<_, String>(0))?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn siblings(
    connection: &Connection,
    name: &Reference,
) -> rusqlite::Result<Vec<(Platform, Digest)>> {
    let select = "SELECT platform, image FROM platforms WHERE name = ? ORDER BY platform";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map([name.to_string()], |row| {
        Ok((row.get::<_, String>(0)?, Digest::from_bytes(row.get(1)?)))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let known = |(platform, id): (String, _)| Some((platform.parse().ok()?, id));
    Ok(rows.into_iter().filter_map(known).collect())
}

/// Takes a name away, and with it the images that stood only beside the one that had it.
fn take_name(transaction: &Transaction<'_>, name: &Reference) -> rusqlite::Result<()> {
    let others = beside(transaction, name)?;
    let name = name.to_string();
    transaction.execute("DELETE FROM names WHERE name = ?", [&name])?;
    transaction.execute("DELETE FROM platforms WHERE name = ?", [&name])?;
    transaction.execute("DELETE FROM indices WHERE name = ?", [&name])?;
    forget(transaction, &others)
}

/// The images of a name that do not have it themselves.
fn beside(connection: &Connection, name: &Reference) -> rusqlite::Result<Vec<(Platform, Digest)>> {
    let main = image_named(connection, name)?;
    let mut all = siblings(connection, name)?;
    all.retain(|(_, id)| Some(*id) != main);
    Ok(all)
}

/// Removes those of the images that no name leads to any more.
fn forget(transaction: &Transaction<'_>, images: &[(Platform, Digest)]) -> rusqlite::Result<()> {
    let delete = "DELETE FROM images WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM names WHERE image = ?1)
        AND NOT EXISTS (SELECT 1 FROM platforms WHERE image = ?1)";
    let mut delete = transaction.prepare_cached(delete)?;
    let forget = "DELETE FROM attestations WHERE image = ?1
        AND NOT EXISTS (SELECT 1 FROM images WHERE id = ?1)";
    let mut forget = transaction.prepare_cached(forget)?;
    for (_, id) in images {
        delete.execute([id.as_bytes()])?;
        forget.execute([id.as_bytes()])?;
    }
    Ok(())
}

/// Makes it the name of one image.
fn set_name(transaction: &Transaction<'_>, name: &Reference, id: &Digest) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO names (name, image, tagged) VALUES (?, ?, ?)";
    let text = name.to_string();
    transaction.execute("DELETE FROM platforms WHERE name = ?", [&text])?;
    transaction.execute("DELETE FROM indices WHERE name = ?", [&text])?;
    transaction
        .prepare_cached(insert)?
        .execute((text, id.as_bytes(), micros(Timestamp::now())))?;
    Ok(())
}

fn read_image(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    let diff_ids: Vec<u8> = row.get(2)?;
    Ok(ImageRecord {
        id: Digest::from_bytes(row.get(0)?),
        top: row.get::<_, Option<i64>>(1)?.map(SnapshotId),
        diff_ids: diff_ids
            .as_chunks::<32>()
            .0
            .iter()
            .map(|bytes| Digest::from_bytes(*bytes))
            .collect(),
        manifest: row.get::<_, Option<[u8; 32]>>(3)?.map(Digest::from_bytes),
        created: row.get::<_, Option<i64>>(4)?.map(timestamp),
        size: row.get(5)?,
    })
}
