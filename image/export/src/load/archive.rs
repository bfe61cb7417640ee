//! An archive read into the store: documents in memory, everything else as blobs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use oci::{Digest, Limits};
use snapshot::{Root, Snapshots};
use store::{BlobWriter, Store};
use tar::EntryType;

use super::LoadError;

/// The documents an archive begins from.
const DOCUMENTS: &[&str] = &["index.json", "manifest.json", "oci-layout", "repositories"];
/// Links that lead to links; no writer of archives makes two.
const MAX_LINKS: usize = 8;

/// What an archive holds, by path. Its blobs are in the store as long as this lives; those that no
/// image came to need go with it.
pub(super) struct Archive<'a> {
    store: &'a Store,
    limits: Limits,
    entries: BTreeMap<String, Entry>,
    /// Everything that was put into the store, named or not.
    stored: Vec<Digest>,
}

enum Entry {
    Document(Vec<u8>),
    Blob { digest: Digest, size: u64 },
    Link(String),
}

impl<'a> Archive<'a> {
    /// Reads a tar to its end, in whatever order it has its parts.
    pub(super) fn read(snapshots: &'a Snapshots, tar: impl Read) -> Result<Self, LoadError> {
        let mut archive = Self::empty(snapshots);
        let mut tar = tar::Archive::new(tar);
        for entry in tar.entries().map_err(malformed)? {
            archive.add(entry.map_err(malformed)?)?;
        }
        // Whoever writes into a pipe is not to be cut off at the end of what counts.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(LoadError::Read)?;
        Ok(archive)
    }

    /// Reads an OCI layout's documents and blobs. Links are followed within the directory only.
    pub(super) fn read_directory(
        snapshots: &'a Snapshots,
        directory: &Path,
    ) -> Result<Self, LoadError> {
        let failed = |path: &Path| {
            let path = directory.join(path);
            move |source| LoadError::Open { path, source }
        };
        let root = Root::open(directory).map_err(failed(Path::new("")))?;
        let mut archive = Self::empty(snapshots);
        for name in DOCUMENTS {
            match root.open_file(Path::new(name)) {
                Ok(file) => archive.add_document(name, file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(Path::new(name))(error)),
            }
        }
        let blobs = Path::new("blobs/sha256");
        let listed = match fs::read_dir(directory.join(blobs)) {
            Ok(entries) => entries.flatten().collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(blobs)(error)),
        };
        for entry in listed {
            let path = blobs.join(entry.file_name());
            let file = root.open_file(&path).map_err(failed(&path))?;
            let name = path.to_string_lossy().into_owned();
            let size = file.metadata().map_err(LoadError::Read)?.len();
            archive.add_blob(name, size, file)?;
        }
        Ok(archive)
    }

    fn empty(snapshots: &'a Snapshots) -> Self {
        Self {
            store: snapshots.store(),
            limits: *snapshots.limits(),
            entries: BTreeMap::new(),
            stored: Vec::new(),
        }
    }

    /// How much is too much.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a blob of a layout is there.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        let path = format!("blobs/sha256/{}", digest.hex());
        self.entries.contains_key(&path)
    }

    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), LoadError> {
        let written = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let path = normal(&written, "").ok_or_else(|| LoadError::Escapes {
            path: written.clone(),
        })?;
        match kind {
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                let from = if kind == EntryType::Symlink {
                    parent(&path)
                } else {
                    ""
                };
                let target = normal(&target, from).ok_or(LoadError::Escapes { path: written })?;
                self.insert(path, Entry::Link(target))
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let size = entry.size();
                if DOCUMENTS.contains(&path.as_str()) {
                    return self.add_document(&path, &mut entry);
                }
                // What docker wrote beside layers before it had `manifest.json`; nothing names it.
                if path.ends_with("/VERSION") || path.ends_with("/json") {
                    return Ok(());
                }
                self.add_blob(path, size, &mut entry)
            }
            _ => Ok(()),
        }
    }

    fn add_document(&mut self, path: &str, reader: impl Read) -> Result<(), LoadError> {
        let mut bytes = Vec::new();
        let limit = self.limits.manifest;
        reader
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(LoadError::Read)?;
        check_size(path, bytes.len() as u64, limit)?;
        self.insert(path.to_owned(), Entry::Document(bytes))
    }

    fn add_blob(
        &mut self,
        path: String,
        size: u64,
        mut reader: impl Read,
    ) -> Result<(), LoadError> {
        let mut writer = self.store.blob_writer()?;
        fill(&mut writer, &mut reader)?;
        if writer.written() != size {
            return Err(LoadError::Short { path });
        }
        let (digest, size) = writer.commit()?;
        self.stored.push(digest);
        match path.strip_prefix("blobs/sha256/") {
            Some(hex) if hex != digest.hex() => Err(LoadError::WrongDigest {
                path,
                found: digest,
            }),
            _ => self.insert(path, Entry::Blob { digest, size }),
        }
    }

    fn insert(&mut self, path: String, entry: Entry) -> Result<(), LoadError> {
        if self.entries.len() as u64 >= self.limits.members {
            return Err(LoadError::TooMany(self.limits.members));
        }
        match self.entries.insert(path.clone(), entry) {
            Some(_) => Err(LoadError::Twice { path }),
            None => Ok(()),
        }
    }

    /// The document at `path`, if there is one.
    pub(super) fn document(&self, path: &str) -> Option<&[u8]> {
        match self.entries.get(path) {
            Some(Entry::Document(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The blob at `path`, through links, as `wanted_by` names it.
    pub(super) fn blob(&self, path: &str, wanted_by: &str) -> Result<(Digest, u64), LoadError> {
        let missing = || LoadError::Missing {
            path: path.to_owned(),
            wanted_by: wanted_by.to_owned(),
        };
        let mut at = normal(path, "").ok_or_else(|| LoadError::Escapes {
            path: path.to_owned(),
        })?;
        for _ in 0..=MAX_LINKS {
            match self.entries.get(&at) {
                Some(Entry::Blob { digest, size }) => return Ok((*digest, *size)),
                Some(Entry::Link(target)) => at.clone_from(target),
                Some(Entry::Document(_)) | None => return Err(missing()),
            }
        }
        Err(missing())
    }

    /// The bytes of a blob that has at most `limit` of them.
    pub(super) fn small_blob(
        &self,
        path: &str,
        wanted_by: &str,
        limit: u64,
    ) -> Result<(Digest, Vec<u8>), LoadError> {
        let (digest, size) = self.blob(path, wanted_by)?;
        check_size(path, size, limit)?;
        let mut bytes = Vec::new();
        let file: File = self.store.open_blob(&digest)?;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(LoadError::Read)?;
        Ok((digest, bytes))
    }
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.discard_blobs(&self.stored) {
            tracing::debug!(%error, "left to the next collection");
        }
    }
}

/// What is wrong with a tar. Its reader puts what it stumbled over into its words, which may be anything.
fn malformed(error: io::Error) -> LoadError {
    const LONGEST: usize = 200;
    let words = error.to_string();
    let is_plain = words.len() <= LONGEST && !words.chars().any(char::is_control);
    LoadError::Read(match is_plain {
        true => error,
        false => io::Error::new(error.kind(), "it is no tar"),
    })
}

/// Copies all of `reader` into a blob. What fails is told apart: the input, or the store.
pub(super) fn fill(writer: &mut BlobWriter, reader: &mut dyn Read) -> Result<(), LoadError> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => writer.append(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LoadError::Read(error)),
        }
    }
}

fn check_size(path: &str, size: u64, limit: u64) -> Result<(), LoadError> {
    if size > limit {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
            size,
            limit,
        });
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `path` as seen from the directory `from`, without `.` and `..`; `None` if it leaves the archive.
fn normal(path: &str, from: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').filter(|it| !it.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_archive_or_is_none() {
        let table = [
            ("./a/b", "", Some("a/b")),
            ("../x/layer.tar", "y", Some("x/layer.tar")),
            ("a/../b", "", Some("b")),
            ("../x", "", None),
            ("a/../../x", "", None),
            ("/etc/passwd", "", None),
        ];
        for (path, from, expected) in table {
            assert_eq!(normal(path, from).as_deref(), expected, "{path}");
        }
    }
}
