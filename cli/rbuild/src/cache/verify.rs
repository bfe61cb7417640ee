//! `store verify`: everything compared with its digest.

use std::path::Path;

use snapshot::Snapshots;
use store::{Damage, Store};

use crate::args::VerifyArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::print;

/// Says what is damaged, and removes it if that is wanted. Fails where something damaged stays.
///
/// Takes the store's directory and not the store, because a damaged database may not open.
pub(crate) fn verify(root: &Path, args: &VerifyArgs) -> Result<(), Fault> {
    let verified = Store::open(root)
        .map_err(Fault::from)
        .and_then(|store| look(store, args));
    match verified {
        Err(fault) if args.repair && fault.is_corrupt() => {
            Store::salvage(root)?;
            print("made the database anew from what could be read of it\n")?;
            look(Store::open(root)?, args)
        }
        other => other,
    }
}

fn look(store: Store, args: &VerifyArgs) -> Result<(), Fault> {
    crate::recover(&store)?;
    let snapshots = Snapshots::new(store.clone());
    let mut damages = store.verify()?;
    for misfit in export::misfits(&store)? {
        let Damage::Layer { digest, .. } = &misfit else {
            continue;
        };
        let is_known =
            |it: &Damage| matches!(it, Damage::Blob { digest: known, .. } if known == digest);
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
        if args.repair {
            tidy(&store)?;
        }
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
    let contradicts = damages.iter().any(|it| matches!(it, Damage::Database(_)));
    if contradicts {
        let root = store.root().to_owned();
        drop((snapshots, store));
        Store::salvage(&root)?;
        return mend(&Store::open(&root)?);
    }
    store.repair(&damages)?;
    mend(&store)
}

fn mend(store: &Store) -> Result<(), Fault> {
    crate::recover(store)?;
    tidy(store)?;
    Ok(print(
        "removed what was damaged; the next build makes it anew\n",
    )?)
}

/// What is left once the damaged is gone: images that lost something, and what the rows of a new
/// database name.
fn tidy(store: &Store) -> Result<(), Fault> {
    store.repair(&store.verify()?)?;
    let mut recovered = export::Recovered::default();
    export::mend(&Snapshots::new(store.clone()), &mut recovered)?;
    for image in recovered.lost {
        print(&format!("image {image} lost layers and is removed\n"))?;
    }
    Ok(())
}
