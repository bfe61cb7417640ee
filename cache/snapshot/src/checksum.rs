//! The content of a part of a tree, as a key.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::{Key, KeyHasher};
use store::SnapshotId;

use crate::pattern::{Matcher, Patterns};
use crate::snapshots::{SnapshotError, Snapshots};
use crate::source::{self, Argument, Lookup, Source, SourceError};
use crate::tree::{Counting, Digester, Entry, Merged, is_below};
use crate::walk::WalkError;

/// Which part of a tree counts.
#[derive(Debug, Clone)]
pub enum Select {
    /// All of it.
    Tree,
    /// What is at an absolute path, symlinks followed, with its own metadata.
    Path(String),
    /// What a copy takes.
    Copy(SelectCopy),
}

/// What a copy takes: of a single file, its directory does not count; of a directory, its name and
/// its own metadata do not. A symlink as source is followed.
#[derive(Debug, Clone)]
pub struct SelectCopy {
    /// Absolute path, possibly with wildcards.
    pub path: String,
    /// Whether `path` may hold wildcards; one that matches nothing is then fine.
    pub wildcard: bool,
    /// What is left out, by paths relative to the source.
    pub exclude: Patterns,
    /// Whether the path is kept below the destination, and so counts.
    pub parents: bool,
    /// What of the files' metadata counts.
    pub counting: Counting,
}

/// Why a checksum could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum ChecksumError {
    /// The selected path means nothing.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The chain's manifests could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The files could not be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

impl Snapshots {
    /// The key of a part of a chain. Reads manifests only, no files.
    pub fn checksum(&self, top: Option<SnapshotId>, select: &Select) -> Result<Key, ChecksumError> {
        let merged = self.merged(top)?;
        checksum(&*merged, select)
    }

    /// The key of what is at `path` of a chain as [`Select::Path`] has it, with what it was made from.
    pub fn listed(
        &self,
        top: Option<SnapshotId>,
        path: &str,
    ) -> Result<(Key, Vec<Entry>), ChecksumError> {
        listed(&*self.merged(top)?, path)
    }
}

/// A tree whose parts can be listed as entries.
pub(crate) trait Listing: Lookup {
    /// The entry at `path` and all below it, in the order of a manifest.
    fn list(&self, path: &Path) -> Result<Vec<Cow<'_, Entry>>, WalkError>;

    /// The entry at exactly `path`.
    fn entry(&self, path: &Path) -> Result<Option<Cow<'_, Entry>>, WalkError>;

    /// The key of everything at and below `path`, with its own metadata but without its name.
    fn whole(&self, path: &Path) -> Result<Key, WalkError> {
        Ok(key_of(&self.list(path)?))
    }
}

impl Listing for Merged {
    fn list(&self, path: &Path) -> Result<Vec<Cow<'_, Entry>>, WalkError> {
        Ok(self
            .subtree(path.as_os_str().as_bytes())
            .map(Cow::Borrowed)
            .collect())
    }

    fn entry(&self, path: &Path) -> Result<Option<Cow<'_, Entry>>, WalkError> {
        Ok(self.get(path.as_os_str().as_bytes()).map(Cow::Borrowed))
    }

    fn whole(&self, path: &Path) -> Result<Key, WalkError> {
        Ok(self.digest(path.as_os_str().as_bytes()))
    }
}

/// The key of a part of any tree.
pub(crate) fn checksum(tree: &dyn Listing, select: &Select) -> Result<Key, ChecksumError> {
    match select {
        Select::Tree => Ok(tree.whole(Path::new(""))?),
        Select::Path(path) => Ok(tree.whole(&real(tree, path)?)?),
        Select::Copy(copy) => copied(tree, copy),
    }
}

/// The key of everything at a path, and the entries that it was made from.
pub(crate) fn listed(tree: &dyn Listing, path: &str) -> Result<(Key, Vec<Entry>), ChecksumError> {
    let entries = tree.list(&real(tree, path)?)?;
    let key = key_of(&entries);
    Ok((key, entries.into_iter().map(Cow::into_owned).collect()))
}

/// Where a path leads, symlinks followed.
fn real(tree: &dyn Listing, path: &str) -> Result<PathBuf, ChecksumError> {
    let argument = Argument {
        path,
        wildcard: false,
        parents: false,
    };
    let found = source::sources(tree, &argument)?;
    Ok(found
        .into_iter()
        .next()
        .map_or(PathBuf::new(), |it| it.real))
}

fn key_of(entries: &[Cow<'_, Entry>]) -> Key {
    let mut digester = Digester::<()>::new();
    for entry in entries {
        digester.push(
            &entry.path,
            entry.digest(Counting::All),
            entry.is_directory(),
        );
    }
    digester.finish()
}

fn copied(tree: &dyn Listing, copy: &SelectCopy) -> Result<Key, ChecksumError> {
    let argument = Argument {
        path: &copy.path,
        wildcard: copy.wildcard,
        parents: copy.parents,
    };
    let mut hasher = KeyHasher::new("copy");
    for found in source::sources(tree, &argument)? {
        if !found.directory
            && found
                .named
                .file_name()
                .is_some_and(|it| copy.exclude.excludes(Path::new(it)))
        {
            continue;
        }
        let key = one(tree, copy, &found)?;
        if copy.parents {
            kept_parents(tree, copy, &found, &mut hasher)?;
        } else if found.directory {
            // Its content goes into the destination; what it is called does not count.
            hasher.text("directory");
        } else {
            hasher
                .text("file")
                .bytes(found.named.file_name().unwrap_or_default().as_bytes());
        }
        hasher.key(&key);
    }
    Ok(hasher.finish())
}

/// The key of one source: a directory without its own metadata, anything else with it.
fn one(tree: &dyn Listing, copy: &SelectCopy, source: &Source) -> Result<Key, ChecksumError> {
    let top = source.real.as_os_str().as_bytes();
    let entries = tree.list(&source.real)?;
    let left = retained(&entries, top, &copy.exclude);
    let mut digester = Digester::<()>::new();
    for (entry, _) in entries.iter().zip(left).filter(|(_, left)| *left) {
        let own = source.directory && *entry.path == *top && !copy.parents;
        let key = if own {
            contents_only()
        } else {
            entry.digest(copy.counting)
        };
        digester.push(&entry.path, key, entry.is_directory());
    }
    Ok(digester.finish())
}

/// Which entries patterns leave in: those that no pattern leaves out, and the directories above them.
fn retained(entries: &[Cow<'_, Entry>], top: &[u8], exclude: &Patterns) -> Vec<bool> {
    let mut left = vec![true; entries.len()];
    if exclude.is_empty() {
        return left;
    }
    let mut needed: Option<&[u8]> = None;
    for (at, entry) in entries.iter().enumerate().rev() {
        let path = &entry.path[..];
        if path == top {
            continue;
        }
        let skipped = if top.is_empty() { 0 } else { top.len() + 1 };
        let relative = Path::new(OsStr::from_bytes(&path[skipped..]));
        // In reverse order what is below a directory comes just before it.
        let has_wanted = needed.is_some_and(|needed| is_below(needed, path));
        left[at] = has_wanted || !exclude.excludes(relative);
        if left[at] {
            needed = Some(path);
        }
    }
    left
}

/// Feeds the kept path of a source, with what its directories look like: they are copied as well.
fn kept_parents(
    tree: &dyn Listing,
    copy: &SelectCopy,
    source: &Source,
    hasher: &mut KeyHasher,
) -> Result<(), ChecksumError> {
    let kept: PathBuf = source.named.components().skip(source.pivot).collect();
    hasher.text("parents").bytes(kept.as_os_str().as_bytes());
    let mut above = PathBuf::new();
    for (depth, component) in source
        .real
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .enumerate()
    {
        above.push(component);
        if depth >= source.pivot
            && let Some(entry) = tree.entry(&above)?
        {
            hasher.key(&entry.digest(copy.counting));
        }
    }
    Ok(())
}

fn contents_only() -> Key {
    KeyHasher::new("contents").finish()
}
