//! Stores with images, and archives put together by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test program uses its part"
)]

use std::fs;
use std::io::Write;
use std::path::Path;

use export::ImportOptions;
use oci::{Digest, ImageConfig};
use snapshot::Snapshots;
use store::Store;

/// A store that is gone when the test is over.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) snapshots: Snapshots,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self {
            directory,
            snapshots: Snapshots::new(store),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.snapshots.store()
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// How many blobs there are, named or not.
    pub(crate) fn blobs(&self) -> usize {
        fs::read_dir(self.store().root().join("blobs/sha256"))
            .unwrap()
            .count()
    }

    /// An image of two layers, `app:v1` and `app:latest`; the upper layer removes `gone`.
    pub(crate) fn image(&self) -> Digest {
        let options = ImportOptions {
            name: Some("base".parse().unwrap()),
            changes: vec![export::Change::parse("CMD [\"/bin/sh\"]").unwrap()],
            ..ImportOptions::default()
        };
        let base = export::import(&self.snapshots, &rootfs()[..], &options).unwrap();
        let image = self.store().image(&base).unwrap().unwrap();
        let active = self.snapshots.prepare(image.top).unwrap();
        fs::write(active.upper().join("added"), "added\n").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            active.upper().join("gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        let top = active.commit().unwrap();
        let config = fs::read(self.store().blob_path(&base).unwrap()).unwrap();
        let config: ImageConfig = serde_json::from_slice(&config).unwrap();
        let names = ["app:v1".parse().unwrap(), "app:latest".parse().unwrap()];
        export::commit(&self.snapshots, Some(top), config, &names).unwrap()
    }
}

/// A small root file system.
pub(crate) fn rootfs() -> Vec<u8> {
    let big: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(
        &mut header(tar::EntryType::Directory, 0o755, 0),
        "bin/",
        &[][..],
    )
    .unwrap();
    for (path, bytes) in [
        ("bin/sh", &b"#!/no\n"[..]),
        ("gone", b"gone\n"),
        ("big", &big),
    ] {
        tar.append_data(
            &mut header(tar::EntryType::Regular, 0o755, bytes.len()),
            path,
            bytes,
        )
        .unwrap();
    }
    let mut link = header(tar::EntryType::Link, 0o755, 0);
    tar.append_link(&mut link, "bin/ash", "bin/sh").unwrap();
    tar.into_inner().unwrap()
}

pub(crate) fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(1_600_000_000);
    header
}

/// One part of an archive put together by hand.
pub(crate) enum Part {
    File(String, Vec<u8>),
    Link(String, String),
}

pub(crate) fn file(path: &str, bytes: impl Into<Vec<u8>>) -> Part {
    Part::File(path.to_owned(), bytes.into())
}

pub(crate) fn blob(bytes: &[u8]) -> Part {
    file(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes)
}

/// A tar whose paths are written as they are, however bad.
pub(crate) fn archive(parts: &[Part]) -> Vec<u8> {
    let mut tar = Vec::new();
    for part in parts {
        let (path, kind, bytes, target) = match part {
            Part::File(path, bytes) => (path, tar::EntryType::Regular, &bytes[..], ""),
            Part::Link(path, target) => (path, tar::EntryType::Symlink, &[][..], target.as_str()),
        };
        let mut header = header(kind, 0o644, bytes.len());
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.write_all(header.as_bytes()).unwrap();
        tar.write_all(bytes).unwrap();
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A layer tar of one file.
pub(crate) fn layer(path: &str, text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = header(tar::EntryType::Regular, 0o644, text.len());
    tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

/// A config that promises the layers `diff_ids`.
pub(crate) fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let mut config = ImageConfig::empty(&oci::Platform::host());
    config.rootfs.diff_ids = diff_ids.to_vec();
    config.to_json()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// Every file below `directory`, by path.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        found.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    found.sort();
    found
}
