//! Contexts that have to be fetched: from the standard input, from an address, from a repository.

use std::fs::File;
use std::io::{self, Read};
use std::time::Instant;

use export::Material;
use jiff::Timestamp;
use llb::op::{GitSource, GitTimes, HttpSource, Source};
use llb::{Key, KeyHasher, Op};
use lower::remote;
use oci::Digest;
use ops::{OpError, Ref};
use store::Record;

use super::archive::{self, START, Tar};
use super::{Context, Kept, LARGEST_TEXT, Stdin, known};
use crate::ledger::Ledger;
use crate::output::fetched;
use crate::report::{Errand, Reporter};
use crate::{BuildError, Engine, ReadError, Request};

/// BuildKit's name for the errand, wherever the context comes from.
const ERRAND: &str = "[internal] load remote build context";
const PIECE: usize = 256 << 10;
/// The largest tar that is taken: 64 GiB.
const LARGEST_TAR: u64 = 64 << 30;
/// The build-arg that says to keep `.git` (G119).
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
const STDIN: &str = "standard input";

/// Who fetches, and for whom.
pub(super) struct Fetching<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a Request,
    pub(super) reporter: &'a Reporter<'a>,
    pub(super) ledger: &'a Ledger,
}

impl Fetching<'_> {
    /// A tar or a Dockerfile, told apart by how it begins (G117).
    pub(super) fn stdin(&self) -> Result<Context, BuildError> {
        let failed = |source| ReadError::Stdin { source };
        let mut input = Stdin::open(&self.request.cancel).map_err(failed)?;
        let mut start = Vec::with_capacity(START);
        let began = input.by_ref().take(START as u64).read_to_end(&mut start);
        began.map_err(failed)?;
        let is_archive = archive::is_archive(&start);
        let mut input = io::Cursor::new(start).chain(input);
        if !is_archive {
            return Ok(Context::of_dockerfile(text(&mut input, STDIN)?));
        }
        let kept = self.reporter.errand(ERRAND, |errand| {
            let blob = self.spool(&mut input, errand)?;
            let kept = self.unpack(blob, STDIN);
            // It is known by its digest from now on; nobody needs its bytes.
            self.engine.store.discard_blobs(&[blob])?;
            kept
        })?;
        Ok(Context::of_snapshot(kept))
    }

    /// An address or a repository.
    pub(super) fn afar(&self, address: &str) -> Result<Context, BuildError> {
        let wrong = |source| ReadError::Address {
            address: llb::without_credentials(address),
            source,
        };
        let source = remote::remote_context(address).transpose().map_err(wrong)?;
        match source {
            Some(Source::Git(git)) => Ok(self.repository(git)?),
            Some(Source::Http(http)) => Ok(self.web(http)?),
            _ => Err(BuildError::Read(ReadError::NoContext {
                path: address.into(),
            })),
        }
    }

    /// What an address answers with: a tar, else a Dockerfile for an empty context.
    fn web(&self, http: HttpSource) -> Result<Context, ReadError> {
        let from = llb::without_credentials(&http.url);
        self.reporter.errand(ERRAND, |errand| {
            let fetch = || download(self.engine, self.request, http, errand);
            let size = |it: &Result<_, _>| it.as_ref().map_or(0, |(_, size)| *size);
            let (blob, _) = errand.part("transferring context:", fetch, size)?;
            let origin = Some(Material {
                uri: from.clone(),
                algorithm: "sha256".to_owned(),
                digest: blob.hex(),
            });
            let mut file = self.engine.store.open_blob(&blob)?;
            let start = start(&mut file, &from)?;
            if archive::is_archive(&start) {
                return Ok(Context::of_snapshot(self.unpack(blob, &from)?).from(origin));
            }
            let mut whole = io::Cursor::new(start).chain(file);
            Ok(Context::of_dockerfile(text(&mut whole, &from)?).from(origin))
        })
    }

    /// The files of a commit. As with a tar, ignore files of the context say nothing (G119).
    fn repository(&self, mut git: GitSource) -> Result<Context, ReadError> {
        let kept = self.request.build_args.get(KEEP_GIT_DIR);
        if kept.is_some_and(|it| matches!(it.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        {
            git.keep_git_dir = true;
        }
        // As BuildKit does: who wants times that mean something wants the commit's.
        let epoch = self.request.build_args.get(lower::SOURCE_DATE_EPOCH);
        if epoch.is_some_and(|it| !it.is_empty()) {
            git.times = GitTimes::Commit;
        }
        let source = Source::Git(git);
        let name = format!("[internal] load git source {}", remote::shown(&source));
        let (kept, origin) = self
            .reporter
            .errand(&name, |errand| self.check_out(&source, &name, errand))?;
        Ok(Context::of_snapshot(kept).from(origin))
    }

    fn check_out(
        &self,
        source: &Source,
        name: &str,
        errand: &Errand<'_>,
    ) -> Result<(Kept, Option<Material>), ReadError> {
        let tail = errand.tail();
        let context = ops::Context {
            session: self.request,
            log: &|stream, data| tail.write(stream, data),
            log_limits: ops::LogLimits::NONE,
            spent: &|_| {},
            cancel: &self.request.cancel,
        };
        let source = self.engine.ops.resolve(source, &context)?;
        let origin = fetched(&source);
        let key = KeyHasher::new("context git")
            .bytes(&serde_json::to_vec(&source).expect("a source is plain data"))
            .finish();
        if let Some(known) = known(self.engine, &key)? {
            self.ledger.found(key);
            return Ok((known, origin));
        }
        let (started, begun) = (Timestamp::now(), Instant::now());
        let brought = self
            .engine
            .ops
            .run(&Op::Source(source.clone()), &[], &context)?;
        let Some(Ref::Snapshot(Some(id))) = brought.into_iter().next() else {
            unreachable!("a repository is a snapshot")
        };
        let Source::Git(git) = &source else {
            unreachable!("it stays a repository")
        };
        self.engine.store.record(&Record {
            key,
            kind: "content".to_owned(),
            preimage: serde_json::json!({ "context": remote::shown(&source), "commit": git.pin }),
            outputs: vec![Some(id)],
            name: name.to_owned(),
            started,
            duration: begun.elapsed(),
            project: self.request.project(),
            made: None,
            spent: None,
        })?;
        Ok((Kept { id, lease: None }, origin))
    }

    /// Puts what comes into the store, as it is.
    fn spool(&self, input: &mut dyn Read, errand: &Errand<'_>) -> Result<Digest, ReadError> {
        let copy = || {
            let mut writer = self.engine.store.blob_writer()?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = input.read(&mut piece);
                match read.map_err(|source| ReadError::Stdin { source })? {
                    0 => return Ok(writer.commit()?),
                    length => writer.append(&piece[..length])?,
                }
                if writer.written() > LARGEST_TAR {
                    return Err(ReadError::TooLarge {
                        from: STDIN.to_owned(),
                        limit: LARGEST_TAR,
                    });
                }
            }
        };
        let size = |it: &Result<(Digest, u64), ReadError>| it.as_ref().map_or(0, |it| it.1);
        Ok(errand.part("transferring context:", copy, size)?.0)
    }

    fn unpack(&self, blob: Digest, from: &str) -> Result<Kept, ReadError> {
        let tar = Tar {
            blob,
            from,
            errand: ERRAND,
        };
        let kept = tar.unpack(self.engine, self.request)?;
        if kept.lease.is_some() {
            let key: Key = tar.key();
            self.ledger.found(key);
        }
        Ok(kept)
    }
}

/// A file of the web as a blob of the store, and its size. What has not changed is not sent again.
fn download(
    engine: &Engine,
    request: &Request,
    http: HttpSource,
    errand: &Errand<'_>,
) -> Result<(Digest, u64), ReadError> {
    let tail = errand.tail();
    let context = ops::Context {
        session: request,
        log: &|stream, data| tail.write(stream, data),
        log_limits: ops::LogLimits::NONE,
        spent: &|_| {},
        cancel: &request.cancel,
    };
    let resolved = engine.ops.resolve(&Source::Http(http), &context)?;
    let Source::Http(HttpSource { pin: Some(pin), .. }) = resolved else {
        unreachable!("what is resolved has a pin")
    };
    let size = engine.store.blob_size(&pin.content)?;
    Ok((pin.content, size))
}

/// A text of the web (`-f https://…`).
pub(crate) fn text_of(
    engine: &Engine,
    request: &Request,
    address: &str,
    errand: &Errand<'_>,
) -> Result<Vec<u8>, ReadError> {
    let from = llb::without_credentials(address);
    let (blob, _) = download(
        engine,
        request,
        remote::http(address, "Dockerfile".to_owned()),
        errand,
    )?;
    text(&mut engine.store.open_blob(&blob)?, &from)
}

fn start(file: &mut File, from: &str) -> Result<Vec<u8>, ReadError> {
    let mut start = Vec::with_capacity(START);
    let read = file.take(START as u64).read_to_end(&mut start);
    match read {
        Ok(_) => Ok(start),
        Err(source) => Err(ReadError::Text {
            from: from.to_owned(),
            source,
        }),
    }
}

/// All of a Dockerfile, which is no larger than anyone would write it.
fn text(input: &mut dyn Read, from: &str) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    let read = input.take(LARGEST_TEXT + 1).read_to_end(&mut text);
    read.map_err(|source| ReadError::Text {
        from: from.to_owned(),
        source,
    })?;
    if text.len() as u64 > LARGEST_TEXT {
        return Err(ReadError::TooLarge {
            from: from.to_owned(),
            limit: LARGEST_TEXT,
        });
    }
    Ok(text)
}

impl From<OpError> for ReadError {
    fn from(error: OpError) -> Self {
        Self::Fetch(Box::new(error))
    }
}
