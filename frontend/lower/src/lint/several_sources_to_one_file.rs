//! Several sources and a destination that is not written as a directory: if it is none, the last
//! source wins (decision 3). No rule of BuildKit's.

use super::Lint;
use crate::state::Step;

pub(crate) fn several_sources_to_one_file(
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
        lint.warn("SeveralSourcesToOneFile", step.span, message);
    }
}
