//! A writer whose bytes are written by another thread, so that reading, hashing and packing go on
//! meanwhile.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use oci::{Digest, Sha256};

use super::SaveError;

/// Bytes that change hands at once, and how often before the producer waits. Little enough that they are in a
/// processor's memory still when they are read.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 8;

/// What another thread writes.
struct Pipe {
    full: SyncSender<Vec<u8>>,
    /// Buffers that were written, to be used again.
    empty: Receiver<Vec<u8>>,
    current: Vec<u8>,
}

/// What came through a pipe.
struct Through {
    hash: Option<Sha256>,
    size: u64,
}

/// Writes to `out` what `produce` writes; returns its digest, unless that is `known`, and its size.
pub(super) fn pump(
    out: &mut (dyn Write + Send),
    known: Option<Digest>,
    produce: &mut dyn FnMut(&mut dyn Write) -> Result<(), SaveError>,
) -> Result<(Digest, u64), SaveError> {
    let (full, to_write) = sync_channel(BUFFERS);
    let (written, empty) = channel();
    let hash = known.is_none().then(Sha256::default);
    std::thread::scope(|threads| {
        let writer = threads.spawn(move || write(out, hash, &to_write, &written));
        let mut pipe = Pipe {
            full,
            empty,
            current: Vec::with_capacity(BUFFER),
        };
        let produced = produce(&mut pipe).and_then(|()| pipe.hand_over().map_err(SaveError::Write));
        drop(pipe);
        let through = writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A writer that gave up is why the producer could not go on.
        let through = through.map_err(SaveError::Write)?;
        produced?;
        let digest = known.unwrap_or_else(|| through.hash.unwrap_or_default().finish());
        Ok((digest, through.size))
    })
}

fn write(
    out: &mut dyn Write,
    hash: Option<Sha256>,
    to_write: &Receiver<Vec<u8>>,
    written: &Sender<Vec<u8>>,
) -> io::Result<Through> {
    let mut through = Through { hash, size: 0 };
    for mut buffer in to_write {
        out.write_all(&buffer)?;
        if let Some(hash) = &mut through.hash {
            hash.update(&buffer);
        }
        through.size += buffer.len() as u64;
        buffer.clear();
        // The producer may be done already.
        let _ = written.send(buffer);
    }
    Ok(through)
}

impl Pipe {
    fn hand_over(&mut self) -> io::Result<()> {
        let next = self
            .empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        let full = std::mem::replace(&mut self.current, next);
        self.full
            .send(full)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.current.len());
        self.current.extend_from_slice(&bytes[..count]);
        if self.current.len() == BUFFER {
            self.hand_over()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
