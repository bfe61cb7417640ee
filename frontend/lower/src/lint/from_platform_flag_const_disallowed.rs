//! `FROM --platform=linux/amd64`: the file then builds for nothing else.

use dockerfile_parser::quote;
use oci::Platform;

use super::Lint;
use crate::stage::Declared;

pub(crate) fn from_platform_flag_const_disallowed(
    lint: &mut Lint,
    stage: &Declared<'_>,
    written: &str,
    platform: &Platform,
) {
    // A stage that is called by its platform means it.
    let names_it = stage.name.is_some_and(|it| {
        let name = it.to_lowercase();
        name.contains(&platform.os) || name.contains(&platform.architecture)
    });
    if !written.contains('$') && !names_it {
        let message = format!(
            "FROM --platform flag should not use constant value {}",
            quote(written)
        );
        lint.warn("FromPlatformFlagConstDisallowed", stage.from.span, message);
    }
}
