//! How overlayfs writes down what a layer removes, and the attributes it keeps for itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use crate::tree::Xattr;

/// Overlayfs's, and those in which [`owner`](crate::owner) keeps its notes.
const OWN: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.rbuild."];

/// The attribute of a directory that hides what is below it, by what the kernel looks at here.
fn opaque() -> &'static str {
    if store::ids::in_first_namespace() {
        "trusted.overlay.opaque"
    } else {
        "user.overlay.opaque"
    }
}

/// What stands for the attribute where overlayfs keeps its own to itself: in a directory of an overlay.
const OTHER_OPAQUE: &str = "user.rbuild.opaque";

/// What stands for a whiteout there: a socket with every permission that there is.
const OTHER_WHITEOUT: u32 = 0o147_777;

/// Puts a whiteout at `name`, where nothing may be.
pub fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let device = FileType::CharacterDevice;
    match rustix::fs::mknodat(dir, name, device, Mode::empty(), 0) {
        Err(Errno::PERM) if is_on_overlay(dir) => {
            let mode = Mode::from_raw_mode(OTHER_WHITEOUT & 0o7777);
            rustix::fs::mknodat(dir, name, FileType::Socket, mode, 0)?;
            Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?)
        }
        made => Ok(made?),
    }
}

/// Whether an open directory is one of an overlay itself, in which no layer can be overlaid.
pub(crate) fn is_on_overlay(dir: impl AsFd) -> bool {
    const OVERLAY: u64 = 0x794c_7630;
    let found = rustix::fs::fstatfs(dir);
    found.is_ok_and(|it| u64::try_from(it.f_type).is_ok_and(|it| it == OVERLAY))
}

/// Makes an open directory hide what lower layers have below it.
pub fn make_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    let set = |name| rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty());
    match set(opaque()) {
        Err(Errno::PERM | Errno::OPNOTSUPP) if is_on_overlay(dir) => Ok(set(OTHER_OPAQUE)?),
        made => Ok(made?),
    }
}

/// Whether an open directory hides what lower layers have below it.
pub fn is_opaque(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0; 2];
    let mut found = rustix::fs::fgetxattr(dir, opaque(), &mut value);
    if found == Err(Errno::OPNOTSUPP) {
        found = rustix::fs::fgetxattr(dir, OTHER_OPAQUE, &mut value);
    }
    match found {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // Longer than one letter.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a device number and mode are those of a whiteout.
pub fn is_whiteout(mode: u32, device: u64) -> bool {
    FileType::from_raw_mode(mode) == FileType::CharacterDevice && device == 0
        || mode == OTHER_WHITEOUT
}

/// The extended attributes of an open file, sorted, without overlay's and rbuild's own.
pub fn read_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
    let names = match grown(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(error) if unsupported(&error) => return Ok(Vec::new()),
        names => names?,
    };
    collect(&names, |name, buffer| {
        rustix::fs::fgetxattr(file, name, buffer)
    })
}

/// The extended attributes of what `name` is in `dir`, without opening or following it.
pub fn read_xattrs_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<Xattr>> {
    let path = path_at(dir, name);
    let names = match grown(|buffer| rustix::fs::llistxattr(path.as_slice(), buffer)) {
        Err(error) if unsupported(&error) => return Ok(Vec::new()),
        names => names?,
    };
    collect(&names, |attribute, buffer| {
        rustix::fs::lgetxattr(path.as_slice(), attribute, buffer)
    })
}

/// Sets an extended attribute of what `name` is in `dir`, without following it.
pub fn set_xattr_at(dir: BorrowedFd<'_>, name: &[u8], xattr: &Xattr) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path_at(dir, name),
        &*xattr.name,
        &xattr.value,
        XattrFlags::empty(),
    )?)
}

/// Whether overlayfs or rbuild keeps this attribute for itself: nobody else may set it, and no layer shows it.
pub fn is_own(name: &[u8]) -> bool {
    OWN.iter().any(|prefix| name.starts_with(prefix))
}

/// One name in an open directory, as a path whose last component is the only one that is looked up.
pub(crate) fn path_at(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn collect(
    names: &[u8],
    mut get: impl FnMut(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !is_own(name))
    {
        match grown(|buffer| get(name, buffer)) {
            Ok(value) => xattrs.push(Xattr {
                name: name.into(),
                value: value.into(),
            }),
            // Gone in between.
            Err(error) if error.raw_os_error() == Some(Errno::NODATA.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Calls with a larger buffer until it is large enough.
fn grown(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error.into()),
    }
    // The kernel's limit for a value and for a list of names is 64 KiB each.
    let mut large = vec![0; 64 << 10];
    let length = call(&mut large)?;
    large.truncate(length);
    Ok(large)
}

fn unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}
