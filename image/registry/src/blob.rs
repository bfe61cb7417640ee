//! Blobs, read as they come.

use std::io::{self, Read};

use oci::{Digest, Reference, Sha256};

use crate::client::{Access, Call};
use crate::{Client, RegistryError};

/// How often a broken transfer goes on where it stopped.
const MAX_RESUMES: u32 = 5;

/// The bytes of a blob as they come in.
///
/// A connection that breaks is taken up again behind the last byte read. The end of the stream is
/// an error of kind [`io::ErrorKind::InvalidData`] if size or digest are not those expected, so
/// bytes must not count before the end was reached.
pub struct BlobReader<'a> {
    client: &'a Client,
    reference: &'a Reference,
    digest: Digest,
    size: u64,
    read: u64,
    hash: Option<Sha256>,
    resumes: u32,
    body: Box<dyn Read + Send>,
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
        let body = self.open_blob(reference, digest, 0)?;
        Ok(BlobReader {
            client: self,
            reference,
            digest: *digest,
            size,
            read: 0,
            hash: Some(Sha256::default()),
            resumes: 0,
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
        match reply.status {
            206 => Ok(Box::new(reply.into_reader())),
            // A server that does not know ranges sends everything again.
            200 => {
                let mut body = reply.into_reader();
                io::copy(&mut (&mut body).take(from), &mut io::sink()).map_err(|error| {
                    RegistryError::Protocol {
                        url: format!("blobs/{digest}"),
                        why: error.to_string(),
                    }
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
        if self.resumes == MAX_RESUMES {
            return Err(cause);
        }
        tracing::debug!(digest = %self.digest, read = self.read, %cause, "going on where the connection broke");
        self.resumes += 1;
        self.body = self
            .client
            .open_blob(self.reference, &self.digest, self.read)
            .map_err(io::Error::other)?;
        Ok(())
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
                let what = self.digest.to_string();
                let too_large = RegistryError::TooLarge {
                    what,
                    limit: self.size,
                };
                return Err(io::Error::new(io::ErrorKind::InvalidData, too_large));
            }
            if let Some(hash) = &mut self.hash {
                hash.update(&buffer[..count]);
            }
            return Ok(count);
        }
    }
}
