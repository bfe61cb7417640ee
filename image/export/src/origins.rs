//! In which repositories a registry is known to have a blob, so that it can take it from there.

use std::fs;
use std::path::PathBuf;

use oci::{Digest, KeyHasher, Reference};
use store::{KeyLock, Store, StoreError};

/// How many repositories are remembered of a blob: the latest.
const MOST: usize = 4;
/// How many blobs are remembered of a registry. Then it begins anew: this is only ever a hint.
const MOST_BLOBS: usize = 4096;

/// What is remembered of one registry. Held by one at a time, and briefly.
pub(crate) struct Origins {
    directory: PathBuf,
    _lock: KeyLock,
}

impl Origins {
    /// What is remembered of the registry of `reference`.
    pub(crate) fn of(store: &Store, reference: &Reference) -> Result<Self, StoreError> {
        let key = KeyHasher::new("blobs of a registry")
            .text(reference.registry())
            .finish();
        Ok(Self {
            _lock: store.lock_key(&key)?,
            directory: store.source_directory(&key)?,
        })
    }

    /// A repository other than that of `reference` that has the blob.
    pub(crate) fn elsewhere(&self, blob: &Digest, reference: &Reference) -> Option<String> {
        let known = self.known(blob);
        known
            .into_iter()
            .find(|it| it != reference.repository() && is_repository(reference, it))
    }

    /// Remembers that the repository of `reference` has the blob. That it cannot be is no reason to fail.
    pub(crate) fn add(&self, blob: &Digest, reference: &Reference) {
        let mut known = self.known(blob);
        if known.first().is_some_and(|it| it == reference.repository()) {
            return;
        }
        known.retain(|it| it != reference.repository());
        known.insert(0, reference.repository().to_owned());
        known.truncate(MOST);
        let path = self.directory.join(blob.hex());
        if !path.exists() && fs::read_dir(&self.directory).is_ok_and(|it| it.count() >= MOST_BLOBS)
        {
            let _ = fs::remove_dir_all(&self.directory);
            let _ = fs::create_dir(&self.directory);
        }
        if let Err(error) = fs::write(path, known.join("\n")) {
            tracing::debug!(%error, "where the blob is is not remembered");
        }
    }

    fn known(&self, blob: &Digest) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join(blob.hex())).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// What comes from a file goes into an address only if it is what it should be.
fn is_repository(reference: &Reference, repository: &str) -> bool {
    let name = format!("{}/{repository}", reference.registry());
    name.parse::<Reference>()
        .is_ok_and(|it| it.repository() == repository)
}
