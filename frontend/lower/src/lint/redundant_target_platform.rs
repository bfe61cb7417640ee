//! `FROM --platform=$TARGETPLATFORM`: that is where it builds anyway.

use super::Lint;
use crate::stage::Declared;

pub(crate) fn redundant_target_platform(lint: &mut Lint, stage: &Declared<'_>, written: &str) {
    if matches!(written, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        lint.warn(
            "RedundantTargetPlatform",
            stage.from,
            stage.from.span,
            message,
        );
    }
}
