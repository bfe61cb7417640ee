//! After the machine went down: images whose layers were lost.

use std::io;

use oci::Digest;
use oci::config::chain_ids;
use oci::media_type::Compression;
use snapshot::{ApplyError, SnapshotError, Snapshots};
use store::{ImageRecord, SnapshotId, Store, StoreError};

use crate::ahead::ahead;
use crate::compress::decoder;

/// Why the store could not be brought in order.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A layer could not be compared with its manifest.
    #[error("cannot verify the layers in the store")]
    Snapshot(#[from] SnapshotError),
    /// A layer could not be made again from its blob.
    #[error("cannot unpack layer {diff_id} again")]
    Apply {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// A blob could not be read.
    #[error("cannot read layer {diff_id}")]
    Read {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was lost and what could be made good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Layers that were damaged and dropped.
    pub dropped: Vec<SnapshotId>,
    /// Images whose layers were made again from their blobs.
    pub restored: Vec<Digest>,
    /// Images that were removed, because nothing is left to make their layers from.
    pub lost: Vec<Digest>,
}

/// Verifies what may not have reached the disk before the machine went down. Layers that are
/// damaged are dropped; images that lose layers get them back from blobs, or are removed.
///
/// To be called once after the store was opened. Costs one look-up where there is nothing to do.
pub fn recover(snapshots: &Snapshots) -> Result<Recovered, RecoverError> {
    let store = snapshots.store();
    let mut recovered = Recovered {
        dropped: snapshots.recover()?,
        ..Recovered::default()
    };
    let lost_blobs = store.verify_blobs()?;
    if !recovered.dropped.is_empty() || !lost_blobs.is_empty() {
        mend(snapshots, &mut recovered)?;
    }
    Ok(recovered)
}

/// Looks after images that lost layers or their config for whatever reason: they get them back from
/// blobs, or are removed. Adds to `recovered` what became of them.
pub fn mend(snapshots: &Snapshots, recovered: &mut Recovered) -> Result<(), RecoverError> {
    let store = snapshots.store();
    for (image, _) in store.images()? {
        let has_lost_layers = image.top.is_none() && !image.diff_ids.is_empty();
        if !has_lost_layers && store.has_blob(&image.id)? {
            continue;
        }
        if store.has_blob(&image.id)? && restore(snapshots, &image)? {
            recovered.restored.push(image.id);
        } else {
            store.remove_image(&image.id)?;
            recovered.lost.push(image.id);
        }
    }
    Ok(())
}

/// Makes the image's layers again; returns whether the store still had all it takes.
fn restore(snapshots: &Snapshots, image: &ImageRecord) -> Result<bool, RecoverError> {
    let store = snapshots.store();
    let mut top = None;
    for (diff_id, chain_id) in image.diff_ids.iter().zip(chain_ids(&image.diff_ids)) {
        top = match store.snapshot_by_chain_id(&chain_id)? {
            Some(row) => Some(row.id),
            None => match stored(store, diff_id)? {
                Some(blob) => Some(apply(snapshots, top, diff_id, &blob)?),
                None => return Ok(false),
            },
        };
    }
    store.put_image(
        &ImageRecord {
            top,
            ..image.clone()
        },
        &[],
    )?;
    Ok(true)
}

fn stored(store: &Store, diff_id: &Digest) -> Result<Option<Digest>, StoreError> {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        if let Some((blob, _)) = store.layer_blob(diff_id, compression)? {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

fn apply(
    snapshots: &Snapshots,
    parent: Option<SnapshotId>,
    diff_id: &Digest,
    blob: &Digest,
) -> Result<SnapshotId, RecoverError> {
    let diff_id = *diff_id;
    let (_, tar) = decoder(snapshots.store().open_blob(blob)?)
        .map_err(|source| RecoverError::Read { diff_id, source })?;
    ahead(tar, |tar| snapshots.apply(parent, tar, Some(diff_id)))
        .map_err(|source| RecoverError::Apply { diff_id, source })
}
