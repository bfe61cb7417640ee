//! What is different between two layers or two chains of them, told path by path.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::iter::Peekable;
use std::path::PathBuf;

use super::{Counting, Entry, Kind, Merged, Tree, compare_paths};

/// A path that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the root of the trees.
    pub path: PathBuf,
    /// How.
    pub how: How,
    /// Whether it is, or was, a directory.
    pub directory: bool,
    /// How many bytes it had, and has; 0 for what is no file.
    pub sizes: (u64, u64),
}

/// How a path differs. Where it does so in several ways, the first of these is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
    /// It is something else now: a symlink that was a file.
    Kind,
    /// Other bytes, or another target of a symlink.
    Content,
    /// Other permissions.
    Mode(u32, u32),
    /// Another owner or group.
    Owner((u32, u32), (u32, u32)),
    /// Other extended attributes.
    Attributes,
    /// It has a name in common with other files than before; no content key knows of that.
    Links,
    /// Another time of the last change, in seconds since 1970; no content key knows of that.
    Time(i64, i64),
}

impl Tree {
    /// What counts for a content key and is different in `now`, in the order of the paths.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        changes(
            self.entries().iter(),
            now.entries().iter(),
            Entry::difference,
        )
    }

    /// What is different in the layer tar of `now`, in the order of the paths: more than counts for a
    /// content key. Times do where `latest` is the one that no file is younger than.
    pub fn packed_changes(&self, now: &Self, latest: Option<i64>) -> Vec<Change> {
        let (old_links, new_links) = (self.links(), now.links());
        changes(self.entries().iter(), now.entries().iter(), |old, new| {
            let difference = old
                .difference(new)
                .or_else(|| old.packed_difference(new, latest));
            let is_linked = || first(&old_links, old) != first(&new_links, new);
            difference.or_else(|| is_linked().then_some(How::Links))
        })
    }

    /// The first name of each file that has several, by their numbers.
    fn links(&self) -> HashMap<u32, &[u8]> {
        let mut links = HashMap::new();
        for entry in &self.entries {
            if let Kind::File { link, .. } = entry.kind {
                links.entry(link).or_insert(&*entry.path);
            }
        }
        links.remove(&0);
        links
    }
}

impl Merged {
    /// The same of what two chains show.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        changes(self.iter(), now.iter(), Entry::difference)
    }
}

fn changes<'a>(
    old: impl Iterator<Item = &'a Entry>,
    new: impl Iterator<Item = &'a Entry>,
    difference: impl Fn(&Entry, &Entry) -> Option<How>,
) -> Vec<Change> {
    let pairs = Pairs {
        old: old.peekable(),
        new: new.peekable(),
    };
    pairs
        .filter_map(|pair| {
            let how = match pair {
                (Some(old), Some(new)) => difference(old, new)?,
                (None, _) => How::New,
                (_, None) => How::Gone,
            };
            let entry = pair.1.or(pair.0)?;
            Some(Change {
                path: entry.path().to_owned(),
                how,
                directory: entry.is_directory(),
                sizes: (pair.0.map_or(0, Entry::size), pair.1.map_or(0, Entry::size)),
            })
        })
        .collect()
}

/// What two sequences in path order have at each path that either has.
struct Pairs<O: Iterator, N: Iterator> {
    old: Peekable<O>,
    new: Peekable<N>,
}

impl<'a, O, N> Iterator for Pairs<O, N>
where
    O: Iterator<Item = &'a Entry>,
    N: Iterator<Item = &'a Entry>,
{
    type Item = (Option<&'a Entry>, Option<&'a Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.old.peek(), self.new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => compare_paths(&old.path, &new.path),
        };
        Some((
            if order.is_gt() { None } else { self.old.next() },
            if order.is_lt() { None } else { self.new.next() },
        ))
    }
}

/// The name under which a file with several is in the tar.
fn first<'a>(links: &HashMap<u32, &'a [u8]>, entry: &Entry) -> Option<&'a [u8]> {
    match entry.kind {
        Kind::File { link, .. } => links.get(&link).copied(),
        _ => None,
    }
}

impl Entry {
    /// What differs of two entries that no content key tells apart.
    fn packed_difference(&self, now: &Self, latest: Option<i64>) -> Option<How> {
        if self.kind != now.kind && self.is_directory() {
            return Some(How::Kind);
        }
        if self.travelling() != now.travelling() {
            return Some(How::Attributes);
        }
        // Marks have no time, and the root directory is as old as the layer.
        if self.path.is_empty() || matches!(self.kind, Kind::Whiteout | Kind::Socket) {
            return None;
        }
        let latest = latest?;
        let (old, new) = (self.mtime.0.min(latest), now.mtime.0.min(latest));
        (old != new).then_some(How::Time(old, new))
    }

    /// How it differs from what it is now; `None` where nothing that counts does.
    pub fn difference(&self, now: &Self) -> Option<How> {
        if self.digest(Counting::All) == now.digest(Counting::All) {
            return None;
        }
        let same_kind = match (&self.kind, &now.kind) {
            (Kind::File { .. }, Kind::File { .. })
            | (Kind::Symlink(_), Kind::Symlink(_))
            | (Kind::Directory { .. }, Kind::Directory { .. }) => true,
            (old, new) => old == new,
        };
        let same_content = match (&self.kind, &now.kind) {
            (Kind::File { content: old, .. }, Kind::File { content: new, .. }) => old == new,
            (Kind::Symlink(old), Kind::Symlink(new)) => old == new,
            _ => true,
        };
        let owner = |it: &Self| (it.uid, it.gid);
        Some(if !same_kind {
            How::Kind
        } else if !same_content {
            How::Content
        } else if self.mode != now.mode {
            How::Mode(self.mode, now.mode)
        } else if owner(self) != owner(now) {
            How::Owner(owner(self), owner(now))
        } else {
            How::Attributes
        })
    }
}

impl How {
    /// The sentence about the file that people know as `name`.
    pub fn sentence(&self, name: impl fmt::Display) -> String {
        match self {
            Self::New => format!("{name} is new"),
            Self::Gone => format!("{name} is gone"),
            Self::Kind => format!("{name} became another kind of file"),
            Self::Content => format!("{name} changed"),
            Self::Mode(old, new) => format!("mode of {name} {old:04o} -> {new:04o}"),
            Self::Owner(old, new) => {
                format!("owner of {name} {}:{} -> {}:{}", old.0, old.1, new.0, new.1)
            }
            Self::Attributes => format!("extended attributes of {name} changed"),
            Self::Links => format!("hard links of {name} changed"),
            Self::Time(old, new) => format!("time of {name} {old} -> {new}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::content_key;
    use super::*;

    /// A tree from a small notation: `path:content:mode:uid`, `path@target`, `path/`.
    fn tree(text: &str) -> Tree {
        let entry = |word: &str| {
            let mut entry = Entry {
                path: Box::default(),
                kind: Kind::Directory { opaque: false },
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: (text.len() as i64, 0),
                xattrs: Vec::new(),
            };
            if let Some(path) = word.strip_suffix('/') {
                entry.path = path.as_bytes().into();
            } else if let Some((path, target)) = word.split_once('@') {
                entry.path = path.as_bytes().into();
                entry.kind = Kind::Symlink(target.as_bytes().into());
            } else {
                let mut fields = word.split(':');
                let mut field = || fields.next().unwrap_or("");
                entry.path = field().as_bytes().into();
                let content = field();
                entry.kind = Kind::File {
                    size: content.len() as u64,
                    content: content_key(content.as_bytes()),
                    link: 0,
                };
                entry.mode = u32::from_str_radix(field(), 8).unwrap_or(0o644);
                entry.uid = field().parse().unwrap_or(0);
            }
            entry
        };
        Tree::new(text.split_whitespace().map(entry).collect())
    }

    fn check(old: &str, new: &str, expected: &[&str]) {
        let said: Vec<String> = tree(old)
            .changes(&tree(new))
            .iter()
            .map(|it| it.how.sentence(it.path.display()))
            .collect();
        assert_eq!(said, expected, "{old} -> {new}");
    }

    #[test]
    fn a_tar_differs_where_times_and_links_do_as_well() {
        let at = |seconds, link| {
            let mut tree = tree("a:1 b:1");
            for entry in &mut tree.entries {
                entry.mtime = (seconds, 7);
                if let Kind::File { link: number, .. } = &mut entry.kind {
                    *number = link;
                }
            }
            tree
        };
        let check = |old: Tree, new: Tree, latest, expected: &[&str]| {
            let said = old.packed_changes(&new, latest);
            let said: Vec<String> = said
                .iter()
                .map(|it| it.how.sentence(it.path.display()))
                .collect();
            assert_eq!(said, expected);
        };
        check(at(5, 0), at(6, 0), None, &[]);
        check(at(5, 0), at(6, 0), Some(5), &[]);
        check(
            at(5, 0),
            at(6, 0),
            Some(9),
            &["time of a 5 -> 6", "time of b 5 -> 6"],
        );
        check(at(5, 1), at(5, 2), Some(9), &[]);
        let changed = ["hard links of a changed", "hard links of b changed"];
        check(at(5, 0), at(5, 1), None, &changed);
    }

    #[test]
    fn each_difference_is_told_in_a_sentence() {
        check("a/ a/x:1", "a/  a/x:1", &[]);
        check("a/ a/x:1", "a/ a/x:2", &["a/x changed"]);
        check("a/ a/x:1", "a/ a/x:1 a/y:1", &["a/y is new"]);
        check("a/ a/x:1 b:1", "a/ b:1", &["a/x is gone"]);
        check(
            "run.sh:1:644",
            "run.sh:1:755",
            &["mode of run.sh 0644 -> 0755"],
        );
        check("x:1:644:0", "x:1:644:5", &["owner of x 0:0 -> 5:0"]);
        check("x@a", "x@b", &["x changed"]);
        check("x@a", "x:a", &["x became another kind of file"]);
        check(
            "a:1 b:1",
            "b:2 c:1",
            &["a is gone", "b changed", "c is new"],
        );
    }
}
