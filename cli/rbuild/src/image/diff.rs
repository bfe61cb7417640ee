//! `image diff`: what one image has and another has otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::{Value, json};
use snapshot::{Change, How, Snapshots};
use store::Store;

use super::{chain, config, find};
use crate::args::DiffArgs;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::terminal::say;
use crate::table::Format;

/// Prints what is different between two images, and how much that is.
pub(crate) fn diff(store: Store, args: &DiffArgs) -> Result<(), Fault> {
    let found = Difference::find(&Snapshots::new(store), args)?;
    print(&found.list(args)?)?;
    if args.format.is_none() {
        say(&found.summary());
    }
    Ok(())
}

/// What is different between two images.
pub(super) struct Difference {
    files: Vec<Change>,
    /// Whether it is `A`dded, `C`hanged or `D`eleted, the field of the config, and the words about it.
    fields: Vec<(&'static str, String, String)>,
}

impl Difference {
    pub(super) fn find(snapshots: &Snapshots, args: &DiffArgs) -> Result<Self, Fault> {
        let store = snapshots.store();
        let (old, new) = (find(store, &args.old)?, find(store, &args.new)?);
        for image in [&old, &new] {
            chain(store, image)?;
        }
        let trees = (snapshots.merged(old.top)?, snapshots.merged(new.top)?);
        let mut files = trees.0.changes(&trees.1);
        // An image without layers has no root directory; that is no difference to see.
        files.retain(|it| !it.path.as_os_str().is_empty() && is_asked_for(&it.path, &args.paths));
        let fields = match args.paths.is_empty() {
            true => fields(
                &described(&config(store, &old)?)?,
                &described(&config(store, &new)?)?,
            ),
            false => Vec::new(),
        };
        Ok(Self { files, fields })
    }

    pub(super) fn list(&self, args: &DiffArgs) -> Result<String, Fault> {
        let files = self.files.iter().map(|change| {
            let (before, after) = change.sizes;
            json!({
                "Change": letter(&change.how),
                "Kind": "file",
                "Name": shown(change),
                "Details": super::difference(&change.how),
                "Size": signed(before, after),
                "OldSize": before,
                "NewSize": after,
            })
        });
        let fields = self.fields.iter().map(|(letter, name, words)| {
            json!({
                "Change": letter,
                "Kind": "config",
                "Name": name,
                "Details": words,
                "Size": "",
                "OldSize": 0,
                "NewSize": 0,
            })
        });
        let rows: Vec<Value> = files.chain(fields).collect();
        let format = Format::parse(args.format.as_deref(), COLUMNS)?;
        if rows.is_empty() && matches!(args.format.as_deref(), None | Some("table")) {
            return Ok(String::new());
        }
        Ok(format.show(&headings(), &rows)?)
    }

    /// How much is different, in one line.
    pub(super) fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (letter, done) in [("A", "added"), ("C", "changed"), ("D", "removed")] {
            let files = self.files.iter().filter(|it| !it.directory);
            let files: Vec<&Change> = files.filter(|it| self::letter(&it.how) == letter).collect();
            let sum = |size: fn(&Change) -> u64| files.iter().map(|it| size(it)).sum::<u64>();
            let bytes = signed(sum(|it| it.sizes.0), sum(|it| it.sizes.1));
            if !files.is_empty() {
                parts.push(format!("{} {done} ({bytes})", counted(files.len(), "file")));
            }
        }
        let directories = self.files.iter().filter(|it| it.directory).count();
        if directories > 0 {
            let plural = if directories == 1 {
                "directory"
            } else {
                "directories"
            };
            parts.push(format!("{directories} {plural}"));
        }
        if !self.fields.is_empty() {
            let fields = counted(self.fields.len(), "field");
            parts.push(format!("{fields} of the config"));
        }
        match parts.is_empty() {
            true => "no difference\n".to_owned(),
            false => format!("{}\n", parts.join(", ")),
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const COLUMNS: &str = "{{.Change}}\t{{.Size}}\t{{.Name}}\t{{.Details}}";

fn headings() -> Value {
    json!({
        "Change": "CHANGE",
        "Kind": "KIND",
        "Name": "NAME",
        "Details": "DETAILS",
        "Size": "SIZE",
        "OldSize": "OLD SIZE",
        "NewSize": "NEW SIZE",
    })
}

/// Whether somebody asked for this path, or for a directory above it.
fn is_asked_for(path: &Path, asked: &[String]) -> bool {
    let below = |it: &String| path.starts_with(it.trim_matches('/'));
    asked.is_empty() || asked.iter().any(below)
}

/// As `docker diff` has it.
fn letter(how: &How) -> &'static str {
    match how {
        How::New => "A",
        How::Gone => "D",
        _ => "C",
    }
}

/// What is printed of a name: no byte of it moves the cursor.
fn shown(change: &Change) -> String {
    let slash = if change.directory { "/" } else { "" };
    format!(
        "/{}{slash}",
        super::visible(change.path.as_os_str().as_bytes())
    )
}

fn signed(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Equal => "0B".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", human::size(after - before)),
        std::cmp::Ordering::Less => format!("-{}", human::size(before - after)),
    }
}

/// A config as names and values: variables, labels, ports and volumes each for itself.
fn described(config: &oci::ImageConfig) -> Result<BTreeMap<String, String>, Fault> {
    let mut found = BTreeMap::new();
    let platform = config.platform().to_string();
    found.insert("Platform".to_owned(), platform);
    if !config.author.is_empty() {
        found.insert("Author".to_owned(), config.author.clone());
    }
    for line in &config.config.env {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        found.insert(format!("Env {name}"), value.to_owned());
    }
    let document = serde_json::to_value(&config.config).map_err(anyhow::Error::from)?;
    let Value::Object(fields) = document else {
        return Ok(found);
    };
    for (field, value) in fields {
        match (field.as_str(), value) {
            // Written whenever Cmd is, and says nothing by itself.
            ("Env" | "ArgsEscaped", _) => {}
            ("Labels" | "ExposedPorts" | "Volumes", Value::Object(parts)) => {
                let one = field.trim_end_matches('s');
                for (name, value) in parts {
                    let value = value.as_str().unwrap_or_default().to_owned();
                    found.insert(format!("{one} {name}"), value);
                }
            }
            (_, Value::String(text)) => drop(found.insert(field, text)),
            (_, other) => drop(found.insert(field, other.to_string())),
        }
    }
    Ok(found)
}

fn fields(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<(&'static str, String, String)> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (letter, words) = match (old.get(name), new.get(name)) {
            (None, Some(new)) => ("A", new.clone()),
            (Some(old), None) => ("D", old.clone()),
            (Some(old), Some(new)) if old != new => ("C", format!("{old} -> {new}")),
            _ => return None,
        };
        Some((letter, name.clone(), super::visible(words.as_bytes())))
    });
    changed.collect()
}
