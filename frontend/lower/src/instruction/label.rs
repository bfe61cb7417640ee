//! `LABEL`: what the image says of itself.

use dockerfile_parser::KeyValues;

use crate::PlanError;
use crate::lowering::Lowering;
use crate::state::{State, Step};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    pairs: &KeyValues,
) -> Result<(), PlanError> {
    let mut text = String::from("LABEL");
    for (key, value) in super::env::expand_pairs(lowering, state, step, pairs, "LABEL")? {
        text.push_str(&format!(" {key}={value}"));
        state.image.config.labels.insert(key, value);
    }
    state.note(text);
    Ok(())
}
