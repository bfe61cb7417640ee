//! What a chain of layers shows: the layers' manifests laid over each other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Key;

use super::{Counting, Digester, Entry, Kind, Tree, compare_paths, is_below};

/// The visible entries of a chain of layers, in path order, without whiteouts.
///
/// Chains that begin with the same layers share what they know of those.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    layers: Vec<Arc<Layer>>,
    visible: Vec<Position>,
}

/// One layer of a chain.
#[derive(Debug)]
struct Layer {
    tree: Arc<Tree>,
    /// The digests of directories with all that the chain up to this layer shows below them, as far as
    /// they are known, by the directories' numbers in this layer.
    ///
    /// **Invariant:** they hold in every longer chain in which the directory is seen, because a layer
    /// that changes anything below a directory has that directory itself, and then that one is seen.
    digests: Mutex<HashMap<u32, Key>>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    layer: u32,
    entry: u32,
}

impl Merged {
    /// The layers over each other, the lowest first.
    pub fn new(layers: impl IntoIterator<Item = Arc<Tree>>) -> Self {
        layers.into_iter().fold(Self::default(), Self::with)
    }

    /// The same with one more layer on top.
    pub fn with(mut self, layer: Arc<Tree>) -> Self {
        let number = self.layers.len() as u32;
        if let [root] = layer.entries()
            && root.kind == (Kind::Directory { opaque: false })
            && self
                .visible
                .first()
                .is_some_and(|it| self.path(*it).is_empty())
        {
            // A step that left nothing behind.
            self.visible[0] = Position {
                layer: number,
                entry: 0,
            };
            self.layers.push(Arc::new(Layer::new(layer)));
            return self;
        }
        let mut visible = Vec::with_capacity(self.visible.len() + layer.entries().len());
        let mut lower = self.visible.iter().copied().peekable();
        let mut hidden_below: Option<&[u8]> = None;
        for (index, entry) in layer.entries().iter().enumerate() {
            while let Some(below) =
                lower.next_if(|it| compare_paths(self.path(*it), &entry.path).is_lt())
            {
                if !hidden_below.is_some_and(|hidden| is_below(self.path(below), hidden)) {
                    visible.push(below);
                }
            }
            let replaced = lower.next_if(|it| *self.path(*it) == *entry.path);
            let hides = match entry.kind {
                Kind::Directory { opaque } => {
                    opaque || !replaced.is_some_and(|it| self.at(it).is_directory())
                }
                _ => true,
            };
            if hides && !hidden_below.is_some_and(|hidden| is_below(&entry.path, hidden)) {
                hidden_below = Some(&entry.path);
            }
            if entry.kind != Kind::Whiteout {
                visible.push(Position {
                    layer: number,
                    entry: index as u32,
                });
            }
        }
        visible.extend(
            lower.filter(|it| !hidden_below.is_some_and(|hidden| is_below(self.path(*it), hidden))),
        );
        self.visible = visible;
        self.layers.push(Arc::new(Layer::new(layer)));
        self
    }

    /// The digest of the entry at `path` with all below it, by all that counts. What did not change since it
    /// was last computed in a part of the same chain is not looked at.
    pub(crate) fn digest(&self, path: &[u8]) -> Key {
        let range = self.range(path);
        let top = self.visible[range.clone()].first();
        if let Some(known) = top.and_then(|top| self.known(*top)) {
            return known;
        }
        let mut digester = Digester::new();
        let mut at = range.start;
        while at < range.end {
            let position = self.visible[at];
            let entry = self.at(position);
            at += 1;
            if !entry.is_directory() {
                digester.push(&entry.path, entry.digest(Counting::All), false);
            } else if let Some(known) = self.known(position) {
                digester.push_whole(&entry.path, &known);
                at += self.visible[at..range.end]
                    .partition_point(|it| is_below(self.path(*it), &entry.path));
            } else {
                digester.push_named(&entry.path, entry.digest(Counting::All), position);
            }
        }
        let (digest, directories) = digester.finish_all();
        for (position, digest) in directories {
            self.layers[position.layer as usize].learn(position.entry, digest);
        }
        digest
    }

    fn known(&self, directory: Position) -> Option<Key> {
        self.layers[directory.layer as usize].known(directory.entry)
    }

    /// How many layers there are.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// All visible entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.visible.iter().map(|it| self.at(*it))
    }

    /// All visible entries in order, each with the number of the layer that has it.
    pub(crate) fn located(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.visible.iter().map(|it| (it.layer, self.at(*it)))
    }

    pub(super) fn layer_count(&self) -> u32 {
        self.layers.len() as u32
    }

    /// The entry that is visible at exactly this path.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        Some(self.at(self.visible[self.position(path).ok()?]))
    }

    /// The entry at `path` and all below it.
    pub fn subtree<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a Entry> {
        self.visible[self.range(path)].iter().map(|it| self.at(*it))
    }

    fn range(&self, path: &[u8]) -> Range<usize> {
        let start = self.position(path).unwrap_or_else(|next| next);
        let length = self.visible[start..]
            .partition_point(|it| *self.path(*it) == *path || is_below(self.path(*it), path));
        start..start + length
    }

    fn position(&self, path: &[u8]) -> Result<usize, usize> {
        self.visible
            .binary_search_by(|it| compare_paths(self.path(*it), path))
    }

    fn at(&self, position: Position) -> &Entry {
        &self.layers[position.layer as usize].tree.entries()[position.entry as usize]
    }

    fn path(&self, position: Position) -> &[u8] {
        &self.at(position).path
    }
}

impl Layer {
    fn new(tree: Arc<Tree>) -> Self {
        Self {
            tree,
            digests: Mutex::default(),
        }
    }

    fn known(&self, directory: u32) -> Option<Key> {
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.get(&directory).copied()
    }

    fn learn(&self, directory: u32, digest: Key) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.insert(directory, digest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notation::layer;
    use super::*;

    fn check(layers: &[&str], expected: &str) {
        let merged = Merged::new(layers.iter().map(|text| layer(text)));
        let shown: Vec<_> = merged
            .iter()
            .map(|it| String::from_utf8_lossy(&it.path))
            .collect();
        assert_eq!(shown.join(" "), expected, "{layers:?}");
    }

    #[test]
    fn layers_lie_over_each_other_as_overlayfs_lays_them() {
        check(&["a/ a/x b", "a/ a/y"], "a a/x a/y b");
        check(&["a/ a/x a.b b", "a-"], "a.b b");
        check(&["a/ a/x b", "a/! a/y"], "a a/y b");
        check(&["a/ a/x b", "a"], "a b");
        check(&["a", "a/ a/x"], "a a/x");
        check(
            &["a/ a/b/ a/b/x a/c", "a/ a/b-", "a/ a/b/ a/b/y"],
            "a a/b a/b/y a/c",
        );
        check(
            &["a/ a/b/ a/b/x", "a/! a/b/ a/b/y", "a/ a/b/ a/b/z"],
            "a a/b a/b/y a/b/z",
        );
        check(&["", "a-"], "");
    }

    /// The digest of a part of a chain, computed from all of its entries.
    fn from_all(merged: &Merged, path: &[u8]) -> Key {
        let mut digester = Digester::<()>::new();
        for entry in merged.subtree(path) {
            let own = entry.digest(Counting::All);
            digester.push(&entry.path, own, entry.is_directory());
        }
        digester.finish()
    }

    #[test]
    fn what_is_known_of_a_part_of_a_chain_holds_in_the_longer_one() {
        let layers = [
            "a/ a/b/ a/b/x a/c/ a/c/y d/ d/e/ d/e/z f",
            "",
            "a/ a/b/ a/b/new",
            "d/ d/e/!",
            "a-",
            "a/ a/c/ a/c/y",
            "d/ d/e/ d/e/z",
            "d/ d/e-",
        ];
        let mut chain = Merged::default();
        let mut roots = Vec::new();
        for text in layers {
            let mut tree = layer(text).entries().to_vec();
            // As every layer has it.
            tree.push(Entry {
                path: Box::default(),
                kind: Kind::Directory { opaque: false },
                ..tree
                    .first()
                    .cloned()
                    .unwrap_or_else(|| layer("r/").entries()[0].clone())
            });
            chain = chain.with(Arc::new(Tree::new(tree)));
            for path in ["", "a", "a/b", "a/c", "d", "d/e", "f", "nothing"] {
                let path = path.as_bytes();
                assert_eq!(chain.digest(path), from_all(&chain, path), "{text:?}");
                assert_eq!(
                    chain.digest(path),
                    from_all(&chain, path),
                    "{text:?}, known"
                );
            }
            roots.push(chain.digest(b""));
        }
        assert_eq!(roots[0], roots[1], "the second layer is empty");
        roots.dedup();
        assert_eq!(roots.len(), layers.len() - 1);
        // Another chain on the same first layer knows nothing of the changes of this one.
        let other = Merged::new([layer("a/ a/x")]);
        let (one, two) = (
            other.clone().with(layer("a/ a/y")),
            other.with(layer("a/ a/z")),
        );
        for merged in [one, two] {
            assert_eq!(merged.digest(b"a"), from_all(&merged, b"a"));
        }
    }

    #[test]
    fn a_subtree_is_the_entry_and_what_is_below() {
        let merged = Merged::new([layer("a/ a/x a/x/y a.b b")]);
        let below: Vec<_> = merged.subtree(b"a").map(|it| it.path.len()).collect();
        assert_eq!(below, [1, 3, 5]);
        assert!(merged.get(b"a/x").is_some());
        assert!(merged.get(b"c").is_none());
    }
}
