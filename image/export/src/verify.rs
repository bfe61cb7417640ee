//! Compares layers as they travel with the layers that they are on record as.

use std::fs::File;
use std::io;

use oci::{Digest, Sha256};
use store::{Damage, Store, StoreError};

use crate::decoder;

/// The blobs that do not unpack to the layers that they are on record as. Reads and unpacks all of
/// them; those whose bytes are not even their own are [`Store::verify`]'s to find.
pub fn misfits(store: &Store) -> Result<Vec<Damage>, StoreError> {
    let mut misfits = Vec::new();
    for (diff_id, digest) in store.layer_blobs()? {
        let Ok(path) = store.blob_path(&digest) else {
            continue;
        };
        let fits = File::open(path).and_then(unpacked);
        // What was removed meanwhile fits nothing, and need not.
        if !fits.is_ok_and(|it| it == diff_id) && store.has_blob_row(&digest)? {
            misfits.push(Damage::Layer { digest, diff_id });
        }
    }
    Ok(misfits)
}

fn unpacked(packed: File) -> io::Result<Digest> {
    let (_, mut reader) = decoder(packed)?;
    let mut hasher = Sha256::default();
    io::copy(&mut reader, &mut hasher)?;
    Ok(hasher.finish())
}
