//! A stage called `scratch` or `context`: those names mean something else.

use dockerfile_parser::quote;

use super::Lint;
use crate::stage::Declarations;

pub(super) fn check(declared: &Declarations<'_>, lint: &mut Lint) {
    for stage in &declared.stages {
        let name = stage.name.unwrap_or_default().to_lowercase();
        if matches!(name.as_str(), "scratch" | "context") {
            let message = format!(
                "Stage name should not use the same name as reserved stage {}",
                quote(&name)
            );
            lint.warn("ReservedStageName", stage.from.span, message);
        }
    }
}
