//! A layer that is kept, unpacked and read while it comes.

use std::io::Read;

use oci::media_type::Compression;
use snapshot::{Received, Snapshots};

use super::coming::{self, Wanted};
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
    let wanted = Wanted {
        blob: layer.blob,
        size: layer.size,
        blobs,
        watch,
    };
    let received = coming::fetch(store, &wanted, |coming| read(snapshots, layer, coming))?;
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
