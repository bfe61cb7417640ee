//! `run` among `RUN`s: keywords should be written as most of them are.

use dockerfile_parser::Instruction;

use super::{Lint, is_lower, is_upper};
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    let instructions = || {
        declared
            .stages
            .iter()
            .flat_map(|it| [it.from].into_iter().chain(it.instructions))
    };
    let count = |is: fn(&str) -> bool| instructions().filter(|it| is(it.keyword())).count();
    let majority = if count(is_lower) > count(is_upper) {
        "lowercase"
    } else {
        "uppercase"
    };
    let differs = |it: &&Instruction| match majority {
        "lowercase" => !is_lower(it.keyword()),
        _ => !is_upper(it.keyword()),
    };
    for instruction in instructions().filter(differs) {
        let keyword = instruction.keyword();
        let message = format!(
            "Command '{keyword}' should match the case of the command majority ({majority})"
        );
        lint.warn("ConsistentInstructionCasing", instruction.span, message);
    }
}
