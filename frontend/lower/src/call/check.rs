//! What is odd or wrong in a file.

use dockerfile_parser::Dockerfile;

use crate::lowering::Lowering;
use crate::{Images, Options, PlanError, PlanErrorKind, Warning, check_frontend};

/// What is odd or wrong in a file.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is odd, in the order of the file; up to where it could be read, if there is an error.
    pub warnings: Vec<Warning>,
    /// Why it cannot be built.
    pub error: Option<PlanError>,
}

/// Everything that planning `dockerfile` brings to light. That the file wants its warnings to be
/// errors makes no difference: they are the answer.
pub fn check(dockerfile: &Dockerfile, options: &Options, images: &dyn Images) -> Checked {
    let lowering = check_frontend(dockerfile, options)
        .and_then(|()| Lowering::new(dockerfile, options, images));
    let mut lowering = match lowering {
        Ok(lowering) => lowering,
        Err(error) => {
            return Checked {
                warnings: Vec::new(),
                error: Some(error),
            };
        }
    };
    let planned = lowering.run().and_then(|target| lowering.finish(target));
    let (warnings, error) = match planned {
        Ok(plan) => (plan.warnings, None),
        Err(error) if matches!(*error.kind, PlanErrorKind::Lint { .. }) => {
            (lowering.lint.take_warnings(), None)
        }
        Err(error) => (lowering.lint.take_warnings(), Some(error)),
    };
    Checked { warnings, error }
}
