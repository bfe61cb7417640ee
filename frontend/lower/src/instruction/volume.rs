//! `VOLUME`: paths that hold volumes. Nothing is made at build time (G16).

use oci::config::Empty;

use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, go};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    paths: &[String],
) -> Result<(), PlanError> {
    let paths: Vec<String> = paths
        .iter()
        .map(|it| lowering.expand(state, step, it))
        .collect::<Result<_, _>>()?;
    if paths.is_empty() || paths.iter().any(String::is_empty) {
        return Err(PlanError::at(step.span, PlanErrorKind::BlankVolume));
    }
    state.note(format!("VOLUME {}", go::list(&paths)));
    state
        .image
        .config
        .volumes
        .extend(paths.into_iter().map(|it| (it, Empty {})));
    Ok(())
}
