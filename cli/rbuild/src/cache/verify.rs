//! `store verify`: everything compared with its digest.

use snapshot::Snapshots;
use store::Store;

use crate::args::VerifyArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::print;

/// Says what is damaged, and removes it if that is wanted. Fails where something damaged stays.
pub(crate) fn verify(store: &Store, args: &VerifyArgs) -> Result<(), Fault> {
    let snapshots = Snapshots::new(store.clone());
    let mut damages = store.verify()?;
    for misfit in export::misfits(store)? {
        let store::Damage::Layer { digest, .. } = &misfit else {
            continue;
        };
        let is_known = |it: &store::Damage| matches!(it, store::Damage::Blob { digest: known, .. } if known == digest);
        if !damages.iter().any(is_known) {
            damages.push(misfit);
        }
    }
    let layers = snapshots.damaged()?;
    let mut text: String = damages.iter().map(|it| format!("{it}\n")).collect();
    text.extend(
        layers
            .iter()
            .map(|id| format!("snapshot {id} is not what its manifest says\n")),
    );
    if damages.is_empty() && layers.is_empty() {
        return Ok(print("everything is as it should be\n")?);
    }
    print(&text)?;
    if !args.repair {
        return Err(Fault::silent(Exit::Failure));
    }
    for id in layers {
        // It may have gone with one that it stood on.
        store.drop_snapshot(id)?;
    }
    store.repair(&damages)?;
    Ok(print(
        "removed what was damaged; the next build makes it anew\n",
    )?)
}
