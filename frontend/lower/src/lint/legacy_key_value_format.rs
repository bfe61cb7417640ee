//! `ENV KEY VALUE`: the `=` is missing.

use dockerfile_parser::{Instruction, InstructionKind};

use super::Lint;

pub(super) fn check(instruction: &Instruction, lint: &mut Lint) {
    let (InstructionKind::Env(pairs) | InstructionKind::Label(pairs)) = &instruction.kind else {
        return;
    };
    if !pairs.legacy {
        return;
    }
    let keyword = instruction.keyword();
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    lint.warn("LegacyKeyValueFormat", instruction.span, message);
}
