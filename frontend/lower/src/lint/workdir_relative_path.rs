//! A relative `WORKDIR` with nothing but the base image to be relative to.

use dockerfile_parser::quote;

use super::Lint;
use crate::state::Step;

pub(crate) fn workdir_relative_path(lint: &mut Lint, step: &Step<'_>, path: &str) {
    if !path.starts_with('/') {
        let message = format!(
            "Relative workdir {} can have unexpected results if the base image changes",
            quote(path)
        );
        lint.warn("WorkdirRelativePath", step.span, message);
    }
}
