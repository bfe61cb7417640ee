//! `ARG V` and `FROM image:$V`: without a build-arg there is nothing to build from.

use oci::Reference;

use super::Lint;
use crate::instruction::arg;
use crate::scope::Expander;
use crate::stage::{Declarations, Declared};
use crate::{Options, PlanError};

pub(crate) fn invalid_default_arg_in_from(
    lint: &mut Lint,
    stage: &Declared<'_>,
    escape: char,
    declared: &Declarations<'_>,
    options: &Options,
) {
    if !stage.image.contains('$') {
        return;
    }
    let defaults = Options {
        build_args: std::collections::BTreeMap::new(),
        ..options.clone()
    };
    let expand = || -> Result<String, PlanError> {
        let env = arg::globals(declared, &defaults, escape, &mut Lint::deaf())?;
        let expanded = Expander { env: &env, escape }.word(stage.image);
        Ok(expanded.map(|it| it.text).unwrap_or_default())
    };
    // What cannot be expanded is an error of its own.
    let Ok(image) = expand() else { return };
    if image.parse::<Reference>().is_err() {
        let message = format!(
            "Default value for ARG {} results in empty or invalid base image name",
            stage.image
        );
        lint.warn("InvalidDefaultArgInFrom", stage.from.span, message);
    }
}
