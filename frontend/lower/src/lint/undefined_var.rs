//! A variable that nothing sets.

use dockerfile_parser::{Case, suggest};

use super::Lint;
use crate::scope;
use crate::state::{State, Step};

/// How many variables are compared with the one that was not found, in every such place.
const MOST_NAMES: usize = 200;

pub(super) fn check(lint: &mut Lint, name: &str, state: &State, step: &Step<'_>) {
    // One that is declared without a value is meant to be empty (G38).
    if scope::is_never_env(name) || state.args.contains_key(name) {
        return;
    }
    let mut message = format!("Usage of undefined variable '${name}'");
    let names = state.env.keys().take(MOST_NAMES);
    if let Some(meant) = suggest(name, names, Case::Sensitive) {
        message.push_str(&format!(" (did you mean ${meant}?)"));
    }
    lint.warn("UndefinedVar", step.span, message);
}
