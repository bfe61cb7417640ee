//! How lowering learns about base images.

use oci::{Digest, ImageConfig, Platform, Reference};

use crate::Layout;

/// Where base images come from.
///
/// Asked once for each image and platform that the target needs, in the order in which the stages
/// are lowered, and never for a stage that the target does not need. The answer must hold for the
/// whole build: what is pinned here is what the build runs on.
pub trait Images {
    /// The image that `reference` means on `platform`.
    ///
    /// # Errors
    /// If there is no such image or it cannot be read. An image that has only another platform is
    /// no error: it is returned, and lowering warns.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError>;

    /// The image of an OCI layout, by the same rules. Whoever knows no layouts need not say so.
    ///
    /// # Errors
    /// If there is no such image or it cannot be read.
    fn layout(&self, layout: &Layout, _platform: &Platform) -> Result<BaseImage, ResolveError> {
        let directory = layout.directory.display();
        Err(format!("the layout `{directory}` cannot be read here").into())
    }
}

/// Why an image could not be resolved. The chain is printed below [`crate::PlanErrorKind::BaseImage`].
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// An image that something builds on.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// The digest of its config.
    pub id: Digest,
    /// Its config; the layers are `config.rootfs.diff_ids`.
    pub config: ImageConfig,
    /// What is pinned, for people and for fetching: `docker.io/library/debian:12@sha256:…`. Where
    /// nothing names a manifest, the name as it was asked for.
    pub pinned: String,
}
