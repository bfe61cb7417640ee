//! `ONBUILD`: instructions for whoever builds `FROM` the image.

use dockerfile_parser::{Instruction, InstructionKind, parse_trigger};

use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind};

/// Stores a trigger. It is expanded where it runs, not here (G19).
pub(super) fn lower(
    state: &mut State,
    step: &Step<'_>,
    text: &str,
    trigger: &Instruction,
) -> Result<(), PlanError> {
    check(trigger).map_err(|kind| PlanError::at(step.span, kind))?;
    state.image.config.on_build.push(text.to_owned());
    Ok(())
}

fn check(trigger: &Instruction) -> Result<(), PlanErrorKind> {
    match trigger.kind {
        InstructionKind::OnBuild { .. } => Err(PlanErrorKind::TriggerChain),
        InstructionKind::From { .. } | InstructionKind::Maintainer(_) => Err(
            PlanErrorKind::TriggerKeyword(trigger.keyword().to_uppercase()),
        ),
        _ => Ok(()),
    }
}

/// Runs the triggers of what stage `index` is built from, as if they stood behind its `FROM`. They
/// are gone then: a grandchild does not see them.
pub(crate) fn run_triggers(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    index: usize,
) -> Result<(), PlanError> {
    let declared = lowering.declared.stages[index];
    let texts = std::mem::take(&mut state.image.config.on_build);
    let mut triggers = Vec::with_capacity(texts.len());
    for text in texts {
        let fail = |why: String| {
            let kind = PlanErrorKind::Trigger {
                trigger: text.clone(),
                image: declared.image.to_owned(),
                why,
            };
            PlanError::at(declared.from.span, kind)
        };
        let trigger = parse_trigger(&text).map_err(|problem| fail(problem.message))?;
        check(&trigger).map_err(|kind| fail(kind.to_string()))?;
        triggers.push(trigger);
    }
    state.own.steps += triggers.iter().filter(|it| super::is_step(it)).count();
    for instruction in &triggers {
        let step = Step {
            instruction,
            span: declared.from.span,
            escape: '\\',
            is_trigger: true,
        };
        super::lower(lowering, state, &step)?;
    }
    Ok(())
}
