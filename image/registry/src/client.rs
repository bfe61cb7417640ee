//! The client: addresses of registries, and requests that prove who asks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::Reference;
use serde::Deserialize;
use url::Url;

use crate::auth::{Challenge, TokenRequest, basic, fetch_token, parse_challenge};
use crate::http::{Http, HttpError, Method, Reply, Request, Retry};
use crate::{Credential, Credentials, RegistryError};

/// The largest error document that is read.
const MAX_ERROR: u64 = 64 << 10;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Registries (`host[:port]`) that may be spoken to in plain http. Those on this machine's
    /// loopback always may.
    pub insecure: Vec<String>,
    /// How often and how patiently a request is tried again.
    pub retry: Retry,
}

/// Speaks to registries for one person.
pub struct Client {
    pub(crate) http: Http,
    settings: Settings,
    credentials: Box<dyn Credentials>,
    known: Mutex<Known>,
}

/// What has been learnt of registries.
#[derive(Default)]
struct Known {
    /// The base address of a registry, which is whether it speaks TLS.
    bases: HashMap<String, Url>,
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
}

impl<'a> Access<'a> {
    pub(crate) fn pull(reference: &'a Reference) -> Self {
        Self {
            reference,
            scopes: vec![format!("repository:{}:pull", reference.repository())],
        }
    }

    pub(crate) fn push(reference: &'a Reference) -> Self {
        Self {
            reference,
            scopes: vec![format!("repository:{}:pull,push", reference.repository())],
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
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Below `/v2/REPOSITORY/`, or a whole address that the registry gave.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
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
            http: Http::new(settings.retry),
            settings,
            credentials,
            known: Mutex::default(),
        }
    }

    /// Sends a request, with a token where the registry wants one.
    pub(crate) fn call(&self, access: &Access<'_>, call: &Call) -> Result<Reply, RegistryError> {
        let registry = access.reference.registry();
        let base = self.base(registry)?;
        let url = base
            .join(&format!("/v2/{}/", access.reference.repository()))
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
                self.authorization(access, &base)?
            } else {
                None
            },
            body: call.body.clone(),
        };
        let reply = self.http.send(&request)?;
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
            known.challenges.insert(registry.to_owned(), challenge);
            known
                .tokens
                .remove(&(registry.to_owned(), access.scopes.clone()));
        }
        request.authorization = self.authorization(access, &base)?;
        if request.authorization.is_none() {
            return Ok(reply);
        }
        Ok(self.http.send(&request)?)
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
            format!(": {}", words.join("; "))
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
        access: &Access<'_>,
        base: &Url,
    ) -> Result<Option<String>, RegistryError> {
        let registry = access.reference.registry();
        let key = (registry.to_owned(), access.scopes.clone());
        let challenge = {
            let known = self.known();
            if let Some(token) = known.tokens.get(&key) {
                return Ok(Some(token.clone()));
            }
            known.challenges.get(registry).cloned()
        };
        let Some(challenge) = challenge else {
            return Ok(None);
        };
        let credential = self.credentials.find(registry)?;
        let value = match challenge {
            Challenge::Basic => match credential {
                Some(Credential::Password { user, password }) => basic(&user, &password),
                Some(Credential::IdentityToken(_)) | None => return Ok(None),
            },
            Challenge::Bearer { realm, service } => fetch_token(
                &self.http,
                &TokenRequest {
                    registry,
                    registry_url: base,
                    realm: &realm,
                    service: service.as_deref(),
                    scopes: &access.scopes,
                    credential: credential.as_ref(),
                },
            )?,
        };
        self.known().tokens.insert(key, value.clone());
        Ok(Some(value))
    }

    /// The address of a registry: https, or http where that is allowed and nothing speaks TLS there.
    fn base(&self, registry: &str) -> Result<Url, RegistryError> {
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
            let probe = Http::new(Retry {
                attempts: 1,
                ..self.settings.retry
            });
            let ping = Request {
                url: format!("{base}v2/"),
                ..Request::default()
            };
            if probe.send(&ping).is_err() {
                base = address("http")?;
            }
        }
        self.known().bases.insert(registry.to_owned(), base.clone());
        Ok(base)
    }

    fn may_be_plain(&self, registry: &str, base: &Url) -> bool {
        let host = base.host_str().unwrap_or_default();
        let is_loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        is_loopback || self.settings.insecure.iter().any(|it| it == registry)
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
