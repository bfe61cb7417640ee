//! Single paths: made and removed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use llb::op::{FileChange, Owner};
use rustix::fs::{Mode, OFlags};
use snapshot::layer::{Directory, Follow};

use super::{Change, FileError, owner};

/// Makes the file of a [`FileChange::MakeFile`].
pub(super) fn make_file(change: &Change<'_>, make: &FileChange) -> Result<(), FileError> {
    let FileChange::MakeFile {
        path,
        data,
        mode,
        owner,
        name,
    } = make
    else {
        return Ok(());
    };
    let owner = numbers(change, owner.as_ref())?;
    let target = target(change, path, name.as_deref())?;
    let (parent, name) = open_parent(change, &target, &mut |made| own(made, owner))?;
    let failed = FileError::write(&target);
    let present = parent
        .look(name.as_os_str())
        .map_err(FileError::write(&target))?;
    if present.is_some_and(|it| it.is_directory()) {
        return Err(FileError::DirectoryInTheWay(Path::new("/").join(&target)));
    }
    write(&parent, name.as_os_str(), data, (*mode, owner)).map_err(failed)
}

fn write(
    parent: &Directory,
    name: &OsStr,
    data: &[u8],
    (mode, owner): (u32, (u32, u32)),
) -> io::Result<()> {
    parent.make_room(name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(
        parent.own(),
        name,
        flags,
        Mode::from_raw_mode(0o600),
    )?);
    file.write_all(data)?;
    snapshot::owner::give(&file, owner)?;
    Ok(rustix::fs::fchmod(
        &file,
        Mode::from_raw_mode(mode & 0o7777),
    )?)
}

/// Where a file for `path` goes: inside, under `inside`, where that is a directory or says so.
pub(super) fn target(
    change: &Change<'_>,
    path: &str,
    inside: Option<&str>,
) -> Result<PathBuf, FileError> {
    let real = follow_parent(change, Path::new(path))?;
    let Some(inside) = inside else {
        return Ok(real);
    };
    let followed = change
        .layer
        .resolve(Path::new(path), Follow::Tree)
        .map_err(FileError::follow(Path::new(path)))?;
    let present = change
        .layer
        .look(&followed)
        .map_err(FileError::write(&followed))?;
    let is_directory = present.is_some_and(|it| it.is_directory());
    if is_directory || is_named_directory(path) {
        Ok(followed.join(inside))
    } else {
        Ok(real)
    }
}

/// Whether the text of a destination says that it is a directory.
pub(super) fn is_named_directory(path: &str) -> bool {
    path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.")
}

/// Makes a directory with all above it.
pub(super) fn make_directory(
    change: &Change<'_>,
    path: &str,
    mode: u32,
    owner: Option<&Owner>,
) -> Result<(), FileError> {
    let owner = numbers(change, owner)?;
    let path = Path::new(path);
    let real = change
        .layer
        .resolve(path, Follow::Tree)
        .map_err(FileError::follow(path))?;
    let mut made = |made: &Directory| {
        own(made, owner)?;
        Ok(rustix::fs::fchmod(
            made.own(),
            Mode::from_raw_mode(mode & 0o7777),
        )?)
    };
    change
        .layer
        .open_directory(&real, &mut made)
        .map_err(FileError::write(&real))?;
    Ok(())
}

/// Removes what is at a path.
pub(super) fn remove(
    change: &Change<'_>,
    path: &str,
    allow_missing: bool,
) -> Result<(), FileError> {
    let real = follow_parent(change, Path::new(path))?;
    let present = change.layer.look(&real).map_err(FileError::write(&real))?;
    let (Some(_), Some(name)) = (present, real.file_name()) else {
        return if allow_missing {
            Ok(())
        } else {
            Err(FileError::NothingToRemove {
                path: path.to_owned(),
            })
        };
    };
    let (parent, _) = open_parent(change, &real, &mut |_| Ok(()))?;
    parent.remove(name).map_err(FileError::write(&real))
}

/// The real path of `path`, the last component of which is not followed.
pub(super) fn follow_parent(change: &Change<'_>, path: &Path) -> Result<PathBuf, FileError> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let real = change
        .layer
        .resolve(parent, Follow::Tree)
        .map_err(FileError::follow(path))?;
    Ok(match path.file_name() {
        Some(name) => real.join(name),
        None => real,
    })
}

/// Opens the directory of a real path; what is missing is made and shown.
pub(super) fn open_parent(
    change: &Change<'_>,
    real: &Path,
    made: &mut dyn FnMut(&Directory) -> io::Result<()>,
) -> Result<(Directory, PathBuf), FileError> {
    let name = real
        .file_name()
        .ok_or_else(|| FileError::DirectoryInTheWay(PathBuf::from("/")))?;
    let parent = real.parent().unwrap_or(Path::new(""));
    let directory = change
        .layer
        .open_directory(parent, made)
        .map_err(FileError::write(real))?;
    Ok((directory, PathBuf::from(name)))
}

fn numbers(change: &Change<'_>, owner: Option<&Owner>) -> Result<(u32, u32), FileError> {
    owner.map_or(Ok((0, 0)), |owner| owner::numbers(change, owner))
}

fn own(made: &Directory, owner: (u32, u32)) -> io::Result<()> {
    snapshot::owner::give(made.own(), owner)
}
