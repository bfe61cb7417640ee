//! `image history`: how an image came to be.

use oci::History;
use serde_json::{Value, json};
use store::{ImageRecord, Store};

use super::{ago, config, ellipsis, find};
use crate::args::HistoryArgs;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::Format;

/// Columns of CREATED BY before it is cut.
const CREATED_BY: usize = 45;

/// Prints an image's history, the newest entry first.
pub(crate) fn history(store: &Store, args: &HistoryArgs) -> Result<(), Fault> {
    Ok(print(&list(store, args)?)?)
}

pub(super) fn list(store: &Store, args: &HistoryArgs) -> Result<String, Fault> {
    let image = find(store, &args.image)?;
    let config = config(store, &image)?;
    let sizes = layer_sizes(store, &image)?;
    let mut sizes = sizes.into_iter();
    // Entries that have a layer take the sizes in turn.
    let sized: Vec<(&History, u64)> = config
        .history
        .iter()
        .map(|entry| {
            (
                entry,
                if entry.empty_layer {
                    0
                } else {
                    sizes.next().unwrap_or(0)
                },
            )
        })
        .collect();
    let newest_first = sized.into_iter().rev().enumerate();
    let rows: Vec<Value> = newest_first
        .map(|(position, (entry, size))| row((position == 0).then_some(&image), entry, size, args))
        .collect();
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str());
        return Ok(ids.map(|id| format!("{id}\n")).collect());
    }
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    Ok(format.show(&headings(), &rows)?)
}

const COLUMNS: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

fn headings() -> Value {
    json!({
        "Comment": "COMMENT",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "CreatedSince": "CREATED",
        "ID": "IMAGE",
        "Size": "SIZE",
    })
}

/// Only the newest entry is an image that exists; the others are `<missing>` since images have layers.
fn row(image: Option<&ImageRecord>, entry: &History, size: u64, args: &HistoryArgs) -> Value {
    let id = image.map(|image| {
        if args.no_trunc {
            image.id.to_string()
        } else {
            image.id.short()
        }
    });
    let created_by = entry.created_by.replace('\t', " ");
    let created_at = entry
        .created
        .map_or_else(String::new, |time| time.to_string());
    json!({
        "Comment": entry.comment,
        "CreatedAt": created_at,
        "CreatedBy": if args.no_trunc { created_by } else { ellipsis(&created_by, CREATED_BY) },
        "CreatedSince": if args.human { ago(entry.created) } else { created_at.clone() },
        "ID": id.unwrap_or_else(|| "<missing>".to_owned()),
        "Size": if args.human { human::size(size) } else { size.to_string() },
    })
}

/// Bytes of each layer, lowest first.
fn layer_sizes(store: &Store, image: &ImageRecord) -> Result<Vec<u64>, Fault> {
    match image.top {
        Some(top) => Ok(store
            .ancestry(top)?
            .iter()
            .map(|snapshot| snapshot.size)
            .collect()),
        None => Ok(Vec::new()),
    }
}
