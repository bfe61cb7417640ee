//! `image prune`: what nobody needs goes.

use std::io::{self, BufRead as _};

use store::Store;

use super::filter::Filters;
use crate::args::PruneArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::terminal::say;

/// Removes images without a name, with `--all` every image, after asking.
pub(crate) fn prune(store: &Store, args: &PruneArgs) -> Result<(), Fault> {
    let filters = Filters::parse(store, &args.filter, None)?;
    if !args.force && !agreed(args.all)? {
        return Err(Fault::silent(Exit::Failure));
    }
    let mut lines = Vec::new();
    let containers = container::list(store)?;
    for (image, names) in store.images()? {
        let is_used = containers.iter().any(|(it, _)| it.image_id == image.id);
        let wanted = names.is_empty() || args.all;
        // What a container is of stays as long as that is there.
        let wanted = wanted && !is_used;
        if !wanted || !filters.admit_image(store, &image, !names.is_empty())? {
            continue;
        }
        store.remove_image(&image.id)?;
        lines.extend(
            names
                .iter()
                .map(|name| format!("untagged: {}\n", name.familiar())),
        );
        lines.push(format!("deleted: {}\n", image.id));
    }
    let freed = store.gc()?.bytes;
    if !lines.is_empty() {
        lines.insert(0, "Deleted Images:\n".to_owned());
        lines.push("\n".to_owned());
    }
    lines.push(format!("Total reclaimed space: {}\n", human::size(freed)));
    Ok(print(&lines.concat())?)
}

fn agreed(all: bool) -> Result<bool, Fault> {
    let which = match all {
        true => "images without at least one container associated to them",
        false => "dangling images",
    };
    say(&format!(
        "WARNING! This will remove all {which}.\nAre you sure you want to continue? [y/N] "
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
