//! Writing into a layer without a mount.
//!
//! What copies and unpacking need of overlayfs is little: what is there now, make a directory, put a
//! file in the place of another. Done here on the upper directory itself it costs half of what it does
//! through a mount, and needs none.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci::Key;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Statx, Timespec, Timestamps};
use rustix::io::Errno;

use crate::overlay;
use crate::owner::{self, Owners};
use crate::source::{self, Followed, Lookup, ResolveError, Seen};
use crate::tree::Xattr;
use crate::walk::{Known, read_names};

/// The tree of a layer under construction: its own files over those of the layers below.
///
/// The layers below never change. All changes go into the layer's own directory, written so that
/// overlayfs shows the tree as it is seen here.
#[derive(Debug)]
pub struct Layer {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    written: Arc<Written>,
}

/// The content of files that were written whole, so that a commit need not read them again.
#[derive(Debug, Default)]
pub(crate) struct Written {
    files: Mutex<HashMap<Version, Key>>,
    owners: Owners,
}

/// Inode, size and time of the last change, of content or anything else.
type Version = (u64, u64, i64, u32);

fn version(seen: &Statx) -> Version {
    let changed = seen.stx_ctime;
    (seen.stx_ino, seen.stx_size, changed.tv_sec, changed.tv_nsec)
}

impl Known for Written {
    fn recall(&self, seen: &Statx) -> Option<(Key, Vec<Xattr>)> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(&version(seen)).map(|key| (*key, Vec::new()))
    }

    fn learn(&self, _: &Statx, _: Key, _: &[Xattr]) {}

    fn owner(&self, seen: &Statx) -> Option<(u32, u32)> {
        self.owners.get(seen.stx_ino)
    }
}

/// Which tree's symlinks are followed on the way to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The whole tree's: what a process in it would do.
    Tree,
    /// Only those of the layer's own files: what extracting an OCI layer does. A symlink of a lower
    /// layer where the layer wants a directory is hidden by that directory.
    Layer,
}

/// A directory of a [`Layer`], open for changes.
#[derive(Debug)]
pub struct Directory {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
}

/// What is at a name.
#[derive(Debug, Clone, Copy)]
pub struct Present {
    /// Type, mode, owner and so on.
    pub stat: Stat,
    /// Whether the layer itself has it, and not only those below.
    pub own: bool,
}

impl Present {
    /// What type of file it is.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }
}

impl Layer {
    /// A layer of its own directory, over a tree that does not change.
    pub(crate) fn new(upper: OwnedFd, lower: Option<OwnedFd>, written: Arc<Written>) -> Self {
        Self {
            upper,
            lower,
            written,
        }
    }

    /// Takes note of a file of this layer that was just made with all that belongs to it: its content,
    /// and that it has no attributes. It must not change any more.
    pub fn note(&self, file: BorrowedFd<'_>, content: Key) -> io::Result<()> {
        let seen = crate::walk::stat(file, c"")?;
        let mut files = self
            .written
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        files.insert(version(&seen), content);
        Ok(())
    }

    /// Forgets all notes. To be called before files are made that are not noted: they may get the
    /// inodes of files that are gone.
    pub fn forget(&self) {
        self.written
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Gives what is at `name` in a directory of this layer to somebody, or notes it; a symlink is not
    /// followed.
    pub fn give_at(&self, dir: BorrowedFd<'_>, name: &[u8], owner: (u32, u32)) -> io::Result<()> {
        owner::give_at(dir, name, owner, &self.written.owners)
    }

    /// The root directory.
    pub fn root(&self) -> io::Result<Directory> {
        let lower = self.lower.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Directory {
            upper: self.upper.try_clone()?,
            lower,
        })
    }

    /// Where `path` leads: symlinks are followed as if the root were `/`, missing parts stay as they
    /// are written. The result is relative and has no symlink in it.
    pub fn resolve(&self, path: &Path, follow: Follow) -> Result<PathBuf, ResolveError> {
        match source::follow(
            &Links {
                layer: self,
                follow,
            },
            path,
        )? {
            Followed::To(real) | Followed::Missing(real) => Ok(real),
        }
    }

    /// Opens the directory at `path`, a result of [`Layer::resolve`]. What is missing is made, with
    /// mode 0755, and shown to `made`. Anything else in the way is an error.
    pub fn open_directory(
        &self,
        path: &Path,
        made: &mut dyn FnMut(&Directory) -> io::Result<()>,
    ) -> io::Result<Directory> {
        let mut directory = self.root()?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            directory = directory.enter_or_make(name, made)?;
        }
        Ok(directory)
    }

    /// Opens a directory that the layer itself has made and that hides whatever is below it.
    pub fn open_own(&self, path: &Path) -> io::Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let upper = crate::root::open_in_root(self.upper.as_fd(), path, flags, Mode::empty())?;
        Ok(Directory { upper, lower: None })
    }

    /// Puts what another tree has at `path` at the same path here: directories without their content.
    ///
    /// What is no directory belongs to `owner`.
    pub(crate) fn take_over(
        &self,
        tree: &crate::Root,
        path: &Path,
        owner: (u32, u32),
    ) -> io::Result<()> {
        let mut directory = self.root()?;
        let mut above = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            above.push(name);
            let found = tree.resolve_link(&above)?;
            let stat = rustix::fs::fstat(&found)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                directory.make_room(name)?;
                directory.copy_in(name, found.as_fd())?;
                return if owner::is_anybody_there() {
                    Ok(())
                } else {
                    self.give_at(directory.own(), name.as_bytes(), owner)
                };
            }
            let mut made = |made: &Directory| {
                copy_metadata(
                    crate::root::reopen(found.as_fd(), OFlags::RDONLY)?.as_fd(),
                    made.own(),
                )
            };
            directory = directory.enter_or_make(name, &mut made)?;
        }
        Ok(())
    }

    /// Opens the directory at `path`, a result of [`Layer::resolve`] with [`Follow::Layer`]. What is
    /// missing is made with mode 0755, also in place of what only lower layers have.
    pub(crate) fn cover_directory(&self, path: &Path) -> io::Result<Directory> {
        let mut directory = self.root()?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            directory = match directory.look(name)? {
                Some(present) if !present.own && !present.is_directory() => {
                    directory.make_directory(name)?
                }
                _ => directory.enter_or_make(name, &mut |_| Ok(()))?,
            };
        }
        Ok(directory)
    }

    /// What is at `path`, which has no symlink in it but possibly the last component.
    pub fn look(&self, path: &Path) -> io::Result<Option<Present>> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new("")))
        else {
            let stat = rustix::fs::fstat(&self.upper)?;
            return Ok(Some(Present { stat, own: true }));
        };
        match self.peek(parent)? {
            Some(peek) => peek.look(name),
            None => Ok(None),
        }
    }

    /// Opens the directory at `path` for looking only; nothing is made.
    fn peek(&self, path: &Path) -> io::Result<Option<Peek>> {
        let mut peek = Peek {
            upper: Some(self.upper.try_clone()?),
            lower: self.lower.as_ref().map(OwnedFd::try_clone).transpose()?,
        };
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            match peek.enter(name)? {
                Some(next) => peek = next,
                None => return Ok(None),
            }
        }
        Ok(Some(peek))
    }
}

/// A layer as a tree to look paths up in, with the symlinks that count.
struct Links<'a> {
    layer: &'a Layer,
    follow: Follow,
}

impl Lookup for Links<'_> {
    fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        let Some(present) = self.layer.look(path)? else {
            return Ok(None);
        };
        Ok(Some(match present.file_type() {
            FileType::Directory => Seen::Directory,
            FileType::Symlink if self.follow == Follow::Layer && !present.own => Seen::Directory,
            FileType::Symlink => Seen::Symlink(self.layer.read_link(path)?),
            _ if self.follow == Follow::Layer && !present.own => Seen::Directory,
            _ => Seen::Other,
        }))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.layer.names(path)
    }
}

impl Lookup for Layer {
    fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        Links {
            layer: self,
            follow: Follow::Tree,
        }
        .look(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let Some(peek) = self.peek(path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut names = Vec::new();
        for dir in [&peek.upper, &peek.lower].into_iter().flatten() {
            names.extend(
                read_names(dir.as_fd())?
                    .into_iter()
                    .map(CString::into_bytes),
            );
        }
        names.sort_unstable();
        names.dedup();
        let mut present = Vec::with_capacity(names.len());
        for name in names.into_iter().map(OsString::from_vec) {
            if peek.look(&name)?.is_some() {
                present.push(name);
            }
        }
        Ok(present)
    }
}

impl Layer {
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let peek = self
            .peek(path.parent().unwrap_or(Path::new("")))?
            .ok_or(io::ErrorKind::NotFound)?;
        for dir in [&peek.upper, &peek.lower].into_iter().flatten() {
            match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(text) => return Ok(PathBuf::from(OsString::from_vec(text.into_bytes()))),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Opens the regular file at `path` for reading, symlinks followed. Refuses everything else, and
    /// files of more than `limit` bytes.
    pub fn read_limited(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let real = source::resolve(self, path).map_err(io::Error::other)?;
        let real = real.ok_or(io::ErrorKind::NotFound)?;
        let name = real.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = self.peek(real.parent().unwrap_or(Path::new("")))?;
        let present = parent
            .as_ref()
            .map(|peek| peek.look(name))
            .transpose()?
            .flatten();
        let (Some(parent), Some(present)) = (parent, present) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let dir = if present.own {
            parent.upper
        } else {
            parent.lower
        };
        let root = crate::Root::from_fd(dir.ok_or(io::ErrorKind::NotFound)?);
        root.read_limited(Path::new(name), limit)
    }
}

/// The two directories that a directory of the tree is made of, either of which may be missing.
struct Peek {
    upper: Option<OwnedFd>,
    lower: Option<OwnedFd>,
}

impl Peek {
    fn look(&self, name: &OsStr) -> io::Result<Option<Present>> {
        look(self.upper.as_ref(), self.lower.as_ref(), name)
    }

    fn enter(&self, name: &OsStr) -> io::Result<Option<Self>> {
        let Some(present) = self.look(name)?.filter(Present::is_directory) else {
            return Ok(None);
        };
        let upper = self.upper.as_ref().filter(|_| present.own);
        let upper = upper
            .map(|dir| open_child(dir, name))
            .transpose()?
            .flatten();
        let hidden = upper
            .as_ref()
            .is_some_and(|it| overlay::is_opaque(it.as_fd()).unwrap_or(false));
        let lower = self.lower.as_ref().filter(|_| !hidden);
        let lower = lower
            .map(|dir| open_child(dir, name))
            .transpose()?
            .flatten();
        Ok(Some(Self { upper, lower }))
    }
}

impl Directory {
    /// The layer's own directory, for making files in it. Make room for them with
    /// [`Directory::make_room`] first.
    pub fn own(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    /// Whether nothing of lower layers shows through: whatever is here is the layer's own.
    pub fn is_own_only(&self) -> bool {
        self.lower.is_none()
    }

    pub(crate) fn lower(&self) -> Option<&OwnedFd> {
        self.lower.as_ref()
    }

    /// What is at `name`.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<Present>> {
        look(Some(&self.upper), self.lower.as_ref(), name)
    }

    /// Opens the directory at `name`, or makes one and shows it to `made`. Anything else that is
    /// there is an error.
    pub fn enter_or_make(
        &self,
        name: &OsStr,
        made: &mut dyn FnMut(&Self) -> io::Result<()>,
    ) -> io::Result<Self> {
        match self.look(name)? {
            None => {
                let directory = self.make_directory(name)?;
                made(&directory)?;
                Ok(directory)
            }
            Some(present) if present.is_directory() => self.enter(name, present.own),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn enter(&self, name: &OsStr, own: bool) -> io::Result<Self> {
        let lower = self
            .lower
            .as_ref()
            .map(|lower| open_child(lower, name))
            .transpose()?
            .flatten();
        if own {
            let upper = open_child(&self.upper, name)?.ok_or(io::ErrorKind::NotFound)?;
            let lower = if lower.is_some() && overlay::is_opaque(upper.as_fd())? {
                None
            } else {
                lower
            };
            return Ok(Self { upper, lower });
        }
        let below = lower.ok_or(io::ErrorKind::NotFound)?;
        rustix::fs::mkdirat(&self.upper, name, Mode::from_raw_mode(0o700))?;
        let upper = open_child(&self.upper, name)?.ok_or(io::ErrorKind::NotFound)?;
        copy_metadata(below.as_fd(), upper.as_fd())?;
        Ok(Self {
            upper,
            lower: Some(below),
        })
    }

    /// Makes a directory at `name`, where nothing is, with mode 0755.
    pub fn make_directory(&self, name: &OsStr) -> io::Result<Self> {
        let hides = self.drop_whiteout(name)?;
        rustix::fs::mkdirat(&self.upper, name, Mode::from_raw_mode(0o755))?;
        let upper = open_child(&self.upper, name)?.ok_or(io::ErrorKind::NotFound)?;
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(0o755))?;
        if hides {
            overlay::make_opaque(upper.as_fd())?;
        }
        Ok(Self { upper, lower: None })
    }

    /// Makes a directory at `name` in place of whatever else is there.
    pub fn replace_with_directory(&self, name: &OsStr) -> io::Result<Self> {
        let shown = self.look_lower(name)?;
        self.remove_own(name)?;
        let directory = self.make_directory(name)?;
        if shown.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            overlay::make_opaque(directory.own())?;
        }
        Ok(directory)
    }

    /// Takes away whatever the layer itself has at `name`, so that something can be made there. What
    /// lower layers have is hidden by what is made.
    pub fn make_room(&self, name: &OsStr) -> io::Result<()> {
        self.remove_own(name)
    }

    /// Removes what is at `name`, with all below it.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.remove_own(name)?;
        if self.look_lower(name)?.is_some() {
            overlay::make_whiteout(self.own(), name.as_bytes())?;
        }
        Ok(())
    }

    fn look_lower(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match &self.lower {
            Some(lower) => stat_at(lower, name),
            None => Ok(None),
        }
    }

    fn drop_whiteout(&self, name: &OsStr) -> io::Result<bool> {
        match stat_at(&self.upper, name)? {
            Some(stat) if overlay::is_whiteout(stat.st_mode, stat.st_rdev) => {
                rustix::fs::unlinkat(&self.upper, name, AtFlags::empty())?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn remove_own(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.upper, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => remove_tree(self.own(), name),
            Err(error) => Err(error.into()),
        }
    }
}

fn look(
    upper: Option<&OwnedFd>,
    lower: Option<&OwnedFd>,
    name: &OsStr,
) -> io::Result<Option<Present>> {
    if let Some(stat) = upper.map(|dir| stat_at(dir, name)).transpose()?.flatten() {
        let hidden = overlay::is_whiteout(stat.st_mode, stat.st_rdev);
        return Ok((!hidden).then_some(Present { stat, own: true }));
    }
    let stat = lower.map(|dir| stat_at(dir, name)).transpose()?.flatten();
    Ok(stat.map(|stat| Present { stat, own: false }))
}

fn stat_at(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory that is a child; `None` where something else, or nothing, is there.
fn open_child(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes an open directory look like another: owner, mode, attributes, times.
pub(crate) fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    owner::give(to, owner::of(from, (stat.st_uid, stat.st_gid))?)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for xattr in overlay::read_xattrs(from)? {
        overlay::set_xattr_at(to, b".", &xattr)?;
    }
    Ok(rustix::fs::futimens(to, &times(&stat))?)
}

/// The times of last access and change, for `futimens`.
pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Removes a directory and all below it, without recursion and without following anything.
fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut path = vec![name.to_owned()];
    while !path.is_empty() {
        let here: PathBuf = path.iter().collect();
        let fd = crate::root::open_in_root(
            dir,
            &here,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        )?;
        let mut deeper = None;
        for child in read_names(fd.as_fd())? {
            match rustix::fs::unlinkat(&fd, &child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => match rustix::fs::unlinkat(&fd, &child, AtFlags::REMOVEDIR) {
                    Ok(()) => {}
                    Err(Errno::NOTEMPTY) => deeper = Some(OsString::from_vec(child.into_bytes())),
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        match deeper {
            Some(child) => path.push(child),
            None => {
                rustix::fs::unlinkat(dir, &here, AtFlags::REMOVEDIR)?;
                path.pop();
            }
        }
    }
    Ok(())
}
