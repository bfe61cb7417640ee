//! What one build did, noted while it runs, for the history.

use std::sync::{Mutex, PoisonError};

use llb::Key;
use store::RanStep;

/// What one build did. Threads may write at once.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ran: Mutex<Vec<RanStep>>,
    found: Mutex<Vec<Key>>,
}

impl Ledger {
    /// A step ran to its end.
    pub(crate) fn ran(&self, step: RanStep) {
        self.ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(step);
    }

    /// The result of this key was taken from the cache.
    pub(crate) fn found(&self, key: Key) {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
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
