//! What is said about images that are in the store: kept as it was said, without the manifests that it is
//! said about, which are others each time an image is packed in another way.

use oci::Digest;
use store::{Store, StoreError};

use super::Predicate;
use crate::save::{SaveError, json, read_blob};

/// Keeps this of an image, in place of what was kept of it before. Whoever saves or pushes the image writes it
/// beside it.
///
/// # Errors
/// If the store cannot be written.
pub fn keep(store: &Store, image: &Digest, predicates: &[Predicate]) -> Result<(), StoreError> {
    let known = store.attestations(image)?;
    if predicates.is_empty() {
        return match known {
            Some(_) => store.keep_attestations(image, None),
            None => Ok(()),
        };
    }
    let digest = store.put_blob(&json(&predicates))?;
    store.keep_attestations(image, Some(&digest))
}

/// What is kept of an image. What cannot be read is as good as not there: nothing else depends on it.
pub(super) fn of(store: &Store, image: &Digest) -> Result<Vec<Predicate>, SaveError> {
    let Some(digest) = store.attestations(image)? else {
        return Ok(Vec::new());
    };
    if !store.has_blob(&digest)? {
        return Ok(Vec::new());
    }
    let bytes = read_blob(store, &digest)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}
