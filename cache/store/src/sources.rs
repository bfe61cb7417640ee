//! What makes it cheap to bring a source in again: mirrors of repositories, what servers answered last.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use oci::Key;
use rustix::fs::FlockOperation;

use crate::usage::{Item, Stored};
use crate::{Store, StoreError, locks, owner};

const DIRECTORY: &str = "sources";
/// The file that says what a source is called; it was written when the source was last used.
const NAME: &str = "name";

impl Store {
    /// The directory that belongs to the source that `key` names, made if it is new.
    ///
    /// Whoever reads or changes what is in it holds [`Store::lock_key`] of the same key. It is only
    /// ever a hint: it may be empty at any time, and what is found there is to be checked.
    pub fn source_directory(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let all = self.root().join(DIRECTORY);
        let path = all.join(key.to_string());
        for directory in [&all, &path] {
            locks::claim_directory(directory)
                .map_err(|fault| fault.at(self.root(), "keep a source"))?;
        }
        Ok(path)
    }

    /// Notes that a source is used, and what people call it: from now on its directory is an item of
    /// the cache, which goes when it was not used for long.
    pub fn note_source(&self, key: &Key, name: &str) -> Result<(), StoreError> {
        let path = self.source_directory(key)?.join(NAME);
        let failed = |error| StoreError::file(self.root(), "write", &path, error);
        match File::options().append(true).open(&path) {
            Ok(file) => file.set_modified(SystemTime::now()).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&path, name).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The directory of a source, by its name among them.
    pub(crate) fn source_path(&self, directory: &str) -> PathBuf {
        self.root().join(DIRECTORY).join(directory)
    }

    /// The sources that have a name.
    pub(crate) fn sources(&self) -> Result<Vec<Item>, StoreError> {
        let all = self.root().join(DIRECTORY);
        let entries = match fs::read_dir(&all) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::file(self.root(), "read", &all, error)),
        };
        let named = entries
            .flatten()
            .filter_map(|entry| item(&entry.path(), entry.file_name().to_string_lossy().into()));
        let mut items: Vec<Item> = named.collect();
        items.sort_by_key(|it| it.created);
        Ok(items)
    }

    /// Removes what is kept of a source, unless somebody brings it in right now.
    pub(crate) fn remove_source(&self, directory: &str) -> Result<bool, StoreError> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        let Some(_lock) = self.lock(directory, operation)? else {
            return Ok(false);
        };
        let path = self.source_path(directory);
        let aside = self.write("remove a source", |_| self.move_aside(&path))?;
        if let Some(path) = &aside {
            owner::remove_tree(path)
                .map_err(|error| StoreError::file(self.root(), "remove", path, error))?;
        }
        Ok(aside.is_some())
    }
}

/// The item that a source with a name is.
fn item(path: &Path, directory: String) -> Option<Item> {
    let noted = path.join(NAME);
    let metadata = fs::metadata(&noted).ok()?;
    let used = Timestamp::try_from(metadata.modified().ok()?).ok()?;
    let created = metadata.created().ok().map(Timestamp::try_from);
    Some(Item {
        what: Stored::Source(directory),
        parent: None,
        size: 0,
        description: format!("a mirror of {}", fs::read_to_string(&noted).ok()?),
        created: created.and_then(Result::ok).unwrap_or(used),
        used,
        uses: 0,
        cost: Duration::ZERO,
        in_use: false,
        shared: false,
    })
}
