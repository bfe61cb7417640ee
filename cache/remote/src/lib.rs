//! The cache of builds, kept elsewhere: in a registry, in a directory, in a bucket, in an image.
//!
//! Vocabulary: a *backend* keeps blobs by their digests and one manifest under a name. A *catalog*
//! ([`Catalog`]) is what that manifest leads to: *records*, which say what the step of a key made,
//! and the *chains* of layers that they speak of. An *import* reads a catalog and nothing else; the
//! layers of a [`Chain`] are fetched once somebody needs what is in them. An *export* sends each
//! layer as soon as it is there, and the catalog at the very end: until then nothing has a name.
//! A cache mount travels as an *index* of its files and as *packs*, blobs of many pieces of files;
//! pieces that a pack of before has are not sent again.
//!
//! What a backend gives is believed as far as it can be checked: every blob must be what its digest
//! says, every layer what its diff id says. Which key stands for which layers nobody can check; that
//! is what naming a backend means.

mod backend;
mod catalog;
mod fetch;
mod import;
mod inline;
mod mounts;
mod publish;

pub use backend::{Backend, BackendError, Bucket, Directory, InRegistry, Kept, Keys, Put};
pub use catalog::{Blob, Catalog, CatalogError, ChainLayer, Layer, MountEntry, Record};
pub use fetch::{Chain, fetch};
pub use import::{Hit, ImportError, Source};
pub use inline::{INLINE_KEY, inline};
pub use mounts::{MountError, restore};
pub use publish::{CacheTo, ExportError, ExportWatch, Exported, Exporter, Mode, Sending, Which};
