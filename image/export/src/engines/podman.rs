//! Podman's storage, by way of a layout that it pulls from.

use std::collections::BTreeSet;
use std::process::Command;

use oci::Digest;
use oci::media_type::Compression;

use super::{Given, HandOverError, Handed, Handing, Inspected, run, wait};
use crate::save::{self, Output, SaveOptions};

const PODMAN: &str = "podman";

pub(super) fn reach() -> Result<(), HandOverError> {
    run(PODMAN, &["--version"], None).map(drop)
}

pub(super) fn hand_over(handing: &Handing<'_>) -> Result<Handed, HandOverError> {
    let known = handing.known_chains(&chains()?);
    let handed = handing.handed(&known);
    match pull(handing, known) {
        // An image may have gone since we asked.
        Err(HandOverError::Failed { .. }) if handed.known > 0 => {
            pull(handing, BTreeSet::new())?;
            Ok(Handed { known: 0, ..handed })
        }
        pulled => pulled.map(|()| handed),
    }
}

fn pull(handing: &Handing<'_>, known: BTreeSet<Digest>) -> Result<(), HandOverError> {
    let store = handing.snapshots.store();
    let directory = store.tmp_dir()?;
    // Podman makes a name of the place, which must be one and nobody else's.
    let place = format!("rbuild-{}", std::process::id());
    let layout = directory.path().join(&place);
    let options = SaveOptions {
        // Unpacked, a layer is known by its diff id.
        compression: Some(Compression::None),
        known,
        ..handing.options()
    };
    let words = [handing.image.word()];
    save::save(handing.snapshots, &words, &options, Output::Layout(&layout))?;
    let source = match handing.image {
        Given::Named(name) => format!("oci:{place}:{}", name.tag().unwrap_or("latest")),
        Given::Unnamed(_) => format!("oci:{place}"),
    };
    let mut pull = Command::new(PODMAN);
    pull.args(["pull", "--quiet", &source])
        .current_dir(directory.path());
    let said = wait(PODMAN, pull, None)?;
    let id = said.lines().last().unwrap_or_default().trim();
    if let Given::Named(name) = handing.image {
        run(PODMAN, &["tag", id, &name.to_string()], None)?;
    }
    let _ = run(
        PODMAN,
        &["untag", id, &format!("localhost/{place}:latest")],
        None,
    );
    Ok(())
}

/// The chains of layers of all of podman's images.
fn chains() -> Result<BTreeSet<Digest>, HandOverError> {
    let listed = run(PODMAN, &["images", "--all", "--quiet", "--no-trunc"], None)?;
    let ids: BTreeSet<&str> = listed.lines().collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut args = vec!["image", "inspect"];
    args.extend(ids);
    // One that has gone since fails all of it; then nothing is known.
    let inspected = run(PODMAN, &args, None).unwrap_or_default();
    let images: Vec<Inspected> = serde_json::from_str(&inspected).unwrap_or_default();
    Ok(images.into_iter().flat_map(Inspected::chains).collect())
}
