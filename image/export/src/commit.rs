//! From a chain of snapshots and a config to an image of the store.

use std::io;

use oci::{Digest, ImageConfig, Reference, config::chain_ids};
use rayon::prelude::*;
use snapshot::{DiffError, Snapshots};
use store::{ImageRecord, SnapshotId, SnapshotRow, StoreError};

/// Why an image could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A layer could not be read.
    #[error("cannot read layer {snapshot}")]
    Diff {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the chain below `top` with `config` an image and gives it `names`.
///
/// The layers' digests are computed where they are not known yet, on all processors, and written
/// into the config. Returns the image's id.
pub fn commit(
    snapshots: &Snapshots,
    top: Option<SnapshotId>,
    mut config: ImageConfig,
    names: &[Reference],
) -> Result<Digest, CommitError> {
    let store = snapshots.store();
    let rows = top
        .map(|top| store.ancestry(top))
        .transpose()?
        .unwrap_or_default();
    let diff_ids = diff_ids(snapshots, &rows)?;
    config.rootfs.diff_ids.clone_from(&diff_ids);
    let id = store.put_blob(&config.to_json())?;
    let image = ImageRecord {
        id,
        top,
        diff_ids,
        manifest: None,
        created: config.created,
        size: rows.iter().map(|row| row.size).sum(),
    };
    store.put_image(&image, names)?;
    Ok(id)
}

/// The digest of every layer's tar, lowest first; those that were computed are remembered.
fn diff_ids(snapshots: &Snapshots, rows: &[SnapshotRow]) -> Result<Vec<Digest>, CommitError> {
    let computed = |row: &SnapshotRow| match row.diff_id {
        Some(diff_id) => Ok(diff_id),
        None => match snapshots.diff(row.id, &mut io::sink()) {
            Ok(info) => Ok(info.diff_id),
            Err(source) => Err(CommitError::Diff {
                snapshot: row.id,
                source,
            }),
        },
    };
    let diff_ids: Vec<Digest> = rows.par_iter().map(computed).collect::<Result<_, _>>()?;
    for ((row, diff_id), chain_id) in rows.iter().zip(&diff_ids).zip(chain_ids(&diff_ids)) {
        if row.chain_id != Some(chain_id) {
            snapshots.store().set_diff_id(row.id, diff_id, &chain_id)?;
        }
    }
    Ok(diff_ids)
}
