//! `WORKDIR`: the directory of what follows, made where it is missing (G44, G45).

use llb::op::{File, FileAction, FileChange, OwnerNames, Tree};
use llb::{Input, Op};

use crate::lint::rule;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, owner, path};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    written: &str,
) -> Result<(), PlanError> {
    let written = lowering.expand(state, step, written)?;
    if !state.workdir_set {
        rule::workdir_relative_path(&mut lowering.lint, step, &written);
    }
    state.workdir_set = true;
    let directory = path::join(&state.image.config.working_dir, &written);
    if directory.len() > path::LONGEST {
        let kind = PlanErrorKind::PathLength {
            what: "WORKDIR",
            length: directory.len(),
            most: path::LONGEST,
        };
        return Err(PlanError::at(step.span, kind));
    }
    state.image.config.working_dir.clone_from(&directory);
    let text = format!("WORKDIR {directory}");
    if directory == "/" {
        state.note(text);
        return Ok(());
    }
    let made = make(lowering, state, step, &directory)?;
    state.commit(made, text);
    Ok(())
}

fn make(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    directory: &str,
) -> Result<Input, PlanError> {
    let user = state.image.config.user.as_str();
    let owner = (!user.is_empty())
        .then(|| owner::parse(user, OwnerNames::ChangedOrRoot))
        .transpose();
    // A USER that is none fails at the RUN that needs it; a directory does not.
    let owner = owner.unwrap_or(None);
    let base = if state.root.is_some() {
        Tree::Input(0)
    } else {
        Tree::Scratch
    };
    let change = FileChange::MakeDirectory {
        path: directory.to_owned(),
        mode: 0o755,
        owner,
    };
    let op = Op::File(File {
        actions: vec![FileAction {
            base,
            change,
            output: true,
        }],
    });
    let name = state.step_name(&lowering.step_text(state, step, None));
    let metadata = state.metadata(name, step);
    let vertex = lowering
        .graph
        .add(op, state.root.into_iter().collect(), metadata);
    Ok(Input { vertex, output: 0 })
}
