//! A variable of a `FROM` that no global `ARG` declares.

use dockerfile_parser::{Case, suggest};

use super::Lint;
use crate::scope::Env;
use crate::stage::Declared;

pub(crate) fn undefined_arg_in_from(
    lint: &mut Lint,
    stage: &Declared<'_>,
    name: &str,
    known: &Env,
) {
    let mut message = format!("FROM argument '{name}' is not declared");
    if let Some(meant) = suggest(name, known.keys(), Case::Sensitive) {
        message.push_str(&format!(" (did you mean {meant}?)"));
    }
    lint.warn("UndefinedArgInFrom", stage.from, stage.from.span, message);
}
