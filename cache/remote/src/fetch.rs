//! From the layers of a cache to snapshots.

use std::io::Read;
use std::sync::Arc;

use export::{Blobs, PullError, PullWatch, RemoteLayer, fetch_blob, fetch_layers};
use oci::Digest;
use snapshot::Snapshots;
use store::{SnapshotId, Store};

use crate::{Backend, Blob, ChainLayer};

/// Layers on top of each other that a backend has.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The layers, lowest first; at least one.
    pub layers: Vec<ChainLayer>,
    /// Who has them.
    pub backend: Arc<dyn Backend>,
}

/// Makes the layers of a chain snapshots; those that are there already are not fetched.
///
/// # Errors
/// If a layer cannot be had or is not what it should be. What came in whole is kept for another try.
pub fn fetch(
    snapshots: &Snapshots,
    chain: &Chain,
    watch: &dyn PullWatch,
) -> Result<SnapshotId, PullError> {
    let store = snapshots.store();
    let mut layers = Vec::new();
    let mut new = Vec::new();
    for it in &chain.layers {
        if store.snapshot_by_chain_id(&it.chain_id)?.is_none() {
            new.push(it);
        }
        layers.push(RemoteLayer {
            blob: it.layer.blob.digest,
            size: it.layer.blob.size,
            diff_id: it.layer.diff_id,
            chain_id: it.chain_id,
        });
    }
    let top = fetch_layers(snapshots, &layers, &Kept(&*chain.backend), watch)?;
    for it in new {
        // It was made back then: images of the same result are the same image.
        if let Some(row) = store.snapshot_by_chain_id(&it.chain_id)? {
            store.set_created(row.id, it.layer.created)?;
        }
    }
    Ok(top.expect("a chain has a layer"))
}

/// Brings a blob into the store.
pub(crate) fn into_store(
    store: &Store,
    backend: &dyn Backend,
    blob: &Blob,
    watch: &dyn PullWatch,
) -> Result<(), PullError> {
    fetch_blob(store, (&blob.digest, blob.size), &Kept(backend), watch)
}

/// What a backend keeps.
struct Kept<'a>(&'a dyn Backend);

impl Blobs for Kept<'_> {
    fn open(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<Box<dyn Read + Send + '_>, PullError> {
        let digest = *digest;
        let opened = self.0.open_behind(&Blob { digest, size }, from);
        opened.map_err(|error| PullError::Source {
            digest,
            source: Box::new(error),
        })
    }
}
