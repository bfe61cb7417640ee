//! The index that makes a layer's tar a file system: an EROFS image of everything but the files' bytes, which
//! stay where they are in the tar.
//!
//! The image has blocks of 512 bytes, as a tar has, and the tar is its second device: a file is one run of
//! blocks of that device. The kernel mounts both as they are (file-backed, since Linux 6.12). What is written
//! here is a small part of the format: inodes of 64 bytes with their attributes behind them, then directories
//! and the texts of symlinks, each from a block of its own; nothing shared, nothing compressed.

use crate::tree::Xattr;

/// Of the image and of a tar.
pub(crate) const BLOCK: u64 = 512;
/// Inodes are numbered by where they are, in units of so many bytes.
const SLOT: usize = 32;
const INODE: usize = 64;
const SUPERBLOCK: usize = 1024;
/// Behind the superblock, which has 128 bytes; a slot has as many.
const DEVICE_SLOT: usize = SUPERBLOCK + 128;
/// The first inode, the root's.
const INODES: usize = DEVICE_SLOT + 384;
const MAGIC: u32 = 0xE0F5_E1E2;
/// The image has a table of further devices.
const DEVICE_TABLE: u32 = 0x8;
const DIRENT: usize = 12;
/// The prefixes of names of attributes, by number.
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Something in the file system, under however many names.
#[derive(Debug)]
pub(crate) struct Inode<'a> {
    /// Permissions, `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// How many names it has.
    pub(crate) links: u32,
    pub(crate) xattrs: Vec<&'a Xattr>,
    pub(crate) body: Body<'a>,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// A file whose bytes begin at a block's beginning in the tar.
    File {
        at: u64,
        size: u64,
    },
    Directory {
        /// The number of the directory above, its own for the root.
        parent: usize,
        /// Names and the numbers of what they name, in no order.
        names: Vec<(&'a [u8], usize)>,
    },
    Symlink(&'a [u8]),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Whether an attribute of this name can be in an image.
pub(crate) fn holds(name: &[u8]) -> bool {
    split(name).is_some()
}

/// The image of the inodes, of which the first is the root, over a tar of `tar` bytes. `None` where numbers
/// of blocks have too few bits for it: from two tebibytes on.
pub(crate) fn image(inodes: &[Inode<'_>], tar: u64) -> Option<Vec<u8>> {
    let places = Places::of(inodes);
    let blocks = u32::try_from(places.end as u64 / BLOCK).ok()?;
    let device_blocks = u32::try_from(tar.div_ceil(BLOCK)).ok()?;
    // The largest number means that there is no block.
    blocks.checked_add(device_blocks)?.checked_add(1)?;
    let mut image = vec![0; places.end];
    superblock(&mut image, blocks, inodes.len() as u64);
    device_slot(&mut image, blocks, device_blocks);
    for (number, inode) in inodes.iter().enumerate() {
        let data = places.data[number] as u64 / BLOCK;
        let block = match inode.body {
            Body::File { at, .. } => u64::from(blocks) + at / BLOCK,
            _ => data,
        };
        let size = places.size(inode, number);
        let block = u32::try_from(block).ok()?;
        write_inode(
            &mut image[places.inode[number]..],
            inode,
            number,
            size,
            block,
        );
        match &inode.body {
            Body::Symlink(text) => put(&mut image, places.data[number], text),
            Body::Directory { .. } => {
                let listing = listing(inodes, number, &places);
                put(&mut image, places.data[number], &listing);
            }
            _ => {}
        }
    }
    Some(image)
}

/// Where in the image everything is.
struct Places {
    /// By number of inode.
    inode: Vec<usize>,
    /// Where its own data begins, and how much there is.
    data: Vec<usize>,
    sizes: Vec<usize>,
    end: usize,
}

impl Places {
    fn of(inodes: &[Inode<'_>]) -> Self {
        let mut at = INODES;
        let inode: Vec<usize> = inodes
            .iter()
            .map(|inode| {
                let here = at;
                at += (INODE + attributes_size(&inode.xattrs)).next_multiple_of(SLOT);
                here
            })
            .collect();
        let (mut data, mut sizes) = (Vec::new(), Vec::new());
        for inode in inodes {
            at = at.next_multiple_of(BLOCK as usize);
            let size = match &inode.body {
                Body::Symlink(text) => text.len(),
                Body::Directory { names, .. } => listing_size(names),
                _ => 0,
            };
            data.push(at);
            sizes.push(size);
            at += size;
        }
        Self {
            inode,
            data,
            sizes,
            end: at.next_multiple_of(BLOCK as usize),
        }
    }

    fn size(&self, inode: &Inode<'_>, number: usize) -> u64 {
        match inode.body {
            Body::File { size, .. } => size,
            _ => self.sizes[number] as u64,
        }
    }

    /// The number by which the file system knows an inode.
    fn nid(&self, number: usize) -> u64 {
        (self.inode[number] / SLOT) as u64
    }
}

fn superblock(image: &mut [u8], blocks: u32, inodes: u64) {
    let at = SUPERBLOCK;
    put(image, at, &MAGIC.to_le_bytes());
    image[at + 12] = BLOCK.trailing_zeros() as u8;
    put(image, at + 14, &((INODES / SLOT) as u16).to_le_bytes());
    put(image, at + 16, &inodes.to_le_bytes());
    put(image, at + 36, &blocks.to_le_bytes());
    put(image, at + 80, &DEVICE_TABLE.to_le_bytes());
    // One further device, in the slot of this number.
    put(image, at + 86, &1_u16.to_le_bytes());
    put(image, at + 88, &((DEVICE_SLOT / 128) as u16).to_le_bytes());
}

/// The tar: as a range of blocks behind the image's own.
fn device_slot(image: &mut [u8], first: u32, blocks: u32) {
    put(image, DEVICE_SLOT, b"tar");
    put(image, DEVICE_SLOT + 64, &blocks.to_le_bytes());
    put(image, DEVICE_SLOT + 68, &first.to_le_bytes());
}

fn write_inode(out: &mut [u8], inode: &Inode<'_>, number: usize, size: u64, block: u32) {
    let (kind, third): (u32, u32) = match inode.body {
        Body::File { .. } => (0o100_000, block),
        Body::Directory { .. } => (0o040_000, block),
        Body::Symlink(_) => (0o120_000, block),
        Body::Character(major, minor) => (0o020_000, device(major, minor)),
        Body::Block(major, minor) => (0o060_000, device(major, minor)),
        Body::Fifo => (0o010_000, 0),
    };
    let attributes = attributes_size(&inode.xattrs);
    // One more than there are units of four bytes behind the header of twelve.
    let units = attributes.checked_sub(12).map_or(0, |rest| rest / 4 + 1);
    // The long form of an inode; its data is one run of blocks.
    put(out, 0, &1_u16.to_le_bytes());
    put(out, 2, &(units as u16).to_le_bytes());
    put(out, 4, &((kind | inode.mode) as u16).to_le_bytes());
    put(out, 8, &size.to_le_bytes());
    put(out, 16, &third.to_le_bytes());
    put(out, 20, &(number as u32 + 1).to_le_bytes());
    put(out, 24, &inode.owner.0.to_le_bytes());
    put(out, 28, &inode.owner.1.to_le_bytes());
    put(out, 32, &inode.mtime.0.to_le_bytes());
    put(out, 40, &inode.mtime.1.to_le_bytes());
    put(out, 44, &inode.links.to_le_bytes());
    let mut at = INODE + 12;
    for xattr in &inode.xattrs {
        let Some((prefix, name)) = split(&xattr.name) else {
            continue;
        };
        put(out, at, &[name.len() as u8, prefix]);
        put(out, at + 2, &(xattr.value.len() as u16).to_le_bytes());
        put(out, at + 4, name);
        put(out, at + 4 + name.len(), &xattr.value);
        at += attribute_size(xattr);
    }
}

fn attributes_size(xattrs: &[&Xattr]) -> usize {
    match xattrs {
        [] => 0,
        some => 12 + some.iter().map(|it| attribute_size(it)).sum::<usize>(),
    }
}

fn attribute_size(xattr: &Xattr) -> usize {
    let name = split(&xattr.name).map_or(0, |(_, name)| name.len());
    (4 + name + xattr.value.len()).next_multiple_of(4)
}

/// The number of a name's prefix, and the rest of it.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES
        .iter()
        .find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)))
}

/// A device's number as the kernel writes it down.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// How many bytes a directory has: its last block is as long as what is in it.
fn listing_size(names: &[(&[u8], usize)]) -> usize {
    let sorted = sorted(names);
    let blocks = in_blocks(&sorted);
    let last = blocks.last().map_or(0, |block| block_size(block));
    (blocks.len().saturating_sub(1)) * BLOCK as usize + last
}

/// A directory: blocks of entries, each followed by its names, all in the order of their bytes.
fn listing(inodes: &[Inode<'_>], number: usize, places: &Places) -> Vec<u8> {
    let Body::Directory { parent, names } = &inodes[number].body else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for block in in_blocks(&sorted(names)) {
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        let start = out.len();
        out.resize(start + block_size(block), 0);
        let mut name_at = block.len() * DIRENT;
        for (at, (name, entry)) in block.iter().enumerate() {
            let target = match entry {
                Listed::This => number,
                Listed::Above => *parent,
                Listed::Child(child) => *child,
            };
            let dirent = start + at * DIRENT;
            put(&mut out, dirent, &places.nid(target).to_le_bytes());
            put(&mut out, dirent + 8, &(name_at as u16).to_le_bytes());
            out[dirent + 10] = letter(&inodes[target].body);
            put(&mut out, start + name_at, name);
            name_at += name.len();
        }
    }
    out
}

/// What kind of thing it is, in a directory entry's number.
fn letter(body: &Body<'_>) -> u8 {
    match body {
        Body::File { .. } => 1,
        Body::Directory { .. } => 2,
        Body::Character(..) => 3,
        Body::Block(..) => 4,
        Body::Fifo => 5,
        Body::Symlink(_) => 7,
    }
}

#[derive(Debug, Clone, Copy)]
enum Listed {
    This,
    Above,
    /// And its number.
    Child(usize),
}

fn sorted<'a>(names: &[(&'a [u8], usize)]) -> Vec<(&'a [u8], Listed)> {
    let mut sorted: Vec<(&[u8], Listed)> = vec![(b".", Listed::This), (b"..", Listed::Above)];
    sorted.extend(
        names
            .iter()
            .map(|(name, number)| (*name, Listed::Child(*number))),
    );
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

/// As many entries in each block as go in.
fn in_blocks<'a, 'b>(sorted: &'b [(&'a [u8], Listed)]) -> Vec<&'b [(&'a [u8], Listed)]> {
    let mut blocks = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (at, (name, _)) in sorted.iter().enumerate() {
        if size + DIRENT + name.len() > BLOCK as usize {
            blocks.push(&sorted[start..at]);
            (start, size) = (at, 0);
        }
        size += DIRENT + name.len();
    }
    blocks.push(&sorted[start..]);
    blocks
}

fn block_size(block: &[(&[u8], Listed)]) -> usize {
    block.iter().map(|(name, _)| DIRENT + name.len()).sum()
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}
