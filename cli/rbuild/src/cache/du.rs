//! `cache du` and `system df`: how much there is.

use std::fmt::Write as _;

use serde_json::{Value, json};
use store::{Item, Store};

use super::filter::Filters;
use super::mounts::is_of;
use super::row;
use crate::args::DuArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::Format;

const COLUMNS: &str = "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastAccessed}}";

/// Prints what the cache holds.
pub(crate) fn du(store: &Store, args: &DuArgs) -> Result<(), Fault> {
    let filters = Filters::parse(&args.filter)?;
    let mut items = store.usage()?;
    for id in &args.ids {
        if !items.iter().any(|item| is_called(item, id)) {
            return Err(Fault::from(anyhow::anyhow!("the cache holds no {id}"))
                .hint("`rbuild cache du` and `rbuild cache ls` list what there is"));
        }
    }
    let is_asked =
        |item: &Item| args.ids.is_empty() || args.ids.iter().any(|id| is_called(item, id));
    items.retain(|item| is_asked(item) && filters.admit(item));
    if args.verbose {
        return Ok(print(&items.iter().map(paragraph).collect::<String>())?);
    }
    let rows: Vec<Value> = items.iter().map(row).collect();
    let format = Format::parse(args.format.as_deref(), COLUMNS)
        .map_err(|error| Fault::from(error).exit(Exit::Usage))?;
    let mut text = format.show(&headings(), &rows)?;
    if args.format.is_none() {
        text.push_str(&totals(&items));
    }
    Ok(print(&text)?)
}

/// Whether an item goes by this id; a cache mount also does by its own.
fn is_called(item: &Item, id: &str) -> bool {
    item.id() == id || (item.is_mutable() && is_of(&item.description, id))
}

fn headings() -> Value {
    json!({
        "ID": "ID",
        "Reclaimable": "RECLAIMABLE",
        "Size": "SIZE",
        "LastAccessed": "LAST ACCESSED",
        "Type": "TYPE",
        "Description": "DESCRIPTION",
    })
}

fn totals(items: &[Item]) -> String {
    let sum =
        |of: &dyn Fn(&&Item) -> bool| -> u64 { items.iter().filter(of).map(|it| it.size).sum() };
    let mut text = String::new();
    let lines = [
        ("Shared:", sum(&|it| it.shared)),
        ("Private:", sum(&|it| !it.shared)),
        ("Reclaimable:", sum(&|it| it.is_reclaimable())),
        ("Total:", sum(&|_| true)),
    ];
    for (name, bytes) in lines {
        let _ = writeln!(text, "{name:<16}{}", human::size(bytes));
    }
    text
}

/// Everything about an item.
pub(super) fn paragraph(item: &Item) -> String {
    const FIELDS: [(&str, &str); 10] = [
        ("ID", "ID"),
        ("Parents", "Parents"),
        ("Created at", "CreatedAt"),
        ("Mutable", "Mutable"),
        ("Reclaimable", "Reclaimable"),
        ("Shared", "Shared"),
        ("Size", "Size"),
        ("Description", "Description"),
        ("Usage count", "UsageCount"),
        ("Last used", "LastAccessed"),
    ];
    let row = row(item);
    let mut text = String::new();
    for (name, field) in FIELDS {
        let value = match &row[field] {
            Value::String(value) => value.clone(),
            value => value.to_string(),
        };
        let _ = writeln!(text, "{:<16}{value}", format!("{name}:"));
    }
    let _ = writeln!(text, "{:<16}{}\n", "Type:", item.kind());
    text
}

/// Prints how much of the disk everything takes.
pub(crate) fn df(store: &Store) -> Result<(), Fault> {
    let items = store.usage()?;
    let all = store.allocated()?;
    let images = store.images()?.len();
    let kind = |mutable: bool, shared: bool| -> Vec<&Item> {
        let is = |it: &&Item| it.is_mutable() == mutable && it.shared == shared;
        items.iter().filter(is).collect()
    };
    let bytes = |items: &[&Item]| -> u64 { items.iter().map(|it| it.size).sum() };
    let (shared, private, mounts) = (kind(false, true), kind(false, false), kind(true, false));
    let reclaimable = |items: &[&Item]| -> u64 {
        let free = items.iter().filter(|it| it.is_reclaimable());
        free.map(|it| it.size).sum()
    };
    let counted = bytes(&shared) + bytes(&private) + bytes(&mounts);
    let mut rows = Vec::new();
    for (name, count, size, free) in [
        ("Images", images, bytes(&shared), 0),
        (
            "Build Cache",
            private.len(),
            bytes(&private),
            reclaimable(&private),
        ),
        (
            "Cache Mounts",
            mounts.len(),
            bytes(&mounts),
            reclaimable(&mounts),
        ),
        ("Store", 0, all.saturating_sub(counted), 0),
        (
            "Total",
            0,
            all,
            reclaimable(&private) + reclaimable(&mounts),
        ),
    ] {
        rows.push(json!({
            "Type": name,
            "TotalCount": if count == 0 && !matches!(name, "Images" | "Build Cache" | "Cache Mounts") { String::new() } else { count.to_string() },
            "Size": human::size(size),
            "Bytes": size,
            "Reclaimable": human::size(free),
        }));
    }
    let headings = json!({
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    });
    let columns = "{{.Type}}\t{{.TotalCount}}\t{{.Size}}\t{{.Reclaimable}}";
    let format = Format::parse(None, columns)?;
    Ok(print(&format.show(&headings, &rows)?)?)
}
