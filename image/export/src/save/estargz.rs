//! eStargz: layers packed with gzip of which a reader can fetch single files.
//!
//! The content of each file is a gzip member of its own, or several if it is long. A *table* behind all
//! files says where each begins and what its digest is, and a *footer* of fixed length where the table is.
//! Whoever knows nothing of that reads an ordinary layer. The table is a file of the layer, though, and so
//! is the *landmark* that says that nothing is to be fetched ahead: the layer has a diff id of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use libdeflater::{CompressionLvl, Compressor};
use oci::{Digest, Sha256};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use snapshot::{Archive, ArchiveError, Member, MemberKind};

use crate::compress::{gzip_level, pack_member};

/// The annotation of a layer that has the digest of its table.
pub(crate) const TABLE_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The annotation of a layer that says how long its tar is, which podman's store wants to know.
pub(crate) const UNPACKED_SIZE: &str = "io.containers.estargz.uncompressed-size";

const TABLE: &str = "stargz.index.json";
const NO_PREFETCH: &str = ".no.prefetch.landmark";
const PREFETCH: &str = ".prefetch.landmark";
const LANDMARK: u8 = 0x0f;

/// The most of a file that is one gzip member.
const CHUNK: u64 = 4 << 20;
const BLOCK: u64 = 512;
const FOOTER: usize = 51;
/// The longest table that is read.
const MOST_TABLE: u64 = 256 << 20;

/// Why a layer could not be made one with a table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The layer's tar is none.
    #[error("cannot read the layer's tar")]
    Read(#[from] ArchiveError),
    /// A member that a table cannot describe.
    #[error("`{0}` is a sparse file, of which a table of contents cannot say where its parts are")]
    Sparse(String),
    /// Nobody takes the bytes.
    #[error("cannot write the layer")]
    Write(#[from] io::Error),
}

/// A layer that was written with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The digest of its tar, which is another than before.
    pub(crate) diff_id: Digest,
    /// The digest of its table.
    pub(crate) table: Digest,
    /// How long its tar is.
    pub(crate) unpacked: u64,
}

/// Writes an uncompressed layer tar as a layer with a table. The same tar and level give the same bytes.
pub(crate) fn write(
    tar: impl Read,
    out: &mut dyn Write,
    level: Option<i32>,
) -> Result<Listed, ListError> {
    let mut writer = Writer {
        out,
        level: gzip_level(level)?,
        position: 0,
        entries: Vec::new(),
        current: Part::default(),
        pending: Vec::new(),
        batch: rayon::current_num_threads() * CHUNK as usize,
        hash: Sha256::default(),
        unpacked: 0,
    };
    let mut archive = Archive::new(Window::of(tar));
    // Up to where the tar was taken over, and where the last member ended.
    let (mut taken, mut end) = (0, 0);
    while let Some(member) = archive.next_member()? {
        let content = archive.position();
        let size = size(&member)?;
        if is_table(&member) {
            // One of another making, which is about other members.
            writer.add(archive.input().take(taken, end));
            end = content + size.next_multiple_of(BLOCK);
            taken = end;
            continue;
        }
        writer.add(archive.input().take(taken, content));
        writer.begin(&member)?;
        writer.content(&mut archive, content, size)?;
        taken = content + size;
        end = content + size.next_multiple_of(BLOCK);
    }
    writer.add(archive.input().take(taken, end));
    // Whoever made the tar waits until all of it was read.
    archive.drain()?;
    writer.finish()
}

/// The digest of the table at the end of a layer's blob; `None` where it has none.
pub(crate) fn table_of(blob: &mut File) -> io::Result<Option<Digest>> {
    #[derive(Deserialize)]
    struct Table {
        version: u32,
    }
    let length = blob.metadata()?.len();
    let Some(at_footer) = length.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    let mut end = [0; FOOTER];
    blob.seek(SeekFrom::Start(at_footer))?;
    blob.read_exact(&mut end)?;
    let offset = std::str::from_utf8(&end[16..32]).ok();
    let offset = offset.and_then(|it| u64::from_str_radix(it, 16).ok());
    let Some(offset) = offset.filter(|it| footer(*it) == end && *it < at_footer) else {
        return Ok(None);
    };
    blob.seek(SeekFrom::Start(offset))?;
    let packed = io::BufReader::new(blob.take(at_footer - offset));
    let mut archive = Archive::new(flate2::bufread::GzDecoder::new(packed).take(MOST_TABLE));
    let Ok(Some(member)) = archive.next_member() else {
        return Ok(None);
    };
    let mut table =
        vec![0; usize::try_from(size(&member).unwrap_or(0).min(MOST_TABLE)).unwrap_or(0)];
    let mut read = 0;
    while read < table.len() {
        match archive.read_content(&mut table[read..]) {
            Ok(length) if length > 0 => read += length,
            _ => return Ok(None),
        }
    }
    let is_one = serde_json::from_slice::<Table>(&table).is_ok_and(|it| it.version == 1);
    Ok((is_table(&member) && is_one).then(|| Digest::of(&table)))
}

fn size(member: &Member) -> Result<u64, ListError> {
    match &member.kind {
        MemberKind::File {
            pieces: Some(_), ..
        } => Err(ListError::Sparse(text(&member.path))),
        MemberKind::File { size, .. } => Ok(*size),
        _ => Ok(0),
    }
}

fn is_table(member: &Member) -> bool {
    name(member) == TABLE.as_bytes()
}

/// A member's path without what stands for the root.
fn name(member: &Member) -> &[u8] {
    let path = &member.path[..];
    path.strip_prefix(b"./").unwrap_or(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A member of the tar, or a further part of a file.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_name: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_minor: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde gives what it asks about by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    fn of(member: &Member) -> Result<Self, ListError> {
        let (kind, link, device) = match &member.kind {
            MemberKind::File { .. } => ("reg", None, None),
            MemberKind::Directory => ("dir", None, None),
            MemberKind::Symlink(target) => ("symlink", Some(target), None),
            MemberKind::Link(target) => ("hardlink", Some(target), None),
            MemberKind::Character(major, minor) => ("char", None, Some((*major, *minor))),
            MemberKind::Block(major, minor) => ("block", None, Some((*major, *minor))),
            MemberKind::Fifo => ("fifo", None, None),
        };
        let xattrs = member.xattrs.iter();
        let time = Timestamp::from_second(member.mtime.0).ok();
        Ok(Self {
            name: text(&member.path),
            kind,
            size: size(member)?,
            modtime: time
                .filter(|it| it.as_second() != 0)
                .map(|it| it.to_string()),
            link_name: link.map(|it| text(it)),
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            dev_major: device.map(|(major, _)| major),
            dev_minor: device.map(|(_, minor)| minor),
            xattrs: xattrs
                .map(|it| (text(&it.name), BASE64.encode(&it.value)))
                .collect(),
            ..Self::default()
        })
    }
}

/// Bytes of the tar that become one gzip member. The content of a file, if there is any, comes first.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    content: Option<Content>,
}

/// Whose content a part has.
#[derive(Clone, Copy)]
struct Content {
    entry: usize,
    length: usize,
    /// Whether it is all of the file.
    whole: bool,
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    level: CompressionLvl,
    /// How much was written.
    position: u64,
    entries: Vec<Entry>,
    current: Part,
    /// Parts that wait until there is work for all processors.
    pending: Vec<Part>,
    batch: usize,
    hash: Sha256,
    unpacked: u64,
}

impl Writer<'_> {
    /// Adds bytes of the tar.
    fn add(&mut self, bytes: &[u8]) {
        self.current.bytes.extend_from_slice(bytes);
    }

    /// Adds a member whose header was added.
    fn begin(&mut self, member: &Member) -> Result<(), ListError> {
        self.entries.push(Entry::of(member)?);
        if self.current.bytes.len() as u64 >= CHUNK {
            self.cut()?;
        }
        Ok(())
    }

    /// Adds the content of the last member, which stands at a place in the archive.
    fn content<R: Read>(
        &mut self,
        archive: &mut Archive<Window<R>>,
        start: u64,
        size: u64,
    ) -> Result<(), ListError> {
        let file = self.entries.len().saturating_sub(1);
        let whole = size <= CHUNK;
        let mut hash = Sha256::default();
        let mut at = 0;
        while at < size {
            let length = CHUNK.min(size - at);
            let is_last = at + length == size;
            self.cut()?;
            read(archive, length)?;
            let bytes = archive.input().take(start + at, start + at + length);
            if !whole {
                hash.update(bytes);
            }
            if at > 0 {
                self.entries.push(Entry {
                    name: self.entries[file].name.clone(),
                    kind: "chunk",
                    chunk_offset: at,
                    ..Entry::default()
                });
            }
            let entry = self.entries.len() - 1;
            self.entries[entry].chunk_size = if is_last { 0 } else { length };
            self.current.bytes.extend_from_slice(bytes);
            self.current.content = Some(Content {
                entry,
                length: bytes.len(),
                whole,
            });
            at += length;
        }
        if !whole {
            self.entries[file].digest = Some(hash.finish());
        }
        Ok(())
    }

    /// Ends a gzip member.
    fn cut(&mut self) -> io::Result<()> {
        if self.current.bytes.is_empty() {
            return Ok(());
        }
        self.pending.push(std::mem::take(&mut self.current));
        match self.pending.iter().map(|it| it.bytes.len()).sum::<usize>() >= self.batch {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Packs what waits, on all processors, and writes it.
    fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let level = self.level;
        let pack = |compressor: &mut Compressor, part: &Part| {
            let content = part.content.map(|it| Digest::of(&part.bytes[..it.length]));
            pack_member(compressor, &part.bytes).map(|packed| (packed, content))
        };
        let (packed, ()) = rayon::join(
            || -> Vec<io::Result<(Vec<u8>, Option<Digest>)>> {
                let parts = pending.par_iter();
                parts.map_init(|| Compressor::new(level), pack).collect()
            },
            || pending.iter().for_each(|it| self.hash.update(&it.bytes)),
        );
        for (part, packed) in pending.iter().zip(packed) {
            let (packed, digest) = packed?;
            if let Some(content) = part.content {
                let entry = &mut self.entries[content.entry];
                entry.offset = self.position;
                entry.chunk_digest = digest;
                if content.whole {
                    entry.digest = digest;
                }
            }
            self.unpacked += part.bytes.len() as u64;
            self.position += packed.len() as u64;
            self.out.write_all(&packed)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Listed, ListError> {
        let has_landmark = self.entries.iter().any(|it| {
            let name = it.name.strip_prefix("./").unwrap_or(&it.name);
            matches!(name, NO_PREFETCH | PREFETCH)
        });
        if !has_landmark {
            self.add_landmark()?;
        }
        self.cut()?;
        self.flush()?;
        let table = serde_json::to_vec(&Table {
            version: 1,
            entries: &self.entries,
        });
        let table = table.expect("a table holds nothing that JSON cannot");
        let at_table = self.position;
        self.add(header(TABLE, table.len() as u64)?.as_bytes());
        self.add(&table);
        let padding = (table.len() as u64).next_multiple_of(BLOCK) - table.len() as u64;
        // A tar ends in two blocks of zeros.
        self.add(&vec![0; (padding + 2 * BLOCK) as usize]);
        self.cut()?;
        self.flush()?;
        self.out.write_all(&footer(at_table))?;
        Ok(Listed {
            diff_id: self.hash.finish(),
            table: Digest::of(&table),
            unpacked: self.unpacked,
        })
    }

    fn add_landmark(&mut self) -> io::Result<()> {
        self.add(header(NO_PREFETCH, 1)?.as_bytes());
        self.entries.push(Entry {
            name: NO_PREFETCH.to_owned(),
            kind: "reg",
            size: 1,
            mode: 0o644,
            ..Entry::default()
        });
        self.cut()?;
        let mut block = [0; BLOCK as usize];
        block[0] = LANDMARK;
        self.add(&block);
        self.current.content = Some(Content {
            entry: self.entries.len() - 1,
            length: 1,
            whole: true,
        });
        Ok(())
    }
}

#[derive(Serialize)]
struct Table<'a> {
    version: u32,
    entries: &'a [Entry],
}

/// A file of root's and of 1970.
fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// An empty gzip member that says in its extra field where the table is.
fn footer(at_table: u64) -> [u8; FOOTER] {
    let mut footer = [0; FOOTER];
    // Of no time and no system, with one extra field of 26 bytes.
    footer[..12].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0]);
    footer[12..16].copy_from_slice(&[b'S', b'G', 22, 0]);
    footer[16..38].copy_from_slice(format!("{at_table:016x}STARGZ").as_bytes());
    // The last block, stored, of no bytes; checksum and length are zero.
    footer[38..43].copy_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer
}

fn read<R: Read>(archive: &mut Archive<R>, mut length: u64) -> Result<(), ArchiveError> {
    let mut sink = vec![0; length.min(128 << 10) as usize];
    while length > 0 {
        let wanted = length.min(sink.len() as u64) as usize;
        match archive.read_content(&mut sink[..wanted])? {
            0 => return Err(ArchiveError::Truncated),
            read => length -= read as u64,
        }
    }
    Ok(())
}

/// Keeps what is read until it was looked at.
struct Window<R> {
    input: R,
    bytes: Vec<u8>,
    /// Where in the input `bytes` begin.
    start: u64,
}

impl<R> Window<R> {
    fn of(input: R) -> Self {
        Self {
            input,
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// The bytes from one place to another; those before are not asked for again.
    fn take(&mut self, from: u64, to: u64) -> &[u8] {
        let used = (from - self.start) as usize;
        // Seldom, since what is behind has to move.
        if used > CHUNK as usize {
            self.bytes.drain(..used);
            self.start = from;
        }
        let from = (from - self.start) as usize;
        &self.bytes[from..(to - self.start) as usize]
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        self.bytes.extend_from_slice(&out[..length]);
        Ok(length)
    }
}
