//! `COPY` and `ADD`: which source goes where.

use std::io;
use std::path::{Path, PathBuf};

use llb::op::Copy;
use rustix::fs::Mode as Permissions;
use snapshot::layer::{Directory, Follow};
use snapshot::source::{self, Argument, Source};
use snapshot::{Matcher, Patterns};

use super::mode::Mode;
use super::transfer::{Attributes, Item, Transfer};
use super::{Change, FileError, owner, path, unpack};

/// Copies one source argument, which may mean many sources, one after the other.
pub(super) fn copy(change: &Change<'_>, copy: &Copy) -> Result<(), FileError> {
    let Some(from) = change.from else {
        return Ok(());
    };
    let argument = Argument {
        path: &copy.source,
        wildcard: copy.wildcard,
        parents: copy.parents,
    };
    let exclude = Patterns::new(&copy.exclude)?;
    let attributes = Attributes {
        owner: copy
            .owner
            .as_ref()
            .map(|it| owner::numbers(change, it))
            .transpose()?,
        mode: copy.mode.as_ref().map(Mode::new).transpose()?,
    };
    let transfer = Transfer::new(
        change.layer,
        from,
        &exclude,
        &attributes,
        change.context.cancel,
    );
    for source in source::sources(from.lookup(), &argument)? {
        if !source.directory
            && source
                .named
                .file_name()
                .is_some_and(|it| exclude.excludes(Path::new(it)))
        {
            continue;
        }
        if copy.parents {
            with_parents(change, copy, &transfer, &source)?;
        } else if copy.unpack && unpack::unpack(change, copy, &source, &attributes)? {
            continue;
        } else if source.directory {
            contents(change, copy, &transfer, &source)?;
        } else {
            single(change, copy, &transfer, &source)?;
        }
    }
    transfer.finish()
}

/// What is in a directory goes into the destination, which is a directory then.
fn contents(
    change: &Change<'_>,
    copy: &Copy,
    transfer: &Transfer<'_>,
    source: &Source,
) -> Result<(), FileError> {
    let destination = Path::new(&copy.destination);
    let real = change
        .layer
        .resolve(destination, Follow::Tree)
        .map_err(FileError::follow(destination))?;
    let existed = is_directory(change, &real)?;
    make_directories(change, &real, transfer.attributes)?;
    transfer.tree(Item {
        from: source.real.clone(),
        below: PathBuf::new(),
        to: real,
        fresh: !existed,
    })
}

/// A file goes to the destination, or into it where that is a directory.
fn single(
    change: &Change<'_>,
    copy: &Copy,
    transfer: &Transfer<'_>,
    source: &Source,
) -> Result<(), FileError> {
    let name = source.named.file_name().and_then(|it| it.to_str());
    let target = match name {
        Some(name) => path::target(change, &copy.destination, Some(name))?,
        None => join_name(change, copy, source)?,
    };
    make_directories(
        change,
        target.parent().unwrap_or(Path::new("")),
        transfer.attributes,
    )?;
    transfer.file(&source.real, &target)
}

/// For a name that is no UTF-8.
fn join_name(change: &Change<'_>, copy: &Copy, source: &Source) -> Result<PathBuf, FileError> {
    const PLACE: &str = "name";
    let target = path::target(change, &copy.destination, Some(PLACE))?;
    let inside = path::target(change, &copy.destination, None)? != target;
    Ok(match (inside, source.named.file_name()) {
        (true, Some(name)) => target.with_file_name(name),
        _ => target,
    })
}

/// The source keeps its path below the destination; its directories look like those of the source.
fn with_parents(
    change: &Change<'_>,
    copy: &Copy,
    transfer: &Transfer<'_>,
    source: &Source,
) -> Result<(), FileError> {
    let destination = Path::new(&copy.destination);
    let real = change
        .layer
        .resolve(destination, Follow::Tree)
        .map_err(FileError::follow(destination))?;
    make_directories(change, &real, transfer.attributes)?;
    let kept: Vec<_> = source.named.components().skip(source.pivot).collect();
    let mut to = real;
    let mut from: PathBuf = source.named.components().take(source.pivot).collect();
    for component in &kept[..kept.len().saturating_sub(1)] {
        from.push(component);
        to.push(component);
        transfer.directory(&from, &to)?;
    }
    to.extend(kept.last());
    if !source.directory {
        return transfer.file(&source.real, &to);
    }
    let fresh = !is_directory(change, &to)?;
    transfer.directory(&source.real, &to)?;
    transfer.tree(Item {
        from: source.real.clone(),
        below: PathBuf::new(),
        to,
        fresh,
    })
}

fn is_directory(change: &Change<'_>, real: &Path) -> Result<bool, FileError> {
    let present = change.layer.look(real).map_err(FileError::write(real))?;
    Ok(present.is_some_and(|it| it.is_directory()))
}

/// Makes the directory at a real path and what is missing above it: 0755 and root's, unless the copy
/// says otherwise (G56).
pub(super) fn make_directories(
    change: &Change<'_>,
    real: &Path,
    attributes: &Attributes,
) -> Result<Directory, FileError> {
    let mut made = |made: &Directory| -> io::Result<()> {
        snapshot::owner::give(made.own(), attributes.owner.unwrap_or((0, 0)))?;
        let mode = attributes
            .mode
            .as_ref()
            .map_or(0o755, |mode| mode.apply(0o755, true));
        Ok(rustix::fs::fchmod(
            made.own(),
            Permissions::from_raw_mode(mode),
        )?)
    };
    change
        .layer
        .open_directory(real, &mut made)
        .map_err(FileError::write(real))
}
