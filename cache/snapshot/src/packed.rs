//! Layers that stay in their tars: nothing is unpacked, the kernel mounts the tar with an index over it.
//!
//! A *packed* layer is two files, `tar` and `index` ([`erofs`](crate::erofs)), where another has its `fs`. It
//! shows the same tree, to the byte and the owner, and has the same manifest; and its tar, which came from
//! elsewhere, is there to be sent on as it came.
//!
//! A layer comes in two steps. [`Snapshots::receive`] takes its bytes, which needs no other layer, so that
//! several may come at once; [`Received::place`] puts it on a chain. Small layers are unpacked after all, as
//! are those of which an index cannot say everything, and all where the kernel mounts no such thing.

mod contents;
mod index;
mod spool;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Digest, Sha256};
use rustix::fs::{Mode, OFlags};
use store::{SnapshotId, TmpDir};

use crate::active::commit_staged;
use crate::apply::{ApplyError, Known};
use crate::archive::Archive;
use crate::mount;
use crate::root::Root;
use crate::snapshots::{SnapshotError, Snapshots, open_directory};
use crate::unpack::UnpackLimits;
use contents::Contents;
use spool::Spool;

pub(crate) use spool::Spooled;

/// From so many members on a layer is worth a mount of its own.
const MANY_MEMBERS: u64 = 1000;
/// From so many bytes on, too.
const MANY_BYTES: u64 = 32 << 20;

/// Which layers stay packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Large ones, where the kernel can mount them.
    #[default]
    Large,
    /// All that can.
    All,
    /// None.
    None,
}

/// A layer's tar that came in whole and is on no chain yet. Dropped before that, it never was.
#[derive(Debug)]
pub struct Received {
    snapshots: Snapshots,
    tmp: TmpDir,
    /// It has been hashed, and nobody else can write to it.
    tar: Spool,
    diff_id: Digest,
    size: u64,
    limits: UnpackLimits,
    /// What is in it, where an index can say so.
    contents: Option<Contents>,
}

impl Snapshots {
    /// Whether layers can stay packed here.
    pub fn packs(&self) -> bool {
        match self.packing {
            Packing::None => false,
            Packing::Large | Packing::All => self.mounts_indexes(),
        }
    }

    /// Takes an uncompressed layer tar, which is read to its end, and checks its diff id where one is
    /// expected.
    ///
    /// # Errors
    /// If it is no tar, has more than is allowed, or is not the one that was expected.
    pub fn receive(
        &self,
        tar: &mut dyn Read,
        expected: Option<Digest>,
    ) -> Result<Received, ApplyError> {
        self.receive_within(tar, expected, UnpackLimits::from(self.limits()))
    }

    pub(crate) fn receive_within(
        &self,
        tar: &mut dyn Read,
        expected: Option<Digest>,
        limits: UnpackLimits,
    ) -> Result<Received, ApplyError> {
        let tmp = self.store.tmp_dir().map_err(SnapshotError::from)?;
        let staged = tmp.path().join("snapshot");
        fs::create_dir(&staged).map_err(SnapshotError::file("create", &staged))?;
        let path = staged.join("tar");
        let mut archive = Archive::new(Kept {
            input: tar,
            hash: Sha256::default(),
            spool: Spool::new(&self.spooled, path.clone()),
            size: 0,
            failure: None,
        });
        let contents = Contents::read(&mut archive, limits)
            .and_then(|contents| Ok(archive.drain().map(|()| contents)?));
        let kept = archive.into_input();
        // Not the archive's fault.
        if let Some(failure) = kept.failure {
            return Err(SnapshotError::file("write", &path)(failure).into());
        }
        let contents = contents?;
        let found = kept.hash.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ApplyError::WrongDiffId { expected, found });
        }
        Ok(Received {
            snapshots: self.clone(),
            tmp,
            tar: kept.spool,
            diff_id: found,
            size: kept.size,
            limits,
            contents,
        })
    }

    /// Whether a layer is packed.
    pub(crate) fn is_packed(&self, id: SnapshotId) -> bool {
        self.store.layer_index(id).is_file()
    }

    /// The root directory of one layer's own files, to be mounted: an open directory, or a mount that
    /// nobody sees.
    pub(crate) fn open_layer(&self, id: SnapshotId) -> Result<Arc<OwnedFd>, SnapshotError> {
        match open_directory(&self.store.snapshot_fs(id)) {
            Ok(directory) => Ok(Arc::new(directory)),
            Err(_) if self.is_packed(id) => self.mounted_index(id),
            Err(error) => Err(error),
        }
    }

    /// The same to be read.
    pub(crate) fn open_layer_directory(&self, id: SnapshotId) -> Result<OwnedFd, SnapshotError> {
        match open_directory(&self.store.snapshot_fs(id)) {
            Err(_) if self.is_packed(id) => {
                let mount = self.mounted_index(id)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&mount, ".", flags, Mode::empty()).map_err(|source| {
                    SnapshotError::Index {
                        id,
                        source: source.into(),
                    }
                })
            }
            opened => opened,
        }
    }

    /// One layer's own files, to be read by whoever is not this crate.
    pub fn layer_root(&self, id: SnapshotId) -> Result<Root, SnapshotError> {
        self.open_layer_directory(id).map(Root::from_fd)
    }

    fn mounted_index(&self, id: SnapshotId) -> Result<Arc<OwnedFd>, SnapshotError> {
        if let Some(known) = self.remembered().mounts.get(&id) {
            return Ok(Arc::clone(known));
        }
        let mount = mount::packed(&self.store.layer_index(id), &self.store.layer_tar(id));
        let mount = Arc::new(mount.map_err(|source| SnapshotError::Index { id, source })?);
        self.remembered().mounts.insert(id, Arc::clone(&mount));
        Ok(mount)
    }

    /// The packed tar of a layer, if it has one.
    pub(crate) fn open_packed_tar(&self, id: SnapshotId) -> Result<Option<File>, SnapshotError> {
        if !self.is_packed(id) {
            return Ok(None);
        }
        let path = self.store.layer_tar(id);
        File::open(&path)
            .map(Some)
            .map_err(SnapshotError::file("open", &path))
    }
}

impl Received {
    /// The digest of the uncompressed tar.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Makes it a snapshot on top of a chain. One that is there already is found and not made anew.
    ///
    /// # Errors
    /// If the tar has something that no layer may have, or nothing can be written.
    pub fn place(mut self, parent: Option<SnapshotId>) -> Result<SnapshotId, ApplyError> {
        if let Some(known) = self.snapshots.known_chain(parent, &self.diff_id)? {
            return Ok(known);
        }
        if let Some(contents) = self.contents.take().filter(|it| self.is_worth(it))
            && let Some(id) = self.keep(parent, &contents)?
        {
            return Ok(id);
        }
        let path = self.staged().join("tar");
        let mut tar = self
            .tar
            .reader()
            .map_err(SnapshotError::file("open", &path))?;
        let known = Known::Before(self.diff_id);
        self.snapshots
            .unpack_on(parent, &mut tar, (known, self.limits))
    }

    fn is_worth(&self, contents: &Contents) -> bool {
        match self.snapshots.packing {
            Packing::All => true,
            Packing::None => false,
            Packing::Large => contents.members >= MANY_MEMBERS || contents.bytes >= MANY_BYTES,
        }
    }

    /// Writes the index and commits both; nothing where the index cannot be made.
    fn keep(
        &mut self,
        parent: Option<SnapshotId>,
        contents: &Contents,
    ) -> Result<Option<SnapshotId>, ApplyError> {
        let below = self.snapshots.merged(parent)?;
        let below = parent.is_some().then_some(&*below);
        let Some((tree, index)) = index::of(contents, below, self.size) else {
            return Ok(None);
        };
        let path = self.staged().join("tar");
        self.tar
            .settle()
            .map_err(SnapshotError::file("write", &path))?;
        let path = self.staged().join("index");
        fs::write(&path, index).map_err(SnapshotError::file("write", &path))?;
        let committed = commit_staged(
            &self.snapshots,
            parent,
            &self.staged(),
            (&tree, Some(self.diff_id)),
        );
        Ok(Some(committed?))
    }

    fn staged(&self) -> PathBuf {
        self.tmp.path().join("snapshot")
    }
}

/// Makes an index for nothing, in a directory, and mounts it, to see whether it can be done.
pub(crate) fn probe(directory: &Path) -> io::Result<()> {
    let (tar, path) = (directory.join("tar"), directory.join("index"));
    // A tar ends in two blocks of zeros.
    fs::write(&tar, [0; 1024])?;
    let index = index::of(&Contents::default(), None, 1024).map(|(_, index)| index);
    fs::write(&path, index.unwrap_or_default())?;
    mount::packed(&path, &tar).map(drop)
}

/// Hashes and keeps what is read.
struct Kept<'a> {
    input: &'a mut dyn Read,
    hash: Sha256,
    spool: Spool,
    size: u64,
    /// Why no more could be kept.
    failure: Option<io::Error>,
}

impl Read for Kept<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        self.hash.update(&out[..length]);
        if let Err(error) = self.spool.write_all(&out[..length]) {
            let kind = error.kind();
            self.failure = Some(error);
            return Err(kind.into());
        }
        self.size += length as u64;
        Ok(length)
    }
}
