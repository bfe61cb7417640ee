//! `COPY`: files from the context, a stage or an image.

use std::collections::BTreeMap;

use dockerfile_parser::Transfer;
use llb::op::Source;

use super::from::root_of;
use super::transfer::{self, Origin, Paths, Transferred, Unpack};
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
    let paths = transfer::paths(lowering, state, step, copy)?;
    refuse_remotes(step, &paths)?;
    let origin = match &from {
        Some(name) => {
            let stage = lowering.declared.display_name(state.own.stage);
            let later = || PlanErrorKind::CopyFromLater {
                from: name.clone(),
                stage,
            };
            Origin::Root(root_of(lowering, name, state, step, later)?)
        }
        None => Origin::Context,
    };
    let parents = flags.switch("parents")?.unwrap_or(false);
    let transferred = Transferred {
        keyword: "COPY",
        origin,
        unpack: Unpack::Never,
        parents,
        paths,
        remotes: BTreeMap::new(),
    };
    transfer::lower(lowering, state, step, &flags, &transferred)
}

/// G87
fn refuse_remotes(step: &Step<'_>, paths: &Paths) -> Result<(), PlanError> {
    let kind = match paths.sources.iter().find_map(transfer::remote) {
        Some(Ok(Source::Http(_))) => PlanErrorKind::CopyUrl,
        Some(_) => PlanErrorKind::CopyGit,
        None => return Ok(()),
    };
    Err(PlanError::at(step.span, kind))
}
