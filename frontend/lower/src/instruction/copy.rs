//! `COPY`: files from the context, a stage or an image.

use dockerfile_parser::{Transfer, TransferSource};

use super::transfer::{self, Origin, Transferred};
use crate::flags::Flags;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind};

const ONCE: &[&str] = &["from", "chown", "chmod", "link", "parents"];
const OFTEN: &[&str] = &["exclude"];

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    copy: &Transfer,
) -> Result<(), PlanError> {
    let flags = Flags::new(&copy.flags, step.span, ONCE, OFTEN)?;
    let from = flags
        .text("from")?
        .map(|it| lowering.expand_from(state, step, it))
        .transpose()?;
    let origin = match &from {
        Some(name) => Origin::Root(origin(lowering, state, step, name)?),
        None => Origin::Context,
    };
    let transferred = Transferred {
        keyword: "COPY",
        origin,
        unpack: false,
        parents: flags.switch("parents")?.unwrap_or(false),
    };
    let paths = transfer::paths(lowering, state, step, copy)?;
    for source in paths.sources.iter() {
        if let TransferSource::Path(path) = source {
            refuse_remote(step, path)?;
        }
    }
    transfer::lower(lowering, state, step, &flags, (transferred, paths))
}

fn origin(
    lowering: &mut Lowering<'_>,
    state: &State,
    step: &Step<'_>,
    name: &str,
) -> Result<Option<llb::Input>, PlanError> {
    super::from::root_of(lowering, name, state, step)?.map_err(|super::from::Unreachable| {
        let stage = lowering.declared.display_name(state.own.stage);
        PlanError::at(
            step.span,
            PlanErrorKind::CopyFromLater {
                from: name.to_owned(),
                stage,
            },
        )
    })
}

/// G87
fn refuse_remote(step: &Step<'_>, path: &str) -> Result<(), PlanError> {
    match transfer::remote(path) {
        Some(transfer::Remote::Http) => Err(PlanError::at(step.span, PlanErrorKind::CopyUrl)),
        Some(transfer::Remote::Git) => Err(PlanError::at(step.span, PlanErrorKind::CopyGit)),
        None => Ok(()),
    }
}
