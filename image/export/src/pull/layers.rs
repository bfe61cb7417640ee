//! Layers from elsewhere: fetched side by side, read while they come, put on each other in their order.

mod coming;
mod stream;

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci::media_type::Compression;
use oci::{Digest, Key, KeyHasher, Limits, Reference};
use registry::Client;
use snapshot::{ApplyError, Received, Snapshots};
use store::{KeyLock, SnapshotId, Store};

use super::{LayerState, PullError, PullWatch, RemoteImage, RemoteLayer};
use crate::ahead::ahead;
use crate::compress::decoder_within;
use crate::origins::Origins;

/// How many layers are fetched at once, as docker does.
const PARALLEL: usize = 3;
/// How much is read between two words about it.
const CHUNK: usize = 256 << 10;

/// Who has blobs. Threads may ask at once.
pub trait Blobs: Sync {
    /// Begins to read what is behind the first `from` bytes of a blob of so many. What comes is checked
    /// by whoever reads it.
    fn open(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<Box<dyn Read + Send + '_>, PullError>;

    /// Notes, where that is of use to anybody, who gave a blob that is in the store now.
    fn gave(&self, _store: &Store, _digest: &Digest) -> Result<(), PullError> {
        Ok(())
    }
}

/// A repository of a registry.
struct Repository<'a> {
    client: &'a Client,
    reference: &'a Reference,
}

impl Blobs for Repository<'_> {
    fn open(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<Box<dyn Read + Send + '_>, PullError> {
        let blob = self
            .client
            .unverified_blob(self.reference, (digest, size), from)?;
        Ok(Box::new(blob))
    }

    fn gave(&self, store: &Store, digest: &Digest) -> Result<(), PullError> {
        Origins::of(store, self.reference)?.add(digest, self.reference);
        Ok(())
    }
}

/// Makes all layers of an image snapshots, as [`fetch_layers`] does.
///
/// # Errors
/// As [`fetch_layers`].
pub fn fetch(
    snapshots: &Snapshots,
    client: &Client,
    image: &RemoteImage,
    watch: &dyn PullWatch,
) -> Result<Option<SnapshotId>, PullError> {
    let repository = Repository {
        client,
        reference: image.reference(),
    };
    fetch_layers(snapshots, image.layers(), &repository, watch)
}

/// Makes layers, which stand lowest first, snapshots: those on top of what is there already are
/// fetched, side by side, and put on each other in their order. Where layers can stay packed, all work
/// on one is done while it comes; elsewhere it is unpacked when its turn has come. Returns the uppermost.
///
/// # Errors
/// If a layer does not come, or is not what the manifest and the config say. What came in whole is
/// kept for the next try.
pub fn fetch_layers(
    snapshots: &Snapshots,
    layers: &[RemoteLayer],
    blobs: &dyn Blobs,
    watch: &dyn PullWatch,
) -> Result<Option<SnapshotId>, PullError> {
    let store = snapshots.store();
    let mut top = None;
    let mut missing = layers;
    while let [layer, rest @ ..] = missing {
        let Some(row) = store.snapshot_by_chain_id(&layer.chain_id)? else {
            break;
        };
        watch.layer(&layer.blob, LayerState::Exists);
        top = Some(row.id);
        missing = rest;
    }
    // Nobody collects what the new layers stand on.
    let mut lease = top.map(|top| store.lease(&[top], &[])).transpose()?;
    for layer in missing {
        watch.layer(&layer.blob, LayerState::Wanted);
    }
    for layer in missing.iter().skip(PARALLEL) {
        watch.layer(&layer.blob, LayerState::Waiting);
    }
    let fetching = Fetching {
        snapshots,
        blobs,
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
        for layer in missing {
            let fetched = arrived.wait(&layer.blob);
            let applied = fetched.and_then(|it| make(snapshots, layer, (top, it), watch));
            match applied {
                Ok(id) => top = Some(id),
                Err(error) => {
                    fetching.stop();
                    return Err(error);
                }
            }
            lease = top.map(|top| store.lease(&[top], &[])).transpose()?;
        }
        drop(lease);
        Ok(top)
    })
}

/// The threads that fetch share this.
struct Fetching<'a> {
    snapshots: &'a Snapshots,
    blobs: &'a dyn Blobs,
    watch: &'a dyn PullWatch,
    next: Mutex<std::slice::Iter<'a, RemoteLayer>>,
}

type Fetched = (Digest, Result<Came, PullError>);

/// What has come of a layer.
enum Came {
    /// Its blob is in the store.
    Blob,
    /// And its tar has been read.
    Whole(Box<Received>, Compression),
}

impl Fetching<'_> {
    fn work(&self, sender: &Sender<Fetched>) {
        while let Some(layer) = self.take() {
            let fetched = self.fetch(&layer);
            if sender.send((layer.blob, fetched)).is_err() {
                return;
            }
        }
    }

    fn fetch(&self, layer: &RemoteLayer) -> Result<Came, PullError> {
        if self.snapshots.packs() {
            let (received, compression) =
                stream::receive(self.snapshots, layer, self.blobs, self.watch)?;
            return Ok(Came::Whole(Box::new(received), compression));
        }
        let store = self.snapshots.store();
        fetch_blob(store, (&layer.blob, layer.size), self.blobs, self.watch)?;
        Ok(Came::Blob)
    }

    fn take(&self) -> Option<RemoteLayer> {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
            .copied()
    }

    /// Lets the threads end with the layer they are at.
    fn stop(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = [].iter();
    }
}

/// Brings a blob of so many bytes into the store, where it is compared with its digest. What came of it
/// when a fetch ended early is not fetched again.
///
/// # Errors
/// If it does not come, or comes as other bytes.
pub fn fetch_blob(
    store: &Store,
    (blob, size): (&Digest, u64),
    blobs: &dyn Blobs,
    watch: &dyn PullWatch,
) -> Result<(), PullError> {
    let _lock = claim_blob(store, blob, watch)?;
    if !store.has_blob(blob)? {
        let wanted = coming::Wanted {
            blob: *blob,
            size,
            blobs,
            watch,
        };
        coming::fetch(store, &wanted, |coming| {
            let mut buffer = vec![0; CHUNK];
            // Why it ends early is known to who fetches.
            while coming.read(&mut buffer).is_ok_and(|it| it > 0) {}
        })?;
        blobs.gave(store, blob)?;
    }
    watch.layer(blob, LayerState::Downloaded);
    Ok(())
}

/// Layers that are here, in the order in which they came.
struct Arrived {
    receiver: Receiver<Fetched>,
    early: Vec<Fetched>,
}

impl Arrived {
    /// Waits until the blob has come; what comes before it is kept, unless it failed.
    fn wait(&mut self, blob: &Digest) -> Result<Came, PullError> {
        if let Some(position) = self.early.iter().position(|(early, _)| early == blob) {
            return self.early.swap_remove(position).1;
        }
        while let Ok((digest, result)) = self.receiver.recv() {
            if digest == *blob || result.is_err() {
                return result;
            }
            self.early.push((digest, result));
        }
        Err(PullError::Cancelled)
    }
}

/// The right to fetch a blob: another image of this build, or another process, may be at the same one.
fn claim_blob(store: &Store, blob: &Digest, watch: &dyn PullWatch) -> Result<KeyLock, PullError> {
    let key = KeyHasher::new("layer to fetch")
        .text(&blob.to_string())
        .finish();
    claim(store, &key, watch)
}

/// Makes a layer that came a snapshot on top of a chain.
fn make(
    snapshots: &Snapshots,
    layer: &RemoteLayer,
    (parent, came): (Option<SnapshotId>, Came),
    watch: &dyn PullWatch,
) -> Result<SnapshotId, PullError> {
    let store = snapshots.store();
    let key = KeyHasher::new("layer to unpack")
        .text(&layer.chain_id.to_string())
        .finish();
    let _lock = claim(store, &key, watch)?;
    if let Some(row) = store.snapshot_by_chain_id(&layer.chain_id)? {
        watch.layer(&layer.blob, LayerState::Complete);
        return Ok(row.id);
    }
    watch.layer(&layer.blob, LayerState::Extracting);
    let (id, compression) = match came {
        Came::Whole(received, compression) => (received.place(parent), compression),
        Came::Blob => {
            let (packing, tar) = {
                let blob = store.open_blob(&layer.blob)?;
                opened(blob, &layer.blob, snapshots.limits())?
            };
            let unpack = |tar: &mut dyn Read| snapshots.apply(parent, tar, Some(layer.diff_id));
            (ahead(tar, unpack), packing)
        }
    };
    let id = id.map_err(|error| unlayered(layer, error))?;
    store.record_layer_blob(&layer.diff_id, compression, &layer.blob)?;
    watch.layer(&layer.blob, LayerState::Complete);
    Ok(id)
}

/// The tar in a layer's blob, and how it is packed there.
fn opened<'a>(
    blob: impl Read + Send + 'a,
    digest: &Digest,
    limits: &Limits,
) -> Result<(Compression, Box<dyn Read + Send + 'a>), PullError> {
    let failed = |source| PullError::Fetch {
        digest: *digest,
        source,
    };
    let (packing, tar) = decoder_within(blob, limits).map_err(failed)?;
    match packing.layer() {
        Some(compression) => Ok((compression, tar)),
        None => Err(failed(io::Error::other(
            "it is packed neither with gzip nor with zstd",
        ))),
    }
}

/// Why a blob is no layer.
fn unlayered(layer: &RemoteLayer, error: ApplyError) -> PullError {
    match error {
        ApplyError::WrongDiffId { expected, found } => PullError::WrongDiffId {
            blob: layer.blob,
            expected,
            found,
        },
        source => PullError::Apply {
            blob: layer.blob,
            source,
        },
    }
}

/// The right to make what `key` names. Waits for whoever has it; a lock that is waited for cannot be
/// given up, so it is tried again and again.
fn claim(store: &Store, key: &Key, watch: &dyn PullWatch) -> Result<KeyLock, PullError> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = store.try_lock_key(key)? {
            return Ok(lock);
        }
        if watch.is_cancelled() {
            return Err(PullError::Cancelled);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
