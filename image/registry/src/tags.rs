//! The tags of a repository.

use oci::Reference;
use serde::Deserialize;

use crate::client::{Access, Call};
use crate::http::{Answer, Reply};
use crate::{Client, RegistryError};

/// The largest page of tags that is read.
const MAX_PAGE: u64 = 4 << 20;
/// The most tags that are listed.
const MAX_TAGS: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of the repository of `reference`, in the registry's order. What cannot be a tag is left
    /// out.
    ///
    /// # Errors
    /// If there is no such repository, it may not be read, or the list has no end.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let access = Access::pull(reference);
        let mut tags = Vec::new();
        let mut next = Some("tags/list?n=1000".to_owned());
        while let Some(path) = next {
            let call = Call {
                path,
                answer: Answer::Document,
                ..Call::default()
            };
            let (reply, body) = self.document(&access, &call, MAX_PAGE)?;
            match reply.status {
                200 => {}
                404 => {
                    return Err(RegistryError::NotFound {
                        reference: reference.familiar_name(),
                    });
                }
                _ => return Err(self.failure(&access, reply)),
            }
            let protocol = |why: &str| RegistryError::Protocol {
                url: reply.url.to_string(),
                why: why.to_owned(),
            };
            let body = body.ok_or_else(|| protocol("its list of tags has no end"))?;
            let page: Page =
                serde_json::from_slice(&body).map_err(|_| protocol("it sends no list of tags"))?;
            let page = page.tags.unwrap_or_default();
            let is_last = page.is_empty();
            tags.extend(page.into_iter().filter(|tag| is_tag(reference, tag)));
            if tags.len() > MAX_TAGS {
                return Err(protocol("its list of tags has no end"));
            }
            next = match following(&reply) {
                Some(_) if is_last => None,
                Some(Err(())) => return Err(protocol("its list of tags goes on elsewhere")),
                Some(Ok(address)) => Some(address),
                None => None,
            };
        }
        Ok(tags)
    }
}

fn is_tag(reference: &Reference, tag: &str) -> bool {
    let name = format!("{}:{tag}", reference.name());
    name.parse::<Reference>()
        .is_ok_and(|it| it.tag() == Some(tag))
}

/// Where the list goes on, as `Link: </v2/app/tags/list?last=x&n=100>; rel="next"` says: on the same
/// server only.
fn following(reply: &Reply) -> Option<Result<String, ()>> {
    let link = reply.header("link")?;
    let (address, rest) = link.strip_prefix('<')?.split_once('>')?;
    if !rest.contains("next") {
        return None;
    }
    let next = reply.url.join(address).ok();
    let next = next.filter(|it| it.origin() == reply.url.origin());
    Some(next.map(String::from).ok_or(()))
}
