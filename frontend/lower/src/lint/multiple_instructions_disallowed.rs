//! A second `CMD`: the first is lost, and that is where the warning points.

use dockerfile_parser::Span;

use super::Lint;
use crate::state::Step;

pub(crate) fn multiple_instructions_disallowed(
    lint: &mut Lint,
    step: &Step<'_>,
    before: Option<Span>,
) {
    let Some(before) = before else { return };
    let keyword = step.instruction.keyword();
    let message = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    lint.warn("MultipleInstructionsDisallowed", before, message);
}
