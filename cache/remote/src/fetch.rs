//! From the layers of a cache to snapshots: fetched side by side, checked, unpacked in their order.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, Sender, channel};

use export::{LayerState, PullWatch, decoder};
use oci::Digest;
use snapshot::{ApplyError, Snapshots};
use store::{SnapshotId, Store, StoreError};

use crate::{Backend, BackendError, Blob, ChainLayer};

/// How many blobs are fetched at once.
const PARALLEL: usize = 4;
/// How much is read between two words about it.
const CHUNK: usize = 256 << 10;

/// Layers on top of each other that a backend has.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The layers, lowest first; at least one.
    pub layers: Vec<ChainLayer>,
    /// Who has them.
    pub backend: Arc<dyn Backend>,
}

/// Why a layer or another blob of a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The backend does not give it.
    #[error("cannot fetch `{blob}`")]
    Backend {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: Box<BackendError>,
    },
    /// It ended early.
    #[error("cannot fetch `{blob}`")]
    Read {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what it says it is.
    #[error("`{blob}` has other bytes than its digest says")]
    WrongBytes {
        /// Which.
        blob: Digest,
    },
    /// It cannot be unpacked, or is another layer unpacked.
    #[error("cannot unpack layer `{blob}`")]
    Apply {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: Box<ApplyError>,
    },
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the layers of a chain snapshots; those that are there already are not fetched.
///
/// # Errors
/// If a layer cannot be had or is not what it should be. What came in whole is kept for another try.
pub fn fetch(
    snapshots: &Snapshots,
    chain: &Chain,
    watch: &dyn PullWatch,
) -> Result<SnapshotId, FetchError> {
    let store = snapshots.store();
    let (mut top, missing) = known_part(store, &chain.layers)?;
    // Nobody collects what the new layers stand on.
    let mut lease = top.map(|top| store.lease(&[top], &[])).transpose()?;
    for it in missing {
        watch.layer(&it.layer.blob.digest, LayerState::Waiting);
    }
    let fetching = Fetching {
        store,
        backend: &*chain.backend,
        watch,
        next: Mutex::new(missing.iter()),
    };
    std::thread::scope(|threads| {
        let (sender, receiver) = channel();
        for _ in 0..PARALLEL.min(missing.len()) {
            let sender = sender.clone();
            threads.spawn(|| fetching.work(&{ sender }));
        }
        drop(sender);
        let mut arrived = Arrived {
            receiver,
            early: Vec::new(),
        };
        for it in missing {
            let blob = &it.layer.blob.digest;
            let fetched = arrived.wait(blob);
            let unpacked = fetched.and_then(|()| unpack(snapshots, it, top, watch));
            let id = unpacked.inspect_err(|_| fetching.stop())?;
            top = Some(id);
            lease = Some(store.lease(&[id], &[])?);
        }
        drop(lease);
        Ok(top.expect("a chain has a layer"))
    })
}

/// The uppermost layer that the store has, and those above it.
fn known_part<'a>(
    store: &Store,
    layers: &'a [ChainLayer],
) -> Result<(Option<SnapshotId>, &'a [ChainLayer]), StoreError> {
    for (at, it) in layers.iter().enumerate().rev() {
        if let Some(row) = store.snapshot_by_chain_id(&it.chain_id)? {
            return Ok((Some(row.id), &layers[at + 1..]));
        }
    }
    Ok((None, layers))
}

/// The threads that fetch share this.
struct Fetching<'a> {
    store: &'a Store,
    backend: &'a dyn Backend,
    watch: &'a dyn PullWatch,
    next: Mutex<std::slice::Iter<'a, ChainLayer>>,
}

type Fetched = (Digest, Result<(), FetchError>);

impl Fetching<'_> {
    fn work(&self, sender: &Sender<Fetched>) {
        loop {
            let next = self
                .next
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some(it) = next else { return };
            let blob = it.layer.blob;
            let fetched = into_store(self.store, self.backend, &blob, self.watch);
            if sender.send((blob.digest, fetched)).is_err() {
                return;
            }
        }
    }

    /// Lets the threads end with the blob they are at.
    fn stop(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = [].iter();
    }
}

/// Blobs that are here, in the order in which they came.
struct Arrived {
    receiver: Receiver<Fetched>,
    early: Vec<Fetched>,
}

impl Arrived {
    /// Waits until the blob has come; what comes before it is kept, unless it failed.
    fn wait(&mut self, blob: &Digest) -> Result<(), FetchError> {
        if let Some(position) = self.early.iter().position(|(early, _)| early == blob) {
            return self.early.swap_remove(position).1;
        }
        while let Ok((digest, result)) = self.receiver.recv() {
            if digest == *blob || result.is_err() {
                return result;
            }
            self.early.push((digest, result));
        }
        Err(FetchError::Cancelled)
    }
}

/// Brings a blob into the store, where it is compared with its digest.
pub(crate) fn into_store(
    store: &Store,
    backend: &dyn Backend,
    blob: &Blob,
    watch: &dyn PullWatch,
) -> Result<(), FetchError> {
    let digest = blob.digest;
    if !store.has_blob(&digest)? {
        let mut reader = backend
            .open(blob)
            .map_err(|source| FetchError::Backend {
                blob: digest,
                source: source.into(),
            })?
            .take(blob.size.saturating_add(1));
        let mut writer = store.blob_writer()?;
        let mut buffer = vec![0; CHUNK];
        loop {
            if watch.is_cancelled() {
                return Err(FetchError::Cancelled);
            }
            let count = reader
                .read(&mut buffer)
                .map_err(|source| FetchError::Read {
                    blob: digest,
                    source,
                })?;
            if count == 0 {
                break;
            }
            writer.append(&buffer[..count])?;
            let read = writer.written();
            watch.layer(&digest, LayerState::Downloading(read, blob.size));
        }
        match writer.commit_expected(&digest) {
            Err(StoreError::WrongDigest { .. }) => {
                return Err(FetchError::WrongBytes { blob: digest });
            }
            other => other?,
        };
    }
    watch.layer(&digest, LayerState::Downloaded);
    Ok(())
}

fn unpack(
    snapshots: &Snapshots,
    it: &ChainLayer,
    parent: Option<SnapshotId>,
    watch: &dyn PullWatch,
) -> Result<SnapshotId, FetchError> {
    let store = snapshots.store();
    let layer = &it.layer;
    let blob = layer.blob.digest;
    watch.layer(&blob, LayerState::Extracting);
    let failed = |source| FetchError::Read { blob, source };
    let (packing, mut tar) = decoder(store.open_blob(&blob)?).map_err(failed)?;
    let compression = packing
        .layer()
        .ok_or_else(|| failed(io::Error::other("it is packed as no layer is")))?;
    let id = snapshots
        .apply(parent, &mut tar, Some(layer.diff_id))
        .map_err(|source| FetchError::Apply {
            blob,
            source: source.into(),
        })?;
    store.record_layer_blob(&layer.diff_id, compression, &blob)?;
    store.set_created(id, layer.created)?;
    watch.layer(&blob, LayerState::Complete);
    Ok(id)
}
