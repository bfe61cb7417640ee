//! HTTP as rbuild speaks it: bounded, retried, and careful with credentials across redirects.

mod guard;
mod socket;

use std::borrow::Cow;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use hickory_resolver::net::NetError;
use ureq::config::Config;
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use url::Url;

use guard::Guard;

pub use socket::{Socket, SocketError};

/// How many times a request is sent on elsewhere.
const MAX_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(15);
/// How many connections are kept for what is asked next: as many as layers are moved at once, and some.
const IDLE: usize = 12;
/// The longest that a server may ask us to wait. Whoever asks for more is not waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A client for any server: TLS against the system's certificates, proxies from the environment.
#[derive(Debug, Clone)]
pub struct Http {
    /// For the addresses that we have from the person.
    agent: ureq::Agent,
    /// For those that a server sends us to, one each guard.
    elsewhere: [ureq::Agent; 2],
    retry: Retry,
}

/// How often and how patiently a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least one.
    pub attempts: u32,
    /// The wait before the second try; it doubles with each further one.
    pub delay: Duration,
    /// How long a server may be silent, and how long a document may take.
    pub stall: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            delay: Duration::from_millis(500),
            stall: Duration::from_secs(60),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("`{url}` is no address of a server")]
    Address {
        /// As given.
        url: String,
    },
    /// The server cannot be reached, or stops in the middle.
    #[error("cannot reach `{host}`: {why}")]
    Unreachable {
        /// Which server.
        host: String,
        /// What happened.
        why: String,
    },
    /// Nobody listens, or there is no such server: trying again soon helps nothing.
    #[error("cannot reach `{host}`: {why}")]
    Absent {
        /// Which server.
        host: String,
        /// What happened.
        why: String,
    },
    /// No name server says where the server is. Each was asked more than once already: trying again
    /// soon helps nothing.
    #[error("cannot look up `{host}`: {why}")]
    Unknown {
        /// Which server.
        host: String,
        /// What happened.
        why: String,
    },
    /// A server whose certificate is not believed, or that does not believe ours.
    #[error("`{host}` is not believed to be who it says: {why}")]
    Untrusted {
        /// Which server.
        host: String,
        /// What is the matter with the certificate.
        why: String,
    },
    /// A redirect that would weaken the connection.
    #[error("`{from}` redirects to `{to}`, from https to plain http: refused")]
    Downgrade {
        /// Who redirects.
        from: String,
        /// Where to.
        to: String,
    },
    /// Redirects without end.
    #[error("`{url}` redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects {
        /// Where it began.
        url: String,
    },
    /// A server that sends us to an address which is none of its business.
    #[error(
        "`{from}` sends to `{to}`, an address that only this machine or its network has: refused"
    )]
    Guarded {
        /// Who sends.
        from: String,
        /// Where to.
        to: String,
    },
    /// A server that wants to be left alone for longer than anybody waits.
    #[error("`{host}` answers {status} and asks to be left alone for {seconds} seconds")]
    Busy {
        /// Which server.
        host: String,
        /// What it answers.
        status: u16,
        /// For how long.
        seconds: u64,
    },
}

/// A request, with a body that can be sent again.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// `GET`
    pub method: Method,
    /// The whole address.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// Value of `Authorization`: dropped where a redirect leads to another origin.
    pub authorization: Option<String>,
    /// What is sent.
    pub body: Cow<'a, [u8]>,
    /// The server whose answer led here, if one did: where that is another one, not every address
    /// is asked.
    pub sent_by: Option<Url>,
    /// What is expected.
    pub answer: Answer,
}

/// What a request is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// Content of any length, as long as something comes.
    #[default]
    Stream,
    /// A document, all of which is there before long.
    Document,
}

/// The methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Asks for content.
    #[default]
    Get,
    /// Asks for the headers of content.
    Head,
    /// Begins an upload, or asks for a token.
    Post,
    /// Sends a whole thing.
    Put,
    /// Sends a part.
    Patch,
    /// Removes.
    Delete,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// What answered in the end, after redirects.
    pub url: Url,
    body: ureq::Body,
}

impl Reply {
    /// A header's value, if it is there and a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as it comes in.
    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }

    /// The body, if it is at most `limit` bytes long.
    ///
    /// # Errors
    /// If it does not come to its end.
    pub fn read_limited(&mut self, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.body
            .as_reader()
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }
}

impl Reply {
    /// Whether it may be another answer a little later.
    pub(crate) fn asks_for_patience(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// How long to wait before the next try, if the server does not say otherwise.
    pub(crate) fn pause(&self, usual: Duration) -> Result<Duration, HttpError> {
        let asked = self.header("retry-after");
        match asked.and_then(|it| retry_after(it, SystemTime::now())) {
            Some(wait) if wait > MAX_RETRY_AFTER => Err(HttpError::Busy {
                host: self.url.host_str().unwrap_or_default().to_owned(),
                status: self.status,
                seconds: wait.as_secs(),
            }),
            wait => Ok(wait.unwrap_or(usual)),
        }
    }
}

impl Http {
    /// A client that tries again as `retry` says.
    pub fn new(retry: Retry) -> Self {
        let certificates = TlsConfig::builder().root_certs(system_certificates());
        Self::with(retry, certificates.build())
    }

    /// A client that believes any certificate, for servers of which the person has said so.
    pub fn trusting_anybody(retry: Retry) -> Self {
        let believed = TlsConfig::builder().disable_verification(true);
        Self::with(retry, believed.build())
    }

    /// A client that speaks TLS in a way of its own.
    pub(crate) fn with(retry: Retry, tls: TlsConfig) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_recv_response(Some(retry.stall))
            .timeout_per_read(Some(retry.stall))
            .timeout_per_write(Some(retry.stall))
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
            .accept("")
            .accept_encoding("")
            .tls_config(tls)
            .build();
        let agent = |guard| {
            ureq::Agent::with_parts(config.clone(), DefaultConnector::default(), Dns(guard))
        };
        Self {
            agent: agent(Guard::Nothing),
            elsewhere: [agent(Guard::Links), agent(Guard::LinksAndLoopback)],
            retry,
        }
    }

    /// The same connections with another number of tries.
    #[must_use]
    pub fn retrying(&self, attempts: u32) -> Self {
        Self {
            retry: Retry {
                attempts,
                ..self.retry
            },
            ..self.clone()
        }
    }

    /// How often and how patiently it tries.
    pub fn patience(&self) -> Retry {
        self.retry
    }

    /// Sends a request and gives the answer's status and headers, with the body still to be read.
    ///
    /// Connections that break and answers that ask for patience (429, 500, 503 and their like) are
    /// tried again, after as long as the server asks for.
    ///
    /// # Errors
    /// If there is no answer at all, or one that asks for too much patience. Any other status of
    /// failure is an answer.
    pub fn send(&self, request: &Request<'_>) -> Result<Reply, HttpError> {
        let mut delay = self.retry.delay;
        let mut attempt = 1;
        loop {
            let last = attempt >= self.retry.attempts;
            let wait = match self.follow(request) {
                Ok(reply) if !reply.asks_for_patience() => return Ok(reply),
                Ok(reply) => {
                    let wait = reply.pause(delay)?;
                    if last {
                        return Ok(reply);
                    }
                    tracing::debug!(status = reply.status, attempt, "trying again");
                    wait
                }
                Err(error @ HttpError::Unreachable { .. }) if !last => {
                    tracing::debug!(%error, attempt, "trying again");
                    delay
                }
                Err(error) => return Err(error),
            };
            std::thread::sleep(wait);
            delay *= 2;
            attempt += 1;
        }
    }

    fn follow(&self, request: &Request<'_>) -> Result<Reply, HttpError> {
        let address = || HttpError::Address {
            url: request.url.clone(),
        };
        let mut url = Url::parse(&request.url).map_err(|_| address())?;
        let origin = url.origin();
        let sender = request.sent_by.clone().unwrap_or_else(|| url.clone());
        for _ in 0..=MAX_REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(HttpError::Address {
                    url: url.to_string(),
                });
            }
            let authorization = request
                .authorization
                .as_deref()
                .filter(|_| url.origin() == origin);
            let guard = match url.origin() == sender.origin() {
                true => Guard::Nothing,
                false => Guard::against(&sender),
            };
            if !guard.lets(&url) {
                return Err(HttpError::Guarded {
                    from: sender.to_string(),
                    to: url.to_string(),
                });
            }
            let reply = self.once(request, &url, (authorization, guard))?;
            let location = match (reply.status, reply.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location,
                _ => return Ok(reply),
            };
            let next = url.join(location).map_err(|_| HttpError::Address {
                url: location.to_owned(),
            })?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(HttpError::Downgrade {
                    from: url.to_string(),
                    to: next.to_string(),
                });
            }
            url = next;
        }
        Err(HttpError::TooManyRedirects {
            url: request.url.clone(),
        })
    }

    fn once(
        &self,
        request: &Request<'_>,
        url: &Url,
        (authorization, guard): (Option<&str>, Guard),
    ) -> Result<Reply, HttpError> {
        let agent = match guard {
            Guard::Nothing => &self.agent,
            Guard::Links => &self.elsewhere[0],
            Guard::LinksAndLoopback => &self.elsewhere[1],
        };
        let time = match request.answer {
            Answer::Stream => None,
            Answer::Document => Some(self.retry.stall),
        };
        let method = match request.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        };
        let unreachable = |why: String| HttpError::Unreachable {
            host: url.host_str().unwrap_or_default().to_owned(),
            why,
        };
        let mut message = ureq::http::Request::builder()
            .method(method)
            .uri(url.as_str());
        for (name, value) in &request.headers {
            message = message.header(*name, value);
        }
        if let Some(value) = authorization {
            message = message.header("authorization", value);
        }
        let sends_body = matches!(request.method, Method::Post | Method::Put | Method::Patch);
        let answer = if sends_body {
            let message = message
                .body(&request.body[..])
                .map_err(|error| unreachable(error.to_string()))?;
            let message = agent.configure_request(message);
            agent.run(message.timeout_recv_body(time).build())
        } else {
            let message = message
                .body(())
                .map_err(|error| unreachable(error.to_string()))?;
            let message = agent.configure_request(message);
            agent.run(message.timeout_recv_body(time).build())
        };
        let (head, body) = answer.map_err(|error| failure(url, &error))?.into_parts();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            url: url.clone(),
            body,
        })
    }
}

fn failure(url: &Url, error: &ureq::Error) -> HttpError {
    let host = url.host_str().unwrap_or_default().to_owned();
    // What these two hold says enough.
    let why = match error {
        ureq::Error::Io(cause) => cause.to_string(),
        ureq::Error::Other(cause) => cause.to_string(),
        other => other.to_string(),
    };
    match error {
        ureq::Error::HostNotFound => HttpError::Absent { host, why },
        ureq::Error::Io(cause) if cause.kind() == ErrorKind::ConnectionRefused => {
            HttpError::Absent { host, why }
        }
        ureq::Error::Other(cause) if cause.is::<LookUpError>() => HttpError::Unknown { host, why },
        _ if why.contains("certificate") => HttpError::Untrusted { host, why },
        _ => HttpError::Unreachable { host, why },
    }
}

/// What `Retry-After` asks for: seconds, or until when.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?;
    let until = u64::try_from(until.timestamp().as_second()).ok()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(until).saturating_sub(now))
}

/// The system's certificates (`SSL_CERT_FILE` counts), or Mozilla's where the system has none.
pub(crate) fn system_certificates() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates: Vec<Certificate<'static>> = found
        .iter()
        .map(|der| Certificate::from_der(der.as_ref()).to_owned())
        .collect();
    RootCerts::new_with_certs(&certificates)
}

/// Looks names up itself: the C library's resolver loads plug-ins, which a static program cannot.
#[derive(Debug)]
struct Dns(Guard);

impl Resolver for Dns {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default_port = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut found = self.empty();
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            if self.0.lets_address(address) {
                found.push(SocketAddr::new(address, port));
                return Ok(found);
            }
            return Err(ureq::Error::HostNotFound);
        }
        let addresses =
            look_up(host, *timeout.after).map_err(|error| ureq::Error::Other(error.into()))?;
        let let_through = |it: &IpAddr| self.0.lets_address(*it);
        for address in addresses.into_iter().filter(let_through).take(16) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() {
            Err(ureq::Error::HostNotFound)
        } else {
            Ok(found)
        }
    }
}

/// Why nobody says where a server is.
#[derive(Debug, thiserror::Error)]
enum LookUpError {
    #[error("no name server is known: /etc/resolv.conf: {0}")]
    NoServer(String),
    #[error("no name server can be reached")]
    Unreachable,
    #[error("no name server answers")]
    Silent,
    #[error("{0}")]
    Failed(NetError),
    #[error("{0}")]
    Runtime(std::io::Error),
}

/// The addresses of `host`; none if nobody has that name.
fn look_up(host: &str, timeout: Duration) -> Result<Vec<IpAddr>, LookUpError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LookUpError::Runtime)?;
    runtime.block_on(async {
        let resolver = hickory_resolver::TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
            .map_err(|error| match error {
                NetError::Io(error) => LookUpError::NoServer(error.to_string()),
                other => LookUpError::NoServer(other.to_string()),
            })?;
        let answer = tokio::time::timeout(timeout, resolver.lookup_ip(host)).await;
        match answer {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(NetError::NoConnections)) => Err(LookUpError::Unreachable),
            Ok(Err(NetError::Timeout)) | Err(_) => Err(LookUpError::Silent),
            Ok(Err(error)) => Err(LookUpError::Failed(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_said_in_seconds_or_as_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let table = [
            ("7", Some(7)),
            ("999999999", Some(999_999_999)),
            ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (value, seconds) in table {
            let wait = retry_after(value, now);
            assert_eq!(wait, seconds.map(Duration::from_secs), "{value}");
        }
    }
}
