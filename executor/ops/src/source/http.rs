//! Files of the web. A server is asked each time, and sends again only what has changed (G85).
//!
//! What an address answered with stays in the store as a blob, and beside it what the server called
//! it; with that the next question is whether it still is the same.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::fmt::rfc2822;
use llb::op::{HttpPin, HttpSource};
use llb::{Key, KeyHasher};
use oci::Digest;
use registry::http::{HttpError, Request, Retry};
use rustix::fs::{Mode, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use snapshot::SnapshotError;
use store::StoreError;
use url::Url;

use super::claim;
use crate::{Cancel, Context, Ops, Ref};

/// The largest file that is taken from the web: 64 GiB.
const MOST_BYTES: u64 = 64 << 30;
const PIECE: usize = 64 << 10;
/// How many pieces may wait to be written.
const PIECES: usize = 16;
/// How often a download looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);
/// What is remembered of an address.
const ANSWER: &str = "answer";
/// The longest name of a file.
const LONGEST_NAME: usize = 255;

/// Why a file of the web cannot be had. Addresses are shown without credentials.
#[derive(Debug, thiserror::Error)]
pub enum HttpSourceError {
    /// Nobody answers.
    #[error("failed to load {url}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The server answers with an error.
    #[error("failed to load {url}: invalid response status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer ends in the middle.
    #[error("failed to load {url}: the answer ends in the middle")]
    Broken {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than anyone would fetch.
    #[error("{url} has more than {MOST_BYTES} bytes")]
    TooLarge {
        /// The address.
        url: String,
    },
    /// The content is not what was asked for.
    #[error("digest mismatch for {url}: {got} (expected: {expected})")]
    Digest {
        /// The address.
        url: String,
        /// What came.
        got: Digest,
        /// What was to come.
        expected: Digest,
    },
    /// Between asking and fetching the content became another.
    #[error("{url} changed while the build ran")]
    Changed {
        /// The address.
        url: String,
    },
    /// No name of a file.
    #[error("{name:?} cannot be the name of a file")]
    Name {
        /// The name.
        name: String,
    },
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The snapshot of the file could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not wanted any more.
    #[error("canceled")]
    Cancelled,
}

/// The client, set up when it is first used: that reads the system's certificates.
#[derive(Debug, Default)]
pub(crate) struct Http {
    client: std::sync::OnceLock<registry::http::Http>,
}

impl Http {
    fn client(&self) -> &registry::http::Http {
        self.client
            .get_or_init(|| registry::http::Http::new(Retry::default()))
    }
}

/// What a server said of an address, beside the content's blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    content: Digest,
    etag: Option<String>,
    /// As the server wrote it.
    last_modified: Option<String>,
}

impl Answer {
    fn pin(&self) -> HttpPin {
        HttpPin {
            content: self.content,
            last_modified: self.last_modified.as_deref().and_then(seconds),
        }
    }
}

/// An answer as it is kept: behind its digest, since one that was damaged might still make sense.
fn sealed(answer: &Answer) -> Vec<u8> {
    let text = serde_json::to_vec(answer).expect("an answer is plain data");
    [Digest::of(&text).to_string().as_bytes(), b"\n", &text].concat()
}

fn unsealed(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (digest, text) = (&bytes[..end], &bytes[end + 1..]);
    let is_whole = Digest::of(text).to_string().as_bytes() == digest;
    is_whole
        .then(|| serde_json::from_slice(text).ok())
        .flatten()
}

/// Seconds since 1970 of a time in HTTP's words.
fn seconds(text: &str) -> Option<i64> {
    let time = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(time.as_second())
}

/// What the address answers with now. One whose content is given need not be asked.
pub(super) fn resolve(
    ops: &Ops,
    http: &HttpSource,
    context: &Context<'_>,
) -> Result<HttpSource, HttpSourceError> {
    if http.pin.is_some() {
        return Ok(http.clone());
    }
    let pin = match http.checksum {
        Some(content) => HttpPin {
            content,
            last_modified: None,
        },
        None => Address::of(ops, http)?.ask(context)?.pin(),
    };
    Ok(HttpSource {
        pin: Some(pin),
        ..http.clone()
    })
}

/// The content as a file in a snapshot of its own.
pub(super) fn bring(
    ops: &Ops,
    http: &HttpSource,
    context: &Context<'_>,
) -> Result<Ref, HttpSourceError> {
    let name = checked_name(&http.filename)?;
    let pinned = resolve(ops, http, context)?;
    let pin = pinned.pin.expect("a resolved source has a pin");
    let address = Address::of(ops, http)?;
    let answer = address.have(&pin, http.checksum, context)?;
    let last_modified = pin
        .last_modified
        .or(answer.and_then(|it| it.pin().last_modified));
    let blob = ops.store.blob_path(&pin.content)?;
    let active = ops.snapshots.prepare(None)?;
    let path = active.upper().join(name);
    write_file(&blob, &path, http, last_modified.unwrap_or(0))
        .map_err(|source| HttpSourceError::Write { path, source })?;
    Ok(Ref::Snapshot(Some(active.commit()?)))
}

/// The name, if it is one component that a file system takes.
fn checked_name(name: &str) -> Result<&str, HttpSourceError> {
    let fits = !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST_NAME
        && !name.contains(['/', '\0']);
    match fits {
        true => Ok(name),
        false => Err(HttpSourceError::Name {
            name: name.to_owned(),
        }),
    }
}

fn write_file(blob: &Path, path: &Path, http: &HttpSource, mtime: i64) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::copy(&mut File::open(blob)?, &mut file)?;
    snapshot::owner::give(&file, http.owner)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(http.mode))?;
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::futimens(file.as_fd(), &times)?)
}

/// An address with what is known of it.
struct Address<'a> {
    ops: &'a Ops,
    url: Url,
    /// For people.
    shown: String,
    key: Key,
}

/// Whether a server may say that nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Anew,
    WhetherChanged,
}

impl<'a> Address<'a> {
    fn of(ops: &'a Ops, http: &HttpSource) -> Result<Self, HttpSourceError> {
        let shown = llb::without_credentials(&http.url);
        let url = Url::parse(&http.url).map_err(|_| HttpSourceError::Unreachable {
            url: shown.clone(),
            source: HttpError::Address { url: shown.clone() },
        })?;
        let key = KeyHasher::new("http").text(&http.url).finish();
        Ok(Self {
            ops,
            url,
            shown,
            key,
        })
    }

    /// What the address answers with now.
    fn ask(&self, context: &Context<'_>) -> Result<Answer, HttpSourceError> {
        let _lock =
            claim(self.ops, &self.key, context.cancel)?.ok_or(HttpSourceError::Cancelled)?;
        self.fetch(Asked::WhetherChanged, context)
    }

    /// Makes sure that the content is in the store; what the server said of it, if it did.
    fn have(
        &self,
        pin: &HttpPin,
        checksum: Option<Digest>,
        context: &Context<'_>,
    ) -> Result<Option<Answer>, HttpSourceError> {
        let _lock =
            claim(self.ops, &self.key, context.cancel)?.ok_or(HttpSourceError::Cancelled)?;
        if self.ops.store.has_blob(&pin.content)? {
            let known = self.known().filter(|it| it.content == pin.content);
            return Ok(known);
        }
        let answer = self.fetch(Asked::Anew, context)?;
        if answer.content == pin.content {
            return Ok(Some(answer));
        }
        self.ops.store.discard_blobs(&[answer.content])?;
        Err(match checksum {
            Some(expected) => HttpSourceError::Digest {
                url: self.shown.clone(),
                got: answer.content,
                expected,
            },
            None => HttpSourceError::Changed {
                url: self.shown.clone(),
            },
        })
    }

    fn fetch(&self, asked: Asked, context: &Context<'_>) -> Result<Answer, HttpSourceError> {
        let known = self.known().filter(|_| asked == Asked::WhetherChanged);
        let download = Download {
            address: self,
            cancel: context.cancel,
        };
        let ask = || download.run(self.request(known.as_ref(), context));
        let fetched = match ask() {
            // Connections break; a server that breaks two in a row is at fault.
            Err(HttpSourceError::Broken { .. }) => ask()?,
            fetched => fetched?,
        };
        let answer = match (fetched, known) {
            (Some(answer), _) => answer,
            // It says that nothing changed, and knows best what it calls it now.
            (None, Some(known)) => return Ok(known),
            (None, None) => {
                return Err(HttpSourceError::Status {
                    url: self.shown.clone(),
                    status: 304,
                });
            }
        };
        self.remember(&answer)?;
        Ok(answer)
    }

    fn known(&self) -> Option<Answer> {
        let directory = self.ops.store.source_directory(&self.key).ok()?;
        let path = directory.join(ANSWER);
        // Whatever else is there says nothing, and a pipe would keep us waiting for it.
        let is_file = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file());
        if !is_file {
            return None;
        }
        unsealed(&fs::read(path).ok()?)
    }

    /// Written beside and renamed, so that half an answer is never read.
    fn remember(&self, answer: &Answer) -> Result<(), HttpSourceError> {
        let directory = self.ops.store.source_directory(&self.key)?;
        let bytes = sealed(answer);
        let (path, new) = (directory.join(ANSWER), directory.join("answer.new"));
        if path.is_dir() {
            let _ = fs::remove_dir_all(&path);
        }
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| HttpSourceError::Write { path, source })
    }

    fn request(&self, known: Option<&Answer>, context: &Context<'_>) -> Request<'static> {
        let mut headers = vec![("accept", "*/*".to_owned())];
        if let Some(known) = known {
            match (&known.etag, &known.last_modified) {
                (Some(etag), _) => headers.push(("if-none-match", etag.clone())),
                (None, Some(time)) => headers.push(("if-modified-since", time.clone())),
                (None, None) => {}
            }
        }
        let mut url = self.url.clone();
        // Credentials travel in a header and nowhere else; clearing them fails only where there are none.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        Request {
            url: url.to_string(),
            headers,
            authorization: self.authorization(context),
            ..Request::default()
        }
    }

    /// What proves who asks: from the address, else from the session's secrets (G88). The secrets
    /// are not told where anyone on the way could read them.
    fn authorization(&self, context: &Context<'_>) -> Option<String> {
        let host = self.url.host_str()?;
        if !self.url.username().is_empty() || self.url.password().is_some() {
            let plain = |text: &str| {
                let bytes: Vec<u8> = percent_decoded(text);
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let password = self.url.password().unwrap_or_default();
            let pair = format!("{}:{}", plain(self.url.username()), plain(password));
            return Some(format!("Basic {}", BASE64.encode(pair)));
        }
        if self.url.scheme() != "https" && !is_loopback(host) {
            return None;
        }
        let with_port = self.url.port().map(|port| format!("{host}:{port}"));
        let hosts = with_port.as_deref().into_iter().chain([host]);
        for host in hosts {
            let secret = |kind: &str| {
                let value = context
                    .session
                    .secret(&format!("HTTP_AUTH_{kind}_{host}"))?;
                let value = String::from_utf8(value).ok()?.trim().to_owned();
                (!value.is_empty() && !value.contains(['\r', '\n'])).then_some(value)
            };
            if let Some(header) = secret("HEADER") {
                return Some(header);
            }
            if let Some(token) = secret("TOKEN") {
                return Some(format!("Bearer {token}"));
            }
        }
        None
    }
}

pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|it| it.is_loopback())
}

/// One question and its answer.
struct Download<'a> {
    address: &'a Address<'a>,
    cancel: &'a Cancel,
}

/// What the thread that talks to the server tells.
enum Piece {
    /// The answer begins: status, ETag, Last-Modified.
    Head(u16, Option<String>, Option<String>),
    Bytes(Vec<u8>),
    End,
    Unreachable(HttpError),
    Broken(io::Error),
}

impl Download<'_> {
    /// The answer, its content in the store; `None` if the server says that nothing changed.
    ///
    /// A thread of its own talks to the server, and is left to itself when the answer is not wanted
    /// any more: a silent server cannot hold up who gives up.
    fn run(&self, request: Request<'static>) -> Result<Option<Answer>, HttpSourceError> {
        let (sender, receiver) = mpsc::sync_channel(PIECES);
        let client = self.address.ops.http.client().clone();
        thread::spawn(move || talk(&client, &request, &sender));
        let next = || loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) if !self.cancel.is_cancelled() => {}
                Err(_) => return Err(HttpSourceError::Cancelled),
            }
        };
        let url = || self.address.shown.clone();
        let (etag, last_modified) = match next()? {
            Piece::Head(200, etag, last_modified) => (etag, last_modified),
            Piece::Head(304, ..) => return Ok(None),
            Piece::Head(status, ..) => return Err(HttpSourceError::Status { url: url(), status }),
            Piece::Unreachable(source) => {
                return Err(HttpSourceError::Unreachable { url: url(), source });
            }
            Piece::Broken(source) => return Err(HttpSourceError::Broken { url: url(), source }),
            Piece::Bytes(_) | Piece::End => unreachable!("an answer begins with its head"),
        };
        let mut writer = self.address.ops.store.blob_writer()?;
        loop {
            match next()? {
                Piece::Bytes(bytes) => writer.append(&bytes)?,
                Piece::Broken(source) => {
                    return Err(HttpSourceError::Broken { url: url(), source });
                }
                _ => break,
            }
            if writer.written() > MOST_BYTES {
                return Err(HttpSourceError::TooLarge { url: url() });
            }
        }
        let (content, _) = writer.commit()?;
        Ok(Some(Answer {
            content,
            etag,
            last_modified,
        }))
    }
}

/// Asks and passes the answer on, until it ends or nobody listens.
fn talk(client: &registry::http::Http, request: &Request<'_>, sender: &SyncSender<Piece>) {
    let reply = match client.send(request) {
        Ok(reply) => reply,
        Err(error) => return drop(sender.send(Piece::Unreachable(error))),
    };
    let header = |name: &str| reply.header(name).map(str::to_owned);
    let head = Piece::Head(reply.status, header("etag"), header("last-modified"));
    let wanted = reply.status == 200;
    if sender.send(head).is_err() || !wanted {
        return;
    }
    let mut body = reply.into_reader();
    loop {
        let mut piece = vec![0; PIECE];
        let told = match body.read(&mut piece) {
            Ok(0) => return drop(sender.send(Piece::End)),
            Ok(length) => {
                piece.truncate(length);
                sender.send(Piece::Bytes(piece))
            }
            Err(error) => return drop(sender.send(Piece::Broken(error))),
        };
        if told.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_damaged_anywhere_is_none() {
        let answer = Answer {
            content: Digest::of(b"content"),
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
        };
        let kept = sealed(&answer);
        assert_eq!(unsealed(&kept), Some(answer));
        for at in 0..kept.len() {
            let mut damaged = kept.clone();
            damaged[at] ^= 1;
            assert_eq!(unsealed(&damaged), None, "byte {at}");
            assert_eq!(unsealed(&kept[..at]), None, "{at} bytes");
        }
    }
}
