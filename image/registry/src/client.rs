//! The client: addresses of registries, and requests that prove who asks.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use oci::{Limits, Reference};
use serde::Deserialize;
use url::Url;

use crate::auth::{Challenge, TokenRequest, basic, fetch_token, parse_challenge};
use crate::http::{Answer, Http, HttpError, Method, Reply, Request, Retry};
use crate::{
    Credential, Credentials, Mirror, RegistryError, RegistrySettings, Settings, certificates,
};

/// The largest error document that is read.
const MAX_ERROR: u64 = 64 << 10;
/// How much of what a registry says about an error is passed on.
const MAX_WORDS: usize = 200;

/// Speaks to registries for one person. Making one costs nothing; threads may use it at once.
pub struct Client {
    /// Made when the first request is sent: reading the system's certificates takes its time.
    http: OnceLock<Http>,
    /// For registries whose certificates nobody checks.
    unchecked: OnceLock<Http>,
    settings: Settings,
    credentials: Box<dyn Credentials>,
    known: Mutex<Known>,
}

/// What has been learnt of registries.
#[derive(Default)]
struct Known {
    /// How a registry is spoken to.
    own: HashMap<String, Http>,
    /// The base address of a registry, which is whether it speaks TLS.
    bases: HashMap<String, Url>,
    /// The mirrors that could not be reached.
    dead: HashSet<String>,
    /// The challenge of a registry.
    challenges: HashMap<String, Challenge>,
    /// `Authorization` by registry and scopes.
    tokens: HashMap<(String, Vec<String>), String>,
}

/// What a request may do, for whom: the scopes of its token.
#[derive(Debug, Clone)]
pub(crate) struct Access<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) scopes: Vec<String>,
    /// Whether somebody else than the registry may be asked.
    mirrored: bool,
}

/// Who is asked.
struct Endpoint<'a> {
    /// `host[:port]`, also what its credentials go by.
    host: &'a str,
    repository: String,
    scopes: Vec<String>,
}

impl<'a> Access<'a> {
    pub(crate) fn pull(reference: &'a Reference) -> Self {
        Self {
            reference,
            scopes: vec![format!("repository:{}:pull", reference.repository())],
            mirrored: true,
        }
    }

    pub(crate) fn push(reference: &'a Reference) -> Self {
        Self {
            reference,
            scopes: vec![format!("repository:{}:pull,push", reference.repository())],
            mirrored: false,
        }
    }

    /// Also reads another repository of the same registry.
    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.scopes.push(format!("repository:{repository}:pull"));
        self
    }
}

/// One request of the protocol, below `/v2/REPOSITORY/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below `/v2/REPOSITORY/`, or a whole address that the registry gave.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Cow<'a, [u8]>,
    pub(crate) answer: Answer,
    pub(crate) tries: Tries,
}

/// How often a request is sent at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tries {
    /// As often as the settings say.
    #[default]
    Usual,
    /// Once: what was sent may have counted, and whoever asks finds out.
    One,
}

/// A challenge, and who may answer it.
struct Question<'a> {
    registry: &'a str,
    base: &'a Url,
    challenge: &'a Challenge,
    scopes: &'a [String],
    credential: Option<&'a Credential>,
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Client {
    /// A client that asks `credentials` who it is.
    pub fn new(settings: Settings, credentials: Box<dyn Credentials>) -> Self {
        Self {
            http: OnceLock::new(),
            unchecked: OnceLock::new(),
            settings,
            credentials,
            known: Mutex::default(),
        }
    }

    /// Whether the registry takes these credentials.
    ///
    /// # Errors
    /// If it does not, or cannot be reached.
    pub fn log_in(&self, registry: &str, credential: &Credential) -> Result<(), RegistryError> {
        let base = self.base(registry)?;
        let http = self.http(registry)?;
        let mut request = Request {
            url: format!("{base}v2/"),
            ..Request::default()
        };
        let reply = http.send(&request)?;
        let challenge = reply.header("www-authenticate").and_then(parse_challenge);
        let refused = |realm: &Url| RegistryError::Login {
            realm: realm.to_string(),
            registry: registry.to_owned(),
        };
        let value = match (reply.status, challenge) {
            // Whoever wants no credentials takes any.
            (200, _) => return Ok(()),
            (401, Some(challenge)) => self.answer(&Question {
                registry,
                base: &base,
                challenge: &challenge,
                scopes: &[],
                credential: Some(credential),
            })?,
            (status, _) => {
                return Err(RegistryError::Status {
                    url: request.url,
                    status,
                    message: String::new(),
                });
            }
        };
        request.authorization = value;
        match http.send(&request)?.status {
            200 => Ok(()),
            401 | 403 => Err(refused(&base)),
            status => Err(RegistryError::Status {
                url: request.url,
                status,
                message: String::new(),
            }),
        }
    }

    /// Sends a request, with a token where the registry wants one. What only reads is asked of the
    /// registry's mirrors first.
    pub(crate) fn call(
        &self,
        access: &Access<'_>,
        call: &Call<'_>,
    ) -> Result<Reply, RegistryError> {
        let (registry, repository) = (access.reference.registry(), access.reference.repository());
        let mirrors = self.settings_of(registry).map(|it| &it.mirrors[..]);
        for mirror in mirrors.unwrap_or_default() {
            if access.mirrored
                && let Some(reply) = self.ask_mirror(mirror, repository, call)
            {
                return Ok(reply);
            }
        }
        let endpoint = Endpoint {
            host: registry,
            repository: repository.to_owned(),
            scopes: access.scopes.clone(),
        };
        self.call_at(&endpoint, call)
    }

    /// What a mirror has; `None` where it has nothing, for whatever reason.
    fn ask_mirror(&self, mirror: &Mirror, repository: &str, call: &Call<'_>) -> Option<Reply> {
        if self.known().dead.contains(&mirror.host) {
            return None;
        }
        let repository = format!("{}{repository}", mirror.path);
        let endpoint = Endpoint {
            host: &mirror.host,
            scopes: vec![format!("repository:{repository}:pull")],
            repository,
        };
        if mirror.http
            && let Ok(base) = Url::parse(&format!("http://{}/", mirror.host))
        {
            self.known().bases.insert(mirror.host.clone(), base);
        }
        match self.call_at(&endpoint, call) {
            Ok(reply) if reply.status < 400 => Some(reply),
            Ok(reply) => {
                tracing::debug!(mirror = mirror.host, reply.status, "the mirror has it not");
                None
            }
            Err(error) => {
                tracing::debug!(mirror = mirror.host, %error, "the mirror is left alone");
                if matches!(error, RegistryError::Http(_)) {
                    self.known().dead.insert(mirror.host.clone());
                }
                None
            }
        }
    }

    fn call_at(&self, endpoint: &Endpoint<'_>, call: &Call<'_>) -> Result<Reply, RegistryError> {
        let base = self.base(endpoint.host)?;
        let http = match call.tries {
            Tries::Usual => self.http(endpoint.host)?,
            Tries::One => self.http(endpoint.host)?.retrying(1),
        };
        let url = base
            .join(&format!("/v2/{}/", endpoint.repository))
            .and_then(|repository| repository.join(&call.path))
            .map_err(|_| HttpError::Address {
                url: call.path.clone(),
            })?;
        let is_own = url.origin() == base.origin();
        let mut request = Request {
            method: call.method,
            url: url.to_string(),
            headers: call.headers.clone(),
            authorization: if is_own {
                self.authorization(endpoint, &base)?
            } else {
                None
            },
            body: Cow::Borrowed(&call.body),
            sent_by: Some(base.clone()),
            answer: call.answer,
        };
        let reply = http.send(&request)?;
        if reply.status != 401 || !is_own {
            return Ok(reply);
        }
        // Either the first request to this registry, or a token that has run out.
        let header = reply
            .header("www-authenticate")
            .unwrap_or_default()
            .to_owned();
        let Some(challenge) = parse_challenge(&header) else {
            return Ok(reply);
        };
        {
            let mut known = self.known();
            known.challenges.insert(endpoint.host.to_owned(), challenge);
            known
                .tokens
                .remove(&(endpoint.host.to_owned(), endpoint.scopes.clone()));
        }
        request.authorization = self.authorization(endpoint, &base)?;
        if request.authorization.is_none() {
            return Ok(reply);
        }
        Ok(http.send(&request)?)
    }

    /// How much is too much.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// How often and how patiently requests are tried again.
    pub(crate) fn patience(&self) -> Retry {
        self.settings.retry
    }

    /// What a request brings that is at most `limit` bytes long, with the answer's headers; `None`
    /// where it is longer. Where the connection breaks in the middle it is asked for again.
    pub(crate) fn document(
        &self,
        access: &Access<'_>,
        call: &Call<'_>,
        limit: u64,
    ) -> Result<(Reply, Option<Vec<u8>>), RegistryError> {
        let mut attempt = 1;
        let mut delay = self.settings.retry.delay;
        loop {
            let mut reply = self.call(access, call)?;
            if reply.status != 200 {
                return Ok((reply, None));
            }
            match reply.read_limited(limit) {
                Ok(bytes) => return Ok((reply, bytes)),
                Err(error) if attempt >= self.settings.retry.attempts => {
                    return Err(RegistryError::Protocol {
                        url: reply.url.to_string(),
                        why: error.to_string(),
                    });
                }
                Err(error) => tracing::debug!(%error, attempt, "asking again"),
            }
            std::thread::sleep(delay);
            delay *= 2;
            attempt += 1;
        }
    }

    /// The error that a reply with a status of failure is.
    pub(crate) fn failure(&self, access: &Access<'_>, reply: Reply) -> RegistryError {
        let status = reply.status;
        if matches!(status, 401 | 403) {
            return RegistryError::Denied {
                repository: access.reference.name(),
            };
        }
        let url = reply.url.to_string();
        let mut reply = reply;
        let body = reply
            .read_limited(MAX_ERROR)
            .ok()
            .flatten()
            .unwrap_or_default();
        let document =
            serde_json::from_slice(&body).unwrap_or(ErrorDocument { errors: Vec::new() });
        let words: Vec<String> = document
            .errors
            .into_iter()
            .take(3)
            .map(|error| {
                if error.message.is_empty() {
                    error.code
                } else {
                    error.message
                }
            })
            .collect();
        let message = if words.is_empty() {
            String::new()
        } else {
            let words = words.join("; ");
            let shown: String = words.chars().take(MAX_WORDS).collect();
            let more = if shown.len() < words.len() { "…" } else { "" };
            format!(": {shown}{more}")
        };
        RegistryError::Status {
            url,
            status,
            message,
        }
    }

    /// The value of `Authorization`, as far as it is known what the registry wants.
    fn authorization(
        &self,
        endpoint: &Endpoint<'_>,
        base: &Url,
    ) -> Result<Option<String>, RegistryError> {
        let key = (endpoint.host.to_owned(), endpoint.scopes.clone());
        let challenge = {
            let known = self.known();
            if let Some(token) = known.tokens.get(&key) {
                return Ok(Some(token.clone()));
            }
            known.challenges.get(endpoint.host).cloned()
        };
        let Some(challenge) = challenge else {
            return Ok(None);
        };
        let credential = self.credentials.find(endpoint.host)?;
        let value = self.answer(&Question {
            registry: endpoint.host,
            base,
            challenge: &challenge,
            scopes: &endpoint.scopes,
            credential: credential.as_ref(),
        })?;
        if let Some(value) = &value {
            self.known().tokens.insert(key, value.clone());
        }
        Ok(value)
    }

    /// What a challenge wants to hear; `None` where there is nothing to say.
    fn answer(&self, question: &Question<'_>) -> Result<Option<String>, RegistryError> {
        let (realm, service) = match question.challenge {
            Challenge::Basic => {
                return Ok(match question.credential {
                    Some(Credential::Password { user, password }) => Some(basic(user, password)),
                    Some(Credential::IdentityToken(_)) | None => None,
                });
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let ask = TokenRequest {
            registry: question.registry,
            registry_url: question.base,
            realm,
            service: service.as_deref(),
            scopes: question.scopes,
            credential: question.credential,
            realms: match self.settings_of(question.registry) {
                Some(settings) => &settings.realms,
                None => &[],
            },
        };
        fetch_token(&self.http(question.registry)?, &ask).map(Some)
    }

    /// The address of a registry: https, or http where that is allowed and nothing speaks TLS there.
    pub(crate) fn base(&self, registry: &str) -> Result<Url, RegistryError> {
        if let Some(base) = self.known().bases.get(registry) {
            return Ok(base.clone());
        }
        let host = if registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            registry
        };
        let address = |scheme: &str| {
            let url = format!("{scheme}://{host}/");
            Url::parse(&url).map_err(|_| RegistryError::from(HttpError::Address { url }))
        };
        let mut base = address("https")?;
        if self.may_be_plain(registry, &base) {
            let ping = Request {
                url: format!("{base}v2/"),
                ..Request::default()
            };
            match self.http(registry)?.retrying(1).send(&ping) {
                // It does speak TLS, as somebody else.
                Err(error @ HttpError::Untrusted { .. }) => return Err(error.into()),
                Err(_) => base = address("http")?,
                Ok(_) => {}
            }
        }
        self.known().bases.insert(registry.to_owned(), base.clone());
        Ok(base)
    }

    /// Who we are for a registry.
    pub(crate) fn credential(&self, registry: &str) -> Result<Option<Credential>, RegistryError> {
        self.credentials.find(registry)
    }

    fn may_be_plain(&self, registry: &str, base: &Url) -> bool {
        let host = base.host_str().unwrap_or_default();
        let is_loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        is_loopback || self.settings_of(registry).is_some_and(|it| it.http)
    }

    fn settings_of(&self, registry: &str) -> Option<&RegistrySettings> {
        self.settings.registries.get(registry)
    }

    pub(crate) fn http(&self, registry: &str) -> Result<Http, RegistryError> {
        let retry = self.settings.retry;
        let settings = self.settings_of(registry);
        if settings.is_some_and(|it| it.insecure) {
            let unchecked = self.unchecked.get_or_init(|| Http::trusting_anybody(retry));
            return Ok(unchecked.clone());
        }
        if let Some(own) = self.known().own.get(registry) {
            return Ok(own.clone());
        }
        let own = match certificates::of(registry, settings)? {
            Some(tls) => Http::with(retry, tls),
            None => self.http.get_or_init(|| Http::new(retry)).clone(),
        };
        self.known().own.insert(registry.to_owned(), own.clone());
        Ok(own)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Client {
    /// Leaves tokens out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
