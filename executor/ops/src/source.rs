//! Sources: images whose layers are in the store, directories that the session lends.

use llb::op::Source;

use crate::{Context, Ops, Ref};

/// Why a source could not be brought in.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The session has no directory of that name.
    #[error("no local directory {name:?} in this build")]
    NoLocal {
        /// The name.
        name: String,
    },
}

pub(crate) fn run(ops: &Ops, source: &Source, context: &Context<'_>) -> Result<Ref, SourceError> {
    let _ = (ops, source, context);
    Err(SourceError::NoLocal {
        name: String::new(),
    })
}
