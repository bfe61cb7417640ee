//! Images from registries: layers fetched side by side, unpacked in their order as they arrive.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use oci::config::chain_ids;
use oci::{Digest, ImageConfig, Platform, Reference};
use registry::{Client, Document, FetchedManifest, RegistryError};
use snapshot::{ApplyError, Snapshots};
use store::{ImageRecord, SnapshotId, Store, StoreError};

use crate::ahead::ahead;
use crate::compress::decoder;

/// How many layers are fetched at once, as docker does.
const PARALLEL: usize = 3;
/// The largest config that is read.
const MAX_CONFIG: u64 = 8 << 20;
/// How much is read between two words about it.
const CHUNK: usize = 256 << 10;

/// Why an image was not pulled. It has no name then; layers that came in whole are kept for the next try.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A transfer ended early or brought other bytes.
    #[error("cannot fetch `{digest}`")]
    Fetch {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A blob that names itself in a way not known here.
    #[error("the manifest of `{reference}` cannot be used: {why}")]
    Manifest {
        /// The image.
        reference: String,
        /// What is the matter.
        why: String,
    },
    /// A layer that is not what the config promises.
    #[error("layer `{blob}` is {found} unpacked, but the config says {expected}")]
    WrongDiffId {
        /// The layer as it travels.
        blob: Digest,
        /// What the config says.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer `{blob}`")]
    Apply {
        /// The layer as it travels.
        blob: Digest,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// What its name stood for: the digest of its manifest or, for several platforms, of the index.
    pub digest: Digest,
    /// Whether the name stood for the image already.
    pub up_to_date: bool,
}

/// What happens to a layer while it is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It waits for its turn.
    Waiting,
    /// It comes in: bytes so far, and bytes in all.
    Downloading(u64, u64),
    /// All of it is here and is what its digest says.
    Downloaded,
    /// Its files are written.
    Extracting,
    /// It is a layer of the store.
    Complete,
    /// It was one before.
    Exists,
}

/// Is told what happens to which layer, and asked whether to give up.
pub trait PullWatch: Sync {
    /// The layer with this digest is in this state now.
    fn layer(&self, digest: &Digest, state: LayerState);

    /// Whether the person has given up.
    fn is_cancelled(&self) -> bool;
}

/// Brings the image that `reference` stands for into the store and gives it that name.
pub fn pull(
    snapshots: &Snapshots,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    watch: &dyn PullWatch,
) -> Result<Pulled, PullError> {
    let store = snapshots.store();
    let (image, index) = client.image(reference, platform)?;
    let digest = index.as_ref().map_or(image.digest, |index| index.digest);
    let wanted = Wanted::read(client, reference, &image)?;
    let names: Vec<Reference> = name(reference).into_iter().collect();
    if let Some(record) = store.image(&wanted.id)? {
        let known = match names.first() {
            Some(name) => store
                .image_named(name)?
                .is_some_and(|named| named.id == record.id),
            None => true,
        };
        store.put_image(&record, &names)?;
        return Ok(Pulled {
            id: record.id,
            digest,
            up_to_date: known,
        });
    }
    let top = fetch_layers(snapshots, client, reference, &wanted, watch)?;
    let mut size = 0;
    if let Some(top) = top {
        size = store.ancestry(top)?.iter().map(|layer| layer.size).sum();
    }
    let record = ImageRecord {
        id: store.put_blob(&wanted.config)?,
        top,
        diff_ids: wanted.layers.iter().map(|layer| layer.diff_id).collect(),
        manifest: Some(store.put_blob(&image.bytes)?),
        created: wanted.created,
        size,
    };
    store.put_image(&record, &names)?;
    Ok(Pulled {
        id: record.id,
        digest,
        up_to_date: false,
    })
}

/// A name for the image in the store: none where it was asked for by its digest alone.
fn name(reference: &Reference) -> Option<Reference> {
    reference.tag().map(|tag| reference.with_tag(tag))
}

/// What is to be pulled.
struct Wanted {
    id: Digest,
    config: Vec<u8>,
    created: Option<jiff::Timestamp>,
    layers: Vec<Layer>,
}

/// A layer to be pulled.
#[derive(Clone, Copy)]
struct Layer {
    blob: Digest,
    size: u64,
    diff_id: Digest,
    chain_id: Digest,
}

impl Wanted {
    fn read(
        client: &Client,
        reference: &Reference,
        image: &FetchedManifest,
    ) -> Result<Self, PullError> {
        let bad = |why: String| PullError::Manifest {
            reference: reference.familiar(),
            why,
        };
        let Document::Image(manifest) = &image.document else {
            return Err(bad("it is an index".to_owned()));
        };
        let digest_of = |descriptor: &oci::Descriptor| {
            Digest::try_from(descriptor.digest()).map_err(|error| bad(error.to_string()))
        };
        let id = digest_of(manifest.config())?;
        let size = manifest.config().size();
        if size > MAX_CONFIG {
            return Err(bad(format!(
                "its config has {size} bytes, more than the {MAX_CONFIG} it may have"
            )));
        }
        let mut config = Vec::new();
        client
            .blob(reference, &id, size)?
            .read_to_end(&mut config)
            .map_err(|source| PullError::Fetch { digest: id, source })?;
        let parsed: ImageConfig = serde_json::from_slice(&config)
            .map_err(|error| bad(format!("its config cannot be read: {error}")))?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers().len() {
            let layers = manifest.layers().len();
            return Err(bad(format!(
                "it has {layers} layers, but its config has {}",
                diff_ids.len()
            )));
        }
        let mut layers = Vec::new();
        for ((descriptor, diff_id), chain_id) in manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .zip(chain_ids(diff_ids))
        {
            let blob = digest_of(descriptor)?;
            layers.push(Layer {
                blob,
                size: descriptor.size(),
                diff_id: *diff_id,
                chain_id,
            });
        }
        Ok(Self {
            id,
            config,
            created: parsed.created,
            layers,
        })
    }
}

/// Makes all layers snapshots: those on top of what is there already are fetched, the rest are not.
fn fetch_layers(
    snapshots: &Snapshots,
    client: &Client,
    reference: &Reference,
    wanted: &Wanted,
    watch: &dyn PullWatch,
) -> Result<Option<SnapshotId>, PullError> {
    let store = snapshots.store();
    let mut top = None;
    let mut missing = &wanted.layers[..];
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
        watch.layer(&layer.blob, LayerState::Waiting);
    }
    let fetching = Fetching {
        store,
        client,
        reference,
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
            let applied = fetched.and_then(|()| unpack(snapshots, layer, top, watch));
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
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    watch: &'a dyn PullWatch,
    next: Mutex<std::slice::Iter<'a, Layer>>,
}

type Fetched = (Digest, Result<(), PullError>);

impl Fetching<'_> {
    fn work(&self, sender: &Sender<Fetched>) {
        while let Some(layer) = self.take() {
            if sender.send((layer.blob, self.fetch(&layer))).is_err() {
                return;
            }
        }
    }

    fn take(&self) -> Option<Layer> {
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

    fn fetch(&self, layer: &Layer) -> Result<(), PullError> {
        let blob = layer.blob;
        if !self.store.has_blob(&blob)? {
            let failed = |source| PullError::Fetch {
                digest: blob,
                source,
            };
            let mut reader = self.client.blob(self.reference, &blob, layer.size)?;
            let mut writer = self.store.blob_writer()?;
            let mut buffer = vec![0; CHUNK];
            let mut read = 0;
            loop {
                if self.watch.is_cancelled() {
                    return Err(PullError::Cancelled);
                }
                let count = reader.read(&mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                writer.append(&buffer[..count])?;
                read += count as u64;
                self.watch
                    .layer(&blob, LayerState::Downloading(read, layer.size));
            }
            writer.commit_expected(&blob)?;
        }
        self.watch.layer(&blob, LayerState::Downloaded);
        Ok(())
    }
}

/// Layers that are here, in the order in which they came.
struct Arrived {
    receiver: Receiver<Fetched>,
    early: Vec<Fetched>,
}

impl Arrived {
    /// Waits until the blob has come; what comes before it is kept, unless it failed.
    fn wait(&mut self, blob: &Digest) -> Result<(), PullError> {
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

fn unpack(
    snapshots: &Snapshots,
    layer: &Layer,
    parent: Option<SnapshotId>,
    watch: &dyn PullWatch,
) -> Result<SnapshotId, PullError> {
    let store = snapshots.store();
    watch.layer(&layer.blob, LayerState::Extracting);
    let failed = |source| PullError::Fetch {
        digest: layer.blob,
        source,
    };
    let (packing, tar) = decoder(store.open_blob(&layer.blob)?).map_err(failed)?;
    let Some(compression) = packing.layer() else {
        return Err(failed(io::Error::other(
            "it is packed neither with gzip nor with zstd",
        )));
    };
    let id =
        ahead(tar, |tar| snapshots.apply(parent, tar, Some(layer.diff_id))).map_err(|error| {
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
        })?;
    store.record_layer_blob(&layer.diff_id, compression, &layer.blob)?;
    watch.layer(&layer.blob, LayerState::Complete);
    Ok(id)
}
