//! `USER`: who runs what follows, and the container. Looked up when something runs (G46).

use crate::PlanError;
use crate::lowering::Lowering;
use crate::state::{State, Step};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    user: &str,
) -> Result<(), PlanError> {
    let user = lowering.expand(state, step, user)?;
    state.note(format!("USER {user}"));
    state.image.config.user = user;
    Ok(())
}
