//! A `COPY` of what `.dockerignore` keeps out: it will not be found (G60).

use dockerfile_parser::ignore::Patterns;
use dockerfile_parser::quote;

use super::Lint;
use crate::path;
use crate::state::Step;

pub(crate) fn copy_ignored_file(
    lint: &mut Lint,
    step: &Step<'_>,
    keyword: &str,
    source: &str,
    patterns: &Patterns,
) {
    let source = path::join("/", source);
    let source = source.trim_start_matches('/');
    if patterns.is_empty()
        || patterns.has_reinclusions()
        || source.is_empty()
        || !patterns.is_excluded(source)
    {
        return;
    }
    let keyword = if keyword == "ADD" { "Add" } else { "Copy" };
    let message = format!(
        "Attempting to {keyword} file {} that is excluded by .dockerignore",
        quote(source)
    );
    lint.warn("CopyIgnoredFile", step.span, message);
}
