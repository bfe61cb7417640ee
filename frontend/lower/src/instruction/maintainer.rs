//! `MAINTAINER`: the old way to say who made the image.

use crate::PlanError;
use crate::state::State;

pub(super) fn lower(state: &mut State, name: &str) -> Result<(), PlanError> {
    name.clone_into(&mut state.image.author);
    state.note(format!("MAINTAINER {name}"));
    Ok(())
}
