//! `ENV`: variables that stay in the image.

use dockerfile_parser::KeyValues;

use crate::lint::rule;
use crate::lowering::Lowering;
use crate::scope::Env;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    pairs: &KeyValues,
) -> Result<(), PlanError> {
    let pairs = expand_pairs(lowering, state, step, pairs, "ENV")?;
    let mut text = String::from("ENV");
    let mut image = match state.image_env.take() {
        Some(env) => env,
        None => Env::from_lines(&state.image.config.env),
    };
    for (key, value) in &pairs {
        rule::secrets_used_in_arg_or_env(&mut lowering.lint, step, "ENV", key);
        text.extend([" ", key, "=", value]);
        state.env.set(key, value);
        image.set(key, value);
    }
    state.image_env = Some(image);
    state.note(text);
    Ok(())
}

/// The pairs of `ENV` or `LABEL`, all expanded with what held before the instruction (G14).
pub(super) fn expand_pairs(
    lowering: &mut Lowering<'_>,
    state: &State,
    step: &Step<'_>,
    pairs: &KeyValues,
    keyword: &'static str,
) -> Result<Vec<(String, String)>, PlanError> {
    let mut expanded = Vec::with_capacity(pairs.pairs.len());
    for (key, value) in &pairs.pairs {
        let key = lowering.expand(state, step, key)?;
        if key.is_empty() {
            return Err(PlanError::at(step.span, PlanErrorKind::BlankName(keyword)));
        }
        expanded.push((key, lowering.expand(state, step, value)?));
    }
    Ok(expanded)
}
