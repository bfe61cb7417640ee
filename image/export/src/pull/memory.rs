//! What registries said before, so that it is asked for only once: documents by their digest, and
//! what tags stood for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci::{Digest, KeyHasher, Reference};
use store::{KeyLock, Store, StoreError};

/// How many documents of a repository are kept: those of some hundred images.
const MOST: usize = 512;

/// What is remembered of one repository. Held by one at a time, and briefly.
pub(super) struct Memory {
    directory: PathBuf,
    _lock: KeyLock,
}

impl Memory {
    pub(super) fn of(store: &Store, reference: &Reference) -> Result<Self, StoreError> {
        let key = KeyHasher::new("repository of a registry")
            .text(&reference.name())
            .finish();
        Ok(Self {
            _lock: store.lock_key(&key)?,
            directory: store.source_directory(&key)?,
        })
    }

    /// The document with this digest. What the file holds is compared with its name.
    pub(super) fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.directory.join(digest.hex())).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Remembers a document. That it cannot be is no reason to fail.
    pub(super) fn keep(&self, bytes: &[u8]) {
        self.make_room();
        self.write(&Digest::of(bytes).hex(), bytes);
    }

    /// What the tag stood for when it was last asked for.
    pub(super) fn tag(&self, tag: &str) -> Option<Digest> {
        let text = fs::read_to_string(self.tag_path(tag)).ok()?;
        text.trim().parse().ok()
    }

    pub(super) fn keep_tag(&self, tag: &str, digest: &Digest) {
        if self.tag(tag) != Some(*digest) {
            self.write(&tag_file(tag), digest.to_string().as_bytes());
        }
    }

    fn tag_path(&self, tag: &str) -> PathBuf {
        self.directory.join(tag_file(tag))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let aside = self.directory.join("new");
        let written =
            fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, self.directory.join(name)));
        if let Err(error) = written {
            tracing::warn!(%error, "what the registry said is not remembered");
        }
    }

    /// Forgets everything once it has become too much: it is asked for again.
    fn make_room(&self) {
        if count(&self.directory).is_ok_and(|count| count >= MOST) {
            let _ = fs::remove_dir_all(&self.directory);
            let _ = fs::create_dir(&self.directory);
        }
    }
}

/// A tag never begins with a dot, and a digest in hex has none.
fn tag_file(tag: &str) -> String {
    format!("tag.{tag}")
}

fn count(directory: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
