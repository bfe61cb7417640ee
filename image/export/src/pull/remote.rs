//! What an image in a registry is: its manifest and its config, without its layers.

use std::io::Read as _;

use oci::config::chain_ids;
use oci::{Digest, ImageConfig, Platform, Reference};
use registry::{Client, Document, FetchedManifest};
use store::Store;

use super::PullError;
use super::memory::Memory;

/// An image in a registry, known by its manifest and config. Its layers are where they are.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    reference: Reference,
    digest: Digest,
    id: Digest,
    config: ImageConfig,
    config_bytes: Vec<u8>,
    manifest_bytes: Vec<u8>,
    layers: Vec<RemoteLayer>,
}

/// Whether registries are asked what a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Each time, with a single `HEAD` where the answer is as before.
    Registry,
    /// Never: what was remembered counts, and what was not is an error.
    Nobody,
}

/// A layer somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteLayer {
    /// As it travels.
    pub blob: Digest,
    /// How many bytes that are.
    pub size: u64,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// OCI's name of it and all below it.
    pub chain_id: Digest,
}

/// Finds out what a name stands for on a platform. What registries said is remembered in the store,
/// so that an image that is known by its digest is asked for once.
///
/// # Errors
/// If there is no such image, or what the registry gives is not what it should be.
pub fn resolve(
    store: &Store,
    client: &Client,
    (reference, platform): (&Reference, &Platform),
    asking: Asking,
) -> Result<RemoteImage, PullError> {
    let source = Source {
        store,
        client,
        reference,
        asking,
    };
    let named = source.named()?;
    let manifest = match named.entry_for(reference, platform)? {
        None => named.clone(),
        Some(digest) => source.manifest(&digest)?,
    };
    RemoteImage::read(&source, named.digest, manifest)
}

/// Where documents come from: memory first.
struct Source<'a> {
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    asking: Asking,
}

impl Source<'_> {
    /// The manifest or index that the name stands for.
    fn named(&self) -> Result<FetchedManifest, PullError> {
        if let Some(digest) = self.reference.digest() {
            return self.manifest(digest);
        }
        let tag = self.reference.tag().unwrap_or("latest");
        let remembered = self.memory()?.tag(tag);
        let digest = match (self.asking, remembered) {
            (Asking::Nobody, Some(digest)) => digest,
            (Asking::Nobody, None) => return Err(self.not_remembered()),
            (Asking::Registry, Some(_)) => self.client.digest(self.reference)?,
            (Asking::Registry, None) => {
                let fetched = self.client.manifest(self.reference)?;
                let memory = self.memory()?;
                memory.keep(&fetched.bytes);
                memory.keep_tag(tag, &fetched.digest);
                return Ok(fetched);
            }
        };
        let manifest = self.manifest(&digest)?;
        self.memory()?.keep_tag(tag, &digest);
        Ok(manifest)
    }

    fn manifest(&self, digest: &Digest) -> Result<FetchedManifest, PullError> {
        if let Some(bytes) = self.memory()?.document(digest) {
            return Ok(FetchedManifest::read(self.reference, bytes)?);
        }
        if self.asking == Asking::Nobody {
            return Err(self.not_remembered());
        }
        let fetched = self.client.manifest_by_digest(self.reference, digest)?;
        self.memory()?.keep(&fetched.bytes);
        Ok(fetched)
    }

    fn config(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, PullError> {
        if let Some(bytes) = self.memory()?.document(digest) {
            return Ok(bytes);
        }
        if self.asking == Asking::Nobody {
            return Err(self.not_remembered());
        }
        let mut bytes = Vec::new();
        self.client
            .blob(self.reference, digest, size)?
            .read_to_end(&mut bytes)
            .map_err(|source| PullError::Fetch {
                digest: *digest,
                source,
            })?;
        self.memory()?.keep(&bytes);
        Ok(bytes)
    }

    fn memory(&self) -> Result<Memory, PullError> {
        Ok(Memory::of(self.store, self.reference)?)
    }

    fn not_remembered(&self) -> PullError {
        PullError::NotRemembered {
            reference: self.reference.to_string(),
        }
    }
}

impl RemoteImage {
    /// The name it was asked for by, pinned to what that stood for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What the name stood for: the digest of the manifest or, for several platforms, of the index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The image's id, the digest of its config.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Its config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    pub(super) fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    pub(super) fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    pub(super) fn layers(&self) -> &[RemoteLayer] {
        &self.layers
    }

    fn read(
        source: &Source<'_>,
        digest: Digest,
        fetched: FetchedManifest,
    ) -> Result<Self, PullError> {
        let reference = source.reference;
        let bad = |why: String| PullError::Manifest {
            reference: reference.familiar(),
            why,
        };
        let Document::Image(manifest) = &fetched.document else {
            return Err(bad("its index leads to another index".to_owned()));
        };
        let digest_of = |descriptor: &oci::Descriptor| {
            Digest::try_from(descriptor.digest()).map_err(|error| bad(error.to_string()))
        };
        let id = digest_of(manifest.config())?;
        let limits = source.client.limits();
        let (layers, most) = (manifest.layers().len() as u64, limits.layers);
        if layers > most {
            return Err(bad(format!(
                "it has {layers} layers, more than the {most} an image may have"
            )));
        }
        let (size, most) = (manifest.config().size(), limits.config);
        if size > most {
            return Err(bad(format!(
                "its config has {size} bytes, more than the {most} it may have"
            )));
        }
        let config_bytes = source.config(&id, size)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| bad(format!("its config cannot be read: {error}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        let (found, promised) = (manifest.layers().len(), diff_ids.len());
        if found != promised {
            return Err(bad(format!(
                "it has {found} layers, but its config has {promised}"
            )));
        }
        let mut layers = Vec::new();
        let chain_ids = chain_ids(diff_ids);
        for (index, descriptor) in manifest.layers().iter().enumerate() {
            layers.push(RemoteLayer {
                blob: digest_of(descriptor)?,
                size: descriptor.size(),
                diff_id: diff_ids[index],
                chain_id: chain_ids[index],
            });
        }
        Ok(Self {
            reference: reference.pinned(digest),
            digest,
            id,
            config_bytes,
            manifest_bytes: fetched.bytes,
            layers,
            config,
        })
    }
}
