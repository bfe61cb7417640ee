//! Lays trees over each other, and takes them apart again.

use crate::{Ops, Ref};

/// Why trees could not be laid over each other.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A directory of the session has no layers.
    #[error("a local directory cannot be merged")]
    Local,
}

pub(crate) fn merge(ops: &Ops, inputs: &[Ref]) -> Result<Ref, MergeError> {
    let _ = (ops, inputs);
    Err(MergeError::Local)
}

pub(crate) fn diff(ops: &Ops, inputs: &[Ref]) -> Result<Ref, MergeError> {
    let _ = (ops, inputs);
    Err(MergeError::Local)
}
