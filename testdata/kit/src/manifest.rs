//! The workspace's `Cargo.toml` files, read as far as the architecture test needs them.
//!
//! The house writes a manifest in one plain form: a `[section]` line, and below it `key = value` or `key.sub = value`
//! lines, arrays over several lines allowed. This reader knows that form and nothing else of TOML.
//! What it does not know it hands on as text, so that the test can say what to write instead.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the kit stands two folders below the root")
        .to_path_buf()
}

/// One `Cargo.toml`: its lines by section, in the order they are written.
#[derive(Debug)]
pub struct Manifest {
    /// Where it was read from.
    pub path: PathBuf,
    entries: Vec<Entry>,
}

/// One `key = value` line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section it stands in, without brackets: `dependencies`, `package`.
    pub section: String,
    /// Left of the first `=`: `serde.workspace`.
    pub key: String,
    /// Right of it, an array joined into one line: `true`, `{ path = "image/oci" }`.
    pub value: String,
}

impl Manifest {
    /// Reads the manifest at `path`.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            entries: parse(&fs::read_to_string(path)?),
        })
    }

    /// The lines of `section`, in order.
    pub fn section<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |it| it.section == section)
    }

    /// The sections that have lines, each once, in order.
    pub fn sections(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.entries.iter().map(|it| it.section.as_str()).collect();
        names.dedup();
        names
    }

    /// The value of `key` in `section`, without quotes around it.
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        let entry = self
            .entries
            .iter()
            .find(|it| it.section == section && it.key == key)?;
        Some(entry.value.trim_matches('"'))
    }
}

/// The manifests of all crates of the workspace at `root`, sorted by path.
///
/// A member is found on disk, not in the `members` list, so that a crate somebody forgot to list is found too.
pub fn members(root: &Path) -> io::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for stage in folders(root)? {
        for folder in folders(&stage)? {
            let manifest = folder.join("Cargo.toml");
            if manifest.is_file() {
                found.push(Manifest::read(&manifest)?);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        let name = entry.file_name();
        let skipped = name == "target" || name.as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && !skipped {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = String::new();
    let mut inside_array = false;
    for line in text
        .lines()
        .map(without_comment)
        .filter(|it| !it.is_empty())
    {
        if inside_array {
            if let Some(last) = entries.last_mut() {
                last.value.push_str(line);
            }
            inside_array = !line.ends_with(']');
        } else if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let value = value.trim().to_owned();
            inside_array = value.starts_with('[') && !value.ends_with(']');
            entries.push(Entry {
                section: section.clone(),
                key: key.trim().to_owned(),
                value,
            });
        }
    }
    entries
}

/// The line without its comment; a `#` inside quotes is not one.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return line[..at].trim(),
            _ => {}
        }
    }
    line.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, &str)]) {
        let read = parse(text);
        let read: Vec<_> = read
            .iter()
            .map(|it| (&*it.section, &*it.key, &*it.value))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn lines_are_read_with_their_section() {
        check(
            "[package]\nname = \"oci\"\n\n[dependencies]\nserde.workspace = true\n",
            &[
                ("package", "name", "\"oci\""),
                ("dependencies", "serde.workspace", "true"),
            ],
        );
    }

    #[test]
    fn an_array_over_several_lines_is_one_value() {
        check(
            "[workspace]\nmembers = [\n  \"image/*\", # pictures\n  \"cli/*\",\n]\nresolver = \"3\"\n",
            &[
                ("workspace", "members", "[\"image/*\",\"cli/*\",]"),
                ("workspace", "resolver", "\"3\""),
            ],
        );
    }

    #[test]
    fn a_comment_ends_the_line_but_not_inside_quotes() {
        check("[a]\nb = \"#1\" # two\n# three\n", &[("a", "b", "\"#1\"")]);
    }
}
