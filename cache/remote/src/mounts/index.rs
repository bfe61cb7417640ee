//! The index of a cache mount.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};

use export::{Packer, decoder};
use oci::Key;
use oci::media_type::Compression;
use serde::{Deserialize, Serialize};
use snapshot::{Kind, Tree};

use super::{MountError, fetch};
use crate::{Backend, Blob};

/// The largest index that is read, packed and unpacked.
const MAX_PACKED: u64 = 256 << 20;
const MAX_INDEX: u64 = 1 << 30;

/// The files of a cache mount and what they are made of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Index {
    /// The files.
    pub(super) tree: Tree,
    /// The packs.
    pub(super) packs: Vec<Pack>,
    /// By the content key of a file that is more than one piece: its pieces.
    pub(super) files: BTreeMap<Key, Vec<Place>>,
}

/// A blob of pieces one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pack {
    #[serde(flatten)]
    pub(super) blob: Blob,
    /// The content key and length of each.
    pub(super) pieces: Vec<(Key, u32)>,
}

/// A piece: which pack, and the how manieth in it.
pub(super) type Place = (u32, u32);

/// All but the files, as it is written.
#[derive(Serialize, Deserialize)]
struct Document {
    packs: Vec<Pack>,
    files: BTreeMap<Key, Vec<Place>>,
}

impl Index {
    /// The index as it travels: the length of a JSON document, the document, the tree; packed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let document = Document {
            packs: self.packs.clone(),
            files: self.files.clone(),
        };
        let json = serde_json::to_vec(&document).expect("it holds nothing that JSON cannot");
        let mut packer = Packer::new(Vec::new(), Compression::Zstd, None)
            .expect("a packer into memory can be made");
        let length = (json.len() as u64).to_le_bytes();
        for part in [&length[..], &json, &self.tree.encode()] {
            packer.write_all(part).expect("memory takes all bytes");
        }
        packer.finish().expect("memory takes all bytes")
    }

    /// Reads the index that a backend has.
    pub(super) fn read(backend: &dyn Backend, blob: &Blob) -> Result<Self, MountError> {
        let packed = fetch(backend, blob, MAX_PACKED)?;
        Self::decode(&packed).map_err(|why| MountError::Malformed {
            blob: blob.digest,
            why,
        })
    }

    fn decode(packed: &[u8]) -> Result<Self, String> {
        let (_, reader) = decoder(packed).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let read = reader.take(MAX_INDEX).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        let (length, rest) = bytes.split_first_chunk().ok_or("it is too short")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (json, tree) = rest.split_at_checked(length).ok_or("it is too short")?;
        let document: Document = serde_json::from_slice(json).map_err(|it| it.to_string())?;
        let index = Self {
            tree: Tree::decode(tree).map_err(|error| error.to_string())?,
            packs: document.packs,
            files: document.files,
        };
        index.check()?;
        Ok(index)
    }

    /// Every file must come out of the pieces in its full length.
    fn check(&self) -> Result<(), String> {
        let places = self.places();
        for entry in self.tree.entries() {
            let Kind::File { size, content, .. } = &entry.kind else {
                continue;
            };
            let pieces = self.pieces(content, *size, &places);
            let length = |place: &Place| self.piece(*place).map(|(_, length)| u64::from(*length));
            let lengths: Option<Vec<u64>> = pieces.and_then(|it| it.iter().map(length).collect());
            if lengths.map(|it| it.iter().sum::<u64>()) != Some(*size) {
                let path = entry.path().display();
                return Err(format!("`{path}` has not the pieces that it is made of"));
            }
        }
        Ok(())
    }

    /// Where each piece is.
    pub(super) fn places(&self) -> HashMap<Key, Place> {
        let mut places = HashMap::new();
        for (pack, it) in (0..).zip(&self.packs) {
            for (at, (key, _)) in (0..).zip(&it.pieces) {
                places.entry(*key).or_insert((pack, at));
            }
        }
        places
    }

    /// The pieces of a file, if they are known.
    pub(super) fn pieces(
        &self,
        content: &Key,
        size: u64,
        places: &HashMap<Key, Place>,
    ) -> Option<Vec<Place>> {
        if size == 0 {
            return Some(Vec::new());
        }
        match self.files.get(content) {
            Some(pieces) => Some(pieces.clone()),
            None => places.get(content).map(|place| vec![*place]),
        }
    }

    pub(super) fn piece(&self, (pack, at): Place) -> Option<&(Key, u32)> {
        self.packs.get(pack as usize)?.pieces.get(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use oci::Digest;
    use snapshot::{Entry, content_key};

    use super::*;

    fn file(path: &str, content: &[u8]) -> Entry {
        Entry {
            path: path.as_bytes().into(),
            kind: Kind::File {
                size: content.len() as u64,
                content: content_key(content),
                link: 0,
            },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (1, 2),
            xattrs: Vec::new(),
        }
    }

    fn sample() -> Index {
        Index {
            tree: Tree::new(vec![
                file("a", b"one"),
                file("b", b"onetwo"),
                file("c", b""),
            ]),
            packs: vec![Pack {
                blob: Blob {
                    digest: Digest::of(b"pack"),
                    size: 4,
                },
                pieces: vec![(content_key(b"one"), 3), (content_key(b"two"), 3)],
            }],
            files: BTreeMap::from([(content_key(b"onetwo"), vec![(0, 0), (0, 1)])]),
        }
    }

    #[test]
    fn an_index_survives_its_bytes() {
        let index = sample();
        assert_eq!(Index::decode(&index.encode()).unwrap(), index);
    }

    #[test]
    fn a_file_that_its_pieces_do_not_make_is_refused() {
        let mut without = sample();
        without.files.clear();
        let mut beyond = sample();
        beyond
            .files
            .insert(content_key(b"onetwo"), vec![(0, 0), (7, 1)]);
        let mut short = sample();
        short.packs[0].pieces[0].1 = 2;
        for index in [without, beyond, short] {
            let refused = Index::decode(&index.encode()).unwrap_err();
            assert!(refused.contains("pieces"), "{refused}");
        }
    }

    #[test]
    fn bytes_that_are_no_index_are_refused() {
        for bytes in [&b""[..], b"x", &[255; 40], &8_u64.to_le_bytes()] {
            assert!(Index::decode(bytes).is_err());
        }
    }
}
