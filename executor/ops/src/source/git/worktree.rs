//! The files of a commit, put where a snapshot is made of them.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use llb::op::GitTimes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Fetch, GitError, KEPT};

const GIT_DIR: &CStr = c".git";
/// Directories above each other, at most.
const DEEPEST: usize = 512;

/// Puts the files of the commit into `into`, an empty directory.
pub(super) fn fill(fetch: &Fetch<'_>, into: &Path) -> Result<(), GitError> {
    let tree = fetch.git.tmp().join("tree");
    fs::create_dir(&tree).map_err(GitError::file("create", &tree))?;
    let source = fetch.source;
    if source.keep_git_dir || (source.submodules && has_submodules(fetch)?) {
        clone(fetch, &tree)?;
    } else {
        check_out(fetch, &tree)?;
    }
    let root = open(rustix::fs::CWD, tree.as_os_str());
    let root = root.map_err(|error| GitError::file("read", &tree)(error.into()))?;
    let dress = Dress {
        keep_git_dir: source.keep_git_dir,
        time: time(fetch)?,
    };
    dress
        .directory(&root, 0)
        .map_err(GitError::file("read", &tree))?;
    let subdir = enter(root, &source.subdir).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => GitError::Subdir {
            subdir: source.subdir.clone(),
            remote: fetch.address.shown().to_owned(),
        },
        error => GitError::file("read", &tree)(error.into()),
    })?;
    move_all(&subdir, into).map_err(GitError::file("fill", into))
}

fn has_submodules(fetch: &Fetch<'_>) -> Result<bool, GitError> {
    let listed = fetch.in_mirror(&["ls-tree", "--name-only", fetch.commit, "--", ".gitmodules"])?;
    Ok(!listed.is_empty())
}

/// The files alone, straight from the mirror.
fn check_out(fetch: &Fetch<'_>, tree: &Path) -> Result<(), GitError> {
    let mirror = format!("--git-dir={}", fetch.mirror.display());
    let tree = format!("--work-tree={}", tree.display());
    let index = fetch.git.tmp().join("index");
    let index = format!("--index-output={}", index.display());
    let arguments = [
        &*mirror,
        &*tree,
        "read-tree",
        "--reset",
        "-u",
        &*index,
        fetch.commit,
    ];
    fetch.git.run("check out", &arguments)?;
    Ok(())
}

/// A repository of its own, with submodules where they are wanted.
fn clone(fetch: &Fetch<'_>, tree: &Path) -> Result<(), GitError> {
    fetch.init(&[], tree)?;
    let at = tree.to_string_lossy().into_owned();
    let name = format!("{KEPT}/{}", fetch.commit);
    let mirror = fetch.mirror.to_string_lossy().into_owned();
    let refspec = format!("+{name}:{name}");
    let get = ["-C", &at, "fetch", "--quiet", "--no-tags", "--depth=1"];
    let get = [
        &get[..],
        &["--no-write-fetch-head", "--", &mirror, &refspec],
    ]
    .concat();
    fetch.git.run_locally("check out", &get)?;
    for arguments in [
        &["checkout", "--quiet", "--detach", fetch.commit][..],
        &["update-ref", "-d", &name],
        &["remote", "add", "--", "origin", fetch.address.url()],
    ] {
        let arguments = [&["-C", &at], arguments].concat();
        fetch.git.run("check out", &arguments)?;
    }
    if fetch.source.submodules && has_submodules(fetch)? {
        let update = [
            "-C",
            &at,
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        fetch.git.run("fetch the submodules of", &update)?;
    }
    Ok(())
}

/// The time that the files show, where it is not that of the checkout.
fn time(fetch: &Fetch<'_>) -> Result<Option<i64>, GitError> {
    match fetch.source.times {
        GitTimes::Checkout => Ok(None),
        GitTimes::Commit => {
            let shown = ["show", "--no-patch", "--format=%ct", fetch.commit];
            let said = fetch.in_mirror(&shown)?;
            Ok(String::from_utf8_lossy(&said).trim().parse().ok())
        }
    }
}

/// Makes files look the same wherever they are checked out.
struct Dress {
    keep_git_dir: bool,
    time: Option<i64>,
}

impl Dress {
    /// Of all below `directory`: modes as git knows them, times, and no `.git` that is not wanted.
    /// Links are not followed.
    fn directory(&self, directory: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("directories are nested too deep"));
        }
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if name == GIT_DIR && !self.keep_git_dir {
                remove(directory, name)?;
                continue;
            }
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below = open(directory, OsStr::from_bytes(name.to_bytes()))?;
                    self.directory(&below, depth + 1)?;
                    rustix::fs::fchmod(&below, Mode::from_raw_mode(0o755))?;
                }
                FileType::RegularFile => {
                    let mode = if stat.st_mode & 0o100 == 0 {
                        0o644
                    } else {
                        0o755
                    };
                    // Not a link, and nobody else works here.
                    let mode = Mode::from_raw_mode(mode);
                    rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
                }
                _ => {}
            }
            if let Some(time) = self.time {
                let times = times(time);
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Removes a file, or a directory with all below it.
fn remove(directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let below = open(directory, OsStr::from_bytes(name.to_bytes()))?;
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(&below, entry.file_name())?;
        }
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Opens a directory. A link is none.
fn open(at: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Opens the directory at `path` below `root`, without a link on the way.
fn enter(root: OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let mut directory = root;
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => directory = open(&directory, name)?,
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::NOENT),
        }
    }
    Ok(directory)
}

/// Moves everything in `from` into `into`.
fn move_all(from: &OwnedFd, into: &Path) -> io::Result<()> {
    let into = open(rustix::fs::CWD, into.as_os_str())?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            rustix::fs::renameat(from, name, &into, name)?;
        }
    }
    Ok(())
}
