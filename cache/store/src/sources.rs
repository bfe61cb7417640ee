//! What makes it cheap to bring a source in again: mirrors of repositories, what servers answered last.

use std::path::PathBuf;

use oci::Key;

use crate::{Store, StoreError, locks};

const DIRECTORY: &str = "sources";

impl Store {
    /// The directory that belongs to the source that `key` names, made if it is new.
    ///
    /// Whoever reads or changes what is in it holds [`Store::lock_key`] of the same key. It is only
    /// ever a hint: it may be empty at any time, and what is found there is to be checked.
    pub fn source_directory(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let all = self.root().join(DIRECTORY);
        let path = all.join(key.to_string());
        for directory in [&all, &path] {
            locks::make_directory(directory)
                .map_err(|fault| fault.at(self.root(), "keep a source"))?;
        }
        Ok(path)
    }
}
