//! Commands about what is kept between builds.

mod df;
mod du;
mod filter;
mod mounts;
mod prune;
mod verify;

pub(crate) use df::df;
pub(crate) use du::du;
pub(crate) use mounts::{cp, inspect, ls, rm};
pub(crate) use prune::prune;
pub(crate) use verify::verify;

use serde_json::{Value, json};
use store::Item;

use crate::human;

/// Whether a thing is so, as docker's lists say it.
fn truth(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// An item as a row of a list.
fn row(item: &Item) -> Value {
    let star = |is: bool| if is { "*" } else { "" };
    json!({
        "ID": format!("{}{}", item.id(), star(item.is_mutable())),
        "Reclaimable": truth(item.is_reclaimable()),
        "Size": format!("{}{}", human::size(item.size), star(item.shared)),
        "Bytes": item.size,
        "LastAccessed": ago(item.used),
        "Type": item.kind(),
        "Description": item.description,
        "Parents": item.parent.map_or(String::new(), |it| it.to_string()),
        "CreatedAt": crate::image::clock_time(Some(item.created)),
        "LastUsedAt": crate::image::clock_time(Some(item.used)),
        "UsageCount": item.uses,
        "Mutable": truth(item.is_mutable()),
        "Shared": truth(item.shared),
        "InUse": truth(item.in_use),
    })
}

fn ago(time: jiff::Timestamp) -> String {
    let elapsed = jiff::Timestamp::now().duration_since(time);
    let elapsed = elapsed.try_into().unwrap_or_default();
    format!("{} ago", human::duration(elapsed))
}
