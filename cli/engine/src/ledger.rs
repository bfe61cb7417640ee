//! What one build did, noted while it runs, for the history.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use llb::Key;
use snapshot::{Counting, Entry, SnapshotId};
use solve::explain::FileMark;
use store::{RanStep, Store, StoreError};

/// How many files of a mount are noted, so that an explanation can name those that differ: of more, a
/// record would be larger than what it is about.
const MOST_FILES: usize = 2000;

/// What one build did. Threads may write at once.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ran: Mutex<Vec<RanStep>>,
    found: Mutex<Vec<Key>>,
    /// The snapshots that were taken from the cache.
    taken: Mutex<BTreeSet<SnapshotId>>,
    /// The files of mounted trees, by the checksums of those.
    files: Mutex<HashMap<Key, BTreeMap<String, FileMark>>>,
}

impl Ledger {
    /// A step ran to its end.
    pub(crate) fn ran(&self, step: RanStep) {
        self.ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(step);
    }

    /// The result of this key was found in the cache.
    pub(crate) fn found(&self, key: Key) {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
    }

    /// These snapshots were taken from the cache, made by somebody else.
    pub(crate) fn took(&self, outputs: impl Iterator<Item = SnapshotId>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(outputs);
    }

    /// Whether something that was taken from the cache is not there any more: somebody pruned it
    /// between its look-up and its use.
    pub(crate) fn is_bereft(&self, store: &Store) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone =
            |id: &SnapshotId| matches!(store.snapshot(*id), Err(StoreError::MissingSnapshot(_)));
        taken.iter().any(is_gone)
    }

    /// The build begins anew: what failed for want of something did not fail.
    pub(crate) fn begin_anew(&self) {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|step| step.failure.is_none());
    }

    /// A tree with this checksum, of which a step sees these files.
    pub(crate) fn saw(&self, checksum: Key, entries: &[Entry]) {
        if entries.len() > MOST_FILES {
            return;
        }
        let marks = entries
            .iter()
            .map(|entry| (entry.path().display().to_string(), mark(entry)))
            .collect();
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(checksum, marks);
    }

    /// The files of a tree with this checksum, if they were noted.
    pub(crate) fn files(&self, checksum: &Key) -> BTreeMap<String, FileMark> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(checksum).cloned().unwrap_or_default()
    }

    /// The steps that ran, in the order in which they ended.
    pub(crate) fn steps(&self) -> Vec<RanStep> {
        self.ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The keys of the results that were found.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn mark(entry: &Entry) -> FileMark {
    let mut content = entry.digest(Counting::NoMode).to_string();
    content.truncate(16);
    FileMark {
        mode: entry.mode,
        content,
        directory: entry.is_directory(),
    }
}
