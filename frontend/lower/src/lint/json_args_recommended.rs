//! `CMD program`: a shell stands between the container and its program, and signals end there.

use dockerfile_parser::Command;

use super::Lint;
use crate::state::{State, Step};

pub(crate) fn json_args_recommended(
    lint: &mut Lint,
    state: &State,
    step: &Step<'_>,
    command: &Command,
) {
    let keyword = step.instruction.keyword();
    // Who sets a SHELL wants one.
    if matches!(command, Command::Shell(_)) && state.image.config.shell.is_empty() {
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        lint.warn("JSONArgsRecommended", step.span, message);
    }
}
