//! Lays trees over each other, and takes them apart again.
//!
//! Layers are shared where they can be: the first input of a merge stays what it is, and of a
//! difference whose first input is a part of the second's chain only the upper layers are taken. Their
//! directories are linked into new layers, file by file, so that nothing is copied.

use snapshot::{SnapshotError, SnapshotId};

use crate::{Ops, Ref};

/// Why trees could not be laid over each other.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A directory of the session has no layers.
    #[error("a local directory cannot be merged")]
    Local,
    /// A difference has a lower and an upper input.
    #[error("a difference needs two inputs and has {0}")]
    Inputs(usize),
    /// A layer could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

pub(crate) fn merge(ops: &Ops, inputs: &[Ref]) -> Result<Ref, MergeError> {
    let mut tops = inputs
        .iter()
        .map(top)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let mut merged = tops.next().flatten();
    for top in tops.flatten() {
        merged = match merged {
            None => Some(top),
            Some(below) => Some(
                ops.snapshots
                    .stack(Some(below), &ops.snapshots.chain(top)?)?,
            ),
        };
    }
    Ok(Ref::Snapshot(merged))
}

pub(crate) fn diff(ops: &Ops, inputs: &[Ref]) -> Result<Ref, MergeError> {
    let [lower, upper] = inputs else {
        return Err(MergeError::Inputs(inputs.len()));
    };
    let (lower, upper) = (top(lower)?, top(upper)?);
    let Some(upper) = upper else {
        return Ok(Ref::Snapshot(None));
    };
    let Some(lower) = lower else {
        return Ok(Ref::Snapshot(Some(upper)));
    };
    let (below, above) = (ops.snapshots.chain(lower)?, ops.snapshots.chain(upper)?);
    if let Some(own) = above.strip_prefix(below.as_slice()) {
        return if own.is_empty() {
            Ok(Ref::Snapshot(None))
        } else {
            Ok(Ref::Snapshot(Some(ops.snapshots.stack(None, own)?)))
        };
    }
    Ok(Ref::Snapshot(Some(ops.snapshots.difference(lower, upper)?)))
}

fn top(of: &Ref) -> Result<Option<SnapshotId>, MergeError> {
    match of {
        Ref::Snapshot(top) => Ok(*top),
        Ref::Local(_) => Err(MergeError::Local),
    }
}
