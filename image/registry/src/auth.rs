//! Challenges and tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use url::Url;

use crate::http::{Answer, Http, Method, Request};
use crate::{Credential, RegistryError};

/// The largest answer of a realm that is read.
const MAX_TOKEN: u64 = 1 << 20;

/// What a registry wants before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// For whom, in the realm's words.
        service: Option<String>,
    },
}

/// Reads `WWW-Authenticate`. Of several challenges the first that is known here counts.
pub(crate) fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut realm = None;
    let mut service = None;
    for (name, value) in parse_parameters(parameters) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            _ => {}
        }
    }
    realm.map(|realm| Challenge::Bearer { realm, service })
}

/// `name="value",name=value`, with `\` escapes inside quotes.
fn parse_parameters(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        let quoted = after.starts_with('"');
        if quoted {
            characters.next();
        }
        while let Some((index, character)) = characters.next() {
            match character {
                '"' if quoted => {
                    end = index + 1;
                    break;
                }
                ',' if !quoted => {
                    end = index;
                    break;
                }
                '\\' if quoted => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        parameters.push((name, value));
        rest = &after[end..];
    }
    parameters
}

/// Whom a token is asked from, for what, as whom.
pub(crate) struct TokenRequest<'a> {
    pub(crate) registry: &'a str,
    pub(crate) registry_url: &'a Url,
    pub(crate) realm: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a [String],
    pub(crate) credential: Option<&'a Credential>,
    /// Hosts that may be told credentials although they do not look it.
    pub(crate) realms: &'a [String],
}

#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
}

/// The value of `Authorization` for name and password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// Asks a realm for a token.
///
/// # Errors
/// If the realm refuses. One that does not belong to the registry is told no credentials; if it wants
/// some, that is why.
pub(crate) fn fetch_token(http: &Http, ask: &TokenRequest<'_>) -> Result<String, RegistryError> {
    let realm = Url::parse(ask.realm).map_err(|_| RegistryError::Protocol {
        url: ask.registry_url.to_string(),
        why: format!("its realm `{}` is no address", ask.realm),
    })?;
    if ask.credential.is_some() && !may_be_told(&realm, ask) {
        let anonymous = TokenRequest {
            credential: None,
            ..*ask
        };
        return match ask_for_token(http, &realm, &anonymous) {
            Err(RegistryError::Denied { .. } | RegistryError::Status { .. }) => {
                Err(RegistryError::ForeignRealm {
                    registry: ask.registry.to_owned(),
                    realm: realm.to_string(),
                })
            }
            token => {
                let (registry, realm) = (ask.registry, realm.as_str());
                tracing::warn!(
                    registry,
                    realm,
                    "asked anonymously: credentials are not sent there"
                );
                token
            }
        };
    }
    ask_for_token(http, &realm, ask)
}

fn ask_for_token(
    http: &Http,
    realm: &Url,
    ask: &TokenRequest<'_>,
) -> Result<String, RegistryError> {
    let mut reply = http.send(&token_request(realm, ask))?;
    if matches!(reply.status, 400 | 401 | 403) {
        return Err(match ask.credential {
            Some(_) => RegistryError::Login {
                realm: realm.to_string(),
                registry: ask.registry.to_owned(),
            },
            None => RegistryError::Denied {
                repository: ask.registry.to_owned(),
            },
        });
    }
    let protocol = |why: &str| RegistryError::Protocol {
        url: realm.to_string(),
        why: why.to_owned(),
    };
    if reply.status != 200 {
        return Err(RegistryError::Status {
            url: realm.to_string(),
            status: reply.status,
            message: String::new(),
        });
    }
    let body = reply
        .read_limited(MAX_TOKEN)
        .ok()
        .flatten()
        .ok_or_else(|| protocol("its token has no end"))?;
    let token: TokenReply =
        serde_json::from_slice(&body).map_err(|_| protocol("its answer holds no token"))?;
    token
        .token
        .or(token.access_token)
        .filter(|token| !token.is_empty())
        .map(|token| format!("Bearer {token}"))
        .ok_or_else(|| protocol("its answer holds no token"))
}

fn token_request(realm: &Url, ask: &TokenRequest<'_>) -> Request<'static> {
    let mut url = realm.clone();
    if let Some(Credential::IdentityToken(token)) = ask.credential {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "rbuild")
            .append_pair("refresh_token", token)
            .append_pair("scope", &ask.scopes.join(" "));
        if let Some(service) = ask.service {
            form.append_pair("service", service);
        }
        return Request {
            method: Method::Post,
            url: url.into(),
            headers: vec![(
                "content-type",
                "application/x-www-form-urlencoded".to_owned(),
            )],
            body: form.finish().into_bytes().into(),
            sent_by: Some(ask.registry_url.clone()),
            answer: Answer::Document,
            ..Request::default()
        };
    }
    let mut authorization = None;
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = ask.service {
            query.append_pair("service", service);
        }
        for scope in ask.scopes {
            query.append_pair("scope", scope);
        }
        if let Some(Credential::Password { user, password }) = ask.credential {
            query.append_pair("account", user);
            authorization = Some(basic(user, password));
        }
    }
    Request {
        url: url.into(),
        authorization,
        sent_by: Some(ask.registry_url.clone()),
        answer: Answer::Document,
        ..Request::default()
    }
}

/// Whether credentials for the registry may be told to the realm: over https, unless the registry
/// itself is spoken to in plain http, and to a host that is the registry's own, above or below it, or
/// of which the person has said so.
fn may_be_told(realm: &Url, ask: &TokenRequest<'_>) -> bool {
    let registry = ask.registry_url;
    let (Some(realm_host), Some(registry_host)) = (realm.host_str(), registry.host_str()) else {
        return false;
    };
    let is_safe = realm.scheme() == "https" || registry.scheme() == "http";
    let is_below = |host: &str, domain: &str| {
        domain.contains('.')
            && host
                .strip_suffix(domain)
                .is_some_and(|prefix| prefix.ends_with('.'))
    };
    let is_address = |url: &Url| !matches!(url.host(), Some(url::Host::Domain(_)));
    let belongs = if is_address(realm) || is_address(registry) {
        realm_host == registry_host
    } else {
        realm_host == registry_host
            || is_below(realm_host, registry_host)
            || is_below(registry_host, realm_host)
            || (registry_host, realm_host) == ("registry-1.docker.io", "auth.docker.io")
    };
    let is_named = ask.realms.iter().any(|it| it == realm_host);
    is_safe && (belongs || is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_whatever_its_quoting() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            parse_challenge(
                r#"Bearer realm="https://a/token",service="a,b",scope="repository:x:pull""#
            ),
            bearer("https://a/token", Some("a,b"))
        );
        assert_eq!(
            parse_challenge(r#"bearer service=r, realm="https://a/\"t""#),
            bearer("https://a/\"t", Some("r"))
        );
        assert_eq!(parse_challenge("Bearer"), None);
        assert_eq!(parse_challenge("Negotiate abc"), None);
        assert_eq!(parse_challenge(""), None);
    }

    #[test]
    fn credentials_go_only_where_they_belong() {
        let table = [
            (
                "https://registry-1.docker.io/",
                "https://auth.docker.io/token",
                true,
            ),
            ("https://ghcr.io/", "https://ghcr.io/token", true),
            (
                "https://registry.gitlab.com/",
                "https://gitlab.com/jwt/auth",
                true,
            ),
            ("https://ghcr.io/", "http://ghcr.io/token", false),
            ("https://ghcr.io/", "https://evil.example/token", false),
            ("https://ghcr.io/", "https://io/token", false),
            ("https://ghcr.io/", "https://xghcr.io/token", false),
            ("http://localhost:5000/", "http://localhost:5001/auth", true),
            ("https://127.0.0.1/", "https://127.0.0.2/", false),
            ("https://ghcr.io/", "https://named.example/token", true),
            ("https://ghcr.io/", "http://named.example/token", false),
        ];
        for (registry, realm, told) in table {
            let (realm, registry) = (Url::parse(realm).unwrap(), Url::parse(registry).unwrap());
            let ask = TokenRequest {
                registry: "",
                registry_url: &registry,
                realm: "",
                service: None,
                scopes: &[],
                credential: None,
                realms: &["named.example".to_owned()],
            };
            let is_told = may_be_told(&realm, &ask);
            assert_eq!(is_told, told, "{registry} {realm}");
        }
    }
}
