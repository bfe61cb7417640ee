//! Writes tar archives of which every byte is determined by what is in them.

use std::io::{self, Write};

use crate::tree::{Entry, Kind, Xattr};

const BLOCK: usize = 512;
/// What fits in eleven octal digits: sizes below 8 GiB, times up to the year 2242.
const MOST_OCTAL_11: u64 = (1 << 33) - 1;
/// What fits in seven octal digits.
const MOST_OCTAL_7: u64 = (1 << 21) - 1;

/// What stands in a header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Header<'a> {
    pub(crate) path: &'a [u8],
    /// The letter of the type.
    pub(crate) letter: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Whole seconds; before 1970 counts as 1970.
    pub(crate) mtime: i64,
    pub(crate) target: &'a [u8],
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [Xattr],
}

impl<'a> Header<'a> {
    /// The header of what `entry` is, under another path perhaps. Files and directories have yet to get
    /// their letter and size; `xattrs` are those that [travel](Entry::travelling).
    pub(crate) fn of(entry: &'a Entry, path: &'a [u8], xattrs: &'a [Xattr]) -> Self {
        let (letter, target, device): (u8, &[u8], _) = match &entry.kind {
            Kind::Symlink(target) => (b'2', target, (0, 0)),
            Kind::Character(major, minor) => (b'3', b"", (*major, *minor)),
            Kind::Block(major, minor) => (b'4', b"", (*major, *minor)),
            Kind::Fifo => (b'6', b"", (0, 0)),
            Kind::File { .. } | Kind::Directory { .. } | Kind::Socket | Kind::Whiteout => {
                (0, b"", (0, 0))
            }
        };
        Self {
            path,
            letter,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            mtime: entry.mtime.0,
            target,
            device,
            xattrs,
        }
    }
}

/// Writes members one after the other: ustar headers, with PAX records where a field does not fit.
pub(crate) struct Writer<W> {
    out: W,
    /// Content still to come for the last header, and the zeros behind it.
    padding: usize,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, padding: 0 }
    }

    /// Writes a header; `header.size` bytes of content must follow.
    pub(crate) fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.pad()?;
        let records = records(header);
        if !records.is_empty() {
            let name = pax_name(header.path);
            let pax = Header {
                path: &name,
                letter: b'x',
                size: records.len() as u64,
                ..Header::default()
            };
            self.out.write_all(&block(&pax))?;
            self.padding = padding(records.len() as u64);
            self.out.write_all(&records)?;
            self.pad()?;
        }
        self.out.write_all(&block(header))?;
        self.padding = padding(header.size);
        Ok(())
    }

    /// Writes content of the last header.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes the end of the archive and gives back where it went.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.pad()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self) -> io::Result<()> {
        self.out
            .write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }
}

fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The PAX records that a member needs, sorted by key as Go's writer sorts them.
fn records(header: &Header<'_>) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
    let number = |number: u64| number.to_string().into_bytes();
    for xattr in header.xattrs {
        add(
            &[b"SCHILY.xattr.", &*xattr.name].concat(),
            xattr.value.to_vec(),
        );
    }
    if u64::from(header.gid) > MOST_OCTAL_7 {
        add(b"gid", number(header.gid.into()));
    }
    if !fits(header.target) {
        add(b"linkpath", header.target.to_vec());
    }
    if header.mtime.max(0) as u64 > MOST_OCTAL_11 {
        add(b"mtime", number(header.mtime as u64));
    }
    if !fits(header.path) {
        add(b"path", header.path.to_vec());
    }
    if header.size > MOST_OCTAL_11 {
        add(b"size", number(header.size));
    }
    if u64::from(header.uid) > MOST_OCTAL_7 {
        add(b"uid", number(header.uid.into()));
    }
    records.sort_unstable();
    records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Whether a text fits its header field as it is.
fn fits(text: &[u8]) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// What stands in a field for a text that has its own record: as much of it as is safe.
fn shortened(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(u8::is_ascii)
        .take(100)
        .collect()
}

fn pax_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let split = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let name = [&path[..split], b"PaxHeaders.0/", &path[split..]].concat();
    shortened(&name)
}

fn block(header: &Header<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let path = if fits(header.path) {
        header.path.to_vec()
    } else {
        shortened(header.path)
    };
    let target = if fits(header.target) {
        header.target.to_vec()
    } else {
        shortened(header.target)
    };
    block[..path.len()].copy_from_slice(&path);
    block[157..157 + target.len()].copy_from_slice(&target);
    let within = |number: u64, most: u64| if number > most { 0 } else { number };
    octal(&mut block[100..108], header.mode.into());
    octal(
        &mut block[108..116],
        within(header.uid.into(), MOST_OCTAL_7),
    );
    octal(
        &mut block[116..124],
        within(header.gid.into(), MOST_OCTAL_7),
    );
    octal(&mut block[124..136], within(header.size, MOST_OCTAL_11));
    octal(
        &mut block[136..148],
        within(header.mtime.max(0) as u64, MOST_OCTAL_11),
    );
    block[156] = header.letter;
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], header.device.0.into());
    octal(&mut block[337..345], header.device.1.into());
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// Octal digits and a zero byte, filling the field.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    field[..digits].copy_from_slice(format!("{number:0digits$o}").as_bytes());
    field[digits] = 0;
}
