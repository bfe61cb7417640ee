//! Manifests: what a name stands for.

use oci::{
    Descriptor, Digest, ImageIndex, ImageManifest, MediaType, Platform, Reference, media_type,
};
use serde::Deserialize;

use crate::client::{Access, Call};
use crate::http::{Answer, Method, Reply};
use crate::{Client, RegistryError};

/// How many platforms are named where none of them is the one.
const SHOWN: usize = 20;

/// A manifest as it came, its bytes untouched: their digest is its name.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// The name of `bytes`.
    pub digest: Digest,
    /// What the registry says it is.
    pub media_type: String,
    /// As it came.
    pub bytes: Vec<u8>,
    /// Read.
    pub document: Document,
}

/// What a manifest says.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// Several, by platform.
    Index(Box<ImageIndex>),
}

/// The fields that tell documents apart.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl FetchedManifest {
    /// Reads a manifest that was fetched before and kept, of the repository of `reference`.
    ///
    /// # Errors
    /// If it could be taken for two things, or for none.
    pub fn read(reference: &Reference, bytes: Vec<u8>) -> Result<Self, RegistryError> {
        let (document, media_type) = read(&bytes, None).map_err(|why| bad(reference, why))?;
        Ok(Self {
            digest: Digest::of(&bytes),
            media_type,
            bytes,
            document,
        })
    }

    /// The digest of the manifest for `platform`, where this is an index; `None` for one image.
    ///
    /// # Errors
    /// If the index has nothing for the platform.
    pub fn entry_for(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Digest>, RegistryError> {
        let Document::Index(index) = &self.document else {
            return Ok(None);
        };
        let chosen = choose(index, platform).ok_or_else(|| RegistryError::NoPlatform {
            reference: reference.familiar(),
            platform: Box::new(platform.clone()),
            available: platforms(index),
        })?;
        Digest::try_from(chosen.digest())
            .map(Some)
            .map_err(|error| bad(reference, error.to_string()))
    }
}

impl Client {
    /// The manifest of one image for `platform`, with the index it was chosen from where there is one.
    ///
    /// # Errors
    /// If there is none, it may not be read, or its bytes are not what they should be.
    pub fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(FetchedManifest, Option<FetchedManifest>), RegistryError> {
        let fetched = self.manifest(reference)?;
        let Some(digest) = fetched.entry_for(reference, platform)? else {
            return Ok((fetched, None));
        };
        let image = self.manifest_by_digest(reference, &digest)?;
        match image.document {
            Document::Image(_) => Ok((image, Some(fetched))),
            Document::Index(_) => Err(bad(
                reference,
                "its index leads to another index".to_owned(),
            )),
        }
    }

    /// The digest that a name stands for now, asked for without fetching the manifest.
    ///
    /// # Errors
    /// If there is none, or it may not be read.
    pub fn digest(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        if let Some(digest) = reference.digest() {
            return Ok(*digest);
        }
        let access = Access::pull(reference);
        let reply = self.call(&access, &manifest_call(Method::Head, &wanted(reference)))?;
        let given = reply
            .header("docker-content-digest")
            .and_then(|digest| digest.parse().ok());
        match (reply.status, given) {
            (200, Some(digest)) => Ok(digest),
            (200, None) => self.manifest(reference).map(|fetched| fetched.digest),
            (404, _) => Err(RegistryError::NotFound {
                reference: reference.familiar(),
            }),
            _ => Err(self.failure(&access, reply)),
        }
    }

    /// The manifest that a name stands for.
    ///
    /// # Errors
    /// If there is none, it may not be read, or its bytes are not what they should be.
    pub fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        self.fetch_manifest(reference, &wanted(reference), reference.digest())
    }

    /// The manifest with this digest in the repository of `reference`.
    ///
    /// # Errors
    /// If there is none, it may not be read, or its bytes are not what they should be.
    pub fn manifest_by_digest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<FetchedManifest, RegistryError> {
        self.fetch_manifest(reference, &digest.to_string(), Some(digest))
    }

    fn fetch_manifest(
        &self,
        reference: &Reference,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<FetchedManifest, RegistryError> {
        let access = Access::pull(reference);
        let limit = self.limits().manifest;
        let (reply, bytes) = self.document(&access, &manifest_call(Method::Get, name), limit)?;
        match reply.status {
            200 => {}
            404 => {
                return Err(RegistryError::NotFound {
                    reference: reference.familiar(),
                });
            }
            _ => return Err(self.failure(&access, reply)),
        }
        let content_type = content_type(&reply);
        let bytes = bytes.ok_or_else(|| RegistryError::TooLarge {
            what: format!("manifest of {}", reference.familiar()),
            limit,
        })?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = expected
            && *wanted != digest
        {
            return Err(RegistryError::DigestMismatch {
                wanted: *wanted,
                got: digest,
            });
        }
        let (document, media_type) =
            read(&bytes, content_type.as_deref()).map_err(|why| bad(reference, why))?;
        Ok(FetchedManifest {
            digest,
            media_type,
            bytes,
            document,
        })
    }
}

/// Reads a manifest, refusing one that could be taken for two things.
fn read(bytes: &[u8], content_type: Option<&str>) -> Result<(Document, String), String> {
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    if shape.schema_version == Some(1) {
        return Err("it is of Docker's schema 1, which nobody writes any more".to_owned());
    }
    let is_index = shape.manifests.is_some();
    let is_image = shape.layers.is_some() || shape.config.is_some();
    if is_index == is_image {
        return Err(
            "it has to be either an image with layers or an index with manifests".to_owned(),
        );
    }
    let expected = if is_index {
        [media_type::INDEX, media_type::DOCKER_INDEX]
    } else {
        [media_type::MANIFEST, media_type::DOCKER_MANIFEST]
    };
    let claimed = shape
        .media_type
        .as_deref()
        .or(content_type.filter(|it| it.starts_with("application/vnd.")));
    if let (Some(inside), Some(outside)) = (shape.media_type.as_deref(), content_type)
        && inside != outside
        && outside.starts_with("application/vnd.")
    {
        return Err(format!(
            "it calls itself `{inside}`, the registry calls it `{outside}`"
        ));
    }
    let media_type = claimed.unwrap_or(expected[0]);
    if !expected.contains(&media_type) {
        return Err(format!(
            "it calls itself `{media_type}`, but has the fields of `{}`",
            expected[0]
        ));
    }
    let document = if is_index {
        Document::Index(Box::new(
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        ))
    } else {
        Document::Image(Box::new(
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        ))
    };
    Ok((document, media_type.to_owned()))
}

/// The entry of an index for a platform: the very one, or for a variant the best that it can run.
fn choose<'a>(index: &'a ImageIndex, platform: &Platform) -> Option<&'a Descriptor> {
    let images = || index.manifests().iter().filter(|entry| is_image(entry));
    let of =
        |wanted: &Platform| images().find(|entry| entry_platform(entry).as_ref() == Some(wanted));
    let downward: &[&str] = match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm", Some("v8")) => &["v7", "v6", "v5"],
        ("arm", Some("v7")) => &["v6", "v5"],
        ("arm", Some("v6")) => &["v5"],
        ("amd64", Some("v4")) => &["v3", "v2", "v1"],
        ("amd64", Some("v3")) => &["v2", "v1"],
        ("amd64", Some("v2")) => &["v1"],
        _ => &[],
    };
    of(platform).or_else(|| {
        downward.iter().find_map(|variant| {
            of(&Platform::new(
                &platform.os,
                &platform.architecture,
                Some(variant),
            ))
        })
    })
}

fn is_image(entry: &Descriptor) -> bool {
    matches!(entry.media_type(), MediaType::ImageManifest)
        || entry.media_type().to_string() == media_type::DOCKER_MANIFEST
}

fn entry_platform(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    Some(Platform::new(
        &platform.os().to_string(),
        &platform.architecture().to_string(),
        platform.variant().as_deref(),
    ))
}

fn platforms(index: &ImageIndex) -> String {
    let mut names: Vec<String> = index
        .manifests()
        .iter()
        .filter_map(entry_platform)
        .filter(|platform| platform.os != "unknown")
        .map(|platform| platform.to_string())
        .collect();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "no platform at all".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn manifest_call(method: Method, name: &str) -> Call<'static> {
    let accepted = [
        media_type::MANIFEST,
        media_type::INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_INDEX,
    ];
    Call {
        method,
        path: format!("manifests/{name}"),
        headers: vec![("accept", accepted.join(", "))],
        answer: Answer::Document,
        ..Call::default()
    }
}

/// What names the manifest in the address: the digest where there is one, else the tag.
fn wanted(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

fn content_type(reply: &Reply) -> Option<String> {
    let header = reply.header("content-type")?;
    Some(header.split(';').next().unwrap_or(header).trim().to_owned())
}

fn bad(reference: &Reference, why: String) -> RegistryError {
    RegistryError::BadManifest {
        reference: reference.familiar(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_two_things_is_refused() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
        let neither = r#"{"schemaVersion":2}"#;
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        for (body, content_type) in [
            (both, media_type::MANIFEST),
            (neither, media_type::MANIFEST),
            (old, "application/vnd.docker.distribution.manifest.v1+json"),
            (index, media_type::MANIFEST),
            ("[]", media_type::INDEX),
        ] {
            assert!(read(body.as_bytes(), Some(content_type)).is_err(), "{body}");
        }
        assert!(read(index.as_bytes(), Some(media_type::INDEX)).is_ok());
        assert!(read(index.as_bytes(), Some("application/json")).is_ok());
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let entry = |platform: &str, byte: u8| {
            let platform: Platform = platform.parse().unwrap();
            let variant = platform
                .variant
                .map(|it| format!(r#","variant":"{it}""#))
                .unwrap_or_default();
            format!(
                r#"{{"mediaType":"{}","size":1,"digest":"{}","platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
                media_type::MANIFEST,
                Digest::of(&[byte]),
                platform.os,
                platform.architecture
            )
        };
        let entries = [
            entry("linux/amd64", 1),
            entry("linux/arm/v6", 2),
            entry("linux/arm64", 3),
        ]
        .join(",");
        let index: ImageIndex =
            serde_json::from_str(&format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#))
                .unwrap();
        let chosen = |platform: &str| {
            choose(&index, &platform.parse().unwrap())
                .map(|it| Digest::try_from(it.digest()).unwrap())
        };
        assert_eq!(chosen("linux/amd64"), Some(Digest::of(&[1])));
        assert_eq!(chosen("linux/arm/v7"), Some(Digest::of(&[2])));
        assert_eq!(chosen("linux/arm64/v8"), Some(Digest::of(&[3])));
        assert_eq!(chosen("linux/s390x"), None);
        assert_eq!(platforms(&index), "linux/amd64, linux/arm/v6, linux/arm64");
    }
}
