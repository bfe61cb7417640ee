//! `CMD`: what a container runs by default.

use dockerfile_parser::Command;

use crate::lint::rule;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, go};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    command: &Command,
) -> Result<(), PlanError> {
    rule::json_args_recommended(&mut lowering.lint, state, step, command);
    let before = state.own.cmd.replace(step.span);
    rule::multiple_instructions_disallowed(&mut lowering.lint, step, before);
    let words = super::arguments(state, command);
    state.note(format!("CMD {}", go::quoted_list(&words)));
    state.image.config.args_escaped = true;
    state.image.config.cmd = (!words.is_empty()).then_some(words);
    Ok(())
}
