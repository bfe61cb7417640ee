//! Compares what the store says with what is there: rows, blobs, references.

use std::fs;
use std::path::Path;

use oci::Digest;

use crate::error::Fault;
use crate::{SnapshotId, Store, StoreError};

/// Something in the store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The database contradicts itself.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// A blob's bytes are not those of its name, or are not there.
    #[error("blob {digest} {how}")]
    Blob {
        /// Its name.
        digest: Digest,
        /// `is missing`, `holds other bytes`
        how: &'static str,
    },
    /// A blob is itself, but not the layer that it is on record as.
    #[error("blob {digest} does not unpack to layer {diff_id}")]
    Layer {
        /// Its name.
        digest: Digest,
        /// What it should unpack to.
        diff_id: Digest,
    },
    /// A row names a snapshot that is not there.
    #[error("{what} names snapshot {snapshot}, which is not there")]
    Reference {
        /// What the row is.
        what: &'static str,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
    /// An image lacks its config, its manifest or a layer.
    #[error("image {image} has no {lacks}")]
    Image {
        /// The image's id.
        image: Digest,
        /// What it has not.
        lacks: &'static str,
    },
    /// A file or directory that no row knows.
    #[error("`{0}` belongs to nothing")]
    Orphan(String),
}

impl Store {
    /// Compares the rows with each other and with what is on the disk, reading every blob. The layers'
    /// files are compared by `snapshot`, which knows manifests, and what blobs unpack to by `export`.
    pub fn verify(&self) -> Result<Vec<Damage>, StoreError> {
        let mut damages = self.verify_rows()?;
        for (digest, size) in self.all_blobs()? {
            let path = self.path_of(&digest);
            let how = match crate::blobs::hash_file(&path) {
                Ok(found) if found == (digest, size) => continue,
                Ok(_) => "holds other bytes",
                Err(error) if crate::blobs::is_lost(&error) => "is missing",
                Err(error) => return Err(StoreError::file(self.root(), "verify", &path, error)),
            };
            // One that was removed meanwhile is not damaged.
            if self.has_blob_row(&digest)? {
                damages.push(Damage::Blob { digest, how });
            }
        }
        damages.extend(self.orphaned()?);
        Ok(damages)
    }

    /// Removes what [`Store::verify`] found damaged, with what depends on it, so that the next build
    /// makes it again. Rows of images whose config is gone go, too.
    pub fn repair(&self, damages: &[Damage]) -> Result<(), StoreError> {
        for damage in damages {
            match damage {
                Damage::Blob { digest, .. } | Damage::Layer { digest, .. } => {
                    self.remove_blob(digest)?;
                }
                Damage::Reference {
                    what: SNAPSHOT,
                    snapshot,
                } => {
                    self.drop_snapshot(*snapshot)?;
                }
                // Those that are left once damaged blobs and layers are gone are found anew below.
                Damage::Reference { .. }
                | Damage::Image { .. }
                | Damage::Orphan(_)
                | Damage::Database(_) => {}
            }
        }
        self.forget_dangling()?;
        self.write("forget what is said of images", |transaction| {
            for table in ["indices", "attestations"] {
                let lost = "WHERE digest NOT IN (SELECT digest FROM blobs)";
                transaction.execute(&format!("DELETE FROM {table} {lost}"), [])?;
            }
            Ok(())
        })?;
        for damage in self.verify_rows()? {
            match damage {
                Damage::Image { image, lacks } if lacks == CONFIG => {
                    self.remove_image(&image)?;
                }
                Damage::Image { image, .. } => self.forget_manifest(&image)?,
                _ => {}
            }
        }
        self.gc()?;
        Ok(())
    }

    /// An image without its manifest still has its config and its layers.
    fn forget_manifest(&self, image: &Digest) -> Result<(), StoreError> {
        self.write("forget a manifest", |transaction| {
            let update = "UPDATE images SET manifest = NULL WHERE id = ?";
            transaction.execute(update, [image.as_bytes()])?;
            Ok(())
        })
    }

    fn verify_rows(&self) -> Result<Vec<Damage>, StoreError> {
        self.read("verify the database", |connection| {
            let mut damages = Vec::new();
            let mut statement = connection.prepare("PRAGMA quick_check")?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
            for line in lines {
                let line = line?;
                if line != "ok" {
                    damages.push(Damage::Database(line));
                }
            }
            let references = [
                ("a result", "outputs", "snapshot"),
                (SNAPSHOT, "snapshots", "parent"),
                ("an image", "images", "top"),
                ("a lease", "leases", "snapshot"),
            ];
            for (what, table, column) in references {
                let dangling = format!(
                    "SELECT DISTINCT {column} FROM {table}
                     WHERE {column} NOT NULL AND {column} NOT IN (SELECT id FROM snapshots)"
                );
                let mut statement = connection.prepare(&dangling)?;
                let found = statement.query_map([], |row| row.get(0).map(SnapshotId))?;
                for snapshot in found {
                    damages.push(Damage::Reference {
                        what,
                        snapshot: snapshot?,
                    });
                }
            }
            for (column, lacks) in [("id", CONFIG), ("manifest", "manifest")] {
                let select = format!(
                    "SELECT id FROM images WHERE {column} NOT NULL
                     AND {column} NOT IN (SELECT digest FROM blobs)"
                );
                let mut statement = connection.prepare(&select)?;
                let found = statement.query_map([], |row| row.get(0).map(Digest::from_bytes))?;
                for image in found {
                    damages.push(Damage::Image {
                        image: image?,
                        lacks,
                    });
                }
            }
            Ok(damages)
        })
    }

    fn all_blobs(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        self.read("list the blobs", |connection| {
            let mut statement = connection.prepare("SELECT digest, size FROM blobs")?;
            let rows = statement
                .query_map([], |row| Ok((Digest::from_bytes(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whether the blob is on record, whatever became of its file.
    pub fn has_blob_row(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.read("look up a blob", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?")?;
            Ok(statement.exists([digest.as_bytes()])?)
        })
    }

    /// The blobs that are on record as layers: what each unpacks to, and its name.
    pub fn layer_blobs(&self) -> Result<Vec<(Digest, Digest)>, StoreError> {
        self.read("list the layers' blobs", |connection| {
            let mut statement = connection.prepare("SELECT diff_id, digest FROM layer_blobs")?;
            let rows = statement.query_map([], |row| {
                Ok((
                    Digest::from_bytes(row.get(0)?),
                    Digest::from_bytes(row.get(1)?),
                ))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The snapshot directories and the blob files that no row knows.
    pub(crate) fn orphaned(&self) -> Result<Vec<Damage>, StoreError> {
        let names = |directory: &Path| -> Result<Vec<String>, Fault> {
            let entries = fs::read_dir(directory).map_err(Fault::file("read", directory))?;
            Ok(entries
                .flatten()
                .map(|it| it.file_name().to_string_lossy().into_owned())
                .collect())
        };
        self.write("look for orphans", |transaction| {
            let mut damages = Vec::new();
            let mut known = transaction.prepare("SELECT 1 FROM snapshots WHERE id = ?")?;
            for name in names(&self.root().join("snapshots"))? {
                let id = name.parse::<i64>();
                if !id.is_ok_and(|id| known.exists([id]).unwrap_or(true)) {
                    damages.push(Damage::Orphan(format!("snapshots/{name}")));
                }
            }
            let mut known = transaction.prepare("SELECT 1 FROM blobs WHERE digest = ?")?;
            for name in names(&self.root().join("blobs/sha256"))? {
                let digest = format!("sha256:{name}").parse::<Digest>();
                if !digest.is_ok_and(|it| known.exists([it.as_bytes()]).unwrap_or(true)) {
                    damages.push(Damage::Orphan(format!("blobs/sha256/{name}")));
                }
            }
            Ok(damages)
        })
    }

    /// Removes the rows that name snapshots which are not there.
    fn forget_dangling(&self) -> Result<(), StoreError> {
        self.write("forget what is not there", |transaction| {
            let missing = "NOT IN (SELECT id FROM snapshots)";
            let keys =
                format!("SELECT key FROM outputs WHERE snapshot NOT NULL AND snapshot {missing}");
            transaction.execute(&format!("DELETE FROM results WHERE key IN ({keys})"), [])?;
            transaction.execute(&format!("DELETE FROM outputs WHERE key IN ({keys})"), [])?;
            transaction.execute(
                &format!("UPDATE images SET top = NULL WHERE top {missing}"),
                [],
            )?;
            transaction.execute(
                &format!("DELETE FROM leases WHERE snapshot NOT NULL AND snapshot {missing}"),
                [],
            )?;
            Ok(())
        })
    }
}

const CONFIG: &str = "config";
const SNAPSHOT: &str = "a snapshot";
