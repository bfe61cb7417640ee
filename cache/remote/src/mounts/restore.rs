//! From the index and packs of a cache mount to its files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use export::{LayerState, PullWatch, decoder};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use snapshot::{Entry, Kind, Tree, content_key};
use store::{Sharing, Store};

use super::index::{Index, Pack};
use super::{MountError, fetch};
use crate::{Backend, MountEntry};

/// How many packs are fetched at once.
const PARALLEL: usize = 3;
/// The largest pack that is read.
const MAX_PACK: u64 = 64 << 20;
/// The most that the files of a mount may have together.
const MAX_FILES: u64 = 256 << 30;

/// Fills a cache mount that has nothing in it with what a cache has of it. Returns whether it did:
/// a mount that has something stays as it is.
///
/// # Errors
/// If what the cache has cannot be had or used; the mount is empty then.
pub fn restore(
    store: &Store,
    entry: &MountEntry,
    backend: &dyn Backend,
    watch: &dyn PullWatch,
) -> Result<bool, MountError> {
    let path = store.cache_mount(&entry.id)?;
    let Some(_lock) = store.try_lock_cache_mount(&entry.id, Sharing::Locked)? else {
        // A step uses it at this moment: whatever is in it, it has a life of its own.
        return Ok(false);
    };
    let mut names = fs::read_dir(&path).map_err(MountError::file("read", &path))?;
    if names.next().is_some() {
        return Ok(false);
    }
    let index = Index::read(backend, &entry.index)?;
    check(&index.tree).map_err(|why| MountError::Malformed {
        blob: entry.index.digest,
        why,
    })?;
    let work = store.tmp_dir()?;
    let root = work.path().join("mount");
    let made = Files::make(&root, &index.tree)?;
    made.fill(&index, (backend, watch))?;
    made.dress()?;
    // Over the empty directory: the mount is empty or whole.
    fs::rename(&root, &path).map_err(MountError::file("create", &path))?;
    Ok(true)
}

/// Whether every path is one below the mount's own directory, in a directory of the index.
fn check(tree: &Tree) -> Result<(), String> {
    let mut directories: HashSet<&[u8]> = HashSet::new();
    let mut bytes = 0_u64;
    for (at, entry) in tree.entries().iter().enumerate() {
        let path = entry.path();
        let name = path.file_name().map_or(&b""[..], OsStr::as_bytes);
        let parent = path
            .parent()
            .map_or(&b""[..], |it| it.as_os_str().as_bytes());
        let plain = path.components().all(|it| matches!(it, Component::Normal(_)))
            && !entry.path.contains(&0)
            // Neither `a//b` nor `a/.`, which would be `a/b` and `a`.
            && entry.path.len() == parent.len() + name.len() + usize::from(!parent.is_empty());
        let placed = match at {
            0 => entry.path.is_empty() && entry.is_directory(),
            _ => !name.is_empty() && directories.contains(parent),
        };
        if !plain || !placed {
            return Err(format!("`{}` is no path in it", path.display()));
        }
        if entry.is_directory() {
            directories.insert(&entry.path);
        }
        if let Kind::File { size, .. } = &entry.kind {
            bytes = bytes.saturating_add(*size);
        }
    }
    match bytes > MAX_FILES {
        true => Err(format!("its files have more than {MAX_FILES} bytes")),
        false => Ok(()),
    }
}

/// The files of a mount under way.
struct Files<'a> {
    root: &'a Path,
    tree: &'a Tree,
}

impl<'a> Files<'a> {
    /// Makes everything but the content of files.
    fn make(root: &'a Path, tree: &'a Tree) -> Result<Self, MountError> {
        let made = Self { root, tree };
        let mut firsts: HashMap<u32, PathBuf> = HashMap::new();
        for entry in tree.entries() {
            let path = made.path(entry);
            let failed = MountError::file("create", entry.path());
            let done = match &entry.kind {
                Kind::Directory { .. } => fs::create_dir(&path),
                Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &path),
                Kind::File { link, .. } if *link > 0 && firsts.contains_key(link) => {
                    fs::hard_link(&firsts[link], &path)
                }
                Kind::File { size, link, .. } => {
                    firsts.insert(*link, path.clone());
                    let mut new = fs::OpenOptions::new();
                    new.write(true).create_new(true).mode(0o600);
                    new.open(&path).and_then(|it| it.set_len(*size))
                }
                // Nothing that a tool keeps for later.
                Kind::Character(..)
                | Kind::Block(..)
                | Kind::Fifo
                | Kind::Socket
                | Kind::Whiteout => Ok(()),
            };
            done.map_err(failed)?;
        }
        Ok(made)
    }

    /// Writes the content of files, pack by pack.
    fn fill(
        &self,
        index: &Index,
        (backend, watch): (&dyn Backend, &dyn PullWatch),
    ) -> Result<(), MountError> {
        let targets = self.targets(index);
        let next = Mutex::new((0..).zip(&index.packs));
        let work = || -> Result<(), MountError> {
            loop {
                let pack = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, pack)) = pack else {
                    return Ok(());
                };
                if watch.is_cancelled() {
                    return Err(MountError::Cancelled);
                }
                let digest = &pack.blob.digest;
                watch.layer(digest, LayerState::Downloading(0, pack.blob.size));
                let bytes = fetch(backend, &pack.blob, MAX_PACK)?;
                watch.layer(digest, LayerState::Downloaded);
                self.unpack(pack, &bytes, |at| targets.get(&(number, at)))?;
                watch.layer(digest, LayerState::Complete);
            }
        };
        std::thread::scope(|threads| {
            let workers: Vec<_> = (0..PARALLEL.min(index.packs.len()))
                .map(|_| threads.spawn(work))
                .collect();
            workers.into_iter().try_for_each(|it| {
                it.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// By piece: the files it is part of, and where.
    fn targets(&self, index: &Index) -> HashMap<(u32, u32), Vec<(PathBuf, u64)>> {
        let places = index.places();
        let mut targets: HashMap<(u32, u32), Vec<(PathBuf, u64)>> = HashMap::new();
        let mut linked = HashSet::new();
        for entry in self.tree.entries() {
            let Kind::File {
                size,
                content,
                link,
            } = &entry.kind
            else {
                continue;
            };
            if *link > 0 && !linked.insert(*link) {
                continue;
            }
            let pieces = index.pieces(content, *size, &places).unwrap_or_default();
            let mut offset = 0;
            for place in pieces {
                let target = (self.path(entry), offset);
                targets.entry(place).or_default().push(target);
                offset += index.piece(place).map_or(0, |(_, it)| u64::from(*it));
            }
        }
        targets
    }

    fn unpack<'t>(
        &self,
        pack: &Pack,
        bytes: &[u8],
        targets: impl Fn(u32) -> Option<&'t Vec<(PathBuf, u64)>>,
    ) -> Result<(), MountError> {
        let blob = pack.blob.digest;
        let failed = |source| MountError::Read { blob, source };
        let (_, mut reader) = decoder(bytes).map_err(failed)?;
        for (at, (key, length)) in (0..).zip(&pack.pieces) {
            let mut piece = Vec::new();
            let read = reader.by_ref().take(u64::from(*length));
            { read }.read_to_end(&mut piece).map_err(failed)?;
            if content_key(&piece) != *key {
                return Err(MountError::Malformed {
                    blob,
                    why: "it has other pieces than its index says".to_owned(),
                });
            }
            for (path, offset) in targets(at).into_iter().flatten() {
                let written = File::options()
                    .write(true)
                    .open(path)
                    .and_then(|file| file.write_all_at(&piece, *offset));
                written.map_err(MountError::file("write", path))?;
            }
        }
        Ok(())
    }

    /// Gives everything its owner, mode, attributes and times; directories last, for their times.
    fn dress(&self) -> Result<(), MountError> {
        let (directories, others): (Vec<&Entry>, Vec<&Entry>) = self
            .tree
            .entries()
            .iter()
            .partition(|entry| entry.is_directory());
        for entry in others.into_iter().chain(directories.into_iter().rev()) {
            let path = self.path(entry);
            let is_link = matches!(entry.kind, Kind::Symlink(_));
            if !is_link && !matches!(entry.kind, Kind::File { .. } | Kind::Directory { .. }) {
                continue;
            }
            dress(entry, &path, is_link).map_err(MountError::file("create", entry.path()))?;
        }
        Ok(())
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        match entry.path.is_empty() {
            true => self.root.to_owned(),
            false => self.root.join(entry.path()),
        }
    }
}

/// Owner first: a change of it clears set-id bits.
fn dress(entry: &Entry, path: &Path, is_link: bool) -> std::io::Result<()> {
    snapshot::owner::give_path(path, (entry.uid, entry.gid))?;
    if !is_link {
        fs::set_permissions(path, fs::Permissions::from_mode(entry.mode))?;
    }
    for xattr in entry.xattrs.iter().filter(|it| it.travels()) {
        let flags = rustix::fs::XattrFlags::empty();
        // A file system that keeps none loses a hint, no content.
        let _ = rustix::fs::lsetxattr(path, &*xattr.name, &xattr.value, flags);
    }
    let time = Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: entry.mtime.1.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn is_good(paths: &[(&str, Kind)]) -> bool {
        let entries = paths.iter().map(|(path, kind)| entry(path, kind.clone()));
        check(&Tree::new(entries.collect())).is_ok()
    }

    #[test]
    fn no_path_leaves_the_mount() {
        let directory = || Kind::Directory { opaque: false };
        let link = || Kind::Symlink(b"/etc".as_slice().into());
        assert!(is_good(&[
            ("", directory()),
            ("a", directory()),
            ("a/b", link())
        ]));
        assert!(!is_good(&[("a", directory())]));
        assert!(!is_good(&[("", link())]));
        for path in [
            "..",
            "../a",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "a/.",
            ".",
            "x/y",
            "a\0",
        ] {
            let paths = [("", directory()), ("a", directory()), (path, link())];
            assert!(!is_good(&paths), "{path}");
        }
        assert!(
            !is_good(&[("", directory()), ("a", link()), ("a/b", link())]),
            "through a link"
        );
    }
}
