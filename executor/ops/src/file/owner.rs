//! Who owns what is made.

use std::io;
use std::path::Path;

use llb::op::{FileChange, Owner, OwnerNames, UserName};
use snapshot::{Layer, METADATA_FILE_LIMIT};

use super::{Change, FileError, Readable};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The input in whose files a change looks its owner up, if it is not the changed tree.
pub(super) fn elsewhere(change: &FileChange) -> Option<usize> {
    let owner = match change {
        FileChange::Copy(copy) => copy.owner.as_ref(),
        FileChange::MakeFile { owner, .. } | FileChange::MakeDirectory { owner, .. } => {
            owner.as_ref()
        }
        FileChange::Remove { .. } => None,
    };
    match owner?.names {
        OwnerNames::Input(input) => Some(input),
        OwnerNames::Changed | OwnerNames::ChangedOrRoot => None,
    }
}

/// The numbers of an owner.
pub(super) fn numbers(change: &Change<'_>, owner: &Owner) -> Result<(u32, u32), FileError> {
    let names = match change.names {
        Some(readable) => Names::Elsewhere(readable),
        None => Names::Changed(change.layer),
    };
    match look_up(&names, owner) {
        Err(FileError::UnknownUser { .. } | FileError::UnknownGroup { .. })
            if owner.names == OwnerNames::ChangedOrRoot =>
        {
            Ok((0, 0))
        }
        result => result,
    }
}

enum Names<'a> {
    Changed(&'a Layer),
    Elsewhere(&'a Readable),
}

fn look_up(names: &Names<'_>, owner: &Owner) -> Result<(u32, u32), FileError> {
    let (user, own_group) = match &owner.user {
        // The file is only read where something depends on it.
        UserName::Id(id) if owner.group.is_some() => (*id, 0),
        UserName::Id(id) => {
            let known = names.read(PASSWD)?;
            (
                *id,
                find(&known, 2, &id.to_string()).map_or(0, |(_, group)| group),
            )
        }
        UserName::Name(name) => {
            let known = names.read(PASSWD)?;
            find(&known, 0, name).ok_or_else(|| FileError::UnknownUser { name: name.clone() })?
        }
    };
    let group = match &owner.group {
        None => own_group,
        Some(UserName::Id(id)) => *id,
        Some(UserName::Name(name)) => {
            let known = names.read(GROUP)?;
            let unknown = || FileError::UnknownGroup { name: name.clone() };
            find(&known, 0, name).ok_or_else(unknown)?.0
        }
    };
    Ok((user, group))
}

/// The first line whose field `field` is `value`: its third field, and its fourth where that is a number.
fn find(file: &str, field: usize, value: &str) -> Option<(u32, u32)> {
    file.lines().find_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        if fields.get(field) != Some(&value) {
            return None;
        }
        let third = fields.get(2)?.parse().ok()?;
        let fourth = fields.get(3).and_then(|it| it.parse().ok()).unwrap_or(0);
        Some((third, fourth))
    })
}

impl Names<'_> {
    fn read(&self, path: &'static str) -> Result<String, FileError> {
        let content = match self {
            Self::Changed(layer) => layer.read_limited(Path::new(path), METADATA_FILE_LIMIT),
            Self::Elsewhere(readable) => readable
                .root()
                .read_limited(Path::new(path), METADATA_FILE_LIMIT),
        };
        match content {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if is_absence(&error) => Ok(String::new()),
            Err(source) => Err(FileError::Names { path, source }),
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_counts() {
        let passwd =
            "# comment\nroot:x:0:0::/:\nweb:x:33:34:a:/:\nweb:x:1:1::/:\nbad:x:x:y\nshort\n";
        assert_eq!(find(passwd, 0, "web"), Some((33, 34)));
        assert_eq!(find(passwd, 2, "33"), Some((33, 34)));
        assert_eq!(find(passwd, 0, "bad"), None);
        assert_eq!(find(passwd, 0, "none"), None);
        assert_eq!(find("staff:x:50:web,root", 0, "staff"), Some((50, 0)));
    }
}
