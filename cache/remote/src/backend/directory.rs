//! A cache in a directory: an OCI layout, the manifest under a name in its index.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci::{Digest, media_type};
use registry::Content;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Backend, BackendError, Kept, MAX_MANIFEST, Put};
use crate::Blob;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Under which the index names a manifest.
const NAME: &str = "org.opencontainers.image.ref.name";

/// A cache in a directory: an OCI layout, the manifest under a name in its index.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    tag: String,
    digest: Option<Digest>,
}

/// `index.json`; what is not known here stays as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u64,
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: u64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    annotations: Map<String, Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Directory {
    /// The cache that `path` has under `tag`; a certain one where a digest is given.
    pub fn new(path: PathBuf, tag: &str, digest: Option<Digest>) -> Self {
        Self {
            path,
            tag: tag.to_owned(),
            digest,
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    fn index_path(&self) -> PathBuf {
        self.path.join("index.json")
    }

    fn index(&self) -> Result<Option<Index>, BackendError> {
        let path = self.index_path();
        let bytes = match read_limited(&path, MAX_MANIFEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(BackendError::file("read", &path))?,
        };
        let index = serde_json::from_slice(&bytes).map_err(|error| BackendError::Layout {
            path: self.path.clone(),
            why: format!("its index cannot be read: {error}"),
        })?;
        Ok(Some(index))
    }

    /// Writes a file that is there whole or not at all.
    fn write(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let blobs = self.path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(BackendError::file("create", &blobs))?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".rbuild-{}-{number}.part", std::process::id());
        let part = Part(self.path.join(name));
        let mut file = File::create_new(&part.0).map_err(BackendError::file("create", &part.0))?;
        fill(&mut file)?;
        fs::rename(&part.0, path).map_err(BackendError::file("create", path))
    }
}

/// A file under way, removed unless it got its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Backend for Directory {
    fn name(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.path.display()),
            None if self.tag == "latest" => self.path.display().to_string(),
            None => format!("{}:{}", self.path.display(), self.tag),
        }
    }

    fn kind(&self) -> &'static str {
        "local"
    }

    fn manifest(&self) -> Result<Option<Kept>, BackendError> {
        let entries = self.index()?.map_or(Vec::new(), |index| index.manifests);
        let named = |entry: &&Entry| match &self.digest {
            Some(digest) => entry.digest == *digest,
            None => entry.annotations.get(NAME).and_then(Value::as_str) == Some(&self.tag),
        };
        let Some(entry) = entries.iter().find(named) else {
            return Ok(None);
        };
        let path = self.blob_path(&entry.digest);
        let bytes = read_limited(&path, MAX_MANIFEST).map_err(BackendError::file("read", &path))?;
        if Digest::of(&bytes) != entry.digest {
            return Err(BackendError::Layout {
                path: self.path.clone(),
                why: format!("manifest {} has other bytes", entry.digest),
            });
        }
        Ok(Some(Kept {
            media_type: entry.media_type.clone(),
            bytes,
        }))
    }

    fn open(&self, blob: &Blob) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let path = self.blob_path(&blob.digest);
        let file = File::open(&path).map_err(BackendError::file("open", &path))?;
        Ok(Box::new(file))
    }

    fn has(&self, blob: &Blob) -> Result<bool, BackendError> {
        let path = self.blob_path(&blob.digest);
        match fs::metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == blob.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BackendError::file("look at", &path)(error)),
        }
    }

    fn put(
        &self,
        blob: &Blob,
        content: &mut dyn Content,
        progress: &dyn Fn(u64),
    ) -> Result<Put, BackendError> {
        if self.has(blob)? {
            return Ok(Put::Existed);
        }
        let path = self.blob_path(&blob.digest);
        self.write(&path, |file| {
            let mut buffer = vec![0; 1 << 18];
            let mut sent = 0;
            loop {
                let length = content
                    .read(&mut buffer)
                    .map_err(|source| BackendError::Content {
                        blob: blob.digest,
                        source,
                    })?;
                if length == 0 {
                    return Ok(());
                }
                file.write_all(&buffer[..length])
                    .map_err(BackendError::file("write", &path))?;
                sent += length as u64;
                progress(sent);
            }
        })?;
        Ok(Put::Sent)
    }

    fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<(), BackendError> {
        let digest = Digest::of(bytes);
        let write = |path: &Path, bytes: &[u8]| {
            self.write(path, |file| {
                file.write_all(bytes)
                    .map_err(BackendError::file("write", path))
            })
        };
        write(&self.blob_path(&digest), bytes)?;
        let mut index = self.index()?.unwrap_or(Index {
            schema_version: 2,
            manifests: Vec::new(),
            others: Map::from_iter([("mediaType".to_owned(), media_type::INDEX.into())]),
        });
        index
            .manifests
            .retain(|entry| entry.annotations.get(NAME).and_then(Value::as_str) != Some(&self.tag));
        index.manifests.push(Entry {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations: Map::from_iter([(NAME.to_owned(), self.tag.as_str().into())]),
            others: Map::new(),
        });
        write(&self.path.join("oci-layout"), LAYOUT.as_bytes())?;
        let index = serde_json::to_vec(&index).expect("an index holds nothing that JSON cannot");
        write(&self.index_path(), &index)
    }
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(bytes)
}
