//! Two stages of one name: the first can no longer be named.

use dockerfile_parser::quote;

use super::Lint;
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    for (index, stage) in declared.stages.iter().enumerate() {
        let Some(name) = stage
            .name
            .filter(|it| declared.last_named(it, index).is_some())
        else {
            continue;
        };
        let message = format!(
            "Duplicate stage name {}, stage names should be unique",
            quote(&name.to_lowercase())
        );
        lint.warn("DuplicateStageName", stage.from.span, message);
    }
}
