//! A comment above a `FROM` or an `ARG` that does not begin with its name: `--call=outline` and
//! `--call=targets` would not show it.

use dockerfile_parser::{Instruction, InstructionKind};

use super::{Lint, check};
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    for instruction in declared.globals {
        check_one(instruction, lint);
    }
    for stage in &declared.stages {
        check_one(stage.from, lint);
        for instruction in stage.instructions {
            check_one(instruction, lint);
        }
    }
}

fn check_one(instruction: &Instruction, lint: &mut Lint) {
    let (keyword, names): (_, Vec<String>) = match &instruction.kind {
        InstructionKind::From { name, .. } => {
            ("FROM", name.iter().map(|it| it.to_lowercase()).collect())
        }
        InstructionKind::Arg(args) => ("ARG", args.iter().map(|(it, _)| it.clone()).collect()),
        _ => return,
    };
    // What a comment says to the linter describes nothing.
    let mut comments = instruction.comments.iter().rev();
    let comment = comments.find(|it| check::of_comment(it).is_none());
    let first = comment.and_then(|it| it.split(' ').next());
    let (Some(first), [name, others @ ..]) = (first, &names[..]) else {
        return;
    };
    if names.iter().any(|it| it.eq_ignore_ascii_case(first)) {
        return;
    }
    let name = if others.is_empty() { name } else { "<arg_key>" };
    let message =
        format!("Comment for {keyword} should follow the format: `# {name} <description>`");
    lint.warn("InvalidDefinitionDescription", instruction.span, message);
}
