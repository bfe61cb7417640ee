//! Images into registries: layers packed and sent side by side, what is there already left out.

mod aside;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::{Digest, ImageConfig, Reference, media_type};
use registry::{Client, Pushed, RegistryError, Upload};
use snapshot::Snapshots;
use store::{ImageRecord, SnapshotId, Store, StoreError};

use crate::annotations::Annotated;
use crate::attest::{self, Attestations, Subject};
use crate::manifest::{Described, Descriptor, Index};
use crate::origins::Origins;
use crate::save::layer::{self, Layer};
use crate::save::{self, SaveError, SaveOptions};

/// How many layers are packed and sent at once, as docker does.
const PARALLEL: usize = 5;

/// Why an image was not pushed. What has been sent by then need not be sent again.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be read from the store.
    #[error(transparent)]
    Read(#[from] SaveError),
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What goes where.
#[derive(Debug)]
pub struct Pushing<'a> {
    /// The name under which the registry is to know it.
    pub reference: &'a Reference,
    /// The image; several, one a platform, become an index.
    pub images: &'a [ImageRecord],
    /// How layers are packed that are not packed yet: with gzip, unless it says otherwise.
    pub options: SaveOptions,
    /// What is known to be there, and what turns out to be.
    pub there: &'a Arc<There>,
}

/// What happens to a layer while it is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushState {
    /// It waits for its turn.
    Waiting,
    /// It is packed, or looked up.
    Preparing,
    /// It is sent: bytes so far, and bytes in all.
    Pushing(u64, u64),
    /// The registry has all of it.
    Pushed,
    /// The registry had it before.
    Existed,
    /// The registry took it from this repository of its own.
    Mounted(String),
}

/// Is told what happens to which layer, and asked whether to give up.
pub trait PushWatch: Sync {
    /// The layer with this diff id is in this state now.
    fn layer(&self, diff_id: &Digest, state: PushState);

    /// Whether the person has given up.
    fn is_cancelled(&self) -> bool;
}

/// Gives a registry images and their name. The same images give the same manifests, and those that
/// came from a registry keep theirs.
///
/// # Errors
/// If the registry does not take them, or `watch` says to give up: then, too, where the registry says nothing.
/// It has no name then.
pub fn push(
    snapshots: &Snapshots,
    client: &Arc<Client>,
    pushing: &Pushing<'_>,
    watch: &dyn PushWatch,
) -> Result<Described, PushError> {
    let store = snapshots.store();
    let sending = Sending {
        snapshots,
        client,
        pushing,
        watch,
        attestations: Attestations::wanted(store, &pushing.options, pushing.images)?,
        sent: Mutex::default(),
    };
    sending.send_layers()?;
    let reference = pushing.reference;
    let is_alone = sending.attestations.is_empty();
    if let ([image], true) = (pushing.images, is_alone) {
        let manifest = sending.send_config(image)?;
        let described = Described::from(&manifest.descriptor);
        sending.send_manifest(reference.clone(), manifest.media_type, manifest.bytes)?;
        return Ok(described);
    }
    let mut entries = Vec::new();
    let mut attested = Vec::new();
    for image in pushing.images {
        let mut manifest = sending.send_config(image)?;
        let by_digest = reference.only_digest(manifest.descriptor.digest);
        let bytes = std::mem::take(&mut manifest.bytes);
        sending.send_manifest(by_digest, manifest.media_type.clone(), bytes)?;
        attested.extend(sending.send_attestations(image, &manifest)?);
        let mut entry = manifest.descriptor;
        entry.platform = Some((&manifest.config.platform()).into());
        entries.push(entry);
    }
    entries.extend(attested);
    let options = &pushing.options;
    let (media_type, index) = match options.annotations {
        None => save::index(snapshots.store(), reference, options, entries)?,
        Some(_) => {
            let media_type = options.types().index();
            let index = save::json(&Index {
                schema_version: 2,
                media_type,
                manifests: entries,
                annotations: options.of_index(Annotated::Index),
            });
            (media_type.to_owned(), index)
        }
    };
    let size = index.len() as u64;
    let digest = sending.send_manifest(reference.clone(), media_type.clone(), index)?;
    Ok(Described {
        media_type,
        digest,
        size,
        annotations: options.of_index(Annotated::IndexDescriptor),
    })
}

/// A layer that is packed before the image that has it is made, so that it can be sent meanwhile.
#[derive(Debug, Clone)]
pub struct PackedLayer {
    /// Its digest unpacked, as the image's config will have it.
    pub diff_id: Digest,
    descriptor: Descriptor,
}

impl PackedLayer {
    /// Packs the layer of a snapshot as `options` say.
    ///
    /// # Errors
    /// If it cannot be read or written, or `watch` says to give up; nothing is there then.
    pub fn pack(
        snapshots: &Snapshots,
        options: &SaveOptions,
        snapshot: SnapshotId,
        watch: &dyn PushWatch,
    ) -> Result<Self, SaveError> {
        let known = snapshots.store().snapshot(snapshot)?.diff_id;
        let (diff_id, descriptor) = match known {
            None => layer::pack_new(snapshots, options, snapshot, &|| watch.is_cancelled())?,
            Some(diff_id) => {
                let files = Some(snapshot);
                let wanted = layer::Wanted { diff_id, files };
                (
                    diff_id,
                    layer::packed(snapshots, options, wanted)?.descriptor,
                )
            }
        };
        Ok(Self {
            diff_id,
            descriptor,
        })
    }

    /// What goes to the repository that `reference` names.
    ///
    /// # Errors
    /// If the store has lost the layer.
    pub fn parcel(&self, store: &Store, reference: &Reference) -> Result<Parcel, PushError> {
        Parcel::of(store, &self.descriptor, reference)
    }
}

/// What repositories were found to have a moment ago, so that they are not asked for each name anew.
#[derive(Debug, Default)]
pub struct There(Mutex<HashSet<(Digest, Repository)>>);

/// A registry and what is called so there.
type Repository = (String, String);

impl There {
    fn has(&self, reference: &Reference, blob: Digest) -> bool {
        lock(&self.0).contains(&(blob, repository(reference)))
    }

    fn add(&self, reference: &Reference, blob: Digest) {
        lock(&self.0).insert((blob, repository(reference)));
    }

    /// Another repository of the same registry that has the blob.
    fn elsewhere(&self, reference: &Reference, blob: Digest) -> Option<String> {
        let all = lock(&self.0);
        let registry = reference.registry();
        let mut of_blob = all.iter().filter(|(it, _)| *it == blob);
        let found = of_blob.find(|(_, (it, _))| it == registry);
        found.map(|(_, (_, repository))| repository.clone())
    }
}

fn repository(reference: &Reference) -> Repository {
    let (registry, repository) = (reference.registry(), reference.repository());
    (registry.to_owned(), repository.to_owned())
}

/// A blob on its way to one repository: the store is not needed for it any more.
#[derive(Debug)]
pub struct Parcel {
    reference: Reference,
    digest: Digest,
    size: u64,
    /// Another repository of the registry that had it once.
    elsewhere: Option<String>,
    content: File,
}

impl Parcel {
    fn of(store: &Store, blob: &Descriptor, reference: &Reference) -> Result<Self, PushError> {
        let digest = &blob.digest;
        Ok(Self {
            reference: reference.clone(),
            digest: *digest,
            size: blob.size,
            elsewhere: Origins::of(store, reference)?.elsewhere(digest, reference),
            content: store.open_blob(digest)?,
        })
    }

    /// Where it goes.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What it is.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives it to the repository, unless that has it, and tells `progress` how many bytes it has got. [`push`]
    /// will find it there, without asking if it is given the same `there`.
    ///
    /// # Errors
    /// If the registry does not take it, or `watch` says to give up.
    pub fn send(
        self,
        client: &Client,
        there: &There,
        (watch, progress): (&dyn PushWatch, &dyn Fn(u64)),
    ) -> Result<PushState, PushError> {
        let (reference, digest) = (&self.reference, self.digest);
        let elsewhere = there.elsewhere(reference, digest).or(self.elsewhere);
        let mut content = Content {
            watch,
            file: self.content,
        };
        let upload = Upload {
            digest,
            mount_from: elsewhere.as_deref(),
            content: &mut content,
            progress,
        };
        let pushed = client.push_blob(reference, upload);
        let pushed = pushed.map_err(|error| match watch.is_cancelled() {
            true => PushError::Cancelled,
            false => error.into(),
        })?;
        there.add(reference, digest);
        Ok(match (pushed, elsewhere) {
            (Pushed::Existed, _) => PushState::Existed,
            (Pushed::Mounted, Some(repository)) => PushState::Mounted(repository),
            (Pushed::Sent | Pushed::Mounted, _) => PushState::Pushed,
        })
    }
}

/// What the threads share.
struct Sending<'a> {
    snapshots: &'a Snapshots,
    client: &'a Arc<Client>,
    pushing: &'a Pushing<'a>,
    watch: &'a dyn PushWatch,
    /// What is said about the images.
    attestations: Attestations,
    /// The layers that the registry has, by their diff id.
    sent: Mutex<HashMap<Digest, Layer>>,
}

/// A manifest as it is sent.
struct Sent {
    media_type: String,
    bytes: Vec<u8>,
    /// With the annotations that the descriptor is to have.
    descriptor: Descriptor,
    config: ImageConfig,
}

impl Sending<'_> {
    fn store(&self) -> &Store {
        self.snapshots.store()
    }

    /// Sends all layers of all images, each once.
    fn send_layers(&self) -> Result<(), PushError> {
        let mut wanted = Vec::new();
        let mut leases = Vec::new();
        let mut seen = HashSet::new();
        for image in self.pushing.images {
            let rows = save::rows(self.store(), image)?;
            // Somebody may remove the image meanwhile; its layers stay until they are sent.
            let tops: Vec<SnapshotId> = rows.last().map(|row| row.id).into_iter().collect();
            leases.push(self.store().lease(&tops, &[image.id])?);
            for (index, diff_id) in image.diff_ids.iter().enumerate().rev() {
                if seen.insert(*diff_id) {
                    self.watch.layer(diff_id, PushState::Preparing);
                    wanted.push(layer::Wanted {
                        diff_id: *diff_id,
                        files: rows.get(index).map(|row| row.id),
                    });
                }
            }
        }
        for later in wanted.iter().skip(PARALLEL) {
            self.watch.layer(&later.diff_id, PushState::Waiting);
        }
        let queue = Mutex::new(wanted.iter());
        // A function, so that the lock is held no longer than it takes.
        let take = || lock(&queue).next();
        let failure = Mutex::new(None);
        std::thread::scope(|threads| {
            for _ in 0..PARALLEL.min(wanted.len()) {
                threads.spawn(|| {
                    while let Some(next) = take() {
                        if let Err(error) = self.send_layer(next) {
                            lock(&failure).get_or_insert(error);
                            // The others end with the layer they are at.
                            *lock(&queue) = [].iter();
                        }
                    }
                });
            }
        });
        drop(leases);
        match lock(&failure).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn send_layer(&self, wanted: &layer::Wanted) -> Result<(), PushError> {
        if self.watch.is_cancelled() {
            return Err(PushError::Cancelled);
        }
        let layer = layer::packed(self.snapshots, &self.pushing.options, *wanted)?;
        let state = self.send_blob(&layer.descriptor, &|sent| {
            let state = PushState::Pushing(sent, layer.descriptor.size);
            self.watch.layer(&wanted.diff_id, state);
        })?;
        self.watch.layer(&wanted.diff_id, state);
        lock(&self.sent).insert(wanted.diff_id, layer);
        Ok(())
    }

    fn send_blob(
        &self,
        descriptor: &Descriptor,
        progress: &dyn Fn(u64),
    ) -> Result<PushState, PushError> {
        let Pushing {
            reference, there, ..
        } = self.pushing;
        let digest = descriptor.digest;
        let state = match there.has(reference, digest) {
            true => PushState::Existed,
            false => {
                let parcel = Parcel::of(self.store(), descriptor, reference)?;
                let (client, there) = (Arc::clone(self.client), Arc::clone(there));
                aside::call((self.watch, progress), move |line| {
                    parcel.send(&client, &there, (line, &|sent| line.sent(sent)))
                })??
            }
        };
        Origins::of(self.store(), reference)?.add(&digest, reference);
        Ok(state)
    }

    /// Sends what is said about an image, and gives what stands for it in the index.
    fn send_attestations(
        &self,
        image: &ImageRecord,
        manifest: &Sent,
    ) -> Result<Option<Descriptor>, PushError> {
        let reference = self.pushing.reference;
        let subject = Subject {
            manifest: &manifest.descriptor,
            names: std::slice::from_ref(reference),
            platform: &manifest.config.platform(),
        };
        let predicates = self.attestations.of(&image.id);
        let Some(documents) = attest::documents(predicates, &subject) else {
            return Ok(None);
        };
        for (media_type, bytes) in &documents.blobs {
            let digest = self.store().put_blob(bytes)?;
            let blob = Descriptor::new(media_type, digest, bytes.len() as u64);
            self.send_blob(&blob, &|_| {})?;
        }
        let own = &documents.descriptor;
        let by_digest = reference.only_digest(own.digest);
        self.send_manifest(by_digest, own.media_type.clone(), documents.manifest)?;
        Ok(Some(documents.descriptor))
    }

    /// Gives the registry a manifest under a name, whose blobs it has.
    fn send_manifest(
        &self,
        name: Reference,
        media_type: String,
        bytes: Vec<u8>,
    ) -> Result<Digest, PushError> {
        let client = Arc::clone(self.client);
        let pushed = aside::call((self.watch, &|_| {}), move |_| {
            client.push_manifest(&name, &media_type, &bytes)
        });
        Ok(pushed??)
    }

    fn layers_of(&self, image: &ImageRecord) -> Vec<Layer> {
        let sent = lock(&self.sent);
        let layers = image.diff_ids.iter().map(|it| sent.get(it).cloned());
        layers.flatten().collect()
    }

    /// Sends the config of an image whose layers are sent, and makes its manifest.
    fn send_config(&self, image: &ImageRecord) -> Result<Sent, PushError> {
        let layers = self.layers_of(image);
        let bytes = save::read_blob(self.store(), &image.id)?;
        let bytes = save::promising(image, bytes, &layers)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|source| SaveError::Config {
                id: image.id,
                source,
            })?;
        let size = bytes.len() as u64;
        let own = Descriptor::new(media_type::CONFIG, Digest::of(&bytes), size);
        let is_other = own.digest != image.id;
        if is_other {
            self.store().put_blob(&bytes)?;
        }
        self.send_blob(&own, &|_| {})?;
        let made = save::Made {
            config: (&config, own),
            layers: &layers,
        };
        let options = &self.pushing.options;
        let (media_type, bytes) = save::manifest(self.store(), image, options, made)?;
        let digest = Digest::of(&bytes);
        if image.manifest != Some(digest) && !is_other {
            // What the registry calls the image by is of use to whoever has it here.
            let known = ImageRecord {
                manifest: Some(self.store().put_blob(&bytes)?),
                ..image.clone()
            };
            self.store().put_image(&known, &[])?;
        }
        let mut descriptor = Descriptor::new(&media_type, digest, bytes.len() as u64);
        descriptor.annotations = options.of_image(Annotated::ManifestDescriptor, &config);
        Ok(Sent {
            media_type,
            bytes,
            descriptor,
            config,
        })
    }
}

/// The bytes of a blob, until the person gives up.
struct Content<'a> {
    watch: &'a dyn PushWatch,
    file: File,
}

impl Seek for Content<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.is_cancelled() {
            return Err(io::Error::other("canceled"));
        }
        self.file.read(buffer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
