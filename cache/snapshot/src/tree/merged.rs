//! What a chain of layers shows: the layers' manifests laid over each other.

use std::sync::Arc;

use super::{Entry, Kind, Tree, compare_paths, is_below};

/// The visible entries of a chain of layers, in path order, without whiteouts.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    layers: Vec<Arc<Tree>>,
    visible: Vec<Position>,
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
        self.layers.push(layer);
        self
    }

    /// All visible entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.visible.iter().map(|it| self.at(*it))
    }

    /// All visible entries in order, each with the number of the layer that has it.
    pub(super) fn located(&self) -> impl Iterator<Item = (u32, &Entry)> {
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
        let start = self.position(path).unwrap_or_else(|next| next);
        let length = self.visible[start..]
            .partition_point(|it| *self.path(*it) == *path || is_below(self.path(*it), path));
        self.visible[start..start + length]
            .iter()
            .map(|it| self.at(*it))
    }

    fn position(&self, path: &[u8]) -> Result<usize, usize> {
        self.visible
            .binary_search_by(|it| compare_paths(self.path(*it), path))
    }

    fn at(&self, position: Position) -> &Entry {
        &self.layers[position.layer as usize].entries()[position.entry as usize]
    }

    fn path(&self, position: Position) -> &[u8] {
        &self.at(position).path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer from a small notation: `dir/`, `dir/!` (opaque), `file`, `file-` (whiteout).
    fn layer(text: &str) -> Arc<Tree> {
        let entries = text.split_whitespace().map(|word| {
            let (path, kind) = if let Some(path) = word.strip_suffix("/!") {
                (path, Kind::Directory { opaque: true })
            } else if let Some(path) = word.strip_suffix('/') {
                (path, Kind::Directory { opaque: false })
            } else if let Some(path) = word.strip_suffix('-') {
                (path, Kind::Whiteout)
            } else {
                (word, Kind::Fifo)
            };
            let path = path.as_bytes().into();
            Entry {
                path,
                kind,
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: (0, 0),
                xattrs: Vec::new(),
            }
        });
        Arc::new(Tree::new(entries.collect()))
    }

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

    #[test]
    fn a_subtree_is_the_entry_and_what_is_below() {
        let merged = Merged::new([layer("a/ a/x a/x/y a.b b")]);
        let below: Vec<_> = merged.subtree(b"a").map(|it| it.path.len()).collect();
        assert_eq!(below, [1, 3, 5]);
        assert!(merged.get(b"a/x").is_some());
        assert!(merged.get(b"c").is_none());
    }
}
