//! Image names as people type them, and what they mean.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// A full image name: registry, repository, and a tag or digest or both.
///
/// Follows Docker's normalisation: `debian` means `docker.io/library/debian:latest`.
/// [`fmt::Display`] prints the full form, [`Reference::familiar`] the short one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Does not follow the grammar.
    #[error("invalid reference format: `{name}`: {why}")]
    Malformed {
        /// The text as given.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The digest behind `@` is none that is known here.
    #[error("invalid reference format: `{name}`")]
    Digest {
        /// The text as given.
        name: String,
        /// What is wrong with its digest.
        #[source]
        source: crate::DigestError,
    },
}

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The longest repository name with its registry, in bytes, as the distribution grammar has it.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/debian`: the name within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: as written, or `latest` where neither a tag nor a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest behind `@`, if written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository in full, `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The repository as docker shows it: `debian`, `user/app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        self.repository
            .strip_prefix(DEFAULT_NAMESPACE)
            .unwrap_or(&self.repository)
            .to_owned()
    }

    /// The whole reference as docker shows it: `debian:latest`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The same name with another tag and no digest.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        }
    }

    /// The same name and tag, pinned to what they stand for.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository, and in it what has this digest.
    #[must_use]
    pub fn only_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |why| ReferenceError::Malformed {
            name: text.to_owned(),
            why,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest {
                    name: text.to_owned(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(malformed(
                "a tag is a letter, digit or `_`, then up to 127 of those, `.` and `-`",
            ));
        }
        let (registry, repository) = split_registry(name);
        if repository.is_empty() {
            return Err(malformed("the repository name is empty"));
        }
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed("repository name must be lowercase"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(malformed(
                "a repository name is made of `a-z`, `0-9` and single separators `.`, `_`, `__`, `-`, `/` between them",
            ));
        }
        if !is_registry(registry) {
            return Err(malformed("the registry is not of the form `host[:port]`"));
        }
        let repository = match (registry, repository.contains('/')) {
            (DEFAULT_REGISTRY, false) => format!("{DEFAULT_NAMESPACE}{repository}"),
            _ => repository.to_owned(),
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(malformed("the name is longer than 255 bytes"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// The registry is the part before the first `/`, if it looks like a host: holds `.` or `:`, is
/// `localhost`, or has capitals (docker's rule).
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let port_is_number =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let is_v6 = |host: &str| {
        host.bytes()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
    };
    let host_is_host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(address) => !address.is_empty() && is_v6(address),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_is_number && host_is_host
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(first)
        && is_word(last)
        && bytes.split(|&byte| is_word(byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, full: &str, familiar: &str) {
        let reference: Reference = written.parse().unwrap();
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(full.parse(), Ok(reference), "the full form means the same");
    }

    #[test]
    fn short_names_mean_docker_hub() {
        check("debian", "docker.io/library/debian:latest", "debian:latest");
        check("user/app:v1", "docker.io/user/app:v1", "user/app:v1");
        check(
            "docker.io/debian",
            "docker.io/library/debian:latest",
            "debian:latest",
        );
        check(
            "index.docker.io/library/debian:12",
            "docker.io/library/debian:12",
            "debian:12",
        );
    }

    #[test]
    fn a_registry_looks_like_a_host() {
        check(
            "localhost:5000/app",
            "localhost:5000/app:latest",
            "localhost:5000/app:latest",
        );
        check("localhost/app:x", "localhost/app:x", "localhost/app:x");
        check(
            "ghcr.io/a/b/c:1.2",
            "ghcr.io/a/b/c:1.2",
            "ghcr.io/a/b/c:1.2",
        );
        check(
            "[::1]:5000/app",
            "[::1]:5000/app:latest",
            "[::1]:5000/app:latest",
        );
    }

    #[test]
    fn a_digest_stands_for_the_tag() {
        let digest = Digest::of(b"");
        check(
            &format!("a@{digest}"),
            &format!("docker.io/library/a@{digest}"),
            &format!("a@{digest}"),
        );
        check(
            &format!("a:t@{digest}"),
            &format!("docker.io/library/a:t@{digest}"),
            &format!("a:t@{digest}"),
        );
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a/".repeat(200) + "a";
        for text in [
            "",
            ":x",
            "@",
            "Debian",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a b",
            "a@md5:00",
            "-a",
            "a..b",
            "a___b",
            "ex ample.com/a",
            "a:b/c:d",
            "http://x/y",
            &long,
            "localhost:port/a",
            "../a",
            "a:t\n",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
