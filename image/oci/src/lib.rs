//! What an image is, as plain data: names, digests, platforms, configs and manifests.
//!
//! Vocabulary: a [`Digest`] names bytes by their sha256; a [`Key`] names structures within rbuild. A *descriptor* says where bytes belong
//! (media type, digest, size). A *manifest* lists the descriptors of one image: a [`config::Config`]
//! and its layers. An *index* lists manifests, one a [`Platform`]. A [`Reference`] is what people type.
//!
//! This crate does no I/O, reads no clock and no environment.

mod bytes;
pub mod config;
mod digest;
mod key;
mod limits;
pub mod media_type;
mod platform;
mod reference;
mod size;

pub use bytes::{Bytes, BytesError};
pub use config::{Config, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Sha256};
pub use key::{Key, KeyHasher};
pub use limits::Limits;
pub use oci_spec::image::{Descriptor, DescriptorBuilder, ImageIndex, ImageManifest, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use size::size;
