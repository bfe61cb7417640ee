//! Copies trees of files from one tree into a layer, on all cores.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use oci::Key;
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, FileType, Mode as Permissions, OFlags, Stat, StatxFlags, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use snapshot::layer::{Directory, times};
use snapshot::source::Lookup;
use snapshot::{Layer, Matcher, Patterns, overlay, owner};

use super::mode::Mode;
use super::{FileError, Readable};
use crate::Cancel;

/// From this many names on, a directory is worth several threads.
const PARALLEL_NAMES: usize = 64;
/// Up to this size a file is read and written; above, the kernel copies it.
const SMALL: u64 = 128 << 10;

/// What a copy sets anew.
pub(super) struct Attributes {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<Mode>,
}

/// Copies from one tree into a layer, with one set of rules.
pub(super) struct Transfer<'a> {
    layer: &'a Layer,
    from: &'a Readable,
    exclude: &'a Patterns,
    pub(super) attributes: &'a Attributes,
    cancel: &'a Cancel,
    /// Files with several names: where the first was put.
    links: Mutex<HashMap<(u64, u64), (PathBuf, OsString)>>,
    /// Directories whose times are set when nothing is written into them any more.
    times: Mutex<Vec<(PathBuf, Timestamps)>>,
    /// Whether the file systems share blocks between files; tried until it fails once.
    reflinks: AtomicBool,
}

/// A directory whose content is to be copied. Paths are real, relative to the roots of their trees.
pub(super) struct Item {
    pub(super) from: PathBuf,
    /// Relative to the source, for the patterns.
    pub(super) below: PathBuf,
    pub(super) to: PathBuf,
    /// Whether `to` was made by this copy, so that nothing can be in the way.
    pub(super) fresh: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        layer: &'a Layer,
        from: &'a Readable,
        exclude: &'a Patterns,
        attributes: &'a Attributes,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            layer,
            from,
            exclude,
            attributes,
            cancel,
            links: Mutex::default(),
            times: Mutex::default(),
            reflinks: AtomicBool::new(true),
        }
    }

    /// Copies what is in a directory into an existing one.
    pub(super) fn tree(&self, top: Item) -> Result<(), FileError> {
        let mut level = vec![top];
        // One level after the other: nothing recurses and no descriptors pile up, however deep it is.
        while !level.is_empty() {
            let deeper: Vec<Vec<Item>> = level
                .par_iter()
                .map(|item| self.content(item))
                .collect::<Result<_, _>>()?;
            level = deeper.into_iter().flatten().collect();
        }
        Ok(())
    }

    /// Copies one file that is no directory to a place whose directory exists.
    pub(super) fn file(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let parent = from.parent().unwrap_or(Path::new(""));
        let dir = self
            .from
            .root()
            .open_dir(parent)
            .map_err(FileError::read(from))?;
        let name = from.file_name().unwrap_or_default();
        let (to_parent, to_name) = (
            to.parent().unwrap_or(Path::new("")),
            to.file_name().unwrap_or_default(),
        );
        let directory = self
            .layer
            .open_directory(to_parent, &mut |_| Ok(()))
            .map_err(FileError::write(to))?;
        let stat = stat(&dir, name).map_err(FileError::read(from))?;
        let place = Place {
            directory: &directory,
            path: to_parent,
            name: to_name,
            fresh: false,
            inherited: None,
        };
        self.one(
            &Origin {
                dir: &dir,
                name,
                path: from,
                stat: &stat,
            },
            &place,
        )
    }

    /// Makes a directory look like one of the source; it is made if it is not there.
    pub(super) fn directory(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let dir = self
            .from
            .root()
            .open_dir(from)
            .map_err(FileError::read(from))?;
        let directory = self
            .layer
            .open_directory(to, &mut |_| Ok(()))
            .map_err(FileError::write(to))?;
        self.dress_directory(&dir, from, &directory, to)
    }

    /// Sets what could only be set at the end.
    pub(super) fn finish(self) -> Result<(), FileError> {
        let times = self
            .times
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        times.par_iter().try_for_each(|(path, times)| {
            let set = |directory: Directory| Ok(rustix::fs::futimens(directory.own(), times)?);
            self.layer
                .open_own(path)
                .and_then(set)
                .map_err(FileError::write(path))
        })
    }

    fn content(&self, item: &Item) -> Result<Vec<Item>, FileError> {
        let dir = self
            .from
            .root()
            .open_dir(&item.from)
            .map_err(FileError::read(&item.from))?;
        let directory = if item.fresh {
            self.layer.open_own(&item.to)
        } else {
            self.layer.open_directory(&item.to, &mut |_| Ok(()))
        };
        let directory = directory.map_err(FileError::write(&item.to))?;
        let inherited = inherited(&directory).map_err(FileError::write(&item.to))?;
        let into = Into {
            directory,
            inherited,
        };
        let names = self
            .from
            .root()
            .names(&item.from)
            .map_err(FileError::read(&item.from))?;
        let each = |name: &OsString| self.child(item, &dir, &into, name);
        let deeper: Vec<Option<Item>> = if names.len() < PARALLEL_NAMES {
            names.iter().map(each).collect::<Result<_, _>>()?
        } else {
            names
                .par_iter()
                .with_min_len(16)
                .map(each)
                .collect::<Result<_, _>>()?
        };
        Ok(deeper.into_iter().flatten().collect())
    }

    fn child(
        &self,
        item: &Item,
        dir: &OwnedFd,
        into: &Into,
        name: &OsStr,
    ) -> Result<Option<Item>, FileError> {
        if self.cancel.is_cancelled() {
            return Err(FileError::Cancelled);
        }
        let (from, below) = (item.from.join(name), item.below.join(name));
        let left_out = self.leaves_out(&from, &below);
        if left_out && self.leaves_out_all_below(&from, &below) {
            return Ok(None);
        }
        let stat = match stat(dir, name) {
            // Overlayfs lists the whiteouts of directories that only one layer has.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.from.is_local() => {
                return Ok(None);
            }
            stat => stat.map_err(FileError::read(&from))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if left_out && !self.wants_something_below(&from, &below)? {
                return Ok(None);
            }
            return self
                .subdirectory(item, &into.directory, name, (from, below))
                .map(Some);
        }
        if !left_out {
            let place = Place {
                directory: &into.directory,
                path: &item.to,
                name,
                fresh: item.fresh,
                inherited: into.inherited,
            };
            self.one(
                &Origin {
                    dir,
                    name,
                    path: &from,
                    stat: &stat,
                },
                &place,
            )?;
        }
        Ok(None)
    }

    fn subdirectory(
        &self,
        item: &Item,
        directory: &Directory,
        name: &OsStr,
        (from, below): (PathBuf, PathBuf),
    ) -> Result<Item, FileError> {
        let to = item.to.join(name);
        let failed = || FileError::write(&to);
        let mut fresh = item.fresh;
        let made = if item.fresh {
            directory.make_directory(name).map_err(failed())?
        } else {
            let mut make = |_: &Directory| {
                fresh = true;
                Ok(())
            };
            directory.enter_or_make(name, &mut make).map_err(failed())?
        };
        let dir = self
            .from
            .root()
            .open_dir(&from)
            .map_err(FileError::read(&from))?;
        self.dress_directory(&dir, &from, &made, &to)?;
        Ok(Item {
            from,
            below,
            to,
            fresh,
        })
    }

    fn leaves_out(&self, from: &Path, below: &Path) -> bool {
        let ignored = match self.from {
            Readable::Local(local) => local.ignore().excludes(from),
            Readable::Chain { .. } => false,
        };
        ignored || self.exclude.excludes(below)
    }

    fn leaves_out_all_below(&self, from: &Path, below: &Path) -> bool {
        let ignored = match self.from {
            Readable::Local(local) => {
                local.ignore().excludes(from) && local.ignore().excludes_all_below(from)
            }
            Readable::Chain { .. } => false,
        };
        ignored || (self.exclude.excludes(below) && self.exclude.excludes_all_below(below))
    }

    /// Whether a left-out directory holds something that a pattern takes back in.
    fn wants_something_below(&self, from: &Path, below: &Path) -> Result<bool, FileError> {
        let mut open = vec![(from.to_owned(), below.to_owned())];
        while let Some((from, below)) = open.pop() {
            for name in self
                .from
                .root()
                .names(&from)
                .map_err(FileError::read(&from))?
            {
                let (from, below) = (from.join(&name), below.join(&name));
                if !self.leaves_out(&from, &below) {
                    return Ok(true);
                }
                let seen = self
                    .from
                    .root()
                    .look(&from)
                    .map_err(FileError::read(&from))?;
                if seen == Some(snapshot::source::Seen::Directory)
                    && !self.leaves_out_all_below(&from, &below)
                {
                    open.push((from, below));
                }
            }
        }
        Ok(false)
    }

    /// Copies anything but a directory.
    fn one(&self, origin: &Origin<'_>, place: &Place<'_>) -> Result<(), FileError> {
        if !place.fresh {
            self.make_room(place)?;
        }
        let several = origin.stat.st_nlink > 1;
        match FileType::from_raw_mode(origin.stat.st_mode) {
            FileType::RegularFile if several => self.linked(origin, place),
            FileType::RegularFile => self.regular(origin, place),
            FileType::Symlink => self
                .symlink(origin, place)
                .map_err(FileError::write(&place.full())),
            FileType::Directory => Err(FileError::DirectoryInTheWay(
                Path::new("/").join(place.full()),
            )),
            kind => self
                .node(kind, origin, place)
                .map_err(FileError::write(&place.full())),
        }
    }

    fn make_room(&self, place: &Place<'_>) -> Result<(), FileError> {
        let failed = || |error| FileError::write(&place.full())(error);
        match place.directory.look(place.name).map_err(failed())? {
            Some(present) if present.is_directory() => Err(FileError::DirectoryInTheWay(
                Path::new("/").join(place.full()),
            )),
            // A whiteout may be there still where nothing is seen.
            _ => place.directory.make_room(place.name).map_err(failed()),
        }
    }

    /// A file with several names stays one file.
    fn linked(&self, origin: &Origin<'_>, place: &Place<'_>) -> Result<(), FileError> {
        let failed = || |error| FileError::write(&place.full())(error);
        // Held while the first is copied: the others need it to be there.
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = (origin.stat.st_dev, origin.stat.st_ino);
        if let Some((path, name)) = links.get(&inode) {
            let first = self.layer.open_own(path).map_err(failed())?;
            let linked = rustix::fs::linkat(
                first.own(),
                name,
                place.directory.own(),
                place.name,
                AtFlags::empty(),
            );
            match linked {
                Ok(()) => return Ok(()),
                // Taken away by a later source of the same copy, or more names than a file can have.
                Err(Errno::NOENT | Errno::MLINK) => {}
                Err(error) => return Err(failed()(error.into())),
            }
        }
        self.regular(origin, place)?;
        links.insert(inode, (place.path.to_owned(), place.name.to_owned()));
        Ok(())
    }

    fn regular(&self, origin: &Origin<'_>, place: &Place<'_>) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(origin.dir, origin.name, flags, Permissions::empty());
        let mut from =
            File::from(opened.map_err(|error| FileError::read(origin.path)(error.into()))?);
        let mut write = || -> io::Result<()> {
            let mut to = create(place)?;
            let content = self.bytes(&mut from, &mut to, origin.stat.st_size as u64)?;
            let xattrs = self.dress_file(&from, origin, &to, place)?;
            // The commit need not read what was just read.
            match content.filter(|_| xattrs == 0) {
                Some(content) => self.layer.note(to.as_fd(), content),
                None => Ok(()),
            }
        };
        write().map_err(|error| FileError::write(&place.full())(error))
    }

    /// Copies the content, and says what it was if that is known.
    fn bytes(&self, from: &mut File, to: &mut File, size: u64) -> io::Result<Option<Key>> {
        if size <= SMALL {
            let mut content = vec![0; size as usize];
            let length = read_full(from, &mut content)?;
            content.truncate(length);
            to.write_all(&content)?;
            return Ok(Some(snapshot::content_key(&content)));
        }
        self.kernel_copy(from, to)?;
        let Readable::Local(local) = self.from else {
            return Ok(None);
        };
        // Looked at after the copy: if it is what was hashed now, it was while it was copied.
        let seen = rustix::fs::statx(&*from, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(local.known_content(&seen))
    }

    fn kernel_copy(&self, from: &mut File, to: &mut File) -> io::Result<()> {
        if self.reflinks.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(&*to, &*from) {
                Ok(()) => return Ok(()),
                Err(_) => self.reflinks.store(false, Ordering::Relaxed),
            }
        }
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("canceled"));
            }
            match rustix::fs::copy_file_range(&*from, None, &*to, None, 16 << 20) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                    return io::copy(from, to).map(drop);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn symlink(&self, origin: &Origin<'_>, place: &Place<'_>) -> io::Result<()> {
        let text = rustix::fs::readlinkat(origin.dir, origin.name, Vec::new())?;
        rustix::fs::symlinkat(&text, place.directory.own(), place.name)?;
        self.dress_node(origin, place)
    }

    fn node(&self, kind: FileType, origin: &Origin<'_>, place: &Place<'_>) -> io::Result<()> {
        let dir = place.directory.own();
        match kind {
            // No tar can carry one, and nothing listens on a copy.
            FileType::Socket => drop(create(place)?),
            _ if overlay::is_whiteout(origin.stat.st_mode, origin.stat.st_rdev) => {
                let reason = "the device 0:0 means a removed file to overlayfs";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            _ => owner::make_node(dir, place.name, kind, origin.stat.st_rdev)?,
        }
        rustix::fs::chmodat(
            dir,
            place.name,
            Permissions::from_raw_mode(self.mode(origin.stat)),
            AtFlags::empty(),
        )?;
        self.dress_node(origin, place)?;
        // Again: a change of the owner clears set-id bits.
        Ok(rustix::fs::chmodat(
            dir,
            place.name,
            Permissions::from_raw_mode(self.mode(origin.stat)),
            AtFlags::empty(),
        )?)
    }

    fn owner(&self, path: &Path, stat: &Stat) -> (u32, u32) {
        self.attributes
            .owner
            .unwrap_or_else(|| self.from.owner(path, stat))
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let kept = stat.st_mode & 0o7777;
        self.attributes
            .mode
            .as_ref()
            .map_or(kept, |mode| mode.apply(kept, directory))
    }

    /// Owner first: a change of it clears set-id bits and file capabilities. Says how many attributes
    /// there are.
    fn dress_file(
        &self,
        from: &File,
        origin: &Origin<'_>,
        to: &File,
        place: &Place<'_>,
    ) -> io::Result<usize> {
        let stat = origin.stat;
        let owner = self.owner(origin.path, stat);
        if place.inherited != Some(owner) {
            owner::give(to, owner)?;
        }
        if !self.from.is_local() {
            owner::copy_device(from.as_fd(), to.as_fd())?;
        }
        rustix::fs::fchmod(to, Permissions::from_raw_mode(self.mode(stat)))?;
        let xattrs = copy_xattrs(from.as_fd(), to.as_fd())?;
        rustix::fs::futimens(to, &times(stat))?;
        Ok(xattrs)
    }

    fn dress_directory(
        &self,
        dir: &OwnedFd,
        from: &Path,
        to: &Directory,
        path: &Path,
    ) -> Result<(), FileError> {
        let stat = rustix::fs::fstat(dir).map_err(|error| FileError::read(from)(error.into()))?;
        let dress = || -> io::Result<()> {
            owner::give(to.own(), self.owner(from, &stat))?;
            rustix::fs::fchmod(to.own(), Permissions::from_raw_mode(self.mode(&stat)))?;
            copy_xattrs(dir.as_fd(), to.own()).map(drop)
        };
        dress().map_err(FileError::write(path))?;
        let mut pending = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push((path.to_owned(), times(&stat)));
        Ok(())
    }

    fn dress_node(&self, origin: &Origin<'_>, place: &Place<'_>) -> io::Result<()> {
        let dir = place.directory.own();
        let owner = self.owner(origin.path, origin.stat);
        self.layer.give_at(dir, place.name.as_bytes(), owner)?;
        for xattr in overlay::read_xattrs_at(origin.dir.as_fd(), origin.name.as_bytes())? {
            // As with any copy: what cannot be kept there is lost.
            let _ = overlay::set_xattr_at(dir, place.name.as_bytes(), &xattr);
        }
        Ok(rustix::fs::utimensat(
            dir,
            place.name,
            &times(origin.stat),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// A file of the source, not yet opened.
struct Origin<'a> {
    dir: &'a OwnedFd,
    name: &'a OsStr,
    path: &'a Path,
    stat: &'a Stat,
}

/// The directory that things go into.
struct Into {
    directory: Directory,
    /// Who owns a file that is made here, if that is known.
    inherited: Option<(u32, u32)>,
}

/// Where it goes.
struct Place<'a> {
    directory: &'a Directory,
    path: &'a Path,
    name: &'a OsStr,
    fresh: bool,
    /// Who owns a file that is made here, if that is known.
    inherited: Option<(u32, u32)>,
}

impl Place<'_> {
    fn full(&self) -> PathBuf {
        self.path.join(self.name)
    }
}

fn stat(dir: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn create(place: &Place<'_>) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Permissions::from_raw_mode(0o600);
    Ok(File::from(rustix::fs::openat(
        place.directory.own(),
        place.name,
        flags,
        mode,
    )?))
}

/// Attributes that the layer cannot keep are lost, but file capabilities may not be.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
    let xattrs = overlay::read_xattrs(from)?;
    for xattr in &xattrs {
        let set = rustix::fs::fsetxattr(to, &*xattr.name, &xattr.value, XattrFlags::empty());
        if set.is_err() && &*xattr.name == b"security.capability" {
            set?;
        }
    }
    Ok(xattrs.len())
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Who owns what is made in a directory: this process, unless the directory hands down its group.
fn inherited(directory: &Directory) -> io::Result<Option<(u32, u32)>> {
    let hands_down = rustix::fs::fstat(directory.own())?.st_mode & 0o2000 != 0;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    Ok((!hands_down).then_some((uid.as_raw(), gid.as_raw())))
}
