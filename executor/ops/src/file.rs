//! Runs the actions of a file op.

use llb::op::File;

use crate::{Context, Ops, Ref};

/// Why a file op gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is nothing at a copy's source.
    #[error("{path:?}: not found")]
    NotFound {
        /// The source, absolute in its tree.
        path: String,
    },
}

pub(crate) fn run(
    ops: &Ops,
    file: &File,
    inputs: &[Ref],
    context: &Context<'_>,
) -> Result<Vec<Ref>, FileError> {
    let _ = (ops, file, inputs, context);
    Err(FileError::NotFound {
        path: String::new(),
    })
}
