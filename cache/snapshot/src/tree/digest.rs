//! The merkle digest over entries in path order.

use oci::{Key, KeyHasher};

/// Takes entries in the order of a manifest and gives the digest of the whole.
///
/// A directory's digest covers its own entry and, in order, the names and digests of its children.
/// The first entry is the top; whatever path it has, the others are below it.
pub(crate) struct Digester {
    open: Vec<Open>,
}

struct Open {
    path: Box<[u8]>,
    hasher: KeyHasher,
}

impl Digester {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new() }
    }

    /// Adds one entry.
    pub(crate) fn push(&mut self, path: &[u8], entry: Key, directory: bool) {
        while self.open.len() > 1
            && self
                .open
                .last()
                .is_some_and(|it| !super::is_below(path, &it.path))
        {
            self.close();
        }
        if directory || self.open.is_empty() {
            let mut hasher = KeyHasher::new("tree");
            hasher.key(&entry);
            self.open.push(Open {
                path: path.into(),
                hasher,
            });
        } else if let Some(parent) = self.open.last_mut() {
            let name = below(path, &parent.path);
            parent.hasher.bytes(name).key(&entry);
        }
    }

    /// The digest of the top entry with all below it; a fixed one where nothing was added.
    pub(crate) fn finish(mut self) -> Key {
        while self.open.len() > 1 {
            self.close();
        }
        self.open.pop().map_or_else(
            || KeyHasher::new("nothing").finish(),
            |top| top.hasher.finish(),
        )
    }

    fn close(&mut self) {
        let (Some(child), Some(parent)) = (self.open.pop(), self.open.last_mut()) else {
            return;
        };
        let name = below(&child.path, &parent.path);
        parent.hasher.bytes(name).key(&child.hasher.finish());
    }
}

/// `path` as seen from `directory`.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> &'a [u8] {
    let rest = &path[directory.len()..];
    rest.strip_prefix(b"/").unwrap_or(rest)
}
