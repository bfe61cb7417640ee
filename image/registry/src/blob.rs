//! Blobs, read as they come.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use oci::{Digest, Reference, Sha256};

use crate::client::{Access, Call};
use crate::http::Reply;
use crate::{Client, RegistryError};

/// How often a broken transfer goes on where it stopped without coming further.
const MAX_RESUMES: u32 = 5;
/// So much more is further.
const FURTHER: u64 = 1 << 20;
/// Bytes that have to come in a second, on the whole: whoever sends less stalls, too.
const SLOWEST: u64 = 1 << 10;

/// The bytes of a blob as they come in.
///
/// A connection that breaks, or on which next to nothing comes, is taken up again behind the last
/// byte read. The end of the stream is an error of kind [`io::ErrorKind::InvalidData`] if the size is
/// not the one expected or, where the reader compares it, the digest: bytes must not count before the
/// end was reached.
pub struct BlobReader<'a> {
    client: &'a Client,
    reference: &'a Reference,
    digest: Digest,
    size: u64,
    read: u64,
    hash: Option<Sha256>,
    resumes: Resumes,
    pace: Pace,
    body: Box<dyn Read + Send>,
}

/// How often a transfer was taken up again.
#[derive(Default)]
struct Resumes {
    count: u32,
    /// What had been read the last time.
    at: u64,
}

/// How fast bytes come.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Client {
    /// Begins to read a blob of the repository of `reference`.
    ///
    /// # Errors
    /// If there is no such blob, or it may not be read.
    pub fn blob<'a>(
        &'a self,
        reference: &'a Reference,
        digest: &Digest,
        size: u64,
    ) -> Result<BlobReader<'a>, RegistryError> {
        Ok(BlobReader {
            hash: Some(Sha256::default()),
            ..self.unverified_blob(reference, (digest, size), 0)?
        })
    }

    /// The same for whoever hashes the bytes himself: the digest is not compared, and so what comes may
    /// be only what is behind the first `from` bytes.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub fn unverified_blob<'a>(
        &'a self,
        reference: &'a Reference,
        (digest, size): (&Digest, u64),
        from: u64,
    ) -> Result<BlobReader<'a>, RegistryError> {
        let body = self.open_blob(reference, digest, from)?;
        Ok(BlobReader {
            client: self,
            reference,
            digest: *digest,
            size,
            read: from,
            hash: None,
            resumes: Resumes { count: 0, at: from },
            pace: Pace::new(),
            body,
        })
    }

    fn open_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        from: u64,
    ) -> Result<Box<dyn Read + Send>, RegistryError> {
        let access = Access::pull(reference);
        let mut call = Call {
            path: format!("blobs/{digest}"),
            ..Call::default()
        };
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        let reply = self.call(&access, &call)?;
        let protocol = |reply: &Reply, why: String| RegistryError::Protocol {
            url: reply.url.to_string(),
            why,
        };
        match reply.status {
            206 if starts_at(&reply) == Some(from) => Ok(Box::new(reply.into_reader())),
            206 => {
                let why = format!("asked for what is behind byte {from}, it sends another part");
                Err(protocol(&reply, why))
            }
            // A server that does not know ranges sends everything again.
            200 => {
                let url = reply.url.to_string();
                let mut body = reply.into_reader();
                io::copy(&mut (&mut body).take(from), &mut io::sink()).map_err(|error| {
                    let why = error.to_string();
                    RegistryError::Protocol { url, why }
                })?;
                Ok(Box::new(body))
            }
            404 => Err(RegistryError::NotFound {
                reference: format!("{}@{digest}", reference.familiar_name()),
            }),
            _ => Err(self.failure(&access, reply)),
        }
    }
}

/// Where a part of a blob begins, as `Content-Range: bytes 10-19/20` says.
fn starts_at(reply: &Reply) -> Option<u64> {
    let range = reply.header("content-range")?;
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    start.parse().ok()
}

impl BlobReader<'_> {
    fn check_end(&mut self) -> io::Result<usize> {
        let Some(hash) = self.hash.take() else {
            return Ok(0);
        };
        let got = hash.finish();
        if got != self.digest {
            let mismatch = RegistryError::DigestMismatch {
                wanted: self.digest,
                got,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
        }
        Ok(0)
    }

    fn resume(&mut self, cause: io::Error) -> io::Result<()> {
        let patience = self.client.patience();
        let Some(before) = self.resumes.next(self.read, patience.attempts) else {
            return Err(cause);
        };
        tracing::debug!(digest = %self.digest, read = self.read, %cause, "going on where the connection broke");
        std::thread::sleep(patience.delay * before);
        self.body = self
            .client
            .open_blob(self.reference, &self.digest, self.read)
            .map_err(io::Error::other)?;
        self.pace = Pace::new();
        Ok(())
    }

    fn too_long(&self) -> io::Error {
        let too_large = RegistryError::TooLarge {
            what: self.digest.to_string(),
            limit: self.size,
        };
        io::Error::new(io::ErrorKind::InvalidData, too_large)
    }
}

impl Resumes {
    /// Counts one more; gives how many there were since the transfer last came further, and nothing
    /// once there were too many.
    fn next(&mut self, read: u64, attempts: u32) -> Option<u32> {
        if read >= self.at + FURTHER {
            self.count = 0;
        }
        self.at = read;
        let before = self.count;
        self.count += 1;
        (before < MAX_RESUMES.min(attempts - 1)).then_some(before)
    }
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Counts bytes that came; an error if there were too few for too long.
    fn count(&mut self, bytes: usize, stall: Duration) -> io::Result<()> {
        self.bytes += bytes as u64;
        let elapsed = self.since.elapsed();
        if elapsed < stall {
            return Ok(());
        }
        let is_slow = self.bytes < SLOWEST * elapsed.as_secs();
        *self = Self::new();
        match is_slow {
            true => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "next to nothing comes",
            )),
            false => Ok(()),
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match self.body.read(buffer) {
                Ok(0) if self.read < self.size => {
                    self.resume(io::ErrorKind::UnexpectedEof.into())?;
                    continue;
                }
                Ok(0) => return self.check_end(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.resume(error)?;
                    continue;
                }
            };
            self.read += count as u64;
            if self.read > self.size {
                return Err(self.too_long());
            }
            if let Some(hash) = &mut self.hash {
                hash.update(&buffer[..count]);
            }
            let stall = self.client.patience().stall;
            if let Err(error) = self.pace.count(count, stall) {
                self.resume(error)?;
            }
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_comes_further_is_taken_up_as_often_as_it_breaks() {
        let mut resumes = Resumes::default();
        let counted: Vec<_> = (0..7).map(|_| resumes.next(10, 5)).collect();
        assert_eq!(counted[..4], [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(counted[4..], [None, None, None]);
        let mut resumes = Resumes::default();
        assert!((1..100).all(|it| resumes.next(it * FURTHER, 5) == Some(0)));
    }

    #[test]
    fn next_to_nothing_is_a_stall() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let come = |bytes| {
            let mut pace = Pace {
                since: long_ago,
                bytes: 0,
            };
            pace.count(bytes, Duration::from_secs(10)).is_ok()
        };
        assert!(!come(100));
        assert!(come(100_000));
    }
}
