//! A variable of a `FROM` that no global `ARG` declares.

use dockerfile_parser::{Case, InstructionKind, suggest};

use super::Lint;
use crate::scope::Env;
use crate::stage::Declarations;

pub(crate) fn undefined_arg_in_from(
    lint: &mut Lint,
    declared: &Declarations<'_>,
    index: usize,
    name: &str,
    known: &Env,
) {
    // One that is declared without a value is a build-arg that is missing, not a slip.
    if global_names(declared).any(|it| it == name) {
        return;
    }
    let mut message = format!("FROM argument '{name}' is not declared");
    let names = known.keys().chain(global_names(declared));
    if let Some(meant) = suggest(name, names, Case::Sensitive) {
        message.push_str(&format!(" (did you mean {meant}?)"));
    }
    let from = declared.stages[index].from;
    lint.warn("UndefinedArgInFrom", from.span, message);
}

fn global_names<'a>(declared: &'a Declarations<'_>) -> impl Iterator<Item = &'a str> {
    let args = declared.globals.iter().filter_map(|it| match &it.kind {
        InstructionKind::Arg(args) => Some(args),
        _ => None,
    });
    args.flatten().map(|(name, _)| name.as_str())
}
