//! `ENTRYPOINT`: what a container always runs.

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
    let before = state.own.entrypoint.replace(step.span);
    rule::multiple_instructions_disallowed(&mut lowering.lint, step, before);
    let words = super::arguments(state, command);
    state.note(format!("ENTRYPOINT {}", go::quoted_list(&words)));
    // A command that the base set was meant for the base's entry point (G48).
    if state.own.cmd.is_none() {
        state.image.config.cmd = None;
    }
    state.image.config.entrypoint = (!words.is_empty()).then_some(words);
    Ok(())
}
