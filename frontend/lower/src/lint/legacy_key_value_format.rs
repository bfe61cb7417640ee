//! `ENV KEY VALUE`: the `=` is missing.

use dockerfile_parser::{Instruction, InstructionKind};

use super::Lint;

pub(super) fn check(instruction: &Instruction, lint: &mut Lint) {
    let keyword = match &instruction.kind {
        InstructionKind::Env(pairs) if pairs.legacy => "ENV",
        InstructionKind::Label(pairs) if pairs.legacy => "LABEL",
        _ => return,
    };
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    lint.warn(
        "LegacyKeyValueFormat",
        instruction,
        instruction.span,
        message,
    );
}
