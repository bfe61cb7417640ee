//! `FROM x as y`: the two keywords should be written alike.

use super::{Lint, is_lower, is_upper};
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    for stage in &declared.stages {
        let from = stage.from.keyword();
        let Some(keyword) = stage.as_keyword.filter(|it| !are_alike(from, it)) else {
            continue;
        };
        let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
        lint.warn("FromAsCasing", stage.from.span, message);
    }
}

/// Both in capitals or both without; a mixed one is another rule's business.
fn are_alike(from: &str, keyword: &str) -> bool {
    match (is_upper(from), is_lower(from)) {
        (true, _) => is_upper(keyword),
        (_, true) => is_lower(keyword),
        _ => true,
    }
}
