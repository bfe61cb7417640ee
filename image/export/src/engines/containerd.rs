//! containerd, by way of its own command line.

use std::collections::BTreeSet;

use oci::Digest;
use oci::media_type::Compression;

use super::{Given, HandOverError, Handed, Handing, run};

const CTR: &str = "ctr";

pub(super) fn reach() -> Result<(), HandOverError> {
    run(CTR, &["version"], None).map(drop)
}

pub(super) fn hand_over(handing: &Handing<'_>) -> Result<Handed, HandOverError> {
    if let Given::Unnamed(_) = handing.image {
        return Err(HandOverError::Nameless);
    }
    let listed = run(CTR, &["content", "ls", "--quiet"], None)?;
    let known: BTreeSet<Digest> = listed.lines().filter_map(|it| it.parse().ok()).collect();
    // A layer that the store has packed is known by its packed bytes.
    let mut handed = handing.handed(&known);
    let store = handing.snapshots.store();
    for layer in handing.layers().filter(|it| !known.contains(*it)) {
        let mut packed = Vec::new();
        for compression in [Compression::Gzip, Compression::Zstd] {
            packed.extend(store.layer_blob(layer, compression)?);
        }
        if packed.iter().any(|(blob, _)| known.contains(blob)) {
            handed.known += 1;
        }
    }
    // What is not for this machine is kept, and cannot be unpacked.
    let import = match handing.is_of_host() {
        true => &["images", "import", "--all-platforms", "-"][..],
        false => &["images", "import", "--all-platforms", "--no-unpack", "-"],
    };
    handing.stream(known, |archive| run(CTR, import, Some(archive)).map(drop))?;
    Ok(handed)
}
