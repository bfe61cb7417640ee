//! A manifest as bytes.

use oci::Key;

use super::{Entry, Kind, Tree, Xattr};

const MAGIC: &[u8; 8] = b"rbtree01";

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// They do not begin like one.
    #[error("not a tree manifest")]
    Foreign,
    /// They end too early, or hold what no manifest holds.
    #[error("the tree manifest is damaged at byte {0}")]
    Damaged(usize),
}

impl Tree {
    /// The manifest as bytes, the same for equal manifests.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.entries.len() * 96);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            encode_entry(entry, &mut out);
        }
        out
    }

    /// Reads what [`Tree::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(TreeError::Foreign)?;
        let mut reader = Reader { bytes: rest, at: 0 };
        let count = reader.u64()?;
        let mut entries =
            Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(bytes.len() / 32));
        for _ in 0..count {
            entries.push(reader.entry()?);
        }
        Ok(Self { entries })
    }
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    put(out, &entry.path);
    encode_kind(&entry.kind, out);
    for number in [entry.mode, entry.uid, entry.gid, entry.mtime.1] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.mtime.0.to_le_bytes());
    out.extend_from_slice(&(entry.xattrs.len() as u32).to_le_bytes());
    for xattr in &entry.xattrs {
        put(out, &xattr.name);
        put(out, &xattr.value);
    }
}

fn encode_kind(kind: &Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::File {
            size,
            content,
            link,
        } => {
            out.push(b'f');
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(content.as_bytes());
            out.extend_from_slice(&link.to_le_bytes());
        }
        Kind::Directory { opaque } => out.push(if *opaque { b'o' } else { b'd' }),
        Kind::Symlink(target) => {
            out.push(b'l');
            put(out, target);
        }
        Kind::Character(major, minor) => encode_device(b'c', *major, *minor, out),
        Kind::Block(major, minor) => encode_device(b'b', *major, *minor, out),
        Kind::Fifo => out.push(b'p'),
        Kind::Socket => out.push(b's'),
        Kind::Whiteout => out.push(b'w'),
    }
}

fn encode_device(letter: u8, major: u32, minor: u32, out: &mut Vec<u8>) {
    out.push(letter);
    out.extend_from_slice(&major.to_le_bytes());
    out.extend_from_slice(&minor.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TreeError> {
        let end = self
            .at
            .checked_add(length)
            .ok_or(TreeError::Damaged(self.at))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or(TreeError::Damaged(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TreeError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| TreeError::Damaged(at))
    }

    fn u32(&mut self) -> Result<u32, TreeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, TreeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<Box<[u8]>, TreeError> {
        let length = self.u32()? as usize;
        Ok(self.take(length)?.into())
    }

    fn kind(&mut self) -> Result<Kind, TreeError> {
        let at = self.at;
        Ok(match self.array::<1>()?[0] {
            b'f' => {
                let (size, content) = (self.u64()?, Key::from_bytes(self.array()?));
                Kind::File {
                    size,
                    content,
                    link: self.u32()?,
                }
            }
            b'd' => Kind::Directory { opaque: false },
            b'o' => Kind::Directory { opaque: true },
            b'l' => Kind::Symlink(self.text()?),
            b'c' => Kind::Character(self.u32()?, self.u32()?),
            b'b' => Kind::Block(self.u32()?, self.u32()?),
            b'p' => Kind::Fifo,
            b's' => Kind::Socket,
            b'w' => Kind::Whiteout,
            _ => return Err(TreeError::Damaged(at)),
        })
    }

    fn entry(&mut self) -> Result<Entry, TreeError> {
        let path = self.text()?;
        let kind = self.kind()?;
        let (mode, uid, gid, nanoseconds) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let mtime = (i64::from_le_bytes(self.array()?), nanoseconds);
        let mut xattrs = Vec::new();
        for _ in 0..self.u32()? {
            xattrs.push(Xattr {
                name: self.text()?,
                value: self.text()?,
            });
        }
        Ok(Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            (any::<u64>(), any::<[u8; 32]>(), any::<u32>()).prop_map(|(size, content, link)| {
                Kind::File {
                    size,
                    content: Key::from_bytes(content),
                    link,
                }
            }),
            any::<bool>().prop_map(|opaque| Kind::Directory { opaque }),
            any::<Vec<u8>>().prop_map(|target| Kind::Symlink(target.into())),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::Character(major, minor)),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::Block(major, minor)),
            Just(Kind::Fifo),
            Just(Kind::Socket),
            Just(Kind::Whiteout),
        ]
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let xattr = any::<(Vec<u8>, Vec<u8>)>().prop_map(|(name, value)| Xattr {
            name: name.into(),
            value: value.into(),
        });
        let xattrs = prop::collection::vec(xattr, 0..3);
        (
            any::<Vec<u8>>(),
            kinds(),
            any::<(u32, u32, u32)>(),
            any::<(i64, u32)>(),
            xattrs,
        )
            .prop_map(|(path, kind, (mode, uid, gid), mtime, xattrs)| Entry {
                path: path.into(),
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            })
    }

    proptest! {
        #[test]
        fn a_manifest_survives_its_bytes(entries in prop::collection::vec(entries(), 0..8)) {
            let tree = Tree::new(entries);
            prop_assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
        }

        #[test]
        fn no_bytes_make_the_reader_fall(bytes: Vec<u8>) {
            let _ = Tree::decode(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
