//! A tar of a context, from whoever sent it, as a snapshot.

use std::io::{self, Read};
use std::path::Path;

use export::Packing;
use jiff::Timestamp;
use llb::{Key, KeyHasher};
use oci::Digest;
use snapshot::{Archive, Rules, Unpack, UnpackError, UnpackLimits};
use store::Record;

use super::{Kept, known};
use crate::{Engine, ReadError, Request};

/// Bytes that say whether something is a tar.
pub(super) const START: usize = 512;
/// Whose files are in a context, whatever the tar says (G65).
const OWNER: (u32, u32) = (0, 0);

/// Whether what begins with `start` is a tar, packed or not, rather than a text. Something packed
/// is none, so it is taken for a tar at once, as docker does.
pub(super) fn is_archive(start: &[u8]) -> bool {
    Packing::of(start) != Packing::None || snapshot::is_archive(start)
}

/// A tar in the store.
pub(super) struct Tar<'a> {
    /// Its bytes, packed or not.
    pub(super) blob: Digest,
    /// Where it came from, for people.
    pub(super) from: &'a str,
    /// What the errand is called in which it came.
    pub(super) errand: &'a str,
}

impl Tar<'_> {
    /// What it is found by.
    pub(super) fn key(&self) -> Key {
        KeyHasher::new("context tar")
            .bytes(self.blob.as_bytes())
            .finish()
    }

    /// Unpacks it, unless that was done before.
    pub(super) fn unpack(&self, engine: &Engine, request: &Request) -> Result<Kept, ReadError> {
        let key = self.key();
        if let Some(known) = known(engine, &key)? {
            return Ok(known);
        }
        let (started, begun) = (Timestamp::now(), std::time::Instant::now());
        let id = self.write(engine, request)?;
        engine.store.record(&Record {
            key,
            kind: "content".to_owned(),
            preimage: serde_json::json!({ "context": self.blob.to_string() }),
            outputs: vec![Some(id)],
            name: self.errand.to_owned(),
            started,
            duration: begun.elapsed(),
            project: request.project(),
            made: None,
            spent: None,
        })?;
        Ok(Kept { id, lease: None })
    }

    fn write(&self, engine: &Engine, request: &Request) -> Result<store::SnapshotId, ReadError> {
        let read = |source| ReadError::Archive {
            from: self.from.to_owned(),
            source: Box::new(UnpackError::from(snapshot::ArchiveError::Read(source))),
        };
        let packed = engine.store.open_blob(&self.blob)?;
        let size = packed.metadata().map_err(read)?.len();
        let (_, mut tar) = export::decoder(packed).map_err(read)?;
        // What is packed and no tar is told apart from a tar that is damaged.
        let mut start = Vec::with_capacity(START);
        let began = tar.by_ref().take(START as u64).read_to_end(&mut start);
        began.map_err(read)?;
        if !snapshot::is_archive(&start) {
            return Err(ReadError::NoArchive {
                from: self.from.to_owned(),
            });
        }
        let tar = request.cancel.read(io::Cursor::new(start).chain(tar));
        let active = engine.snapshots.prepare(None)?;
        let layer = active.layer()?;
        let how = Unpack {
            into: Path::new(""),
            rules: Rules::Archive,
            owner: Some(OWNER),
            limits: limits(size),
        };
        let done = snapshot::unpack(&mut Archive::new(tar), &layer, &how);
        done.map_err(|source| ReadError::Archive {
            from: self.from.to_owned(),
            source: Box::new(source),
        })?;
        drop(layer);
        Ok(active.commit()?)
    }
}

/// How much a tar of `size` bytes may hold. No honest one is packed a hundred times smaller than its
/// files as soon as there are gigabytes of them, nor has a member for every few bytes.
fn limits(size: u64) -> UnpackLimits {
    const RATIO: u64 = 100;
    const BYTES_A_MEMBER: u64 = 8;
    let usual = UnpackLimits::default();
    UnpackLimits {
        bytes: (size.saturating_mul(RATIO)).clamp(4 << 30, usual.bytes),
        members: (size / BYTES_A_MEMBER).clamp(1_000_000, usual.members),
        devices: 0,
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_or_has_a_header_is_a_tar_and_all_else_a_text() {
        let mut tar = Vec::new();
        kit::busybox::write_rootfs(&mut tar).expect("a tar");
        assert!(is_archive(&tar[..START]));
        assert!(is_archive(&[0; START]));
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]));
        assert!(!is_archive(&[0; 100]));
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(!is_archive(&[b'#'; START]));
        assert!(!is_archive(b""));
    }

    #[test]
    fn a_tar_may_hold_as_much_as_an_honest_one_could() {
        assert_eq!(limits(100).bytes, 4 << 30);
        assert_eq!(limits(1 << 30).bytes, 100 << 30);
        assert_eq!(limits(u64::MAX).bytes, UnpackLimits::default().bytes);
        assert_eq!(limits(100).members, 1_000_000);
        assert_eq!(limits(80_000_000).members, 10_000_000);
    }
}
