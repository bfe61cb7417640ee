//! One header: what rpm knows of a package.
//!
//! Two counts, an index of tags, and a store of values; numbers are big-endian.

use super::super::{Package, PackageKind};

/// What there is in an index.
const ENTRY: usize = 16;
/// No more tags than rpm itself takes.
const MOST_ENTRIES: usize = 0xffff;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const PACKAGER: u32 = 1015;
const ARCHITECTURE: u32 = 1022;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRINGS: u32 = 8;
const TRANSLATED: u32 = 9;

/// A header, as far as it is read.
struct Header<'a> {
    index: &'a [[u8; ENTRY]],
    store: &'a [u8],
}

/// The package that a header is about; `None` if it is none, or about something else.
pub(super) fn package(bytes: &[u8]) -> Option<Package> {
    let header = Header::of(bytes)?;
    let name = header.text(NAME)?;
    // A key that rpm trusts is kept as a package.
    if name == "gpg-pubkey" {
        return None;
    }
    let (version, release) = (header.text(VERSION)?, header.text(RELEASE)?);
    let version = match header.number(EPOCH) {
        Some(epoch) => format!("{epoch}:{version}-{release}"),
        None => format!("{version}-{release}"),
    };
    let supplier = header.text(VENDOR).or_else(|| header.text(PACKAGER));
    Some(Package {
        architecture: header.text(ARCHITECTURE).unwrap_or_default(),
        license: header.text(LICENSE).unwrap_or_default(),
        supplier: supplier.unwrap_or_default(),
        ..Package::new(PackageKind::Rpm, &name, &version)
    })
}

impl<'a> Header<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let entries = number(bytes, 0)? as usize;
        let length = number(bytes, 4)? as usize;
        if entries > MOST_ENTRIES {
            return None;
        }
        let rest = bytes.get(8..)?;
        let (index, store) = rest.split_at_checked(entries * ENTRY)?;
        Some(Self {
            index: index.as_chunks().0,
            store: store.get(..length)?,
        })
    }

    /// Type and place of a tag's value.
    fn find(&self, tag: u32) -> Option<(u32, usize)> {
        let entry = self
            .index
            .iter()
            .find(|it| number(&it[..], 0) == Some(tag))?;
        Some((number(entry, 4)?, number(entry, 8)? as usize))
    }

    /// A text, or the first of several.
    fn text(&self, tag: u32) -> Option<String> {
        let (kind, at) = self.find(tag)?;
        if !matches!(kind, STRING | STRINGS | TRANSLATED) {
            return None;
        }
        let bytes = self.store.get(at..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        (!text.is_empty()).then_some(text)
    }

    fn number(&self, tag: u32) -> Option<u32> {
        match self.find(tag)? {
            (INT32, at) => number(self.store, at),
            _ => None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
