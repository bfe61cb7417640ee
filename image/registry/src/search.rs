//! Images found by words: the search of Docker Hub, and of registries that offer the like.

use serde::Deserialize;
use url::Url;

use crate::auth::basic;
use crate::http::{Answer, Request};
use crate::{Client, Credential, RegistryError};

/// Where Docker Hub is searched.
const HUB: &str = "index.docker.io";
/// The largest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SearchResult {
    /// Its repository.
    pub name: String,
    /// What its owner says of it.
    #[serde(default)]
    pub description: Option<String>,
    /// How many people like it.
    #[serde(default)]
    pub star_count: u64,
    /// Whether it is one that Docker looks after.
    #[serde(default)]
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Found {
    results: Vec<SearchResult>,
}

impl Client {
    /// The images of a registry that go by a word, at most `limit`, in the registry's order.
    ///
    /// # Errors
    /// If the registry cannot be reached, or has no search.
    pub fn search(
        &self,
        registry: &str,
        word: &str,
        limit: u32,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        let host = match registry {
            "docker.io" => HUB,
            other => other,
        };
        let mut url = self.base(host)?;
        url.set_path("/v1/search");
        url.query_pairs_mut()
            .append_pair("q", word)
            .append_pair("n", &limit.to_string());
        let authorization = match self.credential(registry)? {
            Some(Credential::Password { user, password }) => Some(basic(&user, &password)),
            Some(Credential::IdentityToken(_)) | None => None,
        };
        let mut reply = self.http(host)?.send(&Request {
            url: url.to_string(),
            authorization,
            answer: Answer::Document,
            ..Request::default()
        })?;
        match reply.status {
            200 => {}
            404 | 405 => return Err(no_search(registry)),
            status => {
                return Err(RegistryError::Status {
                    url: url.to_string(),
                    status,
                    message: String::new(),
                });
            }
        }
        let protocol = |why: &str| RegistryError::Protocol {
            url: url.to_string(),
            why: why.to_owned(),
        };
        let body = reply
            .read_limited(MAX_ANSWER)
            .map_err(|error| protocol(&error.to_string()))?
            .ok_or_else(|| protocol("its answer has no end"))?;
        let found: Found = serde_json::from_slice(&body)
            .map_err(|_| protocol("its answer is no list of images"))?;
        Ok(found.results.into_iter().take(limit as usize).collect())
    }
}

fn no_search(registry: &str) -> RegistryError {
    RegistryError::NoSearch {
        registry: registry.to_owned(),
    }
}

/// The registry and the word of what people search for: `localhost:5000/busybox` is searched there.
pub fn split_term(term: &str) -> (&str, &str) {
    let Some((first, rest)) = term.split_once('/') else {
        return ("docker.io", term);
    };
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let is_host = is_registry && Url::parse(&format!("https://{first}/")).is_ok();
    match (is_host, first) {
        (true, "docker.io" | "index.docker.io") => ("docker.io", rest),
        (true, registry) => (registry, rest),
        (false, _) => ("docker.io", term),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_name_a_registry() {
        let table = [
            ("busybox", ("docker.io", "busybox")),
            ("library/busybox", ("docker.io", "library/busybox")),
            (
                "docker.io/library/busybox",
                ("docker.io", "library/busybox"),
            ),
            ("localhost/app", ("localhost", "app")),
            ("reg.lan:5000/team/app", ("reg.lan:5000", "team/app")),
        ];
        for (term, expected) in table {
            assert_eq!(split_term(term), expected, "{term}");
        }
    }
}
