//! What the layers of an image did to a path.

use std::path::Path;
use std::sync::Arc;

use snapshot::{How, Kind, Merged, Snapshots};

use super::{Deed, Subject};
use crate::fault::Fault;

/// Links that lead to a path; more of them are a circle.
const MOST_LINKS: usize = 40;

/// What was done to a path, the earliest first. Links on the way to it are followed, it itself is not.
pub(super) fn deeds(
    snapshots: &Snapshots,
    subject: &Subject,
    word: &str,
) -> Result<Vec<Deed>, Fault> {
    let chain = super::super::chain(snapshots.store(), &subject.image)?;
    let mut states = vec![Merged::default()];
    for row in &chain {
        let tree = Arc::new(snapshots.tree(row.id)?);
        let below = states.last().expect("there is one").clone();
        states.push(below.with(tree));
    }
    let last = states.last().expect("there is one");
    let path = settled(last, word)?;
    let mut found = Vec::new();
    for (layer, (before, after)) in states.iter().zip(&states[1..]).enumerate() {
        let change = match (before.get(path.as_bytes()), after.get(path.as_bytes())) {
            (None, None) => None,
            (None, Some(_)) => Some(How::New),
            (Some(_), None) => Some(How::Gone),
            (Some(old), Some(new)) => old.difference(new),
        };
        let entry = after.get(path.as_bytes());
        let is_directory = entry.is_some_and(snapshot::Entry::is_directory);
        let mut deed = |what: String, size| {
            found.push(Deed {
                name: format!("/{}", super::super::visible(path.as_bytes())),
                what,
                entry: subject.entry_of(layer),
                layer: Some(layer),
                size,
            });
        };
        if let Some(how) = &change {
            deed(
                words(how),
                entry.filter(|_| !is_directory).map(snapshot::Entry::size),
            );
        }
        if is_directory {
            let effect = after.effect_below(before, path.as_bytes());
            let files = effect.added.files + effect.changed.files;
            if files + effect.removed.files > 0 {
                let mut parts = Vec::new();
                for (count, what) in [
                    (effect.added.files, "added"),
                    (effect.changed.files, "changed"),
                    (effect.removed.files, "removed"),
                ] {
                    if count > 0 {
                        parts.push(format!("{count} {what}"));
                    }
                }
                let bytes = effect.added.bytes + effect.changed.bytes;
                deed(format!("{} below", parts.join(", ")), Some(bytes));
            }
        }
    }
    if found.is_empty() {
        let message = format!("no layer of the image has `{word}`");
        return Err(anyhow::Error::msg(message).into());
    }
    Ok(found)
}

fn words(how: &How) -> String {
    match how {
        How::New => "added".to_owned(),
        How::Gone => "removed".to_owned(),
        how => crate::image::difference(how),
    }
}

/// The path without links, `.` and `..` on the way to its last name, as seen in the whole image.
fn settled(shown: &Merged, word: &str) -> Result<String, Fault> {
    let mut rest: Vec<String> = names(word).rev().map(str::to_owned).collect();
    let mut path: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            path.pop();
            continue;
        }
        path.push(name);
        let here = path.join("/");
        let Some(Kind::Symlink(target)) = shown.get(here.as_bytes()).map(|it| &it.kind) else {
            continue;
        };
        if rest.is_empty() {
            break;
        }
        links += 1;
        if links > MOST_LINKS {
            let message = format!("`{word}` leads through too many links");
            return Err(anyhow::Error::msg(message).into());
        }
        let target = String::from_utf8_lossy(target).into_owned();
        path.pop();
        if Path::new(&target).is_absolute() {
            path.clear();
        }
        rest.extend(names(&target).rev().map(str::to_owned));
    }
    Ok(path.join("/"))
}

fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|it| !it.is_empty() && *it != ".")
}
