//! What a layer does to the chain below it, in numbers.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::{Entry, Kind, Merged, compare_paths, is_below};

/// What a layer does to the chain below it. Directories do not count: they have no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// What was not there before.
    pub added: Count,
    /// What was there and stands in the layer again, be it other or not; its bytes in the layer.
    pub changed: Count,
    /// What was there and is not any more; the bytes that it had.
    pub removed: Count,
    /// Bytes of the layers below that nobody sees any more because of this one.
    pub wasted: u64,
}

/// How many files, and how many bytes they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Names, for a file with several.
    pub files: u64,
    /// Bytes, for a file with several names once.
    pub bytes: u64,
}

/// A file with several names: its layer, and its number there.
type Link = (u32, u32);

impl Merged {
    /// What the topmost of its layers did to `below`, which is all others.
    pub fn effect(&self, below: &Self) -> Effect {
        self.effect_below(below, b"")
    }

    /// The same, counting only what is below the directory `path`.
    pub fn effect_below(&self, below: &Self, path: &[u8]) -> Effect {
        let mut effect = Effect::default();
        let top = self.layer_count().saturating_sub(1);
        let mut seen = HashSet::new();
        // A file of below that keeps one of its names is not lost.
        let kept: HashSet<Link> = self
            .located()
            .filter(|(layer, _)| *layer != top)
            .filter_map(|(layer, entry)| link(layer, entry))
            .collect();
        let is_asked = |it: &(u32, &Entry)| is_below(&it.1.path, path);
        let mut old = below.located().filter(is_asked).peekable();
        let mut new = self.located().filter(is_asked).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return effect,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((_, old)), Some((_, new))) => compare_paths(&old.path, &new.path),
            };
            let before = if order.is_gt() { None } else { old.next() };
            let after = if order.is_lt() { None } else { new.next() };
            let is_of_top = after.is_some_and(|(layer, _)| layer == top);
            if let Some((layer, entry)) = before
                && (is_of_top || after.is_none())
                && !entry.is_directory()
            {
                let bytes = once(&mut seen, layer, entry, &kept);
                effect.wasted += bytes;
                if after.is_none() {
                    effect.removed.add(bytes);
                }
            }
            if let Some((layer, entry)) = after
                && is_of_top
                && !entry.is_directory()
            {
                let bytes = once(&mut seen, layer, entry, &HashSet::new());
                match before.filter(|(_, entry)| !entry.is_directory()) {
                    None => effect.added.add(bytes),
                    Some(_) => effect.changed.add(bytes),
                }
            }
        }
    }
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// The bytes of a file, but of one with several names the first time only, and never if it is `kept`.
fn once(seen: &mut HashSet<Link>, layer: u32, entry: &Entry, kept: &HashSet<Link>) -> u64 {
    match link(layer, entry) {
        Some(link) if kept.contains(&link) || !seen.insert(link) => 0,
        _ => entry.size(),
    }
}

fn link(layer: u32, entry: &Entry) -> Option<Link> {
    match entry.kind {
        Kind::File { link, .. } if link != 0 => Some((layer, link)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::notation::layer;
    use super::*;

    /// `added changed removed wasted`, the first three as files/bytes.
    fn check(layers: &[&str], expected: &str) {
        let (top, below) = layers.split_last().unwrap();
        let below = Merged::new(below.iter().map(|text| layer(text)));
        let effect = below.clone().with(layer(top)).effect(&below);
        let count = |it: Count| format!("{}/{}", it.files, it.bytes);
        let said = [effect.added, effect.changed, effect.removed].map(count);
        assert_eq!(
            format!("{} {}", said.join(" "), effect.wasted),
            expected,
            "{layers:?}"
        );
    }

    #[test]
    fn what_is_new_wastes_nothing() {
        check(&["a/ a/x:5 b:7"], "2/12 0/0 0/0 0");
        check(&["a/ a/x:5", "a/ a/y:7"], "1/7 0/0 0/0 0");
    }

    #[test]
    fn what_is_written_again_or_removed_wastes_what_was_there() {
        check(&["a:5", "a:7"], "0/0 1/7 0/0 5");
        check(&["a:5", "a:5"], "0/0 1/5 0/0 5");
        check(&["a:5 b:1", "a-"], "0/0 0/0 1/5 5");
        check(&["d/ d/x:5 d/y:6 e:1", "d-"], "0/0 0/0 2/11 11");
        check(&["d/ d/x:5", "d/! d/y:6"], "1/6 0/0 1/5 5");
        check(&["a:5", "a:7", "a-"], "0/0 0/0 1/7 7");
        check(&["d/ d/x:5", "d:3"], "1/3 0/0 1/5 5");
    }

    #[test]
    fn a_file_with_several_names_counts_once_and_is_lost_with_its_last_name() {
        check(&["a:5:1 b:5:1"], "2/5 0/0 0/0 0");
        check(&["a:5:1 b:5:1", "a-"], "0/0 0/0 1/0 0");
        check(&["a:5:1 b:5:1", "a- b-"], "0/0 0/0 2/5 5");
    }
}
