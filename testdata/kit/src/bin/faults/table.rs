//! What the runs came to, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Record;
use crate::campaign::Campaign;

/// Counts, by kind of fault.
#[derive(Debug)]
pub(crate) struct Table {
    seed: u64,
    rows: BTreeMap<String, Row>,
}

#[derive(Debug, Default)]
struct Row {
    cases: usize,
    struck: usize,
    failures: usize,
    seconds: f64,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            rows: BTreeMap::new(),
        }
    }

    /// Counts a case.
    pub(crate) fn add(&mut self, record: &Record) {
        let row = self.rows.entry(record.kind.clone()).or_default();
        row.cases += 1;
        row.struck += usize::from(record.struck);
        row.failures += usize::from(record.problem.is_some());
        row.seconds += record.seconds;
    }

    /// How many cases were counted.
    pub(crate) fn cases(&self) -> usize {
        self.rows.values().map(|it| it.cases).sum()
    }

    /// How many of them failed.
    pub(crate) fn failures(&self) -> usize {
        self.rows.values().map(|it| it.failures).sum()
    }

    /// The table, with a line for each kind that had cases.
    pub(crate) fn draw(&self, campaigns: &[Box<dyn Campaign>], took: Duration) -> String {
        let mut text = format!(
            "seed {}, {:.0} seconds\n\n{:<8}  {:<44} {:>6} {:>7} {:>9} {:>8}\n",
            self.seed,
            took.as_secs_f64(),
            "kind",
            "what happens",
            "cases",
            "struck",
            "failures",
            "seconds"
        );
        for campaign in campaigns {
            if let Some(row) = self.rows.get(campaign.name()) {
                text += &format!(
                    "{:<8}  {:<44} {:>6} {:>7} {:>9} {:>8.0}\n",
                    campaign.name(),
                    campaign.about(),
                    row.cases,
                    row.struck,
                    row.failures,
                    row.seconds
                );
            }
        }
        text
    }
}
