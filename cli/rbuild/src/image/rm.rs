//! `image rm`: names go, and with the last name the image.

use std::collections::BTreeSet;

use container::State;
use oci::Reference;
use store::{ImageRecord, Store};

use super::find;
use crate::args::RmArgs;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::terminal::say;

/// Removes names and images. One that cannot be removed does not keep the others.
pub(crate) fn rm(store: &Store, args: &RmArgs) -> Result<(), Fault> {
    let mut faults = Vec::new();
    let mut deleted = false;
    for word in &args.images {
        match remove(store, word, args.force) {
            Ok(lines) => {
                deleted |= lines.iter().any(|line| line.starts_with("Deleted"));
                print(&lines.concat())?;
            }
            Err(fault) => faults.push(fault),
        }
    }
    if deleted && !args.no_prune {
        store.gc()?;
    }
    let Some(last) = faults.pop() else {
        return Ok(());
    };
    faults.iter().for_each(|fault| say(&fault.words()));
    Err(last)
}

/// What was done, line by line.
pub(super) fn remove(store: &Store, word: &str, force: bool) -> Result<Vec<String>, Fault> {
    let image = match find(store, word) {
        // As docker: with force, what is not there is as good as removed.
        Err(fault)
            if force
                && store
                    .resolve(word)
                    .is_err_and(|it| matches!(it, store::ResolveError::Unknown(_))) =>
        {
            say(&fault.words());
            return Ok(Vec::new());
        }
        other => other?,
    };
    let names = store.names(&image.id)?;
    let name = meant_name(word, &image, &names);
    if let Some(name) = name.as_ref().filter(|_| names.len() > 1) {
        store.untag(name)?;
        return Ok(vec![untagged(name)]);
    }
    let repositories: BTreeSet<String> = names.iter().map(Reference::name).collect();
    if repositories.len() > 1 && !force {
        let id = image.id.short();
        let message = format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        );
        return Err(Fault::from(anyhow::Error::msg(message))
            .hint("name one of them, or remove them all with -f"));
    }
    let known_as = name.is_some().then_some(word);
    if let Some(message) = conflict(store, &image, known_as, force)? {
        return Err(anyhow::Error::msg(message).into());
    }
    store.remove_image(&image.id)?;
    let mut lines: Vec<String> = names.iter().map(untagged).collect();
    lines.push(format!("Deleted: {}\n", image.id));
    Ok(lines)
}

/// Why an image cannot go: a container needs it that runs, or that is over and whose image nobody said
/// to remove all the same.
fn conflict(
    store: &Store,
    image: &ImageRecord,
    name: Option<&str>,
    force: bool,
) -> Result<Option<String>, Fault> {
    let containers = container::list(store)?;
    let mut of_image = containers
        .iter()
        .filter(|(record, _)| record.image_id == image.id);
    let running = of_image.clone().find(|(_, state)| *state == State::Running);
    let id = image.id.short();
    Ok(match (running, of_image.next(), name) {
        (Some((record, _)), ..) if force || name.is_none() => Some(format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
            record.short_id()
        )),
        (_, Some((record, _)), Some(name)) if !force => Some(format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {id}",
            record.short_id()
        )),
        (_, Some((record, _)), None) if !force => Some(format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
            record.short_id()
        )),
        _ => None,
    })
}

/// The name of the image that `word` is, if it is no id.
fn meant_name(word: &str, image: &ImageRecord, names: &[Reference]) -> Option<Reference> {
    if word.strip_prefix("sha256:").unwrap_or(word) == image.id.hex() {
        return None;
    }
    let name = word.parse().ok()?;
    names.contains(&name).then_some(name)
}

fn untagged(name: &Reference) -> String {
    format!("Untagged: {}\n", name.familiar())
}
