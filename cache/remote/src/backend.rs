//! Where a cache is kept.

mod bucket;
mod directory;
mod registry;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::registry::http::HttpError;
use ::registry::{Content, RegistryError};

use crate::Blob;

pub use self::registry::InRegistry;
pub use bucket::{Bucket, Keys};
pub use directory::Directory;

/// The largest manifest that is read, as registries have it.
const MAX_MANIFEST: u64 = 4 << 20;

/// A place that keeps blobs by their digests, and one manifest under a name.
///
/// An import asks for the manifest once and for blobs as they are needed. An export asks for every
/// blob whether it is there, puts those that are not, and the manifest when all of them are.
/// Threads may use it at once.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Which one, as people named it: `localhost:5000/app:cache`.
    fn name(&self) -> String;

    /// Its type, as people name it: `registry`.
    fn kind(&self) -> &'static str;

    /// The manifest, `None` where there is none yet.
    fn manifest(&self) -> Result<Option<Kept>, BackendError>;

    /// Begins to read a blob. What comes is checked by whoever reads it.
    fn open(&self, blob: &Blob) -> Result<Box<dyn Read + Send + '_>, BackendError>;

    /// The same, of which the first bytes are here already.
    fn open_behind(
        &self,
        blob: &Blob,
        from: u64,
    ) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let mut reader = self.open(blob)?;
        let skipped = io::copy(&mut (&mut reader).take(from), &mut io::sink());
        skipped.map_err(|source| BackendError::Cut {
            blob: blob.digest,
            source,
        })?;
        Ok(reader)
    }

    /// Whether a blob is there.
    fn has(&self, blob: &Blob) -> Result<bool, BackendError>;

    /// Puts a blob, unless it is there, telling `progress` how many bytes were sent. One that is not
    /// sent to its end never was.
    fn put(
        &self,
        blob: &Blob,
        content: &mut dyn Content,
        progress: &dyn Fn(u64),
    ) -> Result<Put, BackendError>;

    /// Gives the manifest its name, in place of the one of before.
    fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<(), BackendError>;
}

/// What became of a blob that was to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was sent.
    Sent,
    /// It was there.
    Existed,
}

/// A manifest as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it says it is.
    pub media_type: String,
    /// As it is.
    pub bytes: Vec<u8>,
}

/// Why a backend did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A server that does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A server that answers with an error.
    #[error("`{what}` in bucket `{bucket}`: the server answers {status}{message}")]
    Status {
        /// The object.
        what: String,
        /// The bucket.
        bucket: String,
        /// The HTTP status.
        status: u16,
        /// Its words, after a colon; empty where it said nothing.
        message: String,
    },
    /// A server that says something else than it should.
    #[error("`{what}` in bucket `{bucket}`: {why}")]
    Protocol {
        /// The object.
        what: String,
        /// The bucket.
        bucket: String,
        /// What is wrong.
        why: String,
    },
    /// A directory.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory that holds something else.
    #[error("`{}` is no OCI layout that can be used: {why}", path.display())]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What is there ends early.
    #[error("cannot read blob {blob}")]
    Cut {
        /// Which.
        blob: oci::Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is to be sent cannot be read.
    #[error("cannot read blob {blob} to send it")]
    Content {
        /// Which.
        blob: oci::Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BackendError {
    /// For `map_err`: a file operation that failed.
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}
