//! From a snapshot to its OCI layer tar.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::{Digest, Sha256};
use rustix::fs::{Mode, OFlags};
use store::SnapshotId;

use crate::archive::{Header, Writer};
use crate::owner;
use crate::root::open_in_root;
use crate::snapshots::{SnapshotError, Snapshots};
use crate::tree::{Entry, Kind};
use crate::walk::read_some;

/// What a layer tar turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffInfo {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Why a layer tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The layer could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file of the layer could not be read.
    #[error("cannot read `{}` of the layer", path.display())]
    Read {
        /// Within the layer.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was when the layer was committed.
    #[error("`{}` changed after its layer was committed", .0.display())]
    Changed(PathBuf),
    /// A name by which a layer tar says that something was removed.
    #[error("`{}` cannot be in an image: names that begin with `.wh.` stand for removed files", .0.display())]
    Reserved(PathBuf),
    /// Nobody takes the bytes.
    #[error("cannot write the layer tar")]
    Write(#[source] io::Error),
}

impl Snapshots {
    /// Writes the layer tar of one snapshot's own files: the same bytes whenever and wherever.
    ///
    /// Not necessarily those a snapshot was [applied](Snapshots::apply) from, unless the layer stayed packed:
    /// keep that blob if its digest is promised to somebody. Times are whole seconds, as containerd's are.
    pub fn diff(&self, id: SnapshotId, out: &mut dyn Write) -> Result<DiffInfo, DiffError> {
        self.diff_until(id, None, out)
    }

    /// The same with no file younger than `latest`, in seconds since 1970.
    pub(crate) fn diff_until(
        &self,
        id: SnapshotId,
        latest: Option<i64>,
        out: &mut dyn Write,
    ) -> Result<DiffInfo, DiffError> {
        let mut hashing = Hashing {
            out,
            hash: Sha256::default(),
            size: 0,
        };
        if latest.is_none()
            && let Some(tar) = self.open_packed_tar(id)?
        {
            copy(tar, &mut hashing, &self.store.layer_tar(id))?;
            return Ok(hashing.finish());
        }
        let tree = self.tree(id)?;
        let root = self.open_layer_directory(id)?;
        let default_root = self.root_below(id)?;
        let mut pack = Pack {
            root,
            writer: Writer::new(hashing),
            latest,
            firsts: Vec::new(),
        };
        for entry in tree.entries() {
            if entry.path.is_empty() && looks_like(entry, default_root) {
                continue;
            }
            pack.entry(entry)?;
        }
        let hashing = pack.writer.finish().map_err(DiffError::Write)?;
        Ok(hashing.finish())
    }

    /// Mode, owner and group of the root directory without this layer.
    pub(crate) fn root_below(&self, id: SnapshotId) -> Result<(u32, u32, u32), SnapshotError> {
        let Some(parent) = self.store.snapshot(id)?.parent else {
            return Ok((0o755, 0, 0));
        };
        let dir = self.open_layer_directory(parent)?;
        let stat = rustix::fs::fstat(&dir).map_err(|error| {
            SnapshotError::file("read", &self.store.snapshot_fs(parent))(error.into())
        })?;
        let owner = owner::of(dir.as_fd(), (stat.st_uid, stat.st_gid));
        let (uid, gid) =
            owner.map_err(SnapshotError::file("read", &self.store.snapshot_fs(parent)))?;
        Ok((stat.st_mode & 0o7777, uid, gid))
    }
}

pub(crate) fn looks_like(root: &Entry, default: (u32, u32, u32)) -> bool {
    (root.mode, root.uid, root.gid) == default
}

struct Pack<W> {
    root: OwnedFd,
    writer: Writer<W>,
    /// The time that no file may be younger than.
    latest: Option<i64>,
    /// By link number less one: the name under which a file with several went in.
    firsts: Vec<Option<Box<[u8]>>>,
}

impl<W: Write> Pack<W> {
    fn entry(&mut self, entry: &Entry) -> Result<(), DiffError> {
        let name = entry
            .path
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        if name.starts_with(b".wh.") {
            return Err(DiffError::Reserved(entry.path().to_owned()));
        }
        let xattrs = entry.travelling();
        let mut header = Header::of(entry, &entry.path, &xattrs);
        header.mtime = self.latest.map_or(header.mtime, |it| header.mtime.min(it));
        match &entry.kind {
            Kind::File { size, link, .. } => self.file(entry, header, *size, *link),
            Kind::Directory { opaque } => self.directory(entry, header, *opaque),
            Kind::Symlink(_) | Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {
                self.header(&header)
            }
            Kind::Socket => Ok(()),
            Kind::Whiteout => self.mark(&whiteout(&entry.path)),
        }
    }

    fn directory(
        &mut self,
        entry: &Entry,
        header: Header<'_>,
        opaque: bool,
    ) -> Result<(), DiffError> {
        let path: &[u8] = if entry.path.is_empty() {
            b"."
        } else {
            &entry.path
        };
        let path = [path, b"/"].concat();
        self.header(&Header {
            letter: b'5',
            path: &path,
            ..header
        })?;
        if opaque {
            self.mark(&[&path, b".wh..wh..opq".as_slice()].concat())
        } else {
            Ok(())
        }
    }

    /// An empty file whose name is a message.
    fn mark(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.header(&Header {
            letter: b'0',
            path,
            ..Header::default()
        })
    }

    fn file(
        &mut self,
        entry: &Entry,
        header: Header<'_>,
        size: u64,
        link: u32,
    ) -> Result<(), DiffError> {
        if let Some(first) = self.first_name(entry, link) {
            return self.header(&Header {
                letter: b'1',
                target: &first,
                xattrs: &[],
                ..header
            });
        }
        let read = |source| DiffError::Read {
            path: entry.path().to_owned(),
            source,
        };
        let mut file = self.open(entry.path()).map_err(read)?;
        self.header(&Header {
            letter: b'0',
            size,
            ..header
        })?;
        let mut buffer = vec![
            0;
            usize::try_from(size)
                .unwrap_or(usize::MAX)
                .clamp(1, 256 << 10)
        ];
        let mut left = size;
        loop {
            let length = read_some(&mut file, &mut buffer).map_err(read)? as u64;
            if length > left || (length == 0 && left > 0) {
                return Err(DiffError::Changed(entry.path().to_owned()));
            }
            if length == 0 {
                return Ok(());
            }
            left -= length;
            self.writer
                .content(&buffer[..length as usize])
                .map_err(DiffError::Write)?;
        }
    }

    /// The name under which the same file is already in the tar.
    fn first_name(&mut self, entry: &Entry, link: u32) -> Option<Box<[u8]>> {
        let index = (link as usize).checked_sub(1)?;
        if self.firsts.len() <= index {
            self.firsts.resize(index + 1, None);
        }
        match &self.firsts[index] {
            Some(first) => Some(first.clone()),
            None => {
                self.firsts[index] = Some(entry.path.clone());
                None
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(open_in_root(
            self.root.as_fd(),
            path,
            flags,
            Mode::empty(),
        )?))
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), DiffError> {
        self.writer.header(header).map_err(DiffError::Write)
    }
}

fn whiteout(path: &[u8]) -> Vec<u8> {
    let path = Path::new(OsStr::from_bytes(path));
    let name = path.file_name().unwrap_or_default();
    let mark = [b".wh.", name.as_bytes()].concat();
    path.with_file_name(OsStr::from_bytes(&mark))
        .into_os_string()
        .as_bytes()
        .to_vec()
}

struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    size: u64,
}

impl Hashing<'_> {
    fn finish(self) -> DiffInfo {
        DiffInfo {
            diff_id: self.hash.finish(),
            size: self.size,
        }
    }
}

/// Writes all of a file.
fn copy(mut file: File, out: &mut Hashing<'_>, path: &Path) -> Result<(), DiffError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = read_some(&mut file, &mut buffer).map_err(|source| DiffError::Read {
            path: path.to_owned(),
            source,
        })?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..length]).map_err(DiffError::Write)?;
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
