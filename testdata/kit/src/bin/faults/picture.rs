//! An image as lines of text, with all that counts and without what differs between two clean builds: times, and the
//! digests that follow from them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tar::{Archive, Entry};

use crate::cell::Cell;

/// Everything a container of the image sees, as a shell finds it, but what the container itself is told. Not the number
/// of a file's names either: a layer that stands on several chains is linked, and all its names count.
const LOOK: &str = r#"
look() { find / -xdev ! -path /etc/hosts ! -path /etc/hostname ! -path /etc/resolv.conf "$@"; }
look ! -type d -exec stat -c '%N %F %a %u:%g' {} + | sort
look -type d -exec stat -c '%N %F %a %u:%g' {} + | sort
look -type f -exec sha256sum {} + | sort
"#;

/// The image `app` of a store: what a container sees of it, and what its archive holds.
pub(crate) fn of(cell: &Cell) -> Result<Vec<String>> {
    let seen = cell.run(&["run", "--rm", "--network=none", "app", "sh", "-c", LOOK])?;
    let mut lines: Vec<String> = seen.good()?.stdout.lines().map(str::to_owned).collect();
    let archive = cell.home().join("app.tar");
    let path = archive.display().to_string();
    cell.run(&["image", "save", "--output", &path, "app"])?
        .good()?;
    lines.extend(archived(&archive)?);
    std::fs::remove_file(archive)?;
    Ok(lines)
}

/// The first line in which a picture is not what was expected.
pub(crate) fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let nothing = "nothing".to_owned();
    let at = (0..expected.len().max(found.len())).find(|at| expected.get(*at) != found.get(*at))?;
    let line = |of: &[String]| of.get(at).unwrap_or(&nothing).clone();
    Some(format!("`{}` instead of `{}`", line(found), line(expected)))
}

fn archived(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path)?;
    let member = |name: &str| -> Result<Vec<u8>> {
        let mut archive = Archive::new(Cursor::new(&bytes));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.path()?.to_str() == Some(name) {
                let mut data = Vec::new();
                entry.read_to_end(&mut data)?;
                return Ok(data);
            }
        }
        anyhow::bail!("the archive has no `{name}`")
    };
    let manifest: Value = serde_json::from_slice(&member("manifest.json")?)?;
    let name = |value: &Value| value.as_str().map(str::to_owned).context("no name");
    let mut config: Value = serde_json::from_slice(&member(&name(&manifest[0]["Config"])?)?)?;
    config["rootfs"] = Value::Null;
    config["created"] = Value::Null;
    for step in config["history"].as_array_mut().into_iter().flatten() {
        step["created"] = Value::Null;
    }
    let mut lines = vec![config.to_string()];
    for (number, layer) in manifest[0]["Layers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let layer = member(&name(layer)?)?;
        for entry in Archive::new(Cursor::new(layer)).entries()? {
            lines.push(format!("layer {number}: {}", line(entry?)?));
        }
    }
    Ok(lines)
}

fn line(mut entry: Entry<'_, impl Read>) -> Result<String> {
    let mut attributes = Vec::new();
    for attribute in entry.pax_extensions()?.into_iter().flatten() {
        let attribute = attribute?;
        let key = attribute.key()?.to_owned();
        if key.starts_with("SCHILY.xattr.") {
            attributes.push(format!(
                "{key}={}",
                String::from_utf8_lossy(attribute.value_bytes())
            ));
        }
    }
    attributes.sort();
    let mut data = Vec::new();
    entry.read_to_end(&mut data)?;
    let mut hash = DefaultHasher::new();
    data.hash(&mut hash);
    let header = entry.header();
    Ok(format!(
        "{} {:?} {:o} {}:{} {} -> {:?} {:x} {}",
        entry.path()?.display(),
        header.entry_type(),
        header.mode()?,
        header.uid()?,
        header.gid()?,
        data.len(),
        entry.link_name()?,
        hash.finish(),
        attributes.join(" ")
    ))
}
