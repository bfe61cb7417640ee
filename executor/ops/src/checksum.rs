//! Checksums of parts of refs: the selectors of the solver in the words of the snapshots.

use oci::{Key, KeyHasher};
use snapshot::source::SourceError;
use snapshot::{Counting, PatternError, Patterns, Select, SelectCopy};
use solve::{Attributes, CopySelector, Selector};

use crate::{Ops, Ref};

/// The files in which names of users and groups are looked up.
const NAMES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Why a part of a ref has no checksum.
#[derive(Debug, thiserror::Error)]
pub enum ChecksumError {
    /// There is no such part, or it cannot be read.
    #[error(transparent)]
    Unreadable(#[from] snapshot::ChecksumError),
    /// What is to be left out is no pattern.
    #[error(transparent)]
    Exclude(#[from] PatternError),
}

pub(crate) fn checksum(ops: &Ops, of: &Ref, selector: &Selector) -> Result<Key, ChecksumError> {
    match selector {
        Selector::Base => base(ops, of),
        Selector::Tree => Ok(select(ops, of, &Select::Tree)?),
        Selector::Path(path) => Ok(select(ops, of, &Select::Path(path.clone()))?),
        Selector::Names => names(ops, of),
        Selector::Copy(copy) => Ok(select(ops, of, &Select::Copy(copied(copy)?))?),
    }
}

/// The key of what a mount shows, with what it was made from: of selectors for which that can be said.
pub(crate) fn listed(
    ops: &Ops,
    of: &Ref,
    selector: &Selector,
) -> Result<(Key, Vec<snapshot::Entry>), ChecksumError> {
    let path = match selector {
        Selector::Tree => "/",
        Selector::Path(path) => path,
        Selector::Base | Selector::Names | Selector::Copy(_) => {
            return Ok((checksum(ops, of, selector)?, Vec::new()));
        }
    };
    Ok(match of {
        Ref::Snapshot(top) => ops.snapshots.listed(*top, path)?,
        Ref::Local(directory) => directory.listed(path)?,
    })
}

fn select(ops: &Ops, of: &Ref, select: &Select) -> Result<Key, snapshot::ChecksumError> {
    match of {
        Ref::Snapshot(top) => ops.snapshots.checksum(*top, select),
        Ref::Local(directory) => directory.checksum(select),
    }
}

/// What is there, and in how many layers.
fn base(ops: &Ops, of: &Ref) -> Result<Key, ChecksumError> {
    let tree = select(ops, of, &Select::Tree)?;
    let layers = match of {
        Ref::Snapshot(top) => {
            let merged = ops.snapshots.merged(*top);
            merged.map_err(snapshot::ChecksumError::from)?.depth()
        }
        Ref::Local(_) => 0,
    };
    Ok(KeyHasher::new("base")
        .key(&tree)
        .number(layers as u64)
        .finish())
}

fn names(ops: &Ops, of: &Ref) -> Result<Key, ChecksumError> {
    let mut hasher = KeyHasher::new("names");
    for path in NAMES {
        match select(ops, of, &Select::Path(path.to_owned())) {
            Ok(key) => hasher.text("file").key(&key),
            Err(snapshot::ChecksumError::Source(SourceError::NotFound(_))) => hasher.text("none"),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(hasher.finish())
}

fn copied(copy: &CopySelector) -> Result<SelectCopy, PatternError> {
    Ok(SelectCopy {
        path: copy.path.clone(),
        wildcard: copy.wildcard,
        exclude: Patterns::new(&copy.exclude)?,
        parents: copy.parents,
        counting: counting(copy.attributes),
    })
}

fn counting(attributes: Attributes) -> Counting {
    match (attributes.mode, attributes.owner) {
        (true, true) => Counting::All,
        (true, false) => Counting::NoOwner,
        (false, true) => Counting::NoMode,
        (false, false) => Counting::Neither,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use snapshot::Snapshots;
    use store::Store;

    use super::*;

    struct World {
        ops: Ops,
        context: tempfile::TempDir,
        _root: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(&root.path().join("store")).unwrap();
            let snapshots = Snapshots::new(store.clone());
            Self {
                ops: Ops::new(store, snapshots),
                context: tempfile::tempdir().unwrap(),
                _root: root,
            }
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.context.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn checksum(&self, selector: &Selector) -> Result<Key, ChecksumError> {
            let local = self
                .ops
                .snapshots
                .local(self.context.path(), Patterns::default())
                .unwrap();
            self.ops.checksum(&Ref::Local(Arc::new(local)), selector)
        }
    }

    fn copy(path: &str, mode: bool) -> Selector {
        Selector::Copy(CopySelector {
            path: path.to_owned(),
            wildcard: false,
            exclude: vec!["*.o".to_owned()],
            parents: false,
            attributes: Attributes { mode, owner: true },
        })
    }

    #[test]
    fn names_count_whether_the_files_are_there_or_not() {
        let world = World::new();
        let none = world.checksum(&Selector::Names).unwrap();
        world.write("etc/hosts", "");
        assert_eq!(world.checksum(&Selector::Names).unwrap(), none);
        world.write("etc/group", "web:x:7:");
        let one = world.checksum(&Selector::Names).unwrap();
        world.write("etc/passwd", "web:x:7:7::/:");
        let both = world.checksum(&Selector::Names).unwrap();
        assert!(none != one && one != both && both != none);
    }

    #[test]
    fn a_copy_counts_what_it_takes_as_it_takes_it() {
        let world = World::new();
        world.write("src/main.c", "int main;");
        let [kept, set] = [true, false].map(|mode| world.checksum(&copy("/src", mode)).unwrap());
        world.write("src/main.o", "left out");
        world.write("other", "elsewhere");
        assert_eq!(world.checksum(&copy("/src", true)).unwrap(), kept);
        let file = world.context.path().join("src/main.c");
        fs::set_permissions(file, fs::Permissions::from_mode(0o751)).unwrap();
        assert_ne!(world.checksum(&copy("/src", true)).unwrap(), kept);
        assert_eq!(world.checksum(&copy("/src", false)).unwrap(), set);
    }

    #[test]
    fn a_missing_source_is_said_as_buildkit_says_it() {
        let error = World::new().checksum(&copy("/missing", true)).unwrap_err();
        assert_eq!(error.to_string(), "\"/missing\": not found");
        let scratch = World::new()
            .ops
            .checksum(&Ref::Snapshot(None), &copy("/missing", true));
        assert_eq!(scratch.unwrap_err().to_string(), "\"/missing\": not found");
    }
}
