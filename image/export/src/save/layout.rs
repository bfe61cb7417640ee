//! An archive that is no tar: a directory with an OCI layout, which may have images already.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use oci::Digest;

use super::archive::blob_name;
use super::pipe::pump;
use super::{SaveError, json};
use crate::manifest::{Descriptor, Document, Index};

/// The annotation by which readers find an image in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The directory of a layout. What is in it is there whole: each file comes under another name first.
pub(crate) struct LayoutDirectory {
    root: PathBuf,
}

impl LayoutDirectory {
    pub(crate) fn create(root: &Path) -> Result<Self, SaveError> {
        let created = fs::create_dir_all(root.join("blobs/sha256"));
        created.map_err(|source| SaveError::Create {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Writes a file of the layout.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
        let (mut file, aside) = self.aside()?;
        let written = file.write_all(bytes).map_err(SaveError::Write);
        self.settle(&aside, name, written.map(|()| file))
    }

    /// Copies a blob, unless it is there.
    pub(crate) fn copy(
        &self,
        digest: &Digest,
        size: u64,
        from: &mut File,
    ) -> Result<(), SaveError> {
        let name = blob_name(digest);
        let there = fs::metadata(self.root.join(&name));
        if there.is_ok_and(|it| it.is_file() && it.len() == size) {
            return Ok(());
        }
        let (mut file, aside) = self.aside()?;
        let copied = match io::copy(from, &mut file) {
            Ok(copied) if copied == size => Ok(file),
            Ok(copied) => Err(SaveError::Write(io::Error::other(format!(
                "blob {digest} has {copied} bytes instead of {size}"
            )))),
            Err(error) => Err(SaveError::Write(error)),
        };
        self.settle(&aside, &name, copied)
    }

    /// Writes what `produce` writes as a blob.
    pub(crate) fn produce(
        &self,
        known: Option<Digest>,
        produce: &mut dyn FnMut(&mut dyn Write) -> Result<(), SaveError>,
    ) -> Result<(Digest, u64), SaveError> {
        let (file, aside) = self.aside()?;
        let mut file = BufWriter::with_capacity(super::archive::BUFFER, file);
        let pumped = pump(&mut file, known, produce).and_then(|made| {
            let file = file.into_inner();
            let file = file.map_err(|error| SaveError::Write(error.into_error()))?;
            Ok((made, file))
        });
        let ((digest, size), file) = pumped.inspect_err(|_| drop(fs::remove_file(&aside)))?;
        self.settle(&aside, &blob_name(&digest), Ok(file))?;
        Ok((digest, size))
    }

    /// The entries of images that are in the layout and have a name that none of `new` has.
    pub(crate) fn others(&self, new: &[Descriptor]) -> Result<Vec<Descriptor>, SaveError> {
        let path = self.root.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(SaveError::Create { path, source }),
        };
        // What is no index is replaced by one.
        let document = serde_json::from_slice::<Document>(&bytes).ok();
        let there = document.and_then(|it| it.manifests).unwrap_or_default();
        let names: BTreeSet<&String> = new.iter().filter_map(name).collect();
        let is_other = |it: &Descriptor| name(it).is_some_and(|it| !names.contains(it));
        Ok(there.into_iter().filter(is_other).collect())
    }

    /// Writes the index last: from then on the layout has the images.
    pub(crate) fn finish(&self, index: &Index<'_>) -> Result<(), SaveError> {
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", &json(index))
    }

    fn aside(&self) -> Result<(File, PathBuf), SaveError> {
        let path = self.root.join(format!(".rbuild-{}", std::process::id()));
        match File::create(&path) {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(SaveError::Create { path, source }),
        }
    }

    /// Gives a written file its name, or takes it away where it could not be written.
    fn settle(
        &self,
        aside: &Path,
        name: &str,
        written: Result<File, SaveError>,
    ) -> Result<(), SaveError> {
        let placed = written.and_then(|_| {
            let path = self.root.join(name);
            fs::rename(aside, &path).map_err(|source| SaveError::Create { path, source })
        });
        placed.inspect_err(|_| drop(fs::remove_file(aside)))
    }
}

fn name(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(REF_NAME)
}
