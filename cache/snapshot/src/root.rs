//! The only way to a path in a tree that somebody else filled.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

/// How much [`Root::read_limited`]'s callers read of `/etc/passwd` and its like: 10 MiB, as containerd.
pub const METADATA_FILE_LIMIT: u64 = 10 << 20;

/// A directory as the root of a tree that is not trusted.
///
/// Every path is resolved by the kernel as if this directory were `/` (`openat2` with `RESOLVE_IN_ROOT`):
/// `..` stops here, an absolute symlink starts here, and the magic links of `/proc` are refused.
/// What a path named is then used through its descriptor and never looked up again.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The tree below a directory of the host. This path itself is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// The tree below an open directory, or of a detached mount.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A second handle on the same tree.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// What `path` names, symlinks followed, as an `O_PATH` descriptor: good for `fstat` and as a
    /// starting point, not for reading.
    pub fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.openat2(path, OFlags::PATH, Mode::empty())
    }

    /// Like [`Root::resolve`], but a symlink at the end of `path` is what is named.
    pub fn resolve_link(&self, path: &Path) -> io::Result<OwnedFd> {
        self.openat2(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens the directory at `path` for reading and as a starting point.
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.openat2(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the regular file at `path` for reading. A device, a FIFO or a socket is refused before
    /// it is opened, so that nothing can hang or have side effects.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let fd = self.resolve(path)?;
        require_regular(&fd)?;
        Ok(File::from(reopen(fd.as_fd(), OFlags::RDONLY)?))
    }

    /// The content of the regular file at `path`; an error where it has more than `limit` bytes.
    pub fn read_limited(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open_file(path)?;
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            let reason = format!("the file has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(content)
    }

    /// What `path` is, symlinks followed.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.resolve(path)?)?)
    }

    /// What `path` is; a symlink at its end is a symlink.
    pub fn stat_link(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.resolve_link(path)?)?)
    }

    /// The text of the symlink at `path`.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let fd = self.resolve_link(path)?;
        let text = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(text.as_bytes())))
    }

    /// Opens the directory at `path`; it and what is missing above it are made with `mode`.
    ///
    /// Symlinks on the way are followed within the root; one that dangles is an error.
    pub fn make_dir_all(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut made = PathBuf::from("/");
        let mut dir = self.open_dir(&made)?;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => made.push(".."),
                Component::Normal(name) => {
                    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    made.push(name);
                }
            }
            dir = self.open_dir(&made)?;
        }
        Ok(dir)
    }

    /// Makes the regular file at `path` with the given content and mode, in place of whatever other
    /// than a directory is there. Its directory must exist.
    pub fn write_file(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent_of(path)?;
        match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &dir,
            &name,
            flags,
            Mode::from_raw_mode(mode),
        )?);
        io::Write::write_all(&mut file, content)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Opens the directory of `path` and gives the last name of it, which is not followed.
    pub fn parent_of(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.open_dir(parent)?, PathBuf::from(name)))
    }

    fn openat2(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_in_root(self.fd.as_fd(), path, flags, mode)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

/// `openat2` with the directory as root. A race with a rename makes the kernel say `EAGAIN`; a few
/// more tries are cheap, and whoever keeps racing gets an error.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(rustix::io::Errno::AGAIN) if tries < 128 => tries += 1,
            result => return Ok(result?),
        }
    }
}

/// Opens what an `O_PATH` descriptor stands for.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        descriptor_path(fd),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The path under which the kernel gives an open file to calls that take no descriptor.
pub(crate) fn descriptor_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn require_regular(fd: &OwnedFd) -> io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_and_dots_stay_in_the_root() {
        let (dir, root) = tree();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("climbing")).unwrap();
        for path in [
            "absolute",
            "climbing",
            "../../etc/passwd",
            "/etc/../../etc/passwd",
        ] {
            let content = root.read_limited(Path::new(path), 100).unwrap();
            assert_eq!(content, b"inside", "{path}");
        }
        assert_eq!(
            root.read_link(Path::new("absolute")).unwrap(),
            Path::new("/etc/passwd")
        );
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open(Path::new("/")).unwrap();
        assert!(root.resolve(Path::new("/proc/self/root/etc")).is_err());
        assert!(root.resolve(Path::new("/proc/self/fd/0")).is_err());
    }

    #[test]
    fn a_fifo_or_a_large_file_in_place_of_a_file_is_an_error_at_once() {
        let (dir, root) = tree();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("passwd"), 0o644.into()).unwrap();
        assert!(root.read_limited(Path::new("passwd"), 100).is_err());
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(1 << 40).unwrap();
        let error = root.read_limited(Path::new("large"), 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn directories_are_made_below_links_within_the_root() {
        let (dir, root) = tree();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("link")).unwrap();
        root.make_dir_all(Path::new("/link/a/b"), 0o700).unwrap();
        assert!(dir.path().join("real/a/b").is_dir());
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        assert!(root.make_dir_all(Path::new("/dangling/a"), 0o700).is_err());
    }

    #[test]
    fn writing_replaces_a_link_and_not_what_it_names() {
        let (dir, root) = tree();
        std::fs::write(dir.path().join("victim"), "untouched").unwrap();
        symlink("victim", dir.path().join("file")).unwrap();
        root.write_file(Path::new("/file"), b"new", 0o640).unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("victim")).unwrap(),
            b"untouched"
        );
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"new");
    }
}
