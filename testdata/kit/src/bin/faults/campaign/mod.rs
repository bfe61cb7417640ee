//! The kinds of fault.

mod calls;
mod cuts;
mod damages;
mod kills;
mod sizes;

use anyhow::Result;

use crate::lab::Lab;
use crate::seed::Chance;

/// Whether a case came to what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The fault happened.
    Struck,
    /// What was to be disturbed was over before, or never came to the place.
    Missed,
}

/// One kind of fault.
///
/// A case brings a store into a state, lets the fault happen, and has the lab judge what comes after. What is wrong
/// then is the error.
pub(crate) trait Campaign {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;

    /// What is done, in a few words.
    fn about(&self) -> &'static str;

    /// How many cases are enough: in a full run, and in a small one.
    fn counts(&self) -> (usize, usize);

    /// Does one case of `of`.
    fn case(&self, lab: &Lab, case: Case) -> Result<Outcome>;
}

/// Which case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// From 0.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) of: usize,
    /// Its own.
    pub(crate) chance: Chance,
}

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Campaign>> {
    vec![
        Box::new(kills::Kills),
        Box::new(calls::Calls::default()),
        Box::new(cuts::Cuts),
        Box::new(sizes::Sizes),
        Box::new(damages::Damages),
    ]
}
