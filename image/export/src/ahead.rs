//! Reading and unpacking ahead in another thread, while what was read is worked on.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes that change hands at once, and how often before the reader waits.
const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 8;

/// What another thread reads.
struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    /// Buffers that were used up, to be filled again.
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

/// Gives `consume` a reader that yields what `reader` does, but reads it in a thread of its own.
///
/// The thread ends with the input, or at the first bytes that come after `consume` has returned.
pub(crate) fn ahead<T>(
    mut reader: impl Read + Send,
    consume: impl FnOnce(&mut dyn Read) -> T,
) -> T {
    let (full_sender, full) = sync_channel(BUFFERS);
    let (empty, empty_receiver) = channel();
    std::thread::scope(|threads| {
        threads.spawn(move || read_all(&mut reader, &full_sender, &empty_receiver));
        let mut ahead = Ahead {
            full,
            empty,
            current: Vec::new(),
            position: 0,
        };
        let result = consume(&mut ahead);
        drop(ahead);
        result
    })
}

fn read_all(
    reader: &mut dyn Read,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(BUFFER);
        let read = reader.take(BUFFER as u64).read_to_end(&mut buffer);
        // What came before a failure is still worked on: it may end the matter by itself.
        let goes_on = buffer.is_empty() || full.send(Ok(buffer)).is_ok();
        match read {
            Ok(0) => return,
            Ok(_) if goes_on => {}
            Ok(_) => return,
            Err(error) => {
                let _ = full.send(Err(error));
                return;
            }
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            match self.full.recv() {
                Ok(next) => {
                    let used = std::mem::replace(&mut self.current, next?);
                    self.position = 0;
                    let _ = self.empty.send(used);
                }
                Err(_) => return Ok(0),
            }
        }
        let mut rest = &self.current[self.position..];
        let count = rest.read(out)?;
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_there_is() {
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let mut read = Vec::new();
        ahead(&bytes[..], |reader| reader.read_to_end(&mut read)).unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn who_has_seen_enough_does_not_wait_for_the_end() {
        let mut first = [0; 5];
        ahead(io::repeat(7), |reader| reader.read_exact(&mut first)).unwrap();
        assert_eq!(first, [7; 5]);
    }

    #[test]
    fn a_failure_comes_after_what_was_read_before_it() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut read = Vec::new();
        let result = ahead((&b"good"[..]).chain(Fails), |reader| {
            reader.read_to_end(&mut read)
        });
        assert_eq!(result.unwrap_err().to_string(), "broken");
        assert_eq!(read, b"good");
    }
}
