//! Base images, from the store.

use std::io::Read;

use lower::{BaseImage, Images, ResolveError};
use oci::{ImageConfig, Platform, Reference};
use store::Store;

use crate::ImageError;
use crate::report::Reporter;

/// The images of the store, as the frontend asks for them.
pub(crate) struct StoredImages<'a> {
    pub(crate) store: &'a Store,
    pub(crate) reporter: &'a Reporter<'a>,
}

impl Images for StoredImages<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        _platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        let errand = format!("[internal] load metadata for {reference}");
        Ok(self.reporter.errand(&errand, |_| self.stored(reference))?)
    }
}

impl StoredImages<'_> {
    fn stored(&self, reference: &Reference) -> Result<BaseImage, ImageError> {
        let missing = || ImageError::Missing {
            reference: reference.clone(),
        };
        let image = self.store.image_named(reference)?.ok_or_else(missing)?;
        let mut bytes = Vec::new();
        let read = self.store.open_blob(&image.id)?.read_to_end(&mut bytes);
        read.map_err(|source| ImageError::ConfigFile {
            reference: reference.clone(),
            source,
        })?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|source| ImageError::Config {
                reference: reference.clone(),
                source,
            })?;
        Ok(BaseImage {
            id: image.id,
            config,
            pinned: reference.to_string(),
        })
    }
}
