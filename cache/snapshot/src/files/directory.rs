//! All that a chain shows in a directory of the host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::{FilesError, Links, Plain, Shown, unread};
use crate::overlay::set_xattr_at;
use crate::tree::{Entry, Kind};

pub(super) fn write(shown: &Shown, plain: &Plain, to: &Path) -> Result<u64, FilesError> {
    let failed = |source| FilesError::Write {
        path: to.to_owned(),
        source,
    };
    if fs::metadata(to).is_ok() {
        return fill(shown, plain, to);
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let name = to.file_name().unwrap_or(OsStr::new("output"));
    let beside = Beside(parent.join(temporary(name)));
    fs::create_dir(&beside.0).map_err(failed)?;
    let size = fill(shown, plain, &beside.0)?;
    fs::rename(&beside.0, to).map_err(failed)?;
    Ok(size)
}

/// A directory that is not what it is to be yet; removed where it does not come to that.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After the rename there is nothing of that name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A name that nobody else has.
fn temporary(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".rbuild-{}", std::process::id()));
    temporary
}

fn fill(shown: &Shown, plain: &Plain, to: &Path) -> Result<u64, FilesError> {
    let to = match &plain.below {
        Some(name) => {
            let below = to.join(name);
            fs::create_dir_all(&below).map_err(|source| FilesError::Write {
                path: below.clone(),
                source,
            })?;
            below
        }
        None => to.to_owned(),
    };
    let opened = rustix::fs::open(&to, DIRECTORY, Mode::empty());
    let root = opened.map_err(|error| FilesError::Write {
        path: to.clone(),
        source: error.into(),
    })?;
    let mut target = Target {
        shown,
        epoch: plain.epoch,
        path: &to,
        root,
        parent: None,
        links: Links::default(),
        size: 0,
    };
    let mut directories = Vec::new();
    for entry in shown.entries() {
        target.entry(entry)?;
        if entry.is_directory() {
            directories.push(entry);
        }
    }
    // Only now, since what is written into a directory changes its time, and its mode may forbid it.
    for entry in directories.into_iter().rev() {
        target.finish(entry).map_err(target.unwritten(entry))?;
    }
    Ok(target.size)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The directory that is filled.
struct Target<'a> {
    shown: &'a Shown,
    epoch: Option<i64>,
    path: &'a Path,
    root: OwnedFd,
    /// The directory of the latest entry, and its path.
    parent: Option<(PathBuf, OwnedFd)>,
    links: Links,
    size: u64,
}

impl Target<'_> {
    fn unwritten(&self, entry: &Entry) -> impl FnOnce(io::Error) -> FilesError + use<> {
        let path = self.path.join(entry.path());
        |source| FilesError::Write { path, source }
    }

    /// A directory within; no link is followed, whoever filled the target before.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(
            &self.root,
            path,
            DIRECTORY,
            Mode::empty(),
            resolve,
        )?)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), FilesError> {
        let path = entry.path();
        let parent = path.parent().unwrap_or(Path::new(""));
        if self
            .parent
            .as_ref()
            .is_none_or(|(known, _)| known != parent)
        {
            let opened = self.open(parent).map_err(self.unwritten(entry))?;
            self.parent = Some((parent.to_owned(), opened));
        }
        let Some((_, parent)) = &self.parent else {
            return Ok(());
        };
        let parent = parent.try_clone().map_err(self.unwritten(entry))?;
        let name = path.file_name().unwrap_or_default();
        if matches!(entry.kind, Kind::Socket | Kind::Whiteout) {
            return Ok(());
        }
        if self.make_room(entry, &parent, name)? {
            return Ok(());
        }
        if let Kind::Directory { .. } = entry.kind {
            return rustix::fs::mkdirat(&parent, name, Mode::from(0o700))
                .map_err(|error| self.unwritten(entry)(error.into()));
        }
        let temporary = temporary(name);
        // One that was left by an rbuild that was killed, and had our number.
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        let made = self.make(entry, &parent, &temporary).and_then(|()| {
            rustix::fs::renameat(&parent, &temporary, &parent, name)
                .map_err(|error| self.unwritten(entry)(error.into()))
        });
        // Also where both are names of one file: then the rename does nothing.
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        made
    }

    /// Whether the entry is there already, as a directory is where one was. Something else than a
    /// directory makes room for one; a directory for nothing else.
    fn make_room(&self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<bool, FilesError> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat.map_err(|error| self.unwritten(entry)(error.into()))?,
        };
        let was_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match (was_directory, entry.is_directory()) {
            (true, true) => Ok(true),
            (true, false) => Err(FilesError::IsDirectory(self.path.join(entry.path()))),
            (false, true) => {
                let removed = rustix::fs::unlinkat(parent, name, AtFlags::empty());
                removed.map_err(|error| self.unwritten(entry)(error.into()))?;
                Ok(false)
            }
            (false, false) => Ok(false),
        }
    }

    /// Makes what is no directory under another name.
    fn make(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<(), FilesError> {
        let failed = |error: Errno| self.unwritten(entry)(error.into());
        match &entry.kind {
            Kind::File { size, link, .. } => return self.file(entry, parent, (name, *size, *link)),
            Kind::Symlink(text) => {
                rustix::fs::symlinkat(OsStr::from_bytes(text), parent, name).map_err(failed)?;
            }
            Kind::Fifo => node(parent, name, FileType::Fifo, (0, 0)).map_err(failed)?,
            Kind::Character(major, minor) => {
                node(parent, name, FileType::CharacterDevice, (*major, *minor)).map_err(failed)?;
            }
            Kind::Block(major, minor) => {
                node(parent, name, FileType::BlockDevice, (*major, *minor)).map_err(failed)?;
            }
            Kind::Directory { .. } | Kind::Socket | Kind::Whiteout => {}
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            let mode = Mode::from(entry.mode);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(failed)?;
        }
        let times = self.times(entry);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        (name, size, link): (&OsStr, u64, u32),
    ) -> Result<(), FilesError> {
        let mut from = self.shown.file(entry)?;
        if let Some(first) = self.links.first(entry, &from, link)? {
            let first = OsStr::from_bytes(&first);
            let linked = rustix::fs::linkat(&self.root, first, parent, name, AtFlags::empty());
            return linked.map_err(|error| self.unwritten(entry)(error.into()));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::from(0o600));
        let mut to = fs::File::from(made.map_err(|error| self.unwritten(entry)(error.into()))?);
        let copied = io::copy(&mut from, &mut to).map_err(self.unwritten(entry))?;
        if copied != size {
            return Err(unread(entry)(io::ErrorKind::UnexpectedEof.into()));
        }
        self.size += size;
        for xattr in entry.xattrs.iter().filter(|it| it.travels()) {
            match set_xattr_at(parent.as_fd(), name.as_bytes(), xattr) {
                // A file system without attributes holds the file all the same, as with docker.
                Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
                other => other.map_err(self.unwritten(entry))?,
            }
        }
        let set = rustix::fs::fchmod(&to, Mode::from(entry.mode))
            .and_then(|()| rustix::fs::futimens(&to, &self.times(entry)));
        set.map_err(|error| self.unwritten(entry)(error.into()))
    }

    /// Gives a directory its mode and time.
    fn finish(&self, entry: &Entry) -> io::Result<()> {
        let directory = self.open(entry.path())?;
        rustix::fs::fchmod(&directory, Mode::from(entry.mode))?;
        Ok(rustix::fs::futimens(&directory, &self.times(entry))?)
    }

    fn times(&self, entry: &Entry) -> Timestamps {
        let (seconds, nanoseconds) = self.epoch.map_or(entry.mtime, |epoch| (epoch, 0));
        Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds.into(),
            },
        }
    }
}

fn node(
    parent: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    (major, minor): (u32, u32),
) -> Result<(), Errno> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(parent, name, kind, Mode::from(0o600), device)
}
