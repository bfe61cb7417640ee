//! The merkle digest over entries in path order.

use oci::{Key, KeyHasher};

/// Takes entries in the order of a manifest and gives the digest of the whole.
///
/// A directory's digest covers its own entry and, in order, the names and digests of its children.
/// The first entry is the top; whatever path it has, the others are below it. Each directory can have
/// a name of its own, a `T`, under which its digest is told in the end.
pub(crate) struct Digester<T = ()> {
    open: Vec<Open<T>>,
    closed: Vec<(T, Key)>,
}

struct Open<T> {
    path: Box<[u8]>,
    hasher: KeyHasher,
    name: Option<T>,
}

impl<T> Digester<T> {
    pub(crate) fn new() -> Self {
        Self {
            open: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Adds one entry.
    pub(crate) fn push(&mut self, path: &[u8], entry: Key, directory: bool) {
        self.leave(path);
        if directory || self.open.is_empty() {
            self.enter(path, entry, None);
        } else {
            self.add(path, &entry);
        }
    }

    /// Adds a directory whose digest is wanted, too.
    pub(crate) fn push_named(&mut self, path: &[u8], entry: Key, name: T) {
        self.leave(path);
        self.enter(path, entry, Some(name));
    }

    /// Adds a directory whose digest is known, with all below it. It cannot be the top.
    pub(crate) fn push_whole(&mut self, path: &[u8], digest: &Key) {
        self.leave(path);
        self.add(path, digest);
    }

    /// The digest of the top entry with all below it; a fixed one where nothing was added.
    pub(crate) fn finish(self) -> Key {
        self.finish_all().0
    }

    /// The same, and the digests of all directories that have a name.
    pub(crate) fn finish_all(mut self) -> (Key, Vec<(T, Key)>) {
        while self.open.len() > 1 {
            self.close();
        }
        let Some(top) = self.open.pop() else {
            return (KeyHasher::new("nothing").finish(), self.closed);
        };
        let digest = top.hasher.finish();
        self.closed.extend(top.name.map(|name| (name, digest)));
        (digest, self.closed)
    }

    /// Closes the directories that `path` is not below.
    fn leave(&mut self, path: &[u8]) {
        while self.open.len() > 1
            && self
                .open
                .last()
                .is_some_and(|it| !super::is_below(path, &it.path))
        {
            self.close();
        }
    }

    fn enter(&mut self, path: &[u8], entry: Key, name: Option<T>) {
        let mut hasher = KeyHasher::new("tree");
        hasher.key(&entry);
        self.open.push(Open {
            path: path.into(),
            hasher,
            name,
        });
    }

    fn add(&mut self, path: &[u8], digest: &Key) {
        if let Some(parent) = self.open.last_mut() {
            let name = below(path, &parent.path);
            parent.hasher.bytes(name).key(digest);
        }
    }

    fn close(&mut self) {
        let Some(child) = self.open.pop() else {
            return;
        };
        let digest = child.hasher.finish();
        self.add(&child.path, &digest);
        self.closed.extend(child.name.map(|name| (name, digest)));
    }
}

/// `path` as seen from `directory`.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> &'a [u8] {
    let rest = &path[directory.len()..];
    rest.strip_prefix(b"/").unwrap_or(rest)
}
