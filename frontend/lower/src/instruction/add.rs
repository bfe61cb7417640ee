//! `ADD`: files from the context; archives are unpacked (G82).

use dockerfile_parser::Transfer;

use super::transfer::{self, Origin, Remote, Transferred};
use crate::flags::Flags;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind};

const ONCE: &[&str] = &[
    "chown",
    "chmod",
    "link",
    "keep-git-dir",
    "checksum",
    "unpack",
];
const OFTEN: &[&str] = &["exclude"];

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    add: &Transfer,
) -> Result<(), PlanError> {
    let flags = Flags::new(&add.flags, step.span, ONCE, OFTEN)?;
    // It says something of repositories only, which are refused below.
    flags.switch("keep-git-dir")?;
    let paths = transfer::paths(lowering, state, step, add)?;
    let remotes: Vec<Option<Remote>> = paths.sources.iter().map(transfer::remote).collect();
    if flags.text("checksum")?.is_some() {
        let why = match remotes[..] {
            [Some(_)] => return Err(step.not_supported("ADD --checksum")),
            [_] => "checksum requires HTTP(S) or Git sources",
            _ => "checksum can't be specified for multiple sources",
        };
        return Err(PlanError::at(step.span, PlanErrorKind::Checksum(why)));
    }
    match remotes.into_iter().flatten().next() {
        Some(Remote::Http) => return Err(step.not_supported("ADD of a URL")),
        Some(Remote::Git) => return Err(step.not_supported("ADD of a git repository")),
        None => {}
    }
    let unpack = flags.switch("unpack")?.unwrap_or(true);
    let transferred = Transferred {
        keyword: "ADD",
        origin: Origin::Context,
        unpack,
        parents: false,
        paths,
    };
    transfer::lower(lowering, state, step, &flags, &transferred)
}
