//! `ADD` of archives: recognised by what is in them, not by their names (G82).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::read::XzDecoder;
use llb::op::Copy;
use snapshot::layer::Follow;
use snapshot::source::Source;
use snapshot::{Archive, Rules, Unpack, UnpackLimits};

use super::copy::make_directories;
use super::transfer::Attributes;
use super::{Change, FileError};

/// The bytes of a member's header.
const HEADER: usize = 512;
/// A zstd stream may want this much memory (as a power of two) to be unpacked, and no more.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Unpacks a source into the destination, if it is a tar; false where it is not.
pub(super) fn unpack(
    change: &Change<'_>,
    copy: &Copy,
    source: &Source,
    attributes: &Attributes,
) -> Result<bool, FileError> {
    let Some(from) = change.from.filter(|_| !source.directory) else {
        return Ok(false);
    };
    let failed = |error| FileError::read(&source.real)(error);
    // Not a regular file: certainly no archive.
    let Ok(mut file) = from.root().open_file(&source.real) else {
        return Ok(false);
    };
    if !is_tar(&mut file).map_err(failed)? {
        return Ok(false);
    }
    let destination = Path::new(&copy.destination);
    let into = change
        .layer
        .resolve(destination, Follow::Tree)
        .map_err(FileError::follow(destination))?;
    make_directories(
        change,
        &into,
        &Attributes {
            owner: attributes.owner,
            mode: None,
        },
    )?;
    change.layer.forget();
    let how = Unpack {
        into: &into,
        rules: Rules::Archive,
        owner: attributes.owner,
        limits: UnpackLimits::default(),
    };
    let cancel = change.context.cancel;
    let input = cancel.read(decompressed(file).map_err(failed)?);
    let done = snapshot::unpack(&mut Archive::new(input), change.layer, &how);
    match done {
        Err(_) if cancel.is_cancelled() => Err(FileError::Cancelled),
        Err(source_error) => Err(FileError::Unpack {
            path: Path::new("/").join(&source.real),
            source: source_error,
        }),
        Ok(()) => Ok(true),
    }
}

/// Whether a file, decompressed, begins with a tar header. Leaves it at its beginning.
fn is_tar(file: &mut File) -> io::Result<bool> {
    let mut header = [0; HEADER];
    let begins =
        decompressed(file.try_clone()?).and_then(|mut input| input.read_exact(&mut header));
    file.rewind()?;
    // What cannot be decompressed is a file like any other.
    Ok(begins.is_ok() && header.iter().any(|byte| *byte != 0) && snapshot::is_archive(&header))
}

/// The content of a file, decompressed if it begins like something compressed.
fn decompressed(file: File) -> io::Result<Box<dyn Read>> {
    let mut input = BufReader::with_capacity(128 << 10, file);
    let start = input.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(input)),
        [b'B', b'Z', b'h', ..] => Box::new(MultiBzDecoder::new(input)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzDecoder::new_multi_decoder(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(input),
    })
}
