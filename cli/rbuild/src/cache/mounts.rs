//! `cache ls`, `inspect`, `cp` and `rm`: the cache mounts, each by its id.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use store::{CacheMount, Item, Sharing, Store, Stored};

use crate::args::{CacheCpArgs, CacheLsArgs, MountArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::human;
use crate::image::clock_time;
use crate::output::print;
use crate::table::Format;

const COLUMNS: &str = "{{.ID}}\t{{.Size}}\t{{.UsageCount}}\t{{.LastAccessed}}";

/// Prints the cache mounts.
pub(crate) fn ls(store: &Store, args: &CacheLsArgs) -> Result<(), Fault> {
    let sized = sizes(store)?;
    let rows: Vec<Value> = store
        .cache_mounts()?
        .iter()
        .map(|mount| {
            let size = size_of(&sized, mount);
            json!({
                "ID": mount.id,
                "Size": human::size(size),
                "Bytes": size,
                "UsageCount": mount.uses,
                "LastAccessed": super::ago(mount.used),
            })
        })
        .collect();
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str());
        return Ok(print(&ids.map(|id| format!("{id}\n")).collect::<String>())?);
    }
    let headings = json!({
        "ID": "ID",
        "Size": "SIZE",
        "UsageCount": "USES",
        "LastAccessed": "LAST ACCESSED",
    });
    let format = Format::parse(args.format.as_deref(), COLUMNS)
        .map_err(|error| Fault::from(error).exit(Exit::Usage))?;
    Ok(print(&format.show(&headings, &rows)?)?)
}

/// Prints everything about cache mounts.
pub(crate) fn inspect(store: &Store, args: &MountArgs) -> Result<(), Fault> {
    let sized = sizes(store)?;
    let mut shown = Vec::new();
    for mount in called(store, &args.ids)? {
        shown.push(json!({
            "ID": mount.id,
            "Path": mount.path,
            "Size": size_of(&sized, &mount),
            "CreatedAt": clock_time(Some(mount.created)),
            "LastUsedAt": clock_time(Some(mount.used)),
            "UsageCount": mount.uses,
            "InUse": store.try_lock_cache_mount(&mount.id, Sharing::Locked)?.is_none(),
        }));
    }
    let shown = Value::Array(shown);
    Ok(print(&format!("{shown:#}\n"))?)
}

/// Removes cache mounts.
pub(crate) fn rm(store: &Store, args: &MountArgs) -> Result<(), Fault> {
    for mount in called(store, &args.ids)? {
        let id = &mount.id;
        if !store.remove_cache_mount(id)? {
            return Err(Fault::from(anyhow::anyhow!(
                "cache mount {id} is in use by a running build"
            )));
        }
        print(&format!("{id}\n"))?;
    }
    Ok(())
}

/// Copies files of a cache mount out.
pub(crate) fn cp(store: &Store, args: &CacheCpArgs) -> Result<(), Fault> {
    // An id may hold colons and slashes itself; the longest that is one is meant.
    let mounts = store.cache_mounts()?;
    let split = |mount: &CacheMount| {
        let rest = args.source.strip_prefix(&mount.id)?;
        let path = if rest.is_empty() {
            "."
        } else {
            rest.strip_prefix(':')?
        };
        Some((mount.clone(), path.trim_start_matches('/').to_owned()))
    };
    let found = mounts
        .iter()
        .filter_map(split)
        .max_by_key(|(mount, _)| mount.id.len());
    let Some((mount, path)) = found else {
        return Err(unknown(&args.source));
    };
    let _held = store.lock_cache_mount(&mount.id, Sharing::Shared)?;
    copy(&mount.path, &path, &args.destination)
}

/// By cp(1), which knows reflinks and sparse files, from inside the mount: a path cannot leave it
/// through a symlink that a step put there, as none is followed.
fn copy(mount: &Path, path: &str, destination: &Path) -> Result<(), Fault> {
    let escapes = Path::new(path)
        .components()
        .any(|it| matches!(it, std::path::Component::ParentDir));
    let mut real = mount.to_owned();
    let through_link = Path::new(path).components().any(|part| {
        let is_link = real.is_symlink();
        real.push(part);
        is_link
    });
    if escapes || through_link {
        return Err(Fault::usage(format!("`{path}` leaves the cache mount")));
    }
    std::fs::create_dir_all(destination)?;
    let destination = std::path::absolute(destination)?;
    let status = Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(if path.is_empty() { "." } else { path })
        .arg(destination)
        .current_dir(mount)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Fault::silent(Exit::Failure))
    }
}

/// The cache mounts of these ids. There are several of one id where steps gave it other owners, modes
/// or beginnings; each of those goes by its whole name, too.
fn called(store: &Store, ids: &[String]) -> Result<Vec<CacheMount>, Fault> {
    let mut all = store.cache_mounts()?;
    let mut found = Vec::new();
    for id in ids {
        let before = found.len();
        found.extend(all.extract_if(.., |it| is_of(&it.id, id)));
        if found.len() == before && !found.iter().any(|it| is_of(&it.id, id)) {
            return Err(unknown(id));
        }
    }
    Ok(found)
}

/// Whether a cache mount's name is this id, or the id with what tells it from others of that id.
pub(super) fn is_of(name: &str, id: &str) -> bool {
    let rest = name.strip_prefix(id);
    rest.is_some_and(|it| it.is_empty() || it.starts_with('@'))
}

fn unknown(id: &str) -> Fault {
    Fault::from(anyhow::anyhow!("no such cache mount: {id}"))
        .hint("`rbuild cache ls` lists what there is")
}

fn sizes(store: &Store) -> Result<Vec<Item>, Fault> {
    let mut items = store.usage()?;
    items.retain(|item| matches!(item.what, Stored::Mount(_)));
    Ok(items)
}

fn size_of(items: &[Item], mount: &CacheMount) -> u64 {
    let same = |item: &&Item| item.description == mount.id;
    items.iter().find(same).map_or(0, |item| item.size)
}
