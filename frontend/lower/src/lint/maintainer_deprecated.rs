//! `MAINTAINER`: a label says it better.

use dockerfile_parser::{Instruction, InstructionKind};

use super::Lint;

pub(super) fn check(instruction: &Instruction, lint: &mut Lint) {
    if matches!(instruction.kind, InstructionKind::Maintainer(_)) {
        let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
        lint.warn("MaintainerDeprecated", instruction.span, message);
    }
}
