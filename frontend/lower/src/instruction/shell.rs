//! `SHELL`: what runs commands in shell form from here on (G50).

use crate::state::State;
use crate::{PlanError, go};

/// What runs them where the image says nothing.
const DEFAULT: [&str; 2] = ["/bin/sh", "-c"];

pub(super) fn lower(state: &mut State, words: &[String]) -> Result<(), PlanError> {
    state.note(format!("SHELL {}", go::list(words)));
    state.image.config.shell = words.to_vec();
    Ok(())
}

/// `text` as the one argument of `shell`.
pub(super) fn wrap(shell: &[String], text: &str) -> Vec<String> {
    let default = DEFAULT.iter().copied().filter(|_| shell.is_empty());
    let shell = default.chain(shell.iter().map(String::as_str));
    shell.chain([text]).map(str::to_owned).collect()
}
