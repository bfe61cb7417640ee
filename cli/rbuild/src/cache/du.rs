//! `cache du`: how much there is, item by item.

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
    let mut text = formatted(&items, args.format.as_deref())?;
    if args.format.is_none() {
        text.push_str(&totals(&items));
    }
    Ok(print(&text)?)
}

/// The items as a table.
pub(super) fn table(items: &[Item]) -> Result<String, Fault> {
    formatted(items, None)
}

fn formatted(items: &[Item], format: Option<&str>) -> Result<String, Fault> {
    let rows: Vec<Value> = items.iter().map(row).collect();
    let format = Format::parse(format, COLUMNS);
    let format = format.map_err(|error| Fault::from(error).exit(Exit::Usage))?;
    Ok(format.show(&headings(), &rows)?)
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
