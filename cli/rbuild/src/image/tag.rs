//! `image tag`: another name for an image.

use oci::Reference;
use store::Store;

use super::find;
use crate::args::TagArgs;
use crate::exit::Exit;
use crate::fault::Fault;

/// Gives the image a name, without a word.
pub(crate) fn tag(store: &Store, args: &TagArgs) -> Result<(), Fault> {
    let name: Reference = args
        .target
        .parse()
        .map_err(|error| Fault::from(anyhow::Error::new(error)).exit(Exit::Usage))?;
    if name.digest().is_some() {
        return Err(Fault::usage(
            "refusing to create a tag with a digest reference",
        ));
    }
    let image = find(store, &args.source)?;
    // A name for several platforms stays one.
    let source: Option<Reference> = args.source.parse().ok();
    let beside = match source {
        Some(source) => store.platforms(&source)?,
        None => Vec::new(),
    };
    match &beside[..] {
        [] => drop(store.tag(&name, &image.id)?),
        platforms => store.tag_platforms(&name, platforms)?,
    }
    Ok(())
}
