//! What an image is made of: the packages that its databases list, as a bill of materials.
//!
//! Nothing of the image runs. What is read is what the package managers write down: dpkg's, apk's and rpm's
//! databases, and the descriptions that Python and Node packages carry with them. A file that cannot be
//! understood is as good as none.

mod apk;
mod debian;
mod node;
mod python;
mod rpm;
mod spdx;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use snapshot::{Entry, Kind, Root, SnapshotError, Snapshots};
use store::{SnapshotId, Store};

use crate::attest::percent;
use rpm::Database;

pub use spdx::{About, predicate};

/// A database of more bytes is left out: nothing honest comes near it.
const LARGEST_DATABASE: u64 = 256 << 20;

/// Why the packages of an image are not known.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// Its layers cannot be read.
    #[error("cannot read the layers of the image")]
    Snapshot(#[from] SnapshotError),
    /// A file cannot be read.
    #[error("cannot read `{}` of the image", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What was found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The packages, each once.
    pub packages: BTreeSet<Package>,
    /// Databases whose packages are not in it, because nobody here can read them.
    pub unread: Vec<PathBuf>,
}

/// A package that is in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Whose package it is.
    pub kind: PackageKind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it runs on, in the words of its package manager; empty where that is everything.
    pub architecture: String,
    /// Under which terms, in whatever words; empty where nobody says.
    pub license: String,
    /// Who made it; empty where nobody says.
    pub supplier: String,
    /// The file that lists it, within the image.
    pub found_in: String,
}

/// Whose package one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackageKind {
    /// dpkg
    Debian,
    /// apk
    Alpine,
    /// pip
    Python,
    /// npm
    Node,
    /// rpm
    Rpm,
}

/// The distribution that an image says it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Distribution {
    /// `debian`
    id: String,
    /// `12`
    version: String,
}

/// Who looks into a file, and what he makes of it.
type Reader = fn(&str) -> Vec<Package>;

/// Finds the packages of the chain below `top`.
///
/// # Errors
/// If its layers or one of the databases cannot be read.
pub fn scan(snapshots: &Snapshots, top: Option<SnapshotId>) -> Result<Inventory, SbomError> {
    let merged = snapshots.merged(top)?;
    let root = Root::from_fd(snapshots.view(top)?);
    let mut inventory = Inventory::default();
    let files = merged
        .iter()
        .filter(|it| matches!(it.kind, Kind::File { .. }));
    for entry in files {
        let Ok(path) = std::str::from_utf8(&entry.path) else {
            continue;
        };
        let found = match (reader(path), rpm::database(path)) {
            (Some(reader), _) => Some(reader(&read(&root, entry)?)),
            (None, Some(database)) => of_rpm(snapshots.store(), &root, (entry, database))?,
            (None, None) => continue,
        };
        let Some(found) = found else {
            inventory.unread.push(Path::new("/").join(path));
            continue;
        };
        let found = found.into_iter().map(|package| Package {
            found_in: format!("/{path}"),
            ..package
        });
        inventory.packages.extend(found);
    }
    // The same package may be listed in several places.
    let mut seen = BTreeSet::new();
    inventory.packages.retain(|it| {
        seen.insert((
            it.kind,
            it.name.clone(),
            it.version.clone(),
            it.architecture.clone(),
        ))
    });
    Ok(inventory)
}

/// The distribution of the chain below `top`, for the addresses of its packages.
pub(crate) fn distribution(
    snapshots: &Snapshots,
    top: Option<SnapshotId>,
) -> Result<Distribution, SbomError> {
    let root = Root::from_fd(snapshots.view(top)?);
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| root.read_limited(Path::new(path), 64 << 10).ok());
    Ok(Distribution::read(&String::from_utf8_lossy(
        &text.unwrap_or_default(),
    )))
}

fn reader(path: &str) -> Option<Reader> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_of_dpkg = path == "var/lib/dpkg/status"
        || (path.starts_with("var/lib/dpkg/status.d/") && !name.ends_with(".md5sums"));
    let is_of_apk = matches!(path, "lib/apk/db/installed" | "usr/lib/apk/db/installed");
    if is_of_dpkg {
        return Some(debian::packages);
    }
    if is_of_apk {
        return Some(apk::packages);
    }
    if python::is_description(path) {
        return Some(python::packages);
    }
    match name {
        "package.json" if node::is_installed(path) => Some(node::package),
        "package-lock.json" if !path.contains("node_modules/") => Some(node::locked),
        _ => None,
    }
}

/// The packages of one of rpm's databases; `None` where nobody here can read it.
fn of_rpm(
    store: &Store,
    root: &Root,
    (entry, database): (&Entry, Database),
) -> Result<Option<Vec<Package>>, SbomError> {
    match database {
        Database::Berkeley => Ok(None),
        Database::Ndb => Ok(rpm::of_ndb(&read_bytes(root, entry)?)),
        Database::Sqlite => {
            // SQLite reads files, and writes into them what their log has.
            let directory = store.tmp_dir().map_err(SnapshotError::from)?;
            let beside = Path::new("/").join(entry.path()).with_file_name(rpm::LOG);
            let log = root.read_limited(&beside, LARGEST_DATABASE).ok();
            let copied = rpm::copy(directory.path(), &read_bytes(root, entry)?, log.as_deref());
            copied.map_err(|source| SbomError::Read {
                path: Path::new("/").join(entry.path()),
                source,
            })?;
            Ok(rpm::of_sqlite(&directory.path().join("rpmdb.sqlite")))
        }
    }
}

fn read(root: &Root, entry: &Entry) -> Result<String, SbomError> {
    let bytes = read_bytes(root, entry)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(root: &Root, entry: &Entry) -> Result<Vec<u8>, SbomError> {
    let path = Path::new("/").join(entry.path());
    let content = root.read_limited(&path, LARGEST_DATABASE);
    content.map_err(|source| SbomError::Read { path, source })
}

impl Distribution {
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
                .trim()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        Self {
            id: value("ID"),
            version: value("VERSION_ID"),
        }
    }

    /// `debian-12`
    fn name(&self) -> Option<String> {
        match (self.id.as_str(), self.version.as_str()) {
            ("", _) => None,
            (id, "") => Some(id.to_owned()),
            (id, version) => Some(format!("{id}-{version}")),
        }
    }
}

impl Package {
    fn new(kind: PackageKind, name: &str, version: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: String::new(),
            license: String::new(),
            supplier: String::new(),
            found_in: String::new(),
        }
    }

    /// The package's address: `pkg:deb/debian/bash@5.2?arch=amd64&distro=debian-12`.
    pub(crate) fn url(&self, of: &Distribution) -> String {
        // An rpm's epoch is no part of its version.
        let (epoch, version) = match (self.kind, self.version.split_once(':')) {
            (PackageKind::Rpm, Some((epoch, version))) => (Some(epoch), version),
            _ => (None, &*self.version),
        };
        let (name, version) = (percent(&self.name), percent(version));
        let kind = match self.kind {
            PackageKind::Python => return format!("pkg:pypi/{name}@{version}"),
            PackageKind::Node => {
                // The scope of a name is a part of its own.
                let name: Vec<String> = self.name.split('/').map(percent).collect();
                return format!("pkg:npm/{}@{version}", name.join("/"));
            }
            PackageKind::Debian => "deb",
            PackageKind::Alpine => "apk",
            PackageKind::Rpm => "rpm",
        };
        let usual = match self.kind {
            PackageKind::Alpine => "alpine",
            PackageKind::Rpm => "redhat",
            _ => "debian",
        };
        let vendor = match of.id.as_str() {
            "" => usual,
            id => id,
        };
        let mut qualifiers = Vec::new();
        if !self.architecture.is_empty() {
            qualifiers.push(format!("arch={}", percent(&self.architecture)));
        }
        if let Some(name) = of.name() {
            qualifiers.push(format!("distro={}", percent(&name)));
        }
        if let Some(epoch) = epoch {
            qualifiers.push(format!("epoch={}", percent(epoch)));
        }
        let qualifiers = match &qualifiers[..] {
            [] => String::new(),
            some => format!("?{}", some.join("&")),
        };
        format!(
            "pkg:{kind}/{}/{name}@{version}{qualifiers}",
            percent(vendor)
        )
    }
}

/// A field of a JSON object that is a text; else empty.
fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(crate) fn drawn(packages: &[Package]) -> String {
    let of = Distribution::read("ID=\"debian\"\nVERSION_ID=12\n");
    let line = |it: &Package| format!("{} | {} | {}", it.url(&of), it.license, it.supplier);
    packages.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_where_they_stand() {
        let known = [
            "var/lib/dpkg/status",
            "var/lib/dpkg/status.d/base",
            "lib/apk/db/installed",
            "usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO",
            "opt/venv/lib/python3.11/site-packages/requests-2.31.0.dist-info/METADATA",
            "app/node_modules/left-pad/package.json",
            "app/node_modules/@scope/it/package.json",
            "app/package-lock.json",
        ];
        for path in known {
            assert!(reader(path).is_some(), "{path}");
        }
        let unknown = [
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/status.d/base.md5sums",
            "home/lib/apk/db/installed",
            "app/METADATA",
            "app/package.json",
            "app/node_modules/left-pad/test/package.json",
            "app/node_modules/left-pad/package-lock.json",
        ];
        for path in unknown {
            assert!(reader(path).is_none(), "{path}");
        }
    }
}
