//! A blob on its way into the store: what came of it before first, then what is behind that.

use std::io::{self, Read};

use oci::Digest;
use registry::RegistryError;
use store::{BlobWriter, Store, StoreError};

use super::Blobs;
use crate::pull::{LayerState, PullError, PullWatch};

/// A blob that is to come.
pub(super) struct Wanted<'a> {
    pub(super) blob: Digest,
    pub(super) size: u64,
    pub(super) blobs: &'a dyn Blobs,
    pub(super) watch: &'a dyn PullWatch,
}

/// What is read of it is kept, and told.
pub(super) struct Coming<'a> {
    wanted: &'a Wanted<'a>,
    rest: Box<dyn Read + Send + 'a>,
    writer: BlobWriter,
    /// Why no more comes.
    failure: Option<PullError>,
}

/// Brings a blob into the store, where it is compared with its digest, while `use_it` reads it; gives what
/// that gave, which may be called twice: a part that was kept may turn out to be none of the blob.
pub(super) fn fetch<T>(
    store: &Store,
    wanted: &Wanted<'_>,
    mut use_it: impl FnMut(&mut Coming<'_>) -> T,
) -> Result<T, PullError> {
    let mut writer = store.resume_blob(&wanted.blob)?;
    let before = writer.before();
    if before > wanted.size {
        writer.begin_anew()?;
    }
    match once(writer, wanted, &mut use_it) {
        Err(PullError::Store(StoreError::WrongDigest { .. })) if before > 0 => {
            tracing::debug!(digest = %wanted.blob, "what came before was damaged");
            once(store.resume_blob(&wanted.blob)?, wanted, &mut use_it)
        }
        done => done,
    }
    .map_err(|error| unlike(wanted, error))
}

fn once<T>(
    writer: BlobWriter,
    wanted: &Wanted<'_>,
    use_it: &mut impl FnMut(&mut Coming<'_>) -> T,
) -> Result<T, PullError> {
    let Wanted {
        blob,
        size,
        blobs,
        watch,
    } = wanted;
    let before = writer.before();
    let rest: Box<dyn Read + Send + '_> = match before == *size && *size > 0 {
        true => Box::new(io::empty()),
        false => {
            let reader = blobs.open(blob, *size, before)?;
            Box::new(reader.take((*size - before).saturating_add(1)))
        }
    };
    let mut coming = Coming {
        wanted,
        rest,
        writer,
        failure: None,
    };
    let used = use_it(&mut coming);
    // What is behind the end of the tar, or was not read because the tar is none.
    let read = io::copy(&mut coming, &mut io::sink());
    if let Some(failure) = coming.failure {
        return Err(failure);
    }
    read.map_err(|source| failed(blob, source))?;
    watch.layer(blob, LayerState::Verifying);
    coming.writer.commit_expected(blob)?;
    Ok(used)
}

/// What came is another blob: as whoever gave it is told of it.
fn unlike(wanted: &Wanted<'_>, error: PullError) -> PullError {
    match error {
        PullError::Store(StoreError::WrongDigest { expected, found }) => {
            let mismatch = RegistryError::DigestMismatch {
                wanted: expected,
                got: found,
            };
            let source = io::Error::new(io::ErrorKind::InvalidData, mismatch);
            failed(&wanted.blob, source)
        }
        error => error,
    }
}

fn failed(digest: &Digest, source: io::Error) -> PullError {
    PullError::Fetch {
        digest: *digest,
        source,
    }
}

impl Coming<'_> {
    fn next(&mut self, out: &mut [u8]) -> Result<usize, PullError> {
        let Wanted { blob, watch, .. } = self.wanted;
        if watch.is_cancelled() {
            return Err(PullError::Cancelled);
        }
        let length = if self.writer.before() > 0 {
            self.writer.read_again(out)?
        } else {
            let read = self.rest.read(out);
            let length = read.map_err(|source| failed(blob, source))?;
            self.writer.append(&out[..length])?;
            length
        };
        if length > 0 {
            let state = LayerState::Downloading(self.writer.written(), self.wanted.size);
            watch.layer(blob, state);
        }
        Ok(length)
    }
}

impl Read for Coming<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.next(out).map_err(|failure| {
            self.failure = Some(failure);
            io::ErrorKind::BrokenPipe.into()
        })
    }
}
