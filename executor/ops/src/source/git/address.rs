//! Where a repository is, and what of it is wanted, checked before git sees either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use url::Url;

use super::GitError;
use crate::source::http::{is_loopback, percent_decoded};
use crate::{Context, Session};

/// Where a repository is. Credentials in it are taken out.
pub(super) struct Address {
    /// As git gets it.
    url: String,
    /// For people.
    shown: String,
    /// `https://host[:port]/` where it is one of the web.
    origin: Option<String>,
    /// Whether what goes there can be read on the way.
    is_open: bool,
    host: String,
    /// `Authorization` from the address itself.
    authorization: Option<String>,
}

impl Address {
    /// Reads `http(s)://…`, `ssh://…`, `git://…` and `user@host:path`.
    pub(super) fn parse(remote: &str) -> Result<Self, GitError> {
        let shown = llb::without_credentials(remote);
        let wrong = |why| GitError::Address {
            remote: shown.clone(),
            why,
        };
        if remote.chars().any(char::is_control) {
            return Err(wrong("it has control characters"));
        }
        // Checked as a whole and in its parts: git, ssh and the helpers of git each read options.
        if remote.starts_with('-') {
            return Err(wrong("it begins with a dash"));
        }
        if !remote.contains("://") {
            return Self::of_ssh(remote, &shown).map_err(wrong);
        }
        let mut url = Url::parse(remote).map_err(|_| wrong("it cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https" | "ssh" | "git") {
            return Err(wrong("only http, https, ssh and git are spoken"));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let begins_with_dash = |text: &str| text.starts_with('-') || text.starts_with("%2d");
        if host.is_empty()
            || begins_with_dash(&host)
            || begins_with_dash(&url.username().to_ascii_lowercase())
        {
            return Err(wrong("its host or its user begins with a dash"));
        }
        let path = String::from_utf8_lossy(&percent_decoded(url.path())).into_owned();
        if path.starts_with("/-") || path.chars().any(char::is_control) {
            return Err(wrong("its path begins with a dash"));
        }
        let is_web = matches!(url.scheme(), "http" | "https");
        let authorization = is_web.then(|| basic(&url)).flatten();
        // These fail only where there is nothing to take out.
        let _ = url.set_password(None);
        if is_web {
            let _ = url.set_username("");
        }
        let origin = is_web.then(|| format!("{}/", url.origin().ascii_serialization()));
        Ok(Self {
            is_open: url.scheme() != "https" && !is_loopback(&host),
            url: url.to_string(),
            shown,
            origin,
            host,
            authorization,
        })
    }

    /// `user@host:path`
    fn of_ssh(remote: &str, shown: &str) -> Result<Self, &'static str> {
        let (authority, path) = remote.split_once(':').ok_or("it names no host")?;
        let (user, host) = authority.split_once('@').ok_or("it names no user")?;
        let is_word = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_'))
        };
        // `ext::` and its like are no hosts: a colon follows at once.
        if !is_word(user) || !is_word(host) || path.starts_with([':', '-']) || path.is_empty() {
            return Err("it is not of the form USER@HOST:PATH");
        }
        Ok(Self {
            url: remote.to_owned(),
            shown: shown.to_owned(),
            origin: None,
            is_open: false,
            host: host.to_owned(),
            authorization: None,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether ssh brings it.
    pub(super) fn is_ssh(&self) -> bool {
        self.url.starts_with("ssh://") || !self.url.contains("://")
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The configuration that proves who asks, as key and value: what the address itself says, else
    /// the session's secrets (G88). Those are not told where anyone on the way could read them.
    pub(super) fn credentials(&self, context: &Context<'_>) -> Option<(String, String)> {
        let origin = self.origin.as_ref()?;
        let from_session = || {
            if self.is_open {
                return None;
            }
            of_session(context.session, &self.host)
        };
        let authorization = self.authorization.clone().or_else(from_session)?;
        let key = format!("http.{origin}.extraHeader");
        Some((key, format!("Authorization: {authorization}")))
    }

    /// Whether the session has secrets for it that it is not told.
    pub(super) fn has_withheld(&self, context: &Context<'_>) -> bool {
        self.is_open && self.origin.is_some() && of_session(context.session, &self.host).is_some()
    }
}

fn of_session(session: &dyn Session, host: &str) -> Option<String> {
    let secret = |id: &str| {
        let value = String::from_utf8(session.secret(id)?).ok()?;
        let value = value.trim().to_owned();
        (!value.is_empty() && !value.contains(['\r', '\n'])).then_some(value)
    };
    let either = |kind: &str| secret(&format!("{kind}.{host}")).or_else(|| secret(kind));
    let token = || {
        let token = either("GIT_AUTH_TOKEN")?;
        Some(format!(
            "Basic {}",
            BASE64.encode(format!("x-access-token:{token}"))
        ))
    };
    either("GIT_AUTH_HEADER").or_else(token)
}

fn basic(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    Some(format!("Basic {}", BASE64.encode(pair)))
}

/// Whether `text` is the whole id of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses what git would take for an option, a pattern, a refspec or an expression.
pub(super) fn check_reference(reference: &str) -> Result<(), GitError> {
    let is_wrong = |it: char| {
        it.is_control() || matches!(it, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\' | '+')
    };
    let component_is_wrong =
        |it: &str| it.is_empty() || it.starts_with(['.', '-']) || it.ends_with(".lock");
    let refused = !reference.is_empty()
        && (reference.contains(is_wrong)
            || reference.contains("..")
            || reference.contains("@{")
            || reference.ends_with('.')
            || reference.len() > 1024
            || reference.split('/').any(component_is_wrong));
    match refused {
        false => Ok(()),
        true => Err(GitError::Reference {
            reference: reference.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_four_protocols_without_options() {
        let table = [
            (
                "https://example.com/a.git",
                Some("https://example.com/a.git"),
            ),
            (
                "https://me:pw@example.com:8443/a.git",
                Some("https://example.com:8443/a.git"),
            ),
            (
                "ssh://git@example.com/a.git",
                Some("ssh://git@example.com/a.git"),
            ),
            ("git@example.com:a/b.git", Some("git@example.com:a/b.git")),
            ("git://example.com/a.git", Some("git://example.com/a.git")),
            ("ext::sh -c touch% /tmp/marker", None),
            ("file:///etc", None),
            ("/etc", None),
            ("./a", None),
            ("-u@host:path", None),
            ("--upload-pack=/tmp/evil.sh", None),
            ("ssh://-oProxyCommand=evil/x", None),
            ("ssh://-oProxyCommand=evil@host/x", None),
            ("ssh://%2doProxyCommand=evil@host/x", None),
            ("git@-oProxyCommand=evil:x", None),
            ("git@host:-evil", None),
            ("git@ext::sh", None),
            ("ssh://host/-evil", None),
            ("ssh://host/%2Devil", None),
            ("https://host/a\nb.git", None),
            ("fd::17/foo", None),
        ];
        for (remote, expected) in table {
            let url = Address::parse(remote).ok().map(|it| it.url);
            assert_eq!(url.as_deref(), expected, "{remote}");
        }
    }

    #[test]
    fn credentials_of_an_address_go_into_a_header_for_its_origin() {
        let address = Address::parse("https://me:p%40ss@example.com:8443/a.git").unwrap();
        assert_eq!(address.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(address.origin.as_deref(), Some("https://example.com:8443/"));
        assert_eq!(address.shown(), "https://example.com:8443/a.git");
    }

    #[test]
    fn references_are_names_and_nothing_else() {
        for fine in [
            "",
            "main",
            "v1.0",
            "feature/x-y",
            "refs/heads/main",
            "refs/pull/1/head",
        ] {
            assert!(check_reference(fine).is_ok(), "{fine}");
        }
        let wrong = [
            "--upload-pack=/tmp/evil.sh",
            "-x",
            "a/--x",
            "refs/heads/--upload-pack=x",
            "a:b",
            "+a",
            "a..b",
            "a b",
            "*",
            "HEAD^",
            "HEAD~1",
            "a@{1}",
            "a\nb",
            "/a",
            "a/",
            "a.lock",
        ];
        for wrong in wrong {
            assert!(check_reference(wrong).is_err(), "{wrong}");
        }
    }
}
