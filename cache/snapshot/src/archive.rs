//! Tar archives as a sequence of members, read strictly.
//!
//! Reading is done by a parser that keeps every PAX record exactly; what it leaves open is decided
//! here: unknown types, content where none can be, numbers out of range and half archives are errors,
//! never skipped.

mod write;

use std::io::{self, Read};

use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, PaxExtensions};

use crate::tree::Xattr;
use crate::walk::read_some;

pub(crate) use write::{Header, Writer};

const MOST_PATH: u32 = 4096;
/// Where the metadata of one member may end: a few xattrs of 64 KiB, or a long sparse map.
const MOST_METADATA: u32 = 1 << 20;
const BUFFER: usize = 256 << 10;

/// Why bytes are not a tar archive that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be had.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends in the middle.
    #[error("the archive ends in the middle of a member")]
    Truncated,
    /// A header is not one.
    #[error("the archive is malformed at byte {at}")]
    Malformed {
        /// Where.
        at: u64,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// A member that could be read in more than one way, or in none.
    #[error("archive member `{path}` {problem}")]
    Member {
        /// Its name.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// One member of an archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// As it is written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// `0o7777` at most.
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// From `SCHILY.xattr.` records.
    pub xattrs: Vec<Xattr>,
}

/// What a member of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its content follows.
    File {
        /// Bytes once written.
        size: u64,
        /// Where the content goes piece by piece (offset, length); everything else is zero. `None`
        /// for a file that is not sparse.
        pieces: Option<Vec<(u64, u64)>>,
    },
    /// A directory.
    Directory,
    /// A symlink and its text.
    Symlink(Vec<u8>),
    /// A further name of an earlier member.
    Link(Vec<u8>),
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Whether bytes look like the beginning of an archive: a header, or the blocks of zeros that an
/// empty one consists of.
pub fn is_archive(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<HEADER_SIZE>() else {
        return false;
    };
    let is_end = block.iter().all(|byte| *byte == 0);
    is_end
        || tar_core::Header::from_bytes(block)
            .verify_checksum()
            .is_ok()
}

/// Reads an archive member by member.
pub struct Archive<R> {
    input: R,
    parser: Parser,
    buffer: Vec<u8>,
    start: usize,
    /// How many bytes of the input were used.
    position: u64,
    /// Of the current member's content.
    left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        let limits = Limits {
            max_metadata_size: MOST_METADATA,
            max_path_len: Some(MOST_PATH),
            ..Limits::default()
        };
        Self {
            input,
            parser: Parser::new(limits),
            buffer: Vec::with_capacity(BUFFER),
            start: 0,
            position: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The next member; what was not read of the content of the last one is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.skip_content()?;
        loop {
            let at = self.position;
            let malformed = |source| ArchiveError::Malformed { at, source };
            match self
                .parser
                .parse(&self.buffer[self.start..])
                .map_err(malformed)?
            {
                ParseEvent::NeedData { min_bytes } => {
                    if !self.fill(min_bytes)? {
                        return self.at_end();
                    }
                }
                ParseEvent::Entry { consumed, entry } => {
                    let member = member(&entry, None)?;
                    let size = entry.size;
                    return Ok(Some(self.begin(member, size, consumed)));
                }
                ParseEvent::SparseEntry {
                    consumed,
                    entry,
                    sparse_map,
                    real_size,
                } => {
                    let pieces = sparse_map.iter().map(|it| (it.offset, it.length)).collect();
                    let member = member(&entry, Some((pieces, real_size)))?;
                    let size = entry.size;
                    return Ok(Some(self.begin(member, size, consumed)));
                }
                // Comments and defaults for everything after; container tools agree to ignore them.
                ParseEvent::GlobalExtensions { consumed, .. } => self.consume(consumed),
                ParseEvent::End { consumed } => {
                    self.consume(consumed);
                    return Ok(None);
                }
            }
        }
    }

    /// Reads of the current member's content; 0 at its end.
    pub fn read_content(&mut self, out: &mut [u8]) -> Result<usize, ArchiveError> {
        let want = out
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let buffered = self.buffer.len() - self.start;
        let length = if buffered > 0 {
            let length = want.min(buffered);
            out[..length].copy_from_slice(&self.buffer[self.start..self.start + length]);
            self.consume(length);
            length
        } else {
            let length =
                read_some(&mut self.input, &mut out[..want]).map_err(ArchiveError::Read)?;
            self.position += length as u64;
            length
        };
        if length == 0 {
            return Err(ArchiveError::Truncated);
        }
        self.left -= length as u64;
        Ok(length)
    }

    /// How many bytes of the archive were used: after [`Archive::next_member`], where its content begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the archive is read from, which may be further than the archive is.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Reads what is behind the end of the archive, for whoever watches all bytes.
    pub fn drain(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; BUFFER];
        while read_some(&mut self.input, &mut buffer).map_err(ArchiveError::Read)? > 0 {}
        Ok(())
    }

    /// Gives back what the archive was read from.
    pub fn into_input(self) -> R {
        self.input
    }

    fn begin(&mut self, member: Member, size: u64, consumed: usize) -> Member {
        self.consume(consumed);
        self.left = size;
        self.padding = size.next_multiple_of(HEADER_SIZE as u64) - size;
        member
    }

    fn skip_content(&mut self) -> Result<(), ArchiveError> {
        let mut sink = [0; 16 << 10];
        while self.left > 0 {
            self.read_content(&mut sink)?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            self.read_content(&mut sink)?;
        }
        Ok(())
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.position += length as u64;
    }

    /// Reads until at least `needed` bytes are there; false where the input ends before.
    fn fill(&mut self, needed: usize) -> Result<bool, ArchiveError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < needed {
            let filled = self.buffer.len();
            self.buffer.resize(needed.max(BUFFER), 0);
            let length =
                read_some(&mut self.input, &mut self.buffer[filled..]).map_err(ArchiveError::Read);
            self.buffer
                .truncate(filled + length.as_ref().copied().unwrap_or(0));
            if length? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The input ended where a header was expected: with the archive, or in the middle of something.
    fn at_end(&self) -> Result<Option<Member>, ArchiveError> {
        if self.buffer[self.start..].iter().all(|byte| *byte == 0) {
            Ok(None)
        } else {
            Err(ArchiveError::Truncated)
        }
    }
}

fn member(
    entry: &ParsedEntry<'_>,
    sparse: Option<(Vec<(u64, u64)>, u64)>,
) -> Result<Member, ArchiveError> {
    let wrong = |problem| ArchiveError::Member {
        path: entry.path_lossy().into_owned(),
        problem,
    };
    if entry.path.contains(&0) || entry.link_target.as_ref().is_some_and(|it| it.contains(&0)) {
        return Err(wrong("has a zero byte in its name"));
    }
    // A name that ends in a slash is a directory's in archives older than POSIX.
    let old_directory = entry.path.ends_with(b"/") && entry.header.as_bytes()[156] == 0;
    let kind = match entry.entry_type {
        EntryType::Regular if old_directory && sparse.is_none() => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => {
            file(entry, sparse).map_err(wrong)?
        }
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink(target(entry).map_err(wrong)?),
        EntryType::Link => MemberKind::Link(target(entry).map_err(wrong)?),
        EntryType::Char => device(entry)
            .map(|(major, minor)| MemberKind::Character(major, minor))
            .map_err(wrong)?,
        EntryType::Block => device(entry)
            .map(|(major, minor)| MemberKind::Block(major, minor))
            .map_err(wrong)?,
        EntryType::Fifo => MemberKind::Fifo,
        _ => return Err(wrong("is of an unknown type")),
    };
    if entry.size > 0 && !matches!(kind, MemberKind::File { .. }) {
        return Err(wrong("has content although it is no file"));
    }
    Ok(Member {
        path: entry.path.to_vec(),
        kind,
        mode: entry.mode & 0o7777,
        uid: owner(entry.uid).ok_or_else(|| wrong("has a uid that no file can have"))?,
        gid: owner(entry.gid).ok_or_else(|| wrong("has a gid that no file can have"))?,
        mtime: (
            i64::try_from(entry.mtime).unwrap_or(i64::MAX),
            fraction(entry),
        ),
        xattrs: xattrs(entry).map_err(wrong)?,
    })
}

fn file(
    entry: &ParsedEntry<'_>,
    sparse: Option<(Vec<(u64, u64)>, u64)>,
) -> Result<MemberKind, &'static str> {
    let Some((pieces, size)) = sparse else {
        return Ok(MemberKind::File {
            size: entry.size,
            pieces: None,
        });
    };
    let mut end = 0_u64;
    let mut total = 0_u64;
    for (offset, length) in &pieces {
        if *offset < end {
            return Err("has a sparse map out of order");
        }
        end = offset
            .checked_add(*length)
            .ok_or("has a sparse map out of range")?;
        total += length;
    }
    if end > size || total != entry.size {
        return Err("has a sparse map that does not fit its size");
    }
    Ok(MemberKind::File {
        size,
        pieces: Some(pieces),
    })
}

fn target(entry: &ParsedEntry<'_>) -> Result<Vec<u8>, &'static str> {
    entry
        .link_target
        .as_ref()
        .map(|it| it.to_vec())
        .ok_or("is a link to nowhere")
}

fn device(entry: &ParsedEntry<'_>) -> Result<(u32, u32), &'static str> {
    match (entry.dev_major.unwrap_or(0), entry.dev_minor.unwrap_or(0)) {
        // The kernel has 12 and 20 bits for them.
        (major, minor) if major >> 12 == 0 && minor >> 20 == 0 => Ok((major, minor)),
        _ => Err("has a device number that no device can have"),
    }
}

/// The largest number means "unchanged" to `chown`.
fn owner(number: u64) -> Option<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number != u32::MAX)
}

/// The nanoseconds of a PAX mtime.
fn fraction(entry: &ParsedEntry<'_>) -> u32 {
    let records = entry
        .pax
        .map(PaxExtensions::new)
        .into_iter()
        .flatten()
        .flatten();
    let Some(mtime) = records.filter(|it| it.key() == Ok("mtime")).last() else {
        return 0;
    };
    let digits = mtime
        .value()
        .unwrap_or_default()
        .split_once('.')
        .map_or("", |(_, digits)| digits);
    let padded = format!("{digits:0<9}");
    padded
        .get(..9)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn xattrs(entry: &ParsedEntry<'_>) -> Result<Vec<Xattr>, &'static str> {
    let mut xattrs = Vec::with_capacity(entry.xattrs.len());
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 64 << 10 {
            return Err("has an extended attribute that no file can have");
        }
        xattrs.push(Xattr {
            name: (**name).into(),
            value: (**value).into(),
        });
    }
    Ok(xattrs)
}
