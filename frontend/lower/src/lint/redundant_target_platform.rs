//! `FROM --platform=$TARGETPLATFORM`: that is where it builds anyway.

use dockerfile_parser::words::Expansion;

use super::Lint;
use crate::scope::Env;
use crate::stage::Declared;

const TARGET: &str = "TARGETPLATFORM";

pub(crate) fn redundant_target_platform(
    lint: &mut Lint,
    stage: &Declared<'_>,
    written: &str,
    expanded: &Expansion,
    globals: &Env,
) {
    // Nothing but that variable, however it is written.
    let is_target = expanded.used.iter().eq([TARGET])
        && expanded.unset.is_empty()
        && globals.get(TARGET) == Some(&expanded.text);
    if is_target {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        lint.warn("RedundantTargetPlatform", stage.from.span, message);
    }
}
