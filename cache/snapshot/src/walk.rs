//! Reads a directory into manifest entries, on all cores.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::Key;
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxFlags};

use crate::overlay;
use crate::owner;
use crate::pattern::Matcher;
use crate::root::open_in_root;
use crate::tree::{Entry, Kind, Tree, Xattr, content_key};

/// From this many names on, a directory is worth several threads.
const PARALLEL_NAMES: usize = 128;

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", path.display())]
pub struct WalkError {
    /// Relative to where the walk began.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// How to walk.
pub(crate) struct Walk<'a> {
    /// The tree; never left.
    pub(crate) root: BorrowedFd<'a>,
    /// What is left out, by paths relative to the root.
    pub(crate) ignore: Option<&'a dyn Matcher>,
    /// What is known of files without reading them.
    pub(crate) known: &'a dyn Known,
    /// Whose files they are.
    pub(crate) origin: Origin,
}

/// Whose files a walk reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An overlay's upper directory, with whiteouts.
    Layer,
    /// A directory of the host: all is root's.
    Host,
}

/// A memory of files that did not change.
pub(crate) trait Known: Sync {
    /// The content key of the file, and its attributes, if they are known.
    fn recall(&self, seen: &Statx) -> Option<(Key, Vec<Xattr>)>;

    /// Takes note of what was read.
    fn learn(&self, seen: &Statx, content: Key, xattrs: &[Xattr]);

    /// To whom a symlink or a pipe of a layer belongs that could not be given to him.
    fn owner(&self, _: &Statx) -> Option<(u32, u32)> {
        None
    }
}

/// Knows nothing.
pub(crate) struct NothingKnown;

impl Known for NothingKnown {
    fn recall(&self, _: &Statx) -> Option<(Key, Vec<Xattr>)> {
        None
    }

    fn learn(&self, _: &Statx, _: Key, _: &[Xattr]) {}
}

/// The manifest of a directory that no layer is made of, such as a cache mount, with owners and times
/// as they are.
///
/// # Errors
/// If something in it cannot be read.
pub fn survey(directory: &Path) -> Result<Tree, WalkError> {
    let failed = |error: rustix::io::Errno| WalkError {
        path: directory.to_owned(),
        source: error.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    let walk = Walk {
        root: root.as_fd(),
        ignore: None,
        known: &NothingKnown,
        origin: Origin::Layer,
    };
    Ok(Tree::new(walk.run(Path::new(""))?))
}

struct Found {
    entry: Entry,
    /// Device and inode of a file with more than one name.
    inode: Option<(u32, u32, u64)>,
}

impl Walk<'_> {
    /// The entry at `start` (relative to the root, no symlink in it is followed) and all below it,
    /// in no order. Nothing where `start` is left out.
    pub(crate) fn run(&self, start: &Path) -> Result<Vec<Entry>, WalkError> {
        let top = self.top(start)?;
        let mut level = Vec::new();
        if top.entry.is_directory() {
            level.push(top.entry.path().to_owned());
        }
        let mut found = vec![top];
        // One level of directories after the other: nothing recurses, and no descriptor stays open,
        // however deep the tree is.
        while !level.is_empty() {
            let read: Vec<Vec<Found>> = match level.as_slice() {
                // Not worth to wake others for, and all that most steps leave behind.
                [one] => vec![self.directory(one)?],
                several => several
                    .par_iter()
                    .map(|path| self.directory(path))
                    .collect::<Result<_, _>>()?,
            };
            level.clear();
            for it in read.into_iter().flatten() {
                if it.entry.is_directory() {
                    level.push(it.entry.path().to_owned());
                }
                found.push(it);
            }
        }
        if self.ignore.is_some() {
            drop_left_out_directories(&mut found, self);
        }
        Ok(number_links(found))
    }

    /// The entry at `path` alone.
    pub(crate) fn one(&self, path: &Path) -> Result<Entry, WalkError> {
        Ok(self.top(path)?.entry)
    }

    fn top(&self, start: &Path) -> Result<Found, WalkError> {
        let failed = |source| WalkError {
            path: start.to_owned(),
            source,
        };
        if start.as_os_str().is_empty() {
            let dir = self.open_directory(start).map_err(failed)?;
            return self.entry(dir.as_fd(), c"", Box::default()).map_err(failed);
        }
        let parent = start.parent().unwrap_or(Path::new(""));
        let dir = self.open_directory(parent).map_err(failed)?;
        let name = start.file_name().unwrap_or_default();
        let name = CString::new(name.as_bytes()).map_err(|error| failed(error.into()))?;
        self.entry(dir.as_fd(), &name, start.as_os_str().as_bytes().into())
            .map_err(failed)
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        open_in_root(self.root, path, flags, Mode::empty())
    }

    fn directory(&self, path: &Path) -> Result<Vec<Found>, WalkError> {
        let failed = |source| WalkError {
            path: path.to_owned(),
            source,
        };
        let dir = self.open_directory(path).map_err(failed)?;
        let names = read_names(dir.as_fd()).map_err(failed)?;
        let prefix = path.as_os_str().as_bytes();
        let read = |name: &CString| self.child(dir.as_fd(), name, prefix);
        let found: Vec<Option<Found>> = if names.len() < PARALLEL_NAMES {
            names.iter().map(read).collect::<Result<_, _>>()?
        } else {
            names
                .par_iter()
                .with_min_len(32)
                .map(read)
                .collect::<Result<_, _>>()?
        };
        Ok(found.into_iter().flatten().collect())
    }

    fn child(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        prefix: &[u8],
    ) -> Result<Option<Found>, WalkError> {
        let path = joined(prefix, name.to_bytes());
        let shown = || Path::new(OsStr::from_bytes(&path));
        let left_out = self.ignore.is_some_and(|ignore| ignore.excludes(shown()));
        if left_out
            && self
                .ignore
                .is_some_and(|ignore| ignore.excludes_all_below(shown()))
        {
            return Ok(None);
        }
        let failed = |source| WalkError {
            path: shown().to_owned(),
            source,
        };
        if left_out {
            // Only a directory is of use still: something below it may be wanted.
            let seen = stat(dir, name).map_err(failed)?;
            if FileType::from_raw_mode(seen.stx_mode.into()) != FileType::Directory {
                return Ok(None);
            }
        }
        self.entry(dir, name, path.clone())
            .map(Some)
            .map_err(failed)
    }

    fn entry(&self, dir: BorrowedFd<'_>, name: &CStr, path: Box<[u8]>) -> io::Result<Found> {
        let seen = stat(dir, name)?;
        let mode = u32::from(seen.stx_mode);
        let device = (seen.stx_rdev_major, seen.stx_rdev_minor);
        let (mut kind, xattrs) = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => self.file(dir, name, &seen)?,
            FileType::Directory => self.directory_itself(dir, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                (
                    Kind::Symlink(target.into_bytes().into()),
                    self.xattrs_at(dir, name)?,
                )
            }
            _ if self.origin == Origin::Layer
                && overlay::is_whiteout(mode, rustix::fs::makedev(device.0, device.1)) =>
            {
                (Kind::Whiteout, Vec::new())
            }
            FileType::CharacterDevice => (
                Kind::Character(device.0, device.1),
                self.xattrs_at(dir, name)?,
            ),
            FileType::BlockDevice => (Kind::Block(device.0, device.1), self.xattrs_at(dir, name)?),
            FileType::Fifo => (Kind::Fifo, self.xattrs_at(dir, name)?),
            _ => (Kind::Socket, Vec::new()),
        };
        let (uid, gid) = match (self.origin, &kind) {
            (Origin::Host, _) => (0, 0),
            (Origin::Layer, Kind::File { .. } | Kind::Directory { .. }) => {
                let own = (seen.stx_uid, seen.stx_gid);
                let noted = owner::noted_at(dir, name.to_bytes(), own)?;
                kind = noted.device.unwrap_or(kind);
                noted.owner
            }
            (Origin::Layer, _) => self
                .known
                .owner(&seen)
                .unwrap_or((seen.stx_uid, seen.stx_gid)),
        };
        let several = seen.stx_nlink > 1 && matches!(kind, Kind::File { .. });
        let inode = several.then_some((seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino));
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            Kind::Whiteout => 0,
            _ => mode & 0o7777,
        };
        let mtime = (seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec);
        Ok(Found {
            entry: Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
            inode,
        })
    }

    fn file(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        seen: &Statx,
    ) -> io::Result<(Kind, Vec<Xattr>)> {
        let size = seen.stx_size;
        if let Some((content, xattrs)) = self.known.recall(seen) {
            return Ok((
                Kind::File {
                    size,
                    content,
                    link: 0,
                },
                xattrs,
            ));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
        let xattrs = overlay::read_xattrs(file.as_fd())?;
        let (content, read) = hash(&mut file, size)?;
        self.known.learn(seen, content, &xattrs);
        Ok((
            Kind::File {
                size: read,
                content,
                link: 0,
            },
            xattrs,
        ))
    }

    fn directory_itself(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(Kind, Vec<Xattr>)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = if name.is_empty() { c"." } else { name };
        let dir = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let opaque = self.origin == Origin::Layer && overlay::is_opaque(dir.as_fd())?;
        Ok((
            Kind::Directory { opaque },
            overlay::read_xattrs(dir.as_fd())?,
        ))
    }

    fn xattrs_at(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<Xattr>> {
        overlay::read_xattrs_at(dir, name.to_bytes())
    }
}

pub(crate) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    Ok(rustix::fs::statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS,
    )?)
}

/// The names in an open directory, without `.` and `..`.
pub(crate) fn read_names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(crate) fn joined(prefix: &[u8], name: &[u8]) -> Box<[u8]> {
    if prefix.is_empty() {
        name.into()
    } else {
        [prefix, b"/", name].concat().into()
    }
}

/// The content key of an open file, and how many bytes it really had.
pub(crate) fn hash(file: &mut File, size: u64) -> io::Result<(Key, u64)> {
    const SMALL: u64 = 64 << 10;
    if size < SMALL {
        // One byte more than expected: a read that gives less has come to the end.
        let mut content = vec![0; size as usize + 1];
        let mut length = 0;
        while length < content.len() {
            match read_some(file, &mut content[length..])? {
                0 => return Ok((content_key(&content[..length]), length as u64)),
                more => length += more,
            }
            if length as u64 == size {
                return Ok((content_key(&content[..length]), size));
            }
        }
        // It has grown since it was looked at.
        file.rewind()?;
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let length = read_some(file, &mut buffer)?;
        if length == 0 {
            return Ok((Key::from_bytes(*hasher.finalize().as_bytes()), total));
        }
        hasher.update(&buffer[..length]);
        total += length as u64;
    }
}

/// One read that gives something, or 0 at the end.
pub(crate) fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A left-out directory stays only where something below it was taken back in.
fn drop_left_out_directories(found: &mut Vec<Found>, walk: &Walk<'_>) {
    let Some(ignore) = walk.ignore else { return };
    let mut needed = std::collections::HashSet::new();
    let left_out = |it: &Found| !it.entry.path.is_empty() && ignore.excludes(it.entry.path());
    // Children come after their parents, so from behind every need is known in time.
    for it in found.iter().rev() {
        if !left_out(it) || needed.contains(it.entry.path()) {
            needed.extend(it.entry.path().parent().map(Path::to_owned));
        }
    }
    found.retain(|it| !left_out(it) || needed.contains(it.entry.path()));
}

/// Gives the names of one file one number, in the order of the paths so that it never varies.
fn number_links(mut found: Vec<Found>) -> Vec<Entry> {
    let mut named: Vec<usize> = (0..found.len())
        .filter(|at| found[*at].inode.is_some())
        .collect();
    named.sort_by(|a, b| crate::tree::compare_paths(&found[*a].entry.path, &found[*b].entry.path));
    let mut count: HashMap<_, u32> = HashMap::new();
    for at in &named {
        *count.entry(found[*at].inode).or_default() += 1;
    }
    let mut numbers = HashMap::new();
    for at in named {
        let inode = found[at].inode;
        // Other names may be outside of what was walked.
        if count[&inode] < 2 {
            continue;
        }
        let next = numbers.len() as u32 + 1;
        if let Kind::File { link, .. } = &mut found[at].entry.kind {
            *link = *numbers.entry(inode).or_insert(next);
        }
    }
    found.into_iter().map(|it| it.entry).collect()
}
