//! `image ls`: what there is.

use serde_json::{Value, json};
use store::{ImageRecord, Store};

use super::filter::Filters;
use super::{ago, clock_time};
use crate::args::{LsArgs, TreeArgs};
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::Format;

const NONE: &str = "<none>";

/// Prints the images.
pub(crate) fn ls(store: &Store, args: &LsArgs) -> Result<(), Fault> {
    if args.tree {
        let all = TreeArgs {
            images: Vec::new(),
            format: None,
        };
        return super::tree(store, &all);
    }
    Ok(print(&list(store, args)?)?)
}

/// The images as they are to be shown.
pub(crate) fn list(store: &Store, args: &LsArgs) -> Result<String, Fault> {
    let filters = Filters::parse(store, &args.filter, args.repository.as_deref())?;
    let mut rows = Vec::new();
    for (image, names) in store.images()? {
        if !filters.admit_image(store, &image, !names.is_empty())? {
            continue;
        }
        let names: Vec<_> = names
            .iter()
            .filter(|name| filters.admit_name(name))
            .collect();
        if names.is_empty() && !filters.ask_for_name() {
            rows.push(row(&image, NONE, NONE, args.no_trunc));
        }
        for name in names {
            rows.push(row(
                &image,
                &name.familiar_name(),
                name.tag().unwrap_or(NONE),
                args.no_trunc,
            ));
        }
    }
    if args.quiet {
        return Ok(ids(&rows));
    }
    let columns = if args.digests { WITH_DIGESTS } else { COLUMNS };
    let format = Format::parse(args.format.as_deref(), columns)?;
    Ok(format.show(&headings(), &rows)?)
}

const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

fn headings() -> Value {
    json!({
        "Containers": "CONTAINERS",
        "CreatedAt": "CREATED AT",
        "CreatedSince": "CREATED",
        "Digest": "DIGEST",
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "SharedSize": "SHARED SIZE",
        "Size": "SIZE",
        "Tag": "TAG",
        "UniqueSize": "UNIQUE SIZE",
    })
}

fn row(image: &ImageRecord, repository: &str, tag: &str, no_trunc: bool) -> Value {
    json!({
        "Containers": "N/A",
        "CreatedAt": clock_time(image.created),
        "CreatedSince": ago(image.created),
        "Digest": image.manifest.map_or_else(|| NONE.to_owned(), |digest| digest.to_string()),
        "ID": if no_trunc { image.id.to_string() } else { image.id.short() },
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": human::size(image.size),
        "Tag": tag,
        "UniqueSize": "N/A",
    })
}

/// Each id once, as scripts want them.
fn ids(rows: &[Value]) -> String {
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
    ids.dedup();
    ids.into_iter().map(|id| format!("{id}\n")).collect()
}
