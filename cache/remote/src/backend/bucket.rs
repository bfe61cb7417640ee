//! A cache in a bucket of a server that speaks S3.

use std::io::{self, Read};
use std::time::Duration;

use registry::Content;
use registry::http::{Http, Method, Reply, Request, Retry};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use rusty_s3::{Credentials, S3Action as _, UrlStyle};
use url::Url;

use super::{Backend, BackendError, Kept, MAX_MANIFEST, Put};
use crate::Blob;

/// How long a signature is good for: longer than any one request may take.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// What is sent at once; anything larger goes in parts of this size.
const PART: usize = 16 << 20;
/// The most parts that an object may have, which makes the parts of a huge one larger.
const MOST_PARTS: u64 = 10_000;
/// The largest answer in words that is read.
const MAX_WORDS: u64 = 1 << 20;

/// A bucket and where in it a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The server; that of the region at Amazon where `None`.
    pub endpoint: Option<Url>,
    /// Whether the bucket stands in the path of addresses instead of in front of the host.
    pub path_style: bool,
    /// The region, `us-east-1`.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What stands before the key of every object.
    pub prefix: String,
    /// Behind that, what stands before a blob's digest: `blobs/`.
    pub blobs_prefix: String,
    /// Behind that, what stands before a name: `manifests/`.
    pub manifests_prefix: String,
    /// The names of the cache. It is written under all of them and read from the first that there is.
    pub names: Vec<String>,
}

/// A cache in a bucket of a server that speaks S3.
pub struct Bucket {
    http: Http,
    bucket: rusty_s3::Bucket,
    credentials: Option<Credentials>,
    keys: Keys,
}

impl Bucket {
    /// The cache at `keys`, reached as `credentials` (id, secret and session token) or as nobody.
    ///
    /// # Errors
    /// With a word about the address, if a bucket can have no such one.
    pub fn new(
        keys: Keys,
        credentials: Option<(String, String, Option<String>)>,
    ) -> Result<Self, String> {
        let endpoint = match &keys.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{}.amazonaws.com", keys.region)
                .parse()
                .map_err(|_| format!("`{}` is no region", keys.region))?,
        };
        // An address has no names below it.
        let is_address = !matches!(endpoint.host(), Some(url::Host::Domain(_)));
        let style = match keys.path_style || is_address {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let bucket = rusty_s3::Bucket::new(
            endpoint.clone(),
            style,
            keys.bucket.clone(),
            keys.region.clone(),
        )
        .map_err(|_| format!("`{endpoint}` is no address for bucket `{}`", keys.bucket))?;
        let credentials = credentials.map(|(id, secret, token)| match token {
            Some(token) => Credentials::new_with_token(id, secret, token),
            None => Credentials::new(id, secret),
        });
        Ok(Self {
            http: Http::new(Retry::default()),
            bucket,
            credentials,
            keys,
        })
    }

    fn blob_key(&self, blob: &Blob) -> String {
        format!(
            "{}{}{}",
            self.keys.prefix, self.keys.blobs_prefix, blob.digest
        )
    }

    fn manifest_key(&self, name: &str) -> String {
        format!("{}{}{name}", self.keys.prefix, self.keys.manifests_prefix)
    }

    fn send(&self, method: Method, url: &Url, body: Vec<u8>) -> Result<Reply, BackendError> {
        let request = Request {
            method,
            url: url.to_string(),
            body: body.into(),
            ..Request::default()
        };
        Ok(self.http.send(&request)?)
    }

    fn get(&self, key: &str) -> Result<Reply, BackendError> {
        let action = self.bucket.get_object(self.credentials.as_ref(), key);
        self.send(Method::Get, &action.sign(SIGNED_FOR), Vec::new())
    }

    fn put_whole(&self, key: &str, bytes: Vec<u8>) -> Result<(), BackendError> {
        let action = self.bucket.put_object(self.credentials.as_ref(), key);
        let reply = self.send(Method::Put, &action.sign(SIGNED_FOR), bytes)?;
        self.accept(key, reply).map(drop)
    }

    fn put_in_parts(
        &self,
        blob: &Blob,
        first: Vec<u8>,
        content: &mut dyn Content,
        progress: &dyn Fn(u64),
    ) -> Result<(), BackendError> {
        let key = &self.blob_key(blob);
        let upload = self.begin(key)?;
        let sent = self.send_parts(&upload, blob, first, (content, progress));
        if sent.is_err() {
            // What was sent costs money until somebody says that nothing comes of it.
            let action = self.bucket.abort_multipart_upload(
                self.credentials.as_ref(),
                &upload.key,
                &upload.id,
            );
            let _ = self.send(Method::Delete, &action.sign(SIGNED_FOR), Vec::new());
        }
        sent
    }

    fn begin(&self, key: &str) -> Result<Parts, BackendError> {
        let action = self
            .bucket
            .create_multipart_upload(self.credentials.as_ref(), key);
        let reply = self.send(Method::Post, &action.sign(SIGNED_FOR), Vec::new())?;
        let text = self.accept(key, reply)?;
        let begun = CreateMultipartUpload::parse_response(&text)
            .map_err(|error| self.protocol(key, &error))?;
        Ok(Parts {
            key: key.to_owned(),
            id: begun.upload_id().to_owned(),
        })
    }

    fn send_parts(
        &self,
        upload: &Parts,
        blob: &Blob,
        first: Vec<u8>,
        (content, progress): (&mut dyn Content, &dyn Fn(u64)),
    ) -> Result<(), BackendError> {
        let credentials = self.credentials.as_ref();
        let Parts { key, id } = upload;
        let mut etags: Vec<String> = Vec::new();
        let mut sent = 0;
        let mut part = first;
        while !part.is_empty() {
            let number = u16::try_from(etags.len() + 1).unwrap_or(u16::MAX);
            let action = self.bucket.upload_part(credentials, key, number, id);
            sent += part.len() as u64;
            let reply = self.send(Method::Put, &action.sign(SIGNED_FOR), part)?;
            let etag = reply.header("etag").map(str::to_owned);
            self.accept(key, reply)?;
            etags.push(etag.ok_or_else(|| self.protocol(key, &"a part without an `ETag`"))?);
            progress(sent);
            part =
                take_part(content, part_size(blob)).map_err(|source| unreadable(blob, source))?;
        }
        let etags = || etags.iter().map(String::as_str);
        let action = self
            .bucket
            .complete_multipart_upload(credentials, key, id, etags());
        let url = action.sign(SIGNED_FOR);
        let body = action.body().into_bytes();
        let text = self.accept(key, self.send(Method::Post, &url, body)?)?;
        // S3 may begin with 200 and end with an error.
        CompleteMultipartUploadResponse::parse(&text).map_err(|_| self.protocol(key, &text))?;
        Ok(())
    }

    /// The words of an answer, if it is one of success.
    fn accept(&self, key: &str, mut reply: Reply) -> Result<String, BackendError> {
        match reply.status {
            200..=299 => {
                let body = reply.read_limited(MAX_WORDS).ok().flatten();
                Ok(String::from_utf8_lossy(&body.unwrap_or_default()).into_owned())
            }
            _ => Err(self.failure(key, reply)),
        }
    }

    fn failure(&self, key: &str, mut reply: Reply) -> BackendError {
        let status = reply.status;
        let body = reply.read_limited(MAX_WORDS).ok().flatten();
        let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        let words = [element(&text, "Code"), element(&text, "Message")];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let message = match &words[..] {
            [] => String::new(),
            words => format!(": {}", words.join(": ")),
        };
        BackendError::Status {
            what: key.to_owned(),
            bucket: self.keys.bucket.clone(),
            status,
            message,
        }
    }

    fn protocol(&self, key: &str, why: &dyn std::fmt::Display) -> BackendError {
        BackendError::Protocol {
            what: key.to_owned(),
            bucket: self.keys.bucket.clone(),
            why: why.to_string(),
        }
    }
}

/// An upload in parts.
struct Parts {
    key: String,
    id: String,
}

impl Backend for Bucket {
    fn name(&self) -> String {
        format!("{}/{}", self.keys.bucket, self.keys.names.join(","))
    }

    fn kind(&self) -> &'static str {
        "s3"
    }

    fn manifest(&self) -> Result<Option<Kept>, BackendError> {
        for name in &self.keys.names {
            let key = self.manifest_key(name);
            let mut reply = self.get(&key)?;
            match reply.status {
                200 => {}
                404 => continue,
                _ => return Err(self.failure(&key, reply)),
            }
            let bytes = reply
                .read_limited(MAX_MANIFEST)
                .map_err(|error| self.protocol(&key, &error))?
                .ok_or_else(|| self.protocol(&key, &"it is too large for a manifest"))?;
            return Ok(Some(Kept {
                media_type: oci::media_type::MANIFEST.to_owned(),
                bytes,
            }));
        }
        Ok(None)
    }

    fn open(&self, blob: &Blob) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let key = self.blob_key(blob);
        let reply = self.get(&key)?;
        match reply.status {
            200 => Ok(Box::new(reply.into_reader())),
            _ => Err(self.failure(&key, reply)),
        }
    }

    fn has(&self, blob: &Blob) -> Result<bool, BackendError> {
        let key = self.blob_key(blob);
        let action = self.bucket.head_object(self.credentials.as_ref(), &key);
        let reply = self.send(Method::Head, &action.sign(SIGNED_FOR), Vec::new())?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.failure(&key, reply)),
        }
    }

    fn put(
        &self,
        blob: &Blob,
        content: &mut dyn Content,
        progress: &dyn Fn(u64),
    ) -> Result<Put, BackendError> {
        if self.has(blob)? {
            return Ok(Put::Existed);
        }
        let size = part_size(blob);
        let first = take_part(content, size).map_err(|source| unreadable(blob, source))?;
        if first.len() < size {
            let length = first.len() as u64;
            self.put_whole(&self.blob_key(blob), first)?;
            progress(length);
            return Ok(Put::Sent);
        }
        self.put_in_parts(blob, first, content, progress)?;
        Ok(Put::Sent)
    }

    fn put_manifest(&self, _media_type: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.keys
            .names
            .iter()
            .try_for_each(|name| self.put_whole(&self.manifest_key(name), bytes.to_vec()))
    }
}

impl std::fmt::Debug for Bucket {
    /// Leaves credentials out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn part_size(blob: &Blob) -> usize {
    let least = usize::try_from(blob.size / MOST_PARTS + 1).unwrap_or(usize::MAX);
    PART.max(least)
}

fn take_part(content: &mut dyn Content, size: usize) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    content.take(size as u64).read_to_end(&mut part)?;
    Ok(part)
}

fn unreadable(blob: &Blob, source: io::Error) -> BackendError {
    BackendError::Content {
        blob: blob.digest,
        source,
    }
}

/// The text of the first element of this name, as far as an error's words need it.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once("</")?;
    Some(inner).filter(|inner| !inner.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(endpoint: Option<&str>, path_style: bool) -> Keys {
        Keys {
            endpoint: endpoint.map(|it| it.parse().unwrap()),
            path_style,
            region: "eu-west-1".to_owned(),
            bucket: "caches".to_owned(),
            prefix: "ci/".to_owned(),
            blobs_prefix: "blobs/".to_owned(),
            manifests_prefix: "manifests/".to_owned(),
            names: vec!["main".to_owned()],
        }
    }

    #[test]
    fn an_object_has_the_address_that_its_server_expects() {
        let address = |keys: Keys| {
            let bucket = Bucket::new(keys, None).unwrap();
            bucket
                .bucket
                .object_url(&bucket.manifest_key("main"))
                .to_string()
        };
        let table = [
            (
                keys(None, false),
                "https://caches.s3.eu-west-1.amazonaws.com/ci/manifests/main",
            ),
            (
                keys(None, true),
                "https://s3.eu-west-1.amazonaws.com/caches/ci/manifests/main",
            ),
            (
                keys(Some("http://127.0.0.1:9000"), false),
                "http://127.0.0.1:9000/caches/ci/manifests/main",
            ),
            (
                keys(Some("https://minio.example"), false),
                "https://caches.minio.example/ci/manifests/main",
            ),
        ];
        for (keys, expected) in table {
            assert_eq!(address(keys), expected);
        }
    }

    #[test]
    fn a_server_says_why_in_two_elements() {
        let text = "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>No such bucket.</Message></Error>";
        assert_eq!(element(text, "Code"), Some("NoSuchBucket"));
        assert_eq!(element(text, "Message"), Some("No such bucket."));
        assert_eq!(element(text, "Key"), None);
    }
}
