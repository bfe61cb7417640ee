//! The tar of an archive, written front to back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use store::{Store, StoreError};

use super::layer::Layer;
use super::layout::LayoutDirectory;
use super::pipe::pump;
use super::{Output, SaveError};
use crate::manifest::Descriptor;

const BLOCK: u64 = 512;

/// The name of a blob in the archive.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An archive under way. Its blobs come in any order, each once.
pub(crate) struct ArchiveWriter<'a> {
    store: Store,
    target: Target<'a>,
    blobs: BTreeMap<Digest, u64>,
    /// Layers that are in the archive, by diff id.
    pub(crate) layers: BTreeMap<Digest, Layer>,
}

enum Target<'a> {
    /// A file can be gone back in: a header is written once the size of what follows is known.
    File(Box<NewFile>),
    /// A pipe cannot: what has no known size waits in the store's directory.
    Stream(&'a mut dyn Write),
    /// A device or a named pipe.
    Special(BufWriter<File>),
    /// No tar at all.
    Layout(LayoutDirectory),
}

/// A file that appears at its path when it is whole.
struct NewFile {
    file: BufWriter<File>,
    path: PathBuf,
    /// Where it is meanwhile, on file systems without nameless files.
    aside: Option<PathBuf>,
}

impl<'a> ArchiveWriter<'a> {
    pub(crate) fn create(store: &Store, out: Output<'a>) -> Result<Self, SaveError> {
        let target = match out {
            Output::Stream(stream) => Target::Stream(stream),
            Output::File(path) => open_target(path).map_err(|source| SaveError::Create {
                path: path.to_owned(),
                source,
            })?,
            Output::Layout(path) => Target::Layout(LayoutDirectory::create(path)?),
        };
        let mut archive = Self {
            store: store.clone(),
            target,
            blobs: BTreeMap::new(),
            layers: BTreeMap::new(),
        };
        if archive.layout().is_some() {
            return Ok(archive);
        }
        for directory in ["blobs/", "blobs/sha256/"] {
            archive
                .header(directory, 0, tar::EntryType::Directory)
                .map_err(SaveError::Write)?;
        }
        Ok(archive)
    }

    /// The store that it is written from.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The directory, where the archive is one.
    pub(crate) fn layout(&self) -> Option<&LayoutDirectory> {
        match &self.target {
            Target::Layout(layout) => Some(layout),
            Target::File(_) | Target::Stream(_) | Target::Special(_) => None,
        }
    }

    /// Writes a document that is no blob.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
        if let Some(layout) = self.layout() {
            return layout.file(name, bytes);
        }
        let size = bytes.len() as u64;
        let mut write = || {
            self.header(name, size, tar::EntryType::Regular)?;
            self.write_all(bytes)?;
            self.pad(size)
        };
        write().map_err(SaveError::Write)
    }

    /// Writes a small blob.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, SaveError> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        if self.blobs.insert(digest, size).is_none() {
            self.file(&blob_name(&digest), bytes)?;
        }
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Copies a blob out of the store.
    pub(crate) fn stored_blob(&mut self, digest: &Digest) -> Result<u64, SaveError> {
        let mut blob = self.store.open_blob(digest)?;
        let size = self.store.blob_size(digest)?;
        if self.blobs.insert(*digest, size).is_some() {
            return Ok(size);
        }
        if let Some(layout) = self.layout() {
            layout.copy(digest, size, &mut blob)?;
            return Ok(size);
        }
        let mut copy = || {
            self.header(&blob_name(digest), size, tar::EntryType::Regular)?;
            let copied = self.copy(&mut blob)?;
            if copied != size {
                return Err(io::Error::other(format!(
                    "blob {digest} has {copied} bytes instead of {size}"
                )));
            }
            self.pad(size)
        };
        copy().map_err(SaveError::Write)?;
        Ok(size)
    }

    /// Writes what `produce` writes as a blob. Its size only that shows, and so its digest, unless
    /// it is known.
    pub(crate) fn produced_blob(
        &mut self,
        known: Option<Digest>,
        produce: &mut dyn FnMut(&mut dyn Write) -> Result<(), SaveError>,
    ) -> Result<(Digest, u64), SaveError> {
        if let Some(layout) = self.layout() {
            return layout.produce(known, produce);
        }
        let Target::File(new) = &mut self.target else {
            return self.spooled_blob(known, produce);
        };
        let start = new.file.stream_position().map_err(SaveError::Write)?;
        new.file
            .write_all(&[0; BLOCK as usize])
            .map_err(SaveError::Write)?;
        let (digest, size) = pump(&mut new.file, known, produce)?;
        let is_new = self.blobs.insert(digest, size).is_none();
        self.settle(start, size, is_new.then(|| blob_name(&digest)))
            .map_err(SaveError::Write)?;
        Ok((digest, size))
    }

    /// Goes back to the header at `start` and writes it; without a name, takes back what was
    /// written since, because the archive has it already.
    fn settle(&mut self, start: u64, size: u64, name: Option<String>) -> io::Result<()> {
        self.seek(SeekFrom::Start(start))?;
        match name {
            Some(name) => {
                self.header(&name, size, tar::EntryType::Regular)?;
                self.seek(SeekFrom::Current(size.cast_signed()))?;
                self.pad(size)
            }
            None => match &mut self.target {
                Target::File(new) => new.file.get_ref().set_len(start),
                _ => Ok(()),
            },
        }
    }

    fn spooled_blob(
        &mut self,
        known: Option<Digest>,
        produce: &mut dyn FnMut(&mut dyn Write) -> Result<(), SaveError>,
    ) -> Result<(Digest, u64), SaveError> {
        let directory = self.store.tmp_dir()?;
        let path = directory.path().join("layer");
        let failed = |source| StoreError::File {
            what: "write",
            path: path.clone(),
            source,
        };
        let spool = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed)?;
        let mut spool = BufWriter::with_capacity(BUFFER, spool);
        let (digest, size) = pump(&mut spool, known, produce)?;
        let mut spool = spool
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        spool.rewind().map_err(failed)?;
        if self.blobs.insert(digest, size).is_none() {
            let mut copy = || {
                self.header(&blob_name(&digest), size, tar::EntryType::Regular)?;
                self.copy(&mut spool)?;
                self.pad(size)
            };
            copy().map_err(SaveError::Write)?;
        }
        Ok((digest, size))
    }

    /// Writes the end; the file appears at its path.
    pub(crate) fn finish(mut self) -> Result<(), SaveError> {
        if self.layout().is_some() {
            return Ok(());
        }
        self.write_all(&[0; 2 * BLOCK as usize])
            .map_err(SaveError::Write)?;
        match self.target {
            Target::File(mut new) => {
                new.file.flush().map_err(SaveError::Write)?;
                new.publish().map_err(|source| SaveError::Create {
                    path: new.path.clone(),
                    source,
                })
            }
            Target::Special(mut file) => file.flush().map_err(SaveError::Write),
            Target::Stream(stream) => stream.flush().map_err(SaveError::Write),
            Target::Layout(_) => Ok(()),
        }
    }

    /// Every file is root's and of 1970, so that the same images give the same bytes.
    fn header(&mut self, name: &str, size: u64, kind: tar::EntryType) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let missing = size.next_multiple_of(BLOCK) - size;
        self.write_all(&[0; BLOCK as usize][..missing as usize])
    }

    fn copy(&mut self, from: &mut File) -> io::Result<u64> {
        match &mut self.target {
            // From file to file the kernel copies, or shares the blocks.
            Target::File(new) => {
                new.file.flush()?;
                io::copy(from, new.file.get_mut())
            }
            Target::Special(file) => io::copy(from, file),
            Target::Stream(stream) => {
                io::copy(&mut io::BufReader::with_capacity(BUFFER, from), stream)
            }
            Target::Layout(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.target {
            Target::File(new) => new.file.write_all(bytes),
            Target::Special(file) => file.write_all(bytes),
            Target::Stream(stream) => stream.write_all(bytes),
            Target::Layout(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }

    fn seek(&mut self, to: SeekFrom) -> io::Result<()> {
        match &mut self.target {
            Target::File(new) => new.file.seek(to).map(|_| ()),
            _ => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

pub(super) const BUFFER: usize = 1 << 18;

fn open_target<'a>(path: &Path) -> io::Result<Target<'a>> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            Ok(Target::Special(BufWriter::with_capacity(BUFFER, file)))
        }
        // A link is followed: the file it leads to is replaced, not the link.
        Ok(_) => NewFile::create(fs::canonicalize(path)?)
            .map(Box::new)
            .map(Target::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => NewFile::create(path.to_owned())
            .map(Box::new)
            .map(Target::File),
        Err(error) => Err(error),
    }
}

impl NewFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A file without a name leaves nothing behind, whatever ends the program.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, aside) =
            match rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => (File::from(fd), None),
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                    let aside = beside(&path);
                    let options = fs::OpenOptions::new()
                        .read(true)
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(&aside)?;
                    (options, Some(aside))
                }
                Err(error) => return Err(error.into()),
            };
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file),
            path,
            aside,
        })
    }

    fn publish(&mut self) -> io::Result<()> {
        if self.aside.is_none() {
            let aside = beside(&self.path);
            let nameless = format!("/proc/self/fd/{}", self.file.get_ref().as_raw_fd());
            rustix::fs::linkat(CWD, nameless, CWD, &aside, AtFlags::SYMLINK_FOLLOW)?;
            self.aside = Some(aside);
        }
        let aside = self.aside.take().expect("set above");
        fs::rename(&aside, &self.path).inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

/// A name next to `path` for the moment before it is taken.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside {
            let _ = fs::remove_file(aside);
        }
    }
}
