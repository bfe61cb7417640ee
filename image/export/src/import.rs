//! A root file system as an image of one layer.

use std::io::{self, Read};

use jiff::Timestamp;
use oci::media_type::Compression;
use oci::{Digest, History, ImageConfig, Platform, Reference, config::chain_ids};
use snapshot::{ApplyError, DiffError, Snapshots};
use store::{SnapshotId, StoreError};

use crate::ahead::ahead;
use crate::change::Change;
use crate::commit::{CommitError, commit};
use crate::compress::decoder;

/// Why a root file system was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input ends early or is damaged.
    #[error("cannot read the root file system")]
    Read(#[source] io::Error),
    /// It could not be unpacked.
    #[error("cannot unpack the root file system")]
    Apply(#[source] ApplyError),
    /// What was unpacked could not be read back.
    #[error("cannot read the layer")]
    Diff(#[source] DiffError),
    /// The image could not be put together.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an imported image is to be.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Its name, if it is to have one.
    pub name: Option<Reference>,
    /// Changes of its empty config, in order.
    pub changes: Vec<Change>,
    /// The comment in its history.
    pub message: String,
    /// What its programs run on.
    pub platform: Platform,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            name: None,
            changes: Vec::new(),
            message: "Imported from -".to_owned(),
            platform: Platform::host(),
        }
    }
}

/// Imports a root file system: a tar, packed or not. Returns the id of the image.
pub fn import(
    snapshots: &Snapshots,
    tar: impl Read + Send,
    options: &ImportOptions,
) -> Result<Digest, ImportError> {
    let (_, tar) = decoder(tar).map_err(ImportError::Read)?;
    let applied = ahead(tar, |tar| snapshots.apply(None, tar, None));
    let top = applied.map_err(ImportError::Apply)?;
    name_layer(snapshots, top)?;
    let now = Timestamp::now();
    let mut config = ImageConfig::empty(&options.platform);
    config.created = Some(now);
    config.history = vec![History {
        created: Some(now),
        comment: options.message.clone().into(),
        ..History::default()
    }];
    options
        .changes
        .iter()
        .cloned()
        .for_each(|change| change.apply(&mut config.config));
    Ok(commit(
        snapshots,
        Some(top),
        config,
        options.name.as_slice(),
    )?)
}

/// Names the layer by the tar that its files give instead of the one that was read.
///
/// Nobody was promised the bytes that were read, so they need not be kept beside the files; the
/// others can be made again at any time.
fn name_layer(snapshots: &Snapshots, layer: SnapshotId) -> Result<(), ImportError> {
    let store = snapshots.store();
    if let Some(diff_id) = store.snapshot(layer)?.diff_id {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            // The layer was there before, with a blob that gives the bytes it is named by.
            if store.layer_blob(&diff_id, compression)?.is_some() {
                return Ok(());
            }
        }
    }
    let diff_id = snapshots
        .diff(layer, &mut io::sink())
        .map_err(ImportError::Diff)?
        .diff_id;
    Ok(store.set_diff_id(layer, &diff_id, &chain_ids(&[diff_id])[0])?)
}
