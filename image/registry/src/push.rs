//! Giving blobs and manifests to a registry.

use std::io::{self, Read};

use oci::{Digest, Reference};

use crate::client::{Access, Call};
use crate::http::{Method, Reply};
use crate::{Client, RegistryError};

/// How much of a blob is sent at once: what a broken connection costs at most.
const CHUNK: usize = 8 << 20;

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

/// A blob to send.
pub struct Upload<'a> {
    /// Its name.
    pub digest: Digest,
    /// A repository of the same registry that is known to have it.
    pub mount_from: Option<&'a str>,
    /// Its bytes, read only if they must be sent.
    pub content: &'a mut dyn Read,
    /// Is told how many bytes were sent so far.
    pub progress: &'a dyn Fn(u64),
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
        let digest = &digest;
        if self.has_blob(reference, digest)? {
            return Ok(Pushed::Existed);
        }
        let access = match mount_from {
            Some(repository) => Access::push(reference).and_pull(repository),
            None => Access::push(reference),
        };
        let path = match mount_from {
            Some(repository) => format!("blobs/uploads/?mount={digest}&from={repository}"),
            None => "blobs/uploads/".to_owned(),
        };
        let reply = self.call(
            &access,
            &Call {
                method: Method::Post,
                path,
                ..Call::default()
            },
        )?;
        match reply.status {
            201 => return Ok(Pushed::Mounted),
            202 => {}
            _ => return Err(self.failure(&access, reply)),
        }
        let mut location = location(&reply)?;
        let mut sent = 0;
        loop {
            let mut chunk = Vec::new();
            content
                .take(CHUNK as u64)
                .read_to_end(&mut chunk)
                .map_err(|error| cannot_read(digest, &error))?;
            if chunk.is_empty() {
                break;
            }
            let range = format!("{sent}-{}", sent + chunk.len() as u64 - 1);
            sent += chunk.len() as u64;
            let call = Call {
                method: Method::Patch,
                path: location,
                headers: vec![
                    ("content-type", "application/octet-stream".to_owned()),
                    ("content-range", range),
                ],
                body: chunk,
            };
            let reply = self.call(&access, &call)?;
            if !matches!(reply.status, 202 | 204) {
                return Err(self.failure(&access, reply));
            }
            location = self::location(&reply)?;
            progress(sent);
        }
        let separator = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        let reply = self.call(
            &access,
            &Call {
                method: Method::Put,
                path,
                ..Call::default()
            },
        )?;
        match reply.status {
            201 | 204 => Ok(Pushed::Sent),
            _ => Err(self.failure(&access, reply)),
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
            body: bytes.to_vec(),
        };
        let reply = self.call(&access, &call)?;
        match reply.status {
            201 | 202 => Ok(digest),
            _ => Err(self.failure(&access, reply)),
        }
    }
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

fn cannot_read(digest: &Digest, error: &io::Error) -> RegistryError {
    RegistryError::Protocol {
        url: digest.to_string(),
        why: format!("cannot read the blob to send: {error}"),
    }
}
