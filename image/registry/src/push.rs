//! Giving blobs and manifests to a registry.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use oci::{Digest, Reference};

use crate::client::{Access, Call, Tries};
use crate::http::{Method, Reply};
use crate::{Client, RegistryError};

/// How much of a blob is sent at once: what a broken connection costs at most, where the registry
/// keeps what it has.
const CHUNK: u64 = 8 << 20;
/// The most that is sent at once because a registry wants it.
const MAX_CHUNK: u64 = 64 << 20;

/// Where a blob already is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The registry had it in this repository.
    Existed,
    /// The registry had it in the other repository and put it into this one.
    Mounted,
    /// It was sent.
    Sent,
}

/// Bytes that can be read again, from anywhere.
pub trait Content: Read + Seek {}

impl<T: Read + Seek + ?Sized> Content for T {}

/// A blob to send.
pub struct Upload<'a> {
    /// Its name.
    pub digest: Digest,
    /// A repository of the same registry that is known to have it.
    pub mount_from: Option<&'a str>,
    /// Its bytes, read only if they must be sent.
    pub content: &'a mut dyn Content,
    /// Is told how many bytes were sent so far: nothing where none have to be.
    pub progress: &'a dyn Fn(u64),
}

/// An upload that has begun.
struct Sending<'a> {
    client: &'a Client,
    access: Access<'a>,
    digest: Digest,
    /// Where it goes on: another address after each part.
    location: String,
    size: u64,
    /// What the registry has of it.
    sent: u64,
    chunk: u64,
    /// What is sent next.
    part: Vec<u8>,
    /// How often it did not go on since it last did.
    failures: u32,
}

/// Why a part was not taken.
enum Failed {
    /// The registry said so.
    Said(Box<Reply>),
    /// Nobody knows whether it was: the connection broke.
    Broke(RegistryError),
}

impl Client {
    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// If the registry does not say.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, RegistryError> {
        let access = Access::push(reference);
        let call = Call {
            method: Method::Head,
            path: format!("blobs/{digest}"),
            ..Call::default()
        };
        let reply = self.call(&access, &call)?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.failure(&access, reply)),
        }
    }

    /// Sends a blob, unless the repository has it or can take it from another of the same registry.
    /// An upload that breaks goes on behind what the registry has of it, or else begins anew.
    ///
    /// # Errors
    /// If the registry refuses, or the content cannot be read.
    pub fn push_blob(
        &self,
        reference: &Reference,
        upload: Upload<'_>,
    ) -> Result<Pushed, RegistryError> {
        let Upload {
            digest,
            mount_from,
            content,
            progress,
        } = upload;
        if self.has_blob(reference, &digest)? {
            return Ok(Pushed::Existed);
        }
        let size = content.seek(SeekFrom::End(0));
        let mut sending = Sending {
            client: self,
            access: match mount_from {
                Some(repository) => Access::push(reference).and_pull(repository),
                None => Access::push(reference),
            },
            digest,
            location: String::new(),
            size: size.map_err(|error| cannot_read(&digest, &error))?,
            sent: 0,
            chunk: CHUNK,
            part: Vec::new(),
            failures: 0,
        };
        if !sending.begin(mount_from)? {
            return Ok(Pushed::Mounted);
        }
        progress(0);
        loop {
            sending.read(content)?;
            if sending.part.is_empty() || sending.goes_at_once() {
                if sending.finish(reference)? {
                    progress(sending.size);
                    return Ok(Pushed::Sent);
                }
            } else {
                sending.send_part()?;
                progress(sending.sent);
            }
        }
    }

    /// Gives a manifest to the repository, under its tag if `reference` has one, else under its digest.
    ///
    /// # Errors
    /// If the registry refuses it.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let access = Access::push(reference);
        let digest = Digest::of(bytes);
        let name = reference
            .tag()
            .map_or_else(|| digest.to_string(), str::to_owned);
        let call = Call {
            method: Method::Put,
            path: format!("manifests/{name}"),
            headers: vec![("content-type", media_type.to_owned())],
            body: bytes.into(),
            ..Call::default()
        };
        let reply = self.call(&access, &call)?;
        match reply.status {
            201 | 202 => Ok(digest),
            _ => Err(self.failure(&access, reply)),
        }
    }
}

impl Sending<'_> {
    /// Begins the upload; `false` if it is not needed, because the registry could take the blob from
    /// the other repository.
    fn begin(&mut self, mount_from: Option<&str>) -> Result<bool, RegistryError> {
        let path = match mount_from {
            Some(repository) => {
                format!("blobs/uploads/?mount={}&from={repository}", self.digest)
            }
            None => "blobs/uploads/".to_owned(),
        };
        let call = Call {
            method: Method::Post,
            path,
            ..Call::default()
        };
        let reply = self.client.call(&self.access, &call)?;
        match reply.status {
            201 => return Ok(false),
            202 => {}
            _ => return Err(self.client.failure(&self.access, reply)),
        }
        let least = reply.header("oci-chunk-min-length");
        let least = least.and_then(|it| it.parse::<u64>().ok());
        self.chunk = least.map_or(CHUNK, |it| it.clamp(CHUNK, MAX_CHUNK));
        self.location = location(&reply)?;
        self.sent = 0;
        Ok(true)
    }

    /// Reads what is sent next: nothing once all was sent.
    fn read(&mut self, content: &mut dyn Content) -> Result<(), RegistryError> {
        let length = self.size.saturating_sub(self.sent).min(self.chunk);
        self.part.clear();
        self.part
            .reserve_exact(usize::try_from(length).unwrap_or_default());
        let read = content
            .seek(SeekFrom::Start(self.sent))
            .and_then(|_| content.take(length).read_to_end(&mut self.part));
        read.map(drop).map_err(|error| {
            self.give_up();
            cannot_read(&self.digest, &error)
        })
    }

    /// Whether all of it goes with the word that it is whole, which spares a small blob a request. Where
    /// that was not taken it goes as a part.
    fn goes_at_once(&self) -> bool {
        self.failures == 0 && self.part.len() as u64 == self.size
    }

    /// Sends what was read.
    fn send_part(&mut self) -> Result<(), RegistryError> {
        let length = self.part.len() as u64;
        match self.patch() {
            Ok(location) => {
                self.location = location;
                self.sent += length;
                self.failures = 0;
                Ok(())
            }
            Err(failed) => self.recover(failed),
        }
    }

    fn patch(&self) -> Result<String, Failed> {
        let range = format!("{}-{}", self.sent, self.sent + self.part.len() as u64 - 1);
        let call = Call {
            method: Method::Patch,
            path: self.location.clone(),
            headers: vec![octets(), ("content-range", range)],
            body: Cow::Borrowed(&self.part),
            tries: Tries::One,
            ..Call::default()
        };
        let reply = self.client.call(&self.access, &call);
        let reply = reply.map_err(Failed::Broke)?;
        match reply.status {
            202 | 204 => location(&reply).map_err(Failed::Broke),
            _ => Err(Failed::Said(Box::new(reply))),
        }
    }

    /// Tells the registry that the rest will not come, so that it need not keep what it has. One that
    /// does not listen forgets it in its own time.
    fn give_up(&self) {
        let call = Call {
            method: Method::Delete,
            path: self.location.clone(),
            tries: Tries::One,
            ..Call::default()
        };
        if let Err(error) = self.client.call(&self.access, &call) {
            tracing::debug!(%error, digest = %self.digest, "the upload is left to the registry");
        }
    }

    /// Finds out what the registry has after a part that was not taken, and goes on behind that; or
    /// begins anew where it does not say.
    fn recover(&mut self, failed: Failed) -> Result<(), RegistryError> {
        let patience = self.client.patience();
        self.failures += 1;
        let is_last = self.failures >= patience.attempts;
        let mut wait = patience.delay * 2u32.saturating_pow(self.failures - 1);
        match failed {
            Failed::Said(reply) if may_go_on(&reply) && !is_last => wait = reply.pause(wait)?,
            Failed::Said(reply) => return Err(self.client.failure(&self.access, *reply)),
            Failed::Broke(error @ RegistryError::Http(_)) if !is_last => {
                tracing::debug!(%error, digest = %self.digest, "the upload broke");
            }
            Failed::Broke(error) => return Err(error),
        }
        std::thread::sleep(wait.min(Duration::from_secs(60)));
        match self.status() {
            Some((location, sent)) => (self.location, self.sent) = (location, sent),
            // What the other repository has would have been taken from there.
            None => drop(self.begin(None)?),
        }
        tracing::debug!(digest = %self.digest, sent = self.sent, "the upload goes on");
        Ok(())
    }

    /// What the registry has of the upload, and where that goes on.
    fn status(&self) -> Option<(String, u64)> {
        let call = Call {
            path: self.location.clone(),
            ..Call::default()
        };
        let reply = self.client.call(&self.access, &call).ok()?;
        if reply.status != 204 {
            return None;
        }
        let (_, last) = reply.header("range")?.rsplit_once('-')?;
        let sent = match last.parse::<u64>().ok()? {
            // One byte or none: registries say it alike.
            0 => 0,
            last => last + 1,
        };
        Some((location(&reply).ok()?, sent))
    }

    /// Says that the blob is whole with what was read; `false` if the upload has to go on.
    fn finish(&mut self, reference: &Reference) -> Result<bool, RegistryError> {
        let separator = if self.location.contains('?') {
            '&'
        } else {
            '?'
        };
        let call = Call {
            method: Method::Put,
            path: format!("{}{separator}digest={}", self.location, self.digest),
            headers: match self.part.is_empty() {
                true => Vec::new(),
                false => vec![octets()],
            },
            body: Cow::Borrowed(&self.part),
            tries: Tries::One,
            ..Call::default()
        };
        let failed = match self.client.call(&self.access, &call) {
            Ok(reply) if matches!(reply.status, 201 | 204) => return Ok(true),
            Ok(reply) => Failed::Said(Box::new(reply)),
            Err(error) => Failed::Broke(error),
        };
        // It may have been taken all the same.
        if self
            .client
            .has_blob(reference, &self.digest)
            .unwrap_or(false)
        {
            return Ok(true);
        }
        self.recover(failed)?;
        Ok(false)
    }
}

/// Whether a part that was refused may be taken when it is sent again: the registry is busy, or is
/// elsewhere in the blob than we think.
fn may_go_on(reply: &Reply) -> bool {
    reply.asks_for_patience() || matches!(reply.status, 400 | 404 | 409 | 416 | 499)
}

/// Where an upload goes on: an address of its own for every part.
fn location(reply: &Reply) -> Result<String, RegistryError> {
    let protocol = |why: &str| RegistryError::Protocol {
        url: reply.url.to_string(),
        why: why.to_owned(),
    };
    let location = reply
        .header("location")
        .ok_or_else(|| protocol("an upload without a `Location`"))?;
    let next = reply
        .url
        .join(location)
        .map_err(|_| protocol("its `Location` is no address"))?;
    Ok(next.into())
}

fn octets() -> (&'static str, String) {
    ("content-type", "application/octet-stream".to_owned())
}

fn cannot_read(digest: &Digest, error: &io::Error) -> RegistryError {
    RegistryError::Protocol {
        url: digest.to_string(),
        why: format!("cannot read the blob to send: {error}"),
    }
}
