//! Cache mounts, file by file: what is known there is not sent again.
//!
//! Files are cut into pieces where their content says so, so that an edit in the middle of a large
//! file changes the pieces around it and no others; small files are one piece. Pieces that are new
//! go into packs of a few MiB. The index has the files with all that belongs to them (tools such as
//! cargo and make go by times), and says which pieces of which packs each is made of.

mod gather;
mod index;
mod piece;
mod restore;

use std::io;
use std::path::{Path, PathBuf};

use snapshot::WalkError;
use store::StoreError;

use crate::{Backend, BackendError, Blob};

pub use restore::restore;

/// Why a cache mount does not travel.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The backend does not do its part.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A blob ended early, or is packed as none of ours is.
    #[error("cannot read `{blob}`")]
    Read {
        /// Which.
        blob: oci::Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A blob is not what it says it is.
    #[error("`{blob}` cannot be used: {why}")]
    Malformed {
        /// Which.
        blob: oci::Digest,
        /// What is wrong with it.
        why: String,
    },
    /// The files could not be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A file could not be read or written.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// Within the mount.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
}

impl MountError {
    /// For `map_err`: a file operation that failed.
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// A whole blob, compared with its digest.
fn fetch(backend: &dyn Backend, blob: &Blob, limit: u64) -> Result<Vec<u8>, MountError> {
    let malformed = |why: String| MountError::Malformed {
        blob: blob.digest,
        why,
    };
    if blob.size > limit {
        return Err(malformed(format!("it has more than {limit} bytes")));
    }
    let mut bytes = Vec::new();
    let read = io::Read::take(backend.open(blob)?, blob.size + 1);
    io::Read::read_to_end(&mut { read }, &mut bytes).map_err(|source| MountError::Read {
        blob: blob.digest,
        source,
    })?;
    match oci::Digest::of(&bytes) == blob.digest {
        true => Ok(bytes),
        false => Err(malformed(
            "it has other bytes than its digest says".to_owned(),
        )),
    }
}
