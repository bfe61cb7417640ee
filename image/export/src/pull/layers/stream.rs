//! A layer that is kept, unpacked and read while it comes.

use std::io::{self, Read};

use oci::Digest;
use oci::media_type::Compression;
use snapshot::{Received, Snapshots};
use store::BlobWriter;

use super::{Blobs, claim_blob, opened, unlayered};
use crate::ahead::ahead;
use crate::pull::{LayerState, PullError, PullWatch, RemoteLayer};

/// Fetches a layer, unless its blob is here, and reads its tar on the way. The blob is in the store
/// afterwards whatever the tar turned out to be, if it is what its digest says.
pub(super) fn receive(
    snapshots: &Snapshots,
    layer: &RemoteLayer,
    blobs: &dyn Blobs,
    watch: &dyn PullWatch,
) -> Result<(Received, Compression), PullError> {
    let store = snapshots.store();
    let lock = claim_blob(store, &layer.blob, watch)?;
    if store.has_blob(&layer.blob)? {
        drop(lock);
        watch.layer(&layer.blob, LayerState::Downloaded);
        return read(snapshots, layer, store.open_blob(&layer.blob)?);
    }
    let reader = blobs.open(&layer.blob, layer.size)?;
    let mut coming = Coming {
        reader: reader.take(layer.size.saturating_add(1)),
        writer: store.blob_writer()?,
        read: 0,
        layer,
        watch,
        failure: None,
    };
    let received = read(snapshots, layer, &mut coming);
    // What is behind the end of the tar, or was not read because the tar is none.
    let rest = io::copy(&mut coming, &mut io::sink());
    if let Some(failure) = coming.failure {
        return Err(failure);
    }
    rest.map_err(|source| failed(&layer.blob, source))?;
    watch.layer(&layer.blob, LayerState::Verifying);
    coming.writer.commit_expected(&layer.blob)?;
    blobs.gave(store, &layer.blob)?;
    watch.layer(&layer.blob, LayerState::Downloaded);
    received
}

fn read<'a>(
    snapshots: &Snapshots,
    layer: &RemoteLayer,
    blob: impl Read + Send + 'a,
) -> Result<(Received, Compression), PullError> {
    let (compression, tar) = opened(blob, &layer.blob, snapshots.limits())?;
    let received = ahead(tar, |tar| snapshots.receive(tar, Some(layer.diff_id)));
    match received {
        Ok(received) => Ok((received, compression)),
        Err(error) => Err(unlayered(layer, error)),
    }
}

fn failed(digest: &Digest, source: io::Error) -> PullError {
    PullError::Fetch {
        digest: *digest,
        source,
    }
}

/// A blob on its way: what is read of it is kept, and told.
struct Coming<'a, R> {
    reader: R,
    writer: BlobWriter,
    read: u64,
    layer: &'a RemoteLayer,
    watch: &'a dyn PullWatch,
    /// Why no more comes.
    failure: Option<PullError>,
}

impl<R: Read> Coming<'_, R> {
    fn next(&mut self, out: &mut [u8]) -> Result<usize, PullError> {
        if self.watch.is_cancelled() {
            return Err(PullError::Cancelled);
        }
        let length = self
            .reader
            .read(out)
            .map_err(|source| failed(&self.layer.blob, source))?;
        self.writer.append(&out[..length])?;
        self.read += length as u64;
        if length > 0 {
            let state = LayerState::Downloading(self.read, self.layer.size);
            self.watch.layer(&self.layer.blob, state);
        }
        Ok(length)
    }
}

impl<R: Read> Read for Coming<'_, R> {
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
