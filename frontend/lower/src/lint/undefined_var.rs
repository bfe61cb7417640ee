//! A variable that nothing sets.

use dockerfile_parser::{Case, suggest};

use super::Lint;
use crate::scope;
use crate::state::{State, Step};

pub(super) fn check(lint: &mut Lint, name: &str, state: &State, step: &Step<'_>) {
    // One that is declared without a value is meant to be empty (G38).
    if scope::is_never_env(name) || state.args.iter().any(|(declared, _)| declared == name) {
        return;
    }
    let mut message = format!("Usage of undefined variable '${name}'");
    if let Some(meant) = suggest(name, state.env.keys(), Case::Sensitive) {
        message.push_str(&format!(" (did you mean ${meant}?)"));
    }
    lint.warn("UndefinedVar", step.span, message);
}
