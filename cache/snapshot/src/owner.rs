//! To whom files belong, also where there is nobody of that number.
//!
//! In a user namespace only some users and groups are there, perhaps one, and nobody makes devices.
//! An image does not ask: what belongs to user 1000 in its tar must belong to him in the tar that is
//! made of it again. So what cannot be done is *noted*, in attributes of rbuild's own that no layer
//! shows: the owner that a file should have, the device that an empty file stands for. A process sees
//! root's file, and the kernel keeps the note on every copy it makes when a file is changed. Symlinks
//! and pipes take no such attributes: their owners are kept in memory until the layer is committed,
//! and from then on in its tree manifest, where everybody looks them up.
//!
//! A note counts as long as the file is root's: a process that gives it to somebody who is there has
//! the last word.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::overlay;
use crate::tree::Kind;

/// `UID:GID`.
const OWNER: &str = "user.rbuild.owner";
/// `c MAJOR:MINOR` or `b MAJOR:MINOR`.
const DEVICE: &str = "user.rbuild.device";

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whether files can belong to anybody, and be any device: then there are no notes.
pub(crate) fn is_anybody_there() -> bool {
    store::ids::in_first_namespace()
}

/// Owners of files that take no attributes, by inode.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<HashMap<u64, (u32, u32)>>);

impl Owners {
    pub(crate) fn get(&self, inode: u64) -> Option<(u32, u32)> {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.get(&inode).copied()
    }

    pub(crate) fn set(&self, inode: u64, owner: Option<(u32, u32)>) {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match owner {
            Some(owner) => drop(owners.insert(inode, owner)),
            None => drop(owners.remove(&inode)),
        }
    }
}

/// Gives an open file or directory to a user and a group, or notes it.
pub fn give(file: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    let file = file.as_fd();
    match rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Ok(()) => forget(file),
        Err(Errno::INVAL) if !is_anybody_there() => {
            rustix::fs::fchown(file, Some(Uid::ROOT), Some(Gid::ROOT))?;
            set(file, OWNER, &format!("{uid}:{gid}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The same for what is at `name`, whatever it is; a symlink is not followed.
pub(crate) fn give_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    owner: (u32, u32),
    owners: &Owners,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let given = rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags);
    if is_anybody_there() {
        return Ok(given?);
    }
    let is_there = match given {
        Ok(()) => true,
        Err(Errno::INVAL) => false,
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::statat(dir, name, flags)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {
            give(rustix::fs::openat(dir, name, READ, Mode::empty())?, owner)
        }
        _ => {
            owners.set(stat.st_ino, (!is_there).then_some(owner));
            Ok(())
        }
    }
}

/// The same for what is at a path of rbuild's own that is in no layer, as in a cache mount: a symlink that
/// cannot be given to somebody is root's.
pub fn give_path(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    let given = std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1));
    match given {
        Err(error)
            if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && !is_anybody_there() =>
        {
            let kind = std::fs::symlink_metadata(path)?.file_type();
            if !kind.is_file() && !kind.is_dir() {
                return Ok(());
            }
            give(rustix::fs::open(path, READ, Mode::empty())?, owner)
        }
        given => given,
    }
}

/// Makes a device or a pipe at `name`, where nothing is, with mode 0600; where nobody makes devices, an
/// empty file with a note.
pub fn make_node(dir: BorrowedFd<'_>, name: &OsStr, kind: FileType, device: u64) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(dir, name, kind, mode, device) {
        Err(Errno::PERM) if !is_anybody_there() => {}
        made => return Ok(made?),
    }
    let letter = match kind {
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => return Err(Errno::PERM.into()),
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, mode)?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    set(file.as_fd(), DEVICE, &format!("{letter} {major}:{minor}"))
}

/// Takes the note of a device over to the copy of the file that stands for it.
pub fn copy_device(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    if is_anybody_there() {
        return Ok(());
    }
    match read(|value| rustix::fs::fgetxattr(from, DEVICE, value))? {
        Some(device) => set(to, DEVICE, &device),
        None => Ok(()),
    }
}

/// To whom an open file or directory belongs, by its note where it has one.
pub(crate) fn of(file: BorrowedFd<'_>, owner: (u32, u32)) -> io::Result<(u32, u32)> {
    let get = |name: &str, value: &mut [u8]| rustix::fs::fgetxattr(file, name, value);
    Ok(noted(get, owner)?.owner)
}

/// What the notes of a file say.
pub(crate) struct Noted {
    pub(crate) owner: (u32, u32),
    pub(crate) device: Option<Kind>,
}

/// Reads the notes of the regular file or directory that `name` is in `dir`; it belongs to `owner`
/// without them.
pub(crate) fn noted_at(dir: BorrowedFd<'_>, name: &[u8], owner: (u32, u32)) -> io::Result<Noted> {
    let path = overlay::path_at(dir, if name.is_empty() { b"." } else { name });
    let get = |name: &str, value: &mut [u8]| rustix::fs::lgetxattr(path.as_slice(), name, value);
    noted(get, owner)
}

fn noted(
    get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>,
    owner: (u32, u32),
) -> io::Result<Noted> {
    let mut noted = Noted {
        owner,
        device: None,
    };
    if is_anybody_there() {
        return Ok(noted);
    }
    // A file that a process gave to somebody else has him.
    if owner == (0, 0)
        && let Some(text) = read(|value| get(OWNER, value))?
    {
        noted.owner = pair(&text).unwrap_or(owner);
    }
    if let Some(text) = read(|value| get(DEVICE, value))? {
        noted.device = device(&text);
    }
    Ok(noted)
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (first, second) = text.split_once(':')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn device(text: &str) -> Option<Kind> {
    let (letter, numbers) = text.split_once(' ')?;
    let (major, minor) = pair(numbers)?;
    match letter {
        // It would be a whiteout.
        "c" if (major, minor) == (0, 0) => None,
        "c" => Some(Kind::Character(major, minor)),
        "b" => Some(Kind::Block(major, minor)),
        _ => None,
    }
}

/// Takes the note of an owner away, if there can be one.
fn forget(file: BorrowedFd<'_>) -> io::Result<()> {
    if is_anybody_there() {
        return Ok(());
    }
    match rustix::fs::fremovexattr(file, OWNER) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn set(file: BorrowedFd<'_>, name: &str, text: &str) -> io::Result<()> {
    let done = rustix::fs::fsetxattr(file, name, text.as_bytes(), XattrFlags::empty());
    done.map_err(|error| match error {
        Errno::OPNOTSUPP => io::Error::other(
            "the file system of the store keeps no attributes, so no file can belong to somebody who is not there",
        ),
        error => error.into(),
    })
}

fn read(get: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<String>> {
    let mut value = [0; 64];
    match get(&mut value) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&value[..length]).into_owned())),
        // Longer than anything that we write.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
