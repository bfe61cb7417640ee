//! `FROM x AS Foo`: names of stages are the same whatever their case, so they should be written in one.

use super::Lint;
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    for stage in &declared.stages {
        let Some(name) = stage.name.filter(|it| it.to_lowercase() != **it) else {
            continue;
        };
        let message = format!("Stage name '{name}' should be lowercase");
        lint.warn("StageNameCasing", stage.from.span, message);
    }
}
