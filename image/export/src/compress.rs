//! Compression of layers and archives, both ways.

mod noise;

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use oci::Limits;
use oci::media_type::Compression;

/// How some bytes are packed, as their first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all, as far as can be seen.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// The `.xz` format.
    Xz,
}

/// Bytes that a writer of gzip members compresses at once. Fixed, because the output must not
/// depend on the machine.
const MEMBER: usize = 1 << 20;

/// Bytes that tell every packing.
const LONGEST_MAGIC: usize = 6;

/// The most memory that unpacking may take: what `xz -9` needs, four times.
const MOST_MEMORY: u64 = 256 << 20;

/// Shorter than what Go's packers make of it with their usual level, in less time than the next level.
const GZIP_LEVEL: i32 = 5;
const ZSTD_LEVEL: i32 = 3;

impl Packing {
    /// The packing that begins with `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        const MAGICS: &[(&[u8], Packing)] = &[
            (&[0x1f, 0x8b], Packing::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
            (b"BZh", Packing::Bzip2),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
        ];
        // Zstandard's skippable frames, which some put in front.
        let is_skippable =
            bytes.len() >= 4 && bytes[0] & 0xf0 == 0x50 && bytes[1..4] == [0x2a, 0x4d, 0x18];
        let known = MAGICS
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, packing)| *packing);
        known.unwrap_or(if is_skippable { Self::Zstd } else { Self::None })
    }

    /// The compression as layers name it, `None` for those that no layer may have.
    pub fn layer(self) -> Option<Compression> {
        match self {
            Self::None => Some(Compression::None),
            Self::Gzip => Some(Compression::Gzip),
            Self::Zstd => Some(Compression::Zstd),
            Self::Bzip2 | Self::Xz => None,
        }
    }
}

/// Reads `packed` unpacked, whatever it is packed with, to the end of its last part.
pub fn decoder<'a>(
    mut packed: impl Read + Send + 'a,
) -> io::Result<(Packing, Box<dyn Read + Send + 'a>)> {
    // A pipe may give even these few bytes in pieces.
    let mut start = Vec::with_capacity(LONGEST_MAGIC);
    packed
        .by_ref()
        .take(LONGEST_MAGIC as u64)
        .read_to_end(&mut start)?;
    let packing = Packing::of(&start);
    let packed = BufReader::with_capacity(1 << 17, io::Cursor::new(start).chain(packed));
    let reader: Box<dyn Read + Send + 'a> = match packing {
        Packing::None => Box::new(packed),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        Packing::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(MOST_MEMORY, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
    };
    Ok((packing, reader))
}

/// As [`decoder`], for what strangers packed: what unpacks to more times its size than is allowed is
/// an error.
pub(crate) fn decoder_within<'a>(
    packed: impl Read + Send + 'a,
    limits: &Limits,
) -> io::Result<(Packing, Box<dyn Read + Send + 'a>)> {
    let count = Arc::new(AtomicU64::new(0));
    let (packing, unpacked) = decoder(Counted {
        input: packed,
        count: Arc::clone(&count),
    })?;
    if packing == Packing::None {
        return Ok((packing, unpacked));
    }
    let within = Within {
        unpacked,
        packed: count,
        ratio: limits.ratio,
        length: 0,
    };
    Ok((packing, Box::new(within)))
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Compares what comes out with what went in.
struct Within<R> {
    unpacked: R,
    packed: Arc<AtomicU64>,
    ratio: u64,
    length: u64,
}

impl<R: Read> Read for Within<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.unpacked.read(out)?;
        self.length += length as u64;
        if self.length > Limits::RATIO_FROM {
            let packed = self.packed.load(Ordering::Relaxed);
            if self.length > packed.saturating_mul(self.ratio) {
                return Err(io::Error::other(format!(
                    "it unpacks to more than {} times its size",
                    self.ratio
                )));
            }
        }
        Ok(length)
    }
}

/// Packs what is written into it. The output depends on the bytes alone, not on how they were cut
/// nor on the number of processors. [`Packer::finish`] writes the end.
pub struct Packer<W: Write> {
    kind: Kind<W>,
}

enum Kind<W: Write> {
    None(W),
    Gzip(Members<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    /// Packs into `out`. Without a level: 5 for gzip, 3 for zstd.
    pub fn new(out: W, compression: Compression, level: Option<i32>) -> io::Result<Self> {
        let kind = match compression {
            Compression::None => Kind::None(out),
            Compression::Gzip => Kind::Gzip(Members::new(out, level)?),
            Compression::Zstd => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(out, level.unwrap_or(ZSTD_LEVEL))?;
                encoder.include_checksum(true)?;
                // One worker or many write the same; none at all would not.
                encoder.multithread(
                    u32::try_from(rayon::current_num_threads())
                        .unwrap_or(1)
                        .max(1),
                )?;
                Kind::Zstd(encoder)
            }
        };
        Ok(Self { kind })
    }

    /// Writes what is left and returns the writer below.
    pub fn finish(self) -> io::Result<W> {
        match self.kind {
            Kind::None(out) => Ok(out),
            Kind::Gzip(members) => members.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::None(out) => out.write(bytes),
            Kind::Gzip(members) => members.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// gzip in members that know nothing of each other, so that all processors can work on them while
/// more bytes come and those that are done are written. Any reader of gzip reads them as one.
struct Members<W: Write> {
    out: W,
    level: CompressionLvl,
    /// Takes the bytes.
    next: Work,
    /// What is being compressed, in the order of the bytes.
    under_way: VecDeque<Receiver<io::Result<Work>>>,
    /// How many of them there may be: what bounds the memory.
    most: usize,
    wrote: bool,
}

impl<W: Write> Members<W> {
    fn new(out: W, level: Option<i32>) -> io::Result<Self> {
        let level = gzip_level(level)?;
        Ok(Self {
            out,
            level,
            next: Work::with(level),
            under_way: VecDeque::new(),
            most: rayon::current_num_threads() * 4,
            wrote: false,
        })
    }

    /// Has somebody compress what came.
    fn hand_over(&mut self) -> io::Result<()> {
        while self.under_way.len() >= self.most {
            self.write_first()?;
        }
        let mut work = std::mem::replace(&mut self.next, Work::with(self.level));
        let (sender, receiver) = sync_channel(1);
        rayon::spawn(move || {
            let packed = work.pack();
            // Nobody listens any more where the packing was given up.
            drop(sender.send(packed.map(|()| work)));
        });
        self.under_way.push_back(receiver);
        Ok(())
    }

    /// Writes the first of those under way, once it is compressed.
    fn write_first(&mut self) -> io::Result<()> {
        if let Some(first) = self.under_way.pop_front() {
            let work = wait_for(&first)?;
            self.out.write_all(work.packed())?;
            self.wrote = true;
            work.give_back();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.next.bytes.is_empty() {
            self.hand_over()?;
        }
        while !self.under_way.is_empty() {
            self.write_first()?;
        }
        if !self.wrote {
            let empty = pack_member(&mut Compressor::new(self.level), &[])?;
            self.out.write_all(&empty)?;
        }
        self.next.give_back();
        Ok(self.out)
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let pending = &mut self.next.bytes;
        let count = bytes.len().min(MEMBER - pending.len());
        pending.extend_from_slice(&bytes[..count]);
        if pending.len() == MEMBER {
            self.hand_over()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for a member. Who is one of those that compress does not wait for them, but compresses.
fn wait_for(member: &Receiver<io::Result<Work>>) -> io::Result<Work> {
    let lost = || io::Error::other("a compression did not end");
    loop {
        match member.try_recv() {
            Ok(compressed) => return compressed,
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        match rayon::yield_now() {
            None => return member.recv().unwrap_or_else(|_| Err(lost())),
            Some(rayon::Yield::Executed) => {}
            Some(rayon::Yield::Idle) => std::thread::yield_now(),
        }
    }
}

/// What one thread packs at once, and with what.
struct Work {
    level: CompressionLvl,
    compressor: Compressor,
    /// For what does not get shorter.
    storer: Compressor,
    bytes: Vec<u8>,
    /// Only so much of it is meant.
    packed: (Vec<u8>, usize),
}

/// What was used and can be used again by whoever packs next: most layers are small, and memory that is asked
/// for anew costs as much as hashing what goes into it.
static SPARE: Mutex<Vec<Work>> = Mutex::new(Vec::new());
/// How much of that is kept.
const MOST_SPARE: usize = 8;

impl Work {
    fn with(level: CompressionLvl) -> Self {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        match spare.iter().position(|it| it.level == level) {
            Some(at) => spare.swap_remove(at),
            None => Self::new(level),
        }
    }

    fn new(level: CompressionLvl) -> Self {
        let none = CompressionLvl::new(0).unwrap_or(level);
        Self {
            level,
            compressor: Compressor::new(level),
            storer: Compressor::new(none),
            bytes: Vec::with_capacity(MEMBER),
            packed: (Vec::new(), 0),
        }
    }

    fn give_back(mut self) {
        self.bytes.clear();
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(self);
        }
    }

    fn packed(&self) -> &[u8] {
        &self.packed.0[..self.packed.1]
    }

    /// Packs the bytes: as one member, or as several where some of them are noise.
    fn pack(&mut self) -> io::Result<()> {
        let (packed, length) = &mut self.packed;
        *length = 0;
        let mut rest = &self.bytes[..];
        for run in noise::runs(&self.bytes) {
            let (bytes, behind) = rest.split_at(run.length);
            rest = behind;
            let compressor = match run.is_noise {
                true => &mut self.storer,
                false => &mut self.compressor,
            };
            let most = *length + compressor.gzip_compress_bound(bytes.len());
            if packed.len() < most {
                packed.resize(most, 0);
            }
            let size = compressor.gzip_compress(bytes, &mut packed[*length..]);
            *length += size.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// The level of gzip that was asked for, or the usual one.
pub(crate) fn gzip_level(level: Option<i32>) -> io::Result<CompressionLvl> {
    CompressionLvl::new(level.unwrap_or(GZIP_LEVEL)).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the gzip level is not between 0 and 12",
        )
    })
}

/// Bytes as one gzip member.
pub(crate) fn pack_member(compressor: &mut Compressor, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let size = compressor
        .gzip_compress(bytes, &mut member)
        .map_err(io::Error::other)?;
    member.truncate(size);
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..3_500_000u32)
            .flat_map(|number| (number / 7).to_le_bytes())
            .collect()
    }

    fn pack(bytes: &[u8], compression: Compression, step: usize) -> Vec<u8> {
        let mut packer = Packer::new(Vec::new(), compression, Some(1)).unwrap();
        bytes
            .chunks(step)
            .for_each(|chunk| packer.write_all(chunk).unwrap());
        packer.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_read_back_the_same() {
        for bytes in [sample(), Vec::new(), b"x".to_vec()] {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let packed = pack(&bytes, compression, 1 << 16);
                let (packing, mut reader) = decoder(&packed[..]).unwrap();
                let mut unpacked = Vec::new();
                reader.read_to_end(&mut unpacked).unwrap();
                assert_eq!(packing.layer(), Some(compression));
                assert!(unpacked == bytes, "{compression:?}");
            }
        }
    }

    #[test]
    fn how_the_bytes_were_cut_and_who_packed_them_does_not_show() {
        let bytes = sample();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let alone = rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap();
            let reference = alone.install(|| pack(&bytes, compression, 1 << 20));
            let many = rayon::ThreadPoolBuilder::new()
                .num_threads(3)
                .build()
                .unwrap();
            assert!(
                many.install(|| pack(&bytes, compression, 777)) == reference,
                "{compression:?}"
            );
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused_and_what_does_not_is_not() {
        let zeros = io::repeat(0).take(Limits::RATIO_FROM + (64 << 20));
        let mut packer = Packer::new(Vec::new(), Compression::Zstd, Some(1)).unwrap();
        io::copy(&mut { zeros }, &mut packer).unwrap();
        let packed = packer.finish().unwrap();
        let limits = Limits::default();
        let unpacked = |packed: &[u8]| {
            let (_, mut reader) = decoder_within(packed, &limits).unwrap();
            io::copy(&mut reader, &mut io::sink()).map_err(|it| it.to_string())
        };
        let error = unpacked(&packed).unwrap_err();
        assert_eq!(error, "it unpacks to more than 2000 times its size");
        let little = pack(&vec![0; 64 << 20], Compression::Zstd, 1 << 20);
        assert_eq!(unpacked(&little), Ok(64 << 20));
    }

    #[test]
    fn xz_that_wants_much_memory_is_refused() {
        let options = {
            let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            options.dict_size(1 << 30);
            options
        };
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let check = liblzma::stream::Check::Crc32;
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, check).unwrap();
        let mut encoder = liblzma::read::XzEncoder::new_stream(&b"little"[..], stream);
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        let (_, mut reader) = decoder(&packed[..]).unwrap();
        reader.read_to_end(&mut Vec::new()).unwrap_err();
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(Packer::new(Vec::new(), Compression::Gzip, Some(13)).is_err());
        assert!(Packer::new(Vec::new(), Compression::Gzip, Some(-1)).is_err());
    }
}
