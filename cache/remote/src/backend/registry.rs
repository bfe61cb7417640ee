//! A cache in a repository of a registry, under a tag.

use std::io::Read;
use std::sync::Arc;

use oci::{Platform, Reference};
use registry::{Client, Content, Pushed, RegistryError, Upload};

use super::{Backend, BackendError, Kept, Put};
use crate::Blob;

/// A cache in a repository of a registry, under a tag.
#[derive(Debug)]
pub struct InRegistry {
    client: Arc<Client>,
    reference: Reference,
}

impl InRegistry {
    /// The cache that `client` finds under `reference`.
    pub fn new(client: Arc<Client>, reference: Reference) -> Self {
        Self { client, reference }
    }
}

impl Backend for InRegistry {
    fn name(&self) -> String {
        self.reference.familiar()
    }

    fn kind(&self) -> &'static str {
        "registry"
    }

    fn manifest(&self) -> Result<Option<Kept>, BackendError> {
        // An image that has its cache with it may be one of several platforms.
        match self.client.image(&self.reference, &Platform::host()) {
            Ok((fetched, _)) => Ok(Some(Kept {
                media_type: fetched.media_type,
                bytes: fetched.bytes,
            })),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, blob: &Blob) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let reader = self.client.blob(&self.reference, &blob.digest, blob.size)?;
        Ok(Box::new(reader))
    }

    fn open_behind(
        &self,
        blob: &Blob,
        from: u64,
    ) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let wanted = (&blob.digest, blob.size);
        let reader = self.client.unverified_blob(&self.reference, wanted, from)?;
        Ok(Box::new(reader))
    }

    fn has(&self, blob: &Blob) -> Result<bool, BackendError> {
        Ok(self.client.has_blob(&self.reference, &blob.digest)?)
    }

    fn put(
        &self,
        blob: &Blob,
        content: &mut dyn Content,
        progress: &dyn Fn(u64),
    ) -> Result<Put, BackendError> {
        let upload = Upload {
            digest: blob.digest,
            mount_from: None,
            content,
            progress,
        };
        Ok(match self.client.push_blob(&self.reference, upload)? {
            Pushed::Sent => Put::Sent,
            Pushed::Existed | Pushed::Mounted => Put::Existed,
        })
    }

    fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.client
            .push_manifest(&self.reference, media_type, bytes)?;
        Ok(())
    }
}
