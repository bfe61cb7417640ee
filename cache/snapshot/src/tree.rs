//! Tree manifests: what one layer holds, path by path, with a digest of everything that counts.
//!
//! A manifest is computed once, when its layer is committed, and read many times: content keys,
//! checksums of parts and layer tars all come from it without a walk of the files.

mod codec;
mod compare;
mod digest;
mod effect;
mod merged;
#[cfg(test)]
mod notation;
mod order;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::{Key, KeyHasher};

pub use codec::TreeError;
pub use compare::{Change, How};
pub(crate) use digest::Digester;
pub use effect::{Count, Effect};
pub use merged::Merged;
pub(crate) use order::{compare_paths, is_below};

/// The manifest of one layer: its entries in the order of their paths, a directory before what is
/// below it. The first entry is the root directory, whose path is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root of the tree, without a `/` at either end; empty for the root itself.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with set-id and sticky bits, `0o7777` at most; `0o777` for a symlink.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds of the last change of content. Counts in no digest.
    pub mtime: (i64, u32),
    /// Extended attributes by name, sorted, without overlay's own.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// With its namespace: `user.mime_type`.
    pub name: Box<[u8]>,
    /// Any bytes.
    pub value: Box<[u8]>,
}

/// What a path of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// blake3 of the bytes.
        content: Key,
        /// The same number for all names of one file in this layer; 0 for a file with one name.
        link: u32,
    },
    /// A directory.
    Directory {
        /// Whether it hides what lower layers have below the same path.
        opaque: bool,
    },
    /// A symlink and its text.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket file, which no tar can carry; counts as an empty file.
    Socket,
    /// Not there: hides what lower layers have under this name.
    Whiteout,
}

impl Tree {
    /// A manifest of the entries, in whatever order they come.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| compare_paths(&a.path, &b.path));
        Self { entries }
    }

    /// All entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries in order.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether there is nothing but the root directory, and that hides nothing: below another layer it is not
    /// to be seen.
    pub fn is_bare(&self) -> bool {
        let hides_nothing = Kind::Directory { opaque: false };
        matches!(&self.entries[..], [root] if root.path.is_empty() && root.kind == hides_nothing)
    }

    /// The entry at exactly this path.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let found = self
            .entries
            .binary_search_by(|entry| compare_paths(&entry.path, path))
            .ok()?;
        self.entries.get(found)
    }

    /// The sum of the sizes of all files, each counted once however many names it has.
    pub fn size(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        let sizes = self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::File { size, link, .. } if link == 0 || seen.insert(link) => Some(size),
            _ => None,
        });
        sizes.sum()
    }

    /// The merkle root: equal for layers that hold the same, whenever and wherever they were made.
    pub fn root(&self) -> Key {
        let mut digester = Digester::<()>::new();
        for entry in &self.entries {
            let key = entry.digest(Counting::All);
            let key = if entry.kind == (Kind::Directory { opaque: true }) {
                hidden(&key)
            } else {
                key
            };
            digester.push(&entry.path, key, entry.is_directory());
        }
        digester.finish()
    }
}

/// A directory that hides the one below it is another change than one that does not.
fn hidden(directory: &Key) -> Key {
    KeyHasher::new("opaque").key(directory).finish()
}

/// What of a file's metadata counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// Mode, owner and group.
    #[default]
    All,
    /// Mode, but neither owner nor group: they are about to be set.
    NoOwner,
    /// Owner and group, but not the mode.
    NoMode,
    /// None of the three.
    Neither,
}

impl Entry {
    /// The path, for people and for the kernel.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The extended attributes that leave the machine with an image.
    pub(crate) fn travelling(&self) -> Vec<Xattr> {
        let travel = self.xattrs.iter().filter(|it| it.travels());
        travel.cloned().collect()
    }

    /// How many bytes it has; 0 for what is no file.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// The digest of this entry alone: without its path, without what is below it, without times.
    pub fn digest(&self, counting: Counting) -> Key {
        let mut hasher = KeyHasher::new("entry");
        self.kind.feed(&mut hasher);
        if matches!(counting, Counting::All | Counting::NoOwner) {
            hasher.number(self.mode.into());
        }
        if matches!(counting, Counting::All | Counting::NoMode) {
            hasher.number(self.uid.into()).number(self.gid.into());
        }
        for xattr in self.xattrs.iter().filter(|xattr| xattr.counts()) {
            hasher.bytes(&xattr.name).bytes(&xattr.value);
        }
        hasher.finish()
    }
}

impl Kind {
    fn feed(&self, hasher: &mut KeyHasher) {
        match self {
            Self::File { size, content, .. } => hasher.text("file").number(*size).key(content),
            Self::Socket => hasher.text("file").number(0).key(&content_key(b"")),
            Self::Directory { .. } => hasher.text("directory"),
            Self::Symlink(target) => hasher.text("symlink").bytes(target),
            Self::Character(major, minor) => device(hasher, "character", *major, *minor),
            Self::Block(major, minor) => device(hasher, "block", *major, *minor),
            Self::Fifo => hasher.text("fifo"),
            Self::Whiteout => hasher.text("whiteout"),
        };
    }
}

impl Xattr {
    /// Whether it is part of a file's content: what the host's security modules and the kernel keep
    /// there is not, file capabilities are.
    fn counts(&self) -> bool {
        self.travels() && !self.name.starts_with(b"system.")
    }

    /// Whether it leaves the machine with an image: labels of the host's security modules stay here.
    pub fn travels(&self) -> bool {
        !self.name.starts_with(b"security.") || &*self.name == b"security.capability"
    }
}

/// The blake3 of a file's bytes.
pub fn content_key(bytes: &[u8]) -> Key {
    Key::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn device<'a>(hasher: &'a mut KeyHasher, kind: &str, major: u32, minor: u32) -> &'a mut KeyHasher {
    hasher.text(kind).number(major.into()).number(minor.into())
}

#[cfg(test)]
mod tests {
    use super::notation::layer;

    #[test]
    fn a_layer_is_bare_that_neither_shows_nor_hides_anything() {
        let table = [
            ("/", true),
            ("/!", false),
            ("/ a", false),
            ("/ a-", false),
            ("a", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(layer(text).is_bare(), expected, "{text:?}");
        }
    }
}
