//! Bytes that came of some work: what the table, which has costs, cannot show.

use std::sync::{Mutex, PoisonError};

/// How many bytes came of which row of the table, and whose they are.
pub(crate) struct Tally(Mutex<Vec<(&'static str, &'static str, u64)>>);

impl Tally {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn add(&self, row: &'static str, whose: &'static str, bytes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((row, whose, bytes));
    }

    /// A line for each row and contender with the median, which is called `what`; nothing is left.
    pub(crate) fn notes(&self, what: &str) -> Vec<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = std::mem::take(&mut *all);
        all.sort_unstable();
        let groups = all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
        groups
            .map(|group| {
                let (row, whose, bytes) = group[group.len() / 2];
                let megabytes = bytes as f64 / 1e6;
                format!("{row}, {whose}: {megabytes:.1} MB {what}")
            })
            .collect()
    }
}
