//! `ADD`: files from the context, addresses and repositories; archives of the context are unpacked (G82).

use std::collections::BTreeMap;

use dockerfile_parser::Transfer;
use llb::op::Source;

use super::transfer::{self, Origin, Paths, Transferred, Unpack};
use crate::flags::Flags;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, remote};

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
    let keep_git_dir = flags.switch("keep-git-dir")?;
    let paths = transfer::paths(lowering, state, step, add)?;
    let checksum = flags
        .text("checksum")?
        .map(|it| lowering.expand(state, step, it))
        .transpose()?
        .filter(|it| !it.is_empty());
    let fail = |kind| PlanError::at(step.span, kind);
    let mut remotes = remotes(&paths).map_err(fail)?;
    if let Some(checksum) = checksum {
        expect(&mut remotes, paths.sources.len(), &checksum).map_err(fail)?;
    }
    for remote in remotes.values_mut() {
        if let (Source::Git(git), Some(keep)) = (remote, keep_git_dir) {
            git.keep_git_dir = keep;
        }
    }
    let unpack = match flags.switch("unpack")? {
        None => Unpack::Local,
        Some(true) => Unpack::All,
        Some(false) => Unpack::Never,
    };
    let transferred = Transferred {
        keyword: "ADD",
        origin: Origin::Context,
        unpack,
        parents: false,
        paths,
        remotes,
    };
    transfer::lower(lowering, state, step, &flags, &transferred)
}

/// Those of the sources that are not on this machine, by their position.
fn remotes(paths: &Paths) -> Result<BTreeMap<usize, Source>, PlanErrorKind> {
    let mut remotes = BTreeMap::new();
    for (position, source) in paths.sources.iter().enumerate() {
        if let Some(remote) = transfer::remote(source) {
            remotes.insert(position, remote?);
        }
    }
    Ok(remotes)
}

/// `--checksum`: what the one source must be (G84).
fn expect(
    remotes: &mut BTreeMap<usize, Source>,
    sources: usize,
    checksum: &str,
) -> Result<(), PlanErrorKind> {
    if sources != 1 {
        let why = "checksum can't be specified for multiple sources";
        return Err(PlanErrorKind::Checksum(why));
    }
    match remotes.values_mut().next() {
        Some(Source::Http(http)) => {
            let digest = checksum.parse().map_err(|error: oci::DigestError| {
                PlanErrorKind::ChecksumDigest {
                    text: checksum.to_owned(),
                    why: error.to_string(),
                }
            })?;
            http.checksum = Some(digest);
        }
        Some(Source::Git(git)) => {
            let commit = remote::commit(checksum)?;
            if git.checksum.as_ref().is_some_and(|it| *it != commit) {
                let why = "checksum conflicts with that of the repository's query";
                return Err(PlanErrorKind::Checksum(why));
            }
            git.checksum = Some(commit);
        }
        _ => {
            let why = "checksum requires HTTP(S) or Git sources";
            return Err(PlanErrorKind::Checksum(why));
        }
    }
    Ok(())
}
