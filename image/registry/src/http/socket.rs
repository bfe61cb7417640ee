//! HTTP over a socket of this machine, as daemons speak it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// A daemon behind a socket.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    agent: ureq::Agent,
}

/// Why a daemon did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody is there.
    #[error("cannot reach `{}`", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It stops in the middle, or answers with an error.
    #[error("`{}` {why}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it says, or what happened.
        why: String,
    },
}

impl Socket {
    /// The daemon at `path`. Says nothing yet.
    pub fn new(path: &Path) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self {
            path: path.to_owned(),
            agent: ureq::Agent::with_parts(config, Opened(path.to_owned()), Nowhere),
        }
    }

    /// What the daemon has at an address, which begins with `/`.
    ///
    /// # Errors
    /// If it does not answer, or not with success.
    pub fn get(&self, address: &str) -> Result<Vec<u8>, SocketError> {
        self.reach()?;
        let answer = self.agent.get(format!("http://daemon{address}")).call();
        self.read(answer)
    }

    /// Sends what can be read, and gives the answer.
    ///
    /// # Errors
    /// As [`Socket::get`].
    pub fn post(
        &self,
        address: &str,
        media_type: &str,
        body: &mut dyn Read,
    ) -> Result<Vec<u8>, SocketError> {
        self.reach()?;
        let request = self.agent.post(format!("http://daemon{address}"));
        let request = request.header("content-type", media_type);
        self.read(request.send(ureq::SendBody::from_reader(body)))
    }

    /// Asks before anything is sent, so that the system's own word is heard.
    fn reach(&self) -> Result<(), SocketError> {
        UnixStream::connect(&self.path)
            .map(drop)
            .map_err(|source| SocketError::Absent {
                path: self.path.clone(),
                source,
            })
    }

    fn read(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Vec<u8>, SocketError> {
        let refused = |why: String| SocketError::Refused {
            path: self.path.clone(),
            why,
        };
        let answer = answer.map_err(|error| refused(format!("does not answer: {error}")))?;
        let (head, body) = answer.into_parts();
        let mut bytes = Vec::new();
        body.into_reader()
            .take(MAX_ANSWER)
            .read_to_end(&mut bytes)
            .map_err(|error| refused(format!("stops in the middle of its answer: {error}")))?;
        if head.status.is_success() {
            return Ok(bytes);
        }
        let said = String::from_utf8_lossy(&bytes);
        let said: String = said.trim().chars().take(500).collect();
        Err(refused(format!("answers {}: {said}", head.status.as_u16())))
    }
}

/// Whatever the address says, it is this socket.
#[derive(Debug)]
struct Opened(PathBuf);

impl Connector for Opened {
    type Out = Line;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Line>, ureq::Error> {
        let stream = UnixStream::connect(&self.0)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Line { stream, buffers }))
    }
}

struct Line {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = &self.buffers.output()[..amount];
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each request has a connection of its own.
        false
    }
}

/// No name is looked up.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(([127, 0, 0, 1], 0).into());
        Ok(found)
    }
}
