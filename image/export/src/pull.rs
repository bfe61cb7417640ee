//! Images from registries: first what they are, then, if somebody needs them, their layers.

mod layers;
mod memory;
mod remote;

use std::io;

use oci::{Digest, Platform, Reference};
use registry::{Client, RegistryError};
use snapshot::{ApplyError, Snapshots};
use store::{ImageRecord, StoreError};

pub use layers::{Blobs, fetch, fetch_blob, fetch_layers};
pub use remote::{Asking, RemoteImage, RemoteLayer, resolve};

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
    /// Who has it does not give it.
    #[error("cannot fetch `{digest}`")]
    Source {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// Nobody is to be asked, and nobody remembers.
    #[error("{reference}: not found in the local store, and no registry is asked")]
    NotRemembered {
        /// The image.
        reference: String,
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
    /// It is to be fetched.
    Wanted,
    /// It waits until others are fetched.
    Waiting,
    /// It comes in: bytes so far, and bytes in all.
    Downloading(u64, u64),
    /// All of it is here, and compared with its digest.
    Verifying,
    /// It is what its digest says.
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
    let image = resolve(store, client, (reference, platform), Asking::Registry)?;
    let names: Vec<Reference> = name(reference).into_iter().collect();
    let id = *image.id();
    let mut pulled = Pulled {
        id,
        digest: *image.digest(),
        up_to_date: false,
    };
    let known = store.image(&id)?;
    let whole = |record: &ImageRecord| record.top.is_some() || record.diff_ids.is_empty();
    if let Some(record) = known.filter(whole) {
        pulled.up_to_date = match names.first() {
            Some(name) => store.image_named(name)?.is_some_and(|named| named.id == id),
            None => true,
        };
        store.put_image(&record, &names)?;
        return Ok(pulled);
    }
    let top = fetch(snapshots, client, &image, watch)?;
    let mut size = 0;
    if let Some(top) = top {
        size = store.ancestry(top)?.iter().map(|layer| layer.size).sum();
    }
    let record = ImageRecord {
        id: store.put_blob(image.config_bytes())?,
        top,
        diff_ids: image.config().rootfs.diff_ids.clone(),
        manifest: Some(store.put_blob(image.manifest_bytes())?),
        created: image.config().created,
        size,
    };
    store.put_image(&record, &names)?;
    Ok(pulled)
}

/// A name for the image in the store: none where it was asked for by its digest alone.
fn name(reference: &Reference) -> Option<Reference> {
    reference.tag().map(|tag| reference.with_tag(tag))
}
