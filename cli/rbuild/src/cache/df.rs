//! `system df`: how much of the disk everything takes.

use std::collections::HashSet;

use container::{Record, State};
use serde_json::{Value, json};
use store::{Item, SnapshotId, Store, Stored};

use super::du::table;
use crate::args::{DfArgs, LsArgs};
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::Format;

/// Prints how much of the disk everything takes.
pub(crate) fn df(store: &Store, args: &DfArgs) -> Result<(), Fault> {
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    let items = store.usage()?;
    if args.verbose {
        return Ok(print(&everything(store, &items)?)?);
    }
    Ok(print(&format.show(&headings(), &rows(store, &items)?)?)?)
}

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

fn headings() -> Value {
    json!({
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    })
}

/// What is of one type.
struct Kind {
    name: &'static str,
    /// How many there are, and how many of those are in use; `None` where they cannot be counted.
    count: Option<(usize, usize)>,
    bytes: u64,
    free: u64,
}

fn rows(store: &Store, items: &[Item]) -> Result<Vec<Value>, Fault> {
    let all = store.allocated()?;
    let containers = container::list(store)?;
    let of = |is: fn(&Item) -> bool, name| {
        let items: Vec<&Item> = items.iter().filter(|it| is(it)).collect();
        let sum = |items: &mut dyn Iterator<Item = &&Item>| items.map(|it| it.size).sum();
        Kind {
            name,
            count: Some((items.len(), items.iter().filter(|it| it.in_use).count())),
            bytes: sum(&mut items.iter()),
            free: sum(&mut items.iter().filter(|it| it.is_reclaimable())),
        }
    };
    let images = images(store, items, &containers)?;
    let running = containers.iter().filter(|(_, it)| *it == State::Running);
    let mut kinds = vec![
        images,
        Kind {
            name: "Containers",
            count: Some((containers.len(), running.count())),
            bytes: 0,
            free: 0,
        },
        of(|it| !it.shared && !it.is_mutable(), "Build Cache"),
        of(|it| !it.shared && it.is_mutable(), "Cache Mounts"),
    ];
    let counted: u64 = kinds.iter().map(|it| it.bytes).sum();
    let free = kinds.iter().map(|it| it.free).sum();
    for (name, bytes, free) in [
        ("Store", all.saturating_sub(counted), 0),
        ("Total", all, free),
    ] {
        kinds.push(Kind {
            name,
            count: None,
            bytes,
            free,
        });
    }
    Ok(kinds.iter().map(Kind::row).collect())
}

/// An image is in use where there is a container of it; what no such image consists of could go.
fn images(store: &Store, items: &[Item], containers: &[(Record, State)]) -> Result<Kind, Fault> {
    let images = store.images()?;
    let mut needed: HashSet<SnapshotId> = HashSet::new();
    let mut active = 0;
    for (image, _) in &images {
        if !containers.iter().any(|(it, _)| it.image_id == image.id) {
            continue;
        }
        active += 1;
        if let Some(top) = image.top {
            needed.extend(store.ancestry(top)?.iter().map(|row| row.id));
        }
    }
    let shared = items.iter().filter(|it| it.shared);
    let free = shared
        .clone()
        .filter(|it| matches!(&it.what, Stored::Snapshot(id) if !needed.contains(id)));
    Ok(Kind {
        name: "Images",
        count: Some((images.len(), active)),
        bytes: shared.map(|it| it.size).sum(),
        free: free.map(|it| it.size).sum(),
    })
}

impl Kind {
    fn row(&self) -> Value {
        let count = |of: fn((usize, usize)) -> usize| {
            let count = self.count.map(of);
            count.map_or_else(String::new, |it| it.to_string())
        };
        let share = match self.bytes {
            0 => String::new(),
            bytes => format!(" ({}%)", self.free * 100 / bytes),
        };
        json!({
            "Type": self.name,
            "TotalCount": count(|(all, _)| all),
            "Active": count(|(_, active)| active),
            "Size": human::size(self.bytes),
            "Reclaimable": format!("{}{share}", human::size(self.free)),
        })
    }
}

/// Every image, container and piece of the cache.
fn everything(store: &Store, items: &[Item]) -> Result<String, Fault> {
    let images = crate::image::list(store, &LsArgs::default())?;
    let cache: Vec<Item> = items.iter().filter(|it| !it.shared).cloned().collect();
    let bytes = cache.iter().map(|it| it.size).sum();
    Ok(format!(
        "Images space usage:\n\n{images}\nContainers space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        crate::containers::list(store)?,
        human::size(bytes),
        table(&cache)?
    ))
}
