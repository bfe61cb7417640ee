//! Places for mounts in a root file system: found, or made and removed again.
//!
//! A root file system is not trusted: any part of a target may be a link that leads anywhere. The
//! walk opens one component at a time, follows links itself, and never leaves the root; the result
//! is a path without links, which is then opened with the order that nothing in it may be one.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// What can be mounted at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Whether links in a target are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

/// Why there is no place for a mount.
#[derive(Debug)]
pub(crate) enum NoPlace {
    /// Words that say it.
    Refused(String),
    /// The file system's answer.
    Failed(io::Error),
}

impl From<Errno> for NoPlace {
    fn from(error: Errno) -> NoPlace {
        NoPlace::Failed(error.into())
    }
}

/// A root file system and what is going to be mounted in it, in that order.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    root: BorrowedFd<'a>,
    mounted: Vec<(Vec<OsString>, Option<OwnedFd>)>,
    stubs: Vec<Stub>,
}

/// Where a walk stands: the names that led there, and each one's directory.
struct Walk {
    names: Vec<OsString>,
    directories: Vec<OwnedFd>,
    links: usize,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>) -> Tree<'a> {
        Tree {
            root,
            mounted: Vec::new(),
            stubs: Vec::new(),
        }
    }

    /// Finds or makes the place `target`; its path without links.
    pub(crate) fn place(
        &mut self,
        target: &Path,
        kind: Kind,
        links: Links,
    ) -> Result<Vec<OsString>, NoPlace> {
        let mut walk = Walk {
            names: Vec::new(),
            directories: Vec::new(),
            links: 0,
        };
        let mut ahead = components(target);
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                walk.names.pop();
                walk.directories.pop();
                continue;
            }
            let last = ahead.is_empty();
            match self.open(&walk, &name) {
                Ok(found) => self.step(&mut walk, &mut ahead, (name, found), (kind, links))?,
                Err(Errno::NOENT) => {
                    let wanted = if last { kind } else { Kind::Directory };
                    let made = self.make(&walk, &name, wanted)?;
                    walk.names.push(name);
                    walk.directories.push(made);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if walk.names.is_empty() {
            return Err(NoPlace::Refused("it is the root".to_owned()));
        }
        Ok(walk.names)
    }

    /// Notes that something is mounted at a place; later places below it are looked for in there,
    /// or cannot be prepared where `mount` is `None`.
    pub(crate) fn mount(&mut self, place: Vec<OsString>, mount: Option<OwnedFd>) {
        self.mounted.push((place, mount));
    }

    /// What was made.
    pub(crate) fn into_stubs(self) -> Stubs {
        Stubs(self.stubs)
    }

    fn open(&self, walk: &Walk, name: &OsStr) -> Result<OwnedFd, Errno> {
        let below = |names: &[OsString]| {
            names
                .split_last()
                .is_some_and(|(last, before)| last == name && before == walk.names.as_slice())
        };
        if let Some((_, Some(mount))) = self.mounted.iter().rev().find(|(names, _)| below(names)) {
            return rustix::io::fcntl_dupfd_cloexec(mount, 3);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(walk.here(self.root), name, flags, Mode::empty())
    }

    fn step(
        &self,
        walk: &mut Walk,
        ahead: &mut VecDeque<OsString>,
        (name, found): (OsString, OwnedFd),
        (kind, links): (Kind, Links),
    ) -> Result<(), NoPlace> {
        let last = ahead.is_empty();
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Symlink if links == Links::Refuse => {
                return Err(NoPlace::Refused("it is a symbolic link".to_owned()));
            }
            FileType::Symlink => {
                walk.links += 1;
                if walk.links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let to = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                let to = OsString::from_vec(to);
                if to.as_bytes().first() == Some(&b'/') {
                    walk.names.clear();
                    walk.directories.clear();
                }
                for name in components(Path::new(&to)).into_iter().rev() {
                    ahead.push_front(name);
                }
                return Ok(());
            }
            FileType::Directory if last && kind == Kind::File => {
                return Err(NoPlace::Refused(
                    "it is a directory, and what is mounted is a file".to_owned(),
                ));
            }
            FileType::Directory => {}
            _ if last && kind == Kind::File => {}
            _ => {
                return Err(NoPlace::Refused(format!(
                    "`{}` is not a directory",
                    name.to_string_lossy()
                )));
            }
        }
        walk.names.push(name);
        walk.directories.push(found);
        Ok(())
    }

    fn make(&mut self, walk: &Walk, name: &OsStr, kind: Kind) -> Result<OwnedFd, NoPlace> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(walk.here(self.root), ".", flags, Mode::empty())?;
        let before = rustix::fs::fstat(&parent)?;
        let made = match kind {
            Kind::Directory => {
                rustix::fs::mkdirat(&parent, name, Mode::from(0o755))?;
                let made =
                    rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                rustix::fs::fchmod(&made, Mode::from(0o755))?;
                made
            }
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, name, flags, Mode::from(0o644))?
            }
        };
        let after = rustix::fs::fstat(&parent)?;
        self.stubs.push(Stub {
            made: rustix::io::fcntl_dupfd_cloexec(&made, 3)?,
            parent,
            name: name.to_owned(),
            kind,
            before: times(&before),
            after: times(&after),
        });
        Ok(made)
    }
}

impl Walk {
    fn here<'a>(&'a self, root: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.directories.last().map_or(root, OwnedFd::as_fd)
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// A place as an absolute path.
pub(crate) fn path(place: &[OsString]) -> Result<CString, NoPlace> {
    let mut bytes = Vec::new();
    for name in place {
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_bytes());
    }
    CString::new(bytes).map_err(|_| NoPlace::Refused("it holds a zero byte".to_owned()))
}

/// Everything that was made for mounts.
#[derive(Debug, Default)]
pub(crate) struct Stubs(Vec<Stub>);

/// One file or directory that was made, and when its parent was changed before and by that.
#[derive(Debug)]
struct Stub {
    /// What was made. By its name only what is mounted on it would be found, as long as that is.
    made: OwnedFd,
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    before: (Timespec, Timespec),
    after: (Timespec, Timespec),
}

impl Stubs {
    /// Removes what is still empty. A parent that nobody else changed meanwhile gets the time of its last change back.
    pub(crate) fn remove(&mut self) {
        while let Some(stub) = self.0.pop() {
            if let Err(error) = stub.remove() {
                tracing::debug!(name = %stub.name.display(), %error, "a mount target stays");
            }
        }
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Stub {
    fn remove(&self) -> Result<(), Errno> {
        let flags = match self.kind {
            Kind::Directory => AtFlags::REMOVEDIR,
            Kind::File if rustix::fs::fstat(&self.made)?.st_size == 0 => AtFlags::empty(),
            Kind::File => return Ok(()),
        };
        let now = times(&rustix::fs::fstat(&self.parent)?);
        rustix::fs::unlinkat(&self.parent, &self.name, flags)?;
        let (last_access, last_modification) = if now.1 == self.after.1 {
            self.before
        } else {
            now
        };
        rustix::fs::futimens(
            &self.parent,
            &Timestamps {
                last_access,
                last_modification,
            },
        )
    }
}

fn times(stat: &Stat) -> (Timespec, Timespec) {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    #[expect(
        clippy::useless_conversion,
        reason = "the types differ between architectures"
    )]
    let nanoseconds = |it| u64::try_from(it).unwrap_or(0);
    (
        time(stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        time(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
    )
}
