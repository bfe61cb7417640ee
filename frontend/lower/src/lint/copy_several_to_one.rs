//! Several sources and a destination that is not written as a directory: if it is none, the last
//! source wins (decision 3). No rule of BuildKit's.

use super::{Lint, unnamed};
use crate::state::Step;

pub(crate) fn copy_several_to_one(
    lint: &mut Lint,
    step: &Step<'_>,
    keyword: &str,
    sources: usize,
    destination: &str,
) {
    let is_directory = destination.ends_with('/')
        || matches!(destination, "" | "." | "..")
        || destination.ends_with("/.");
    if sources > 1 && !is_directory {
        let message = format!(
            "{keyword} of several sources to {destination:?}, which does not end with `/`: if it is no directory, only the last source remains"
        );
        lint.push(unnamed(message, Some(step.span)));
    }
}
