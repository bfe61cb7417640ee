//! What is said about images: in-toto statements, in a manifest of their own beside the image's.
//!
//! Vocabulary: a *predicate* is what is said, a *statement* the predicate together with what it is said
//! about. The *attestation manifest* of an image has the statements as its layers; it stands in the
//! index behind the image, for no platform on which anything runs, and names the image's manifest. This
//! is BuildKit's form, which registries and scanners know.

mod kept;
mod provenance;

use std::collections::BTreeMap;

use oci::{Digest, Platform, Reference, media_type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{ImageRecord, Store};

use crate::manifest::{Descriptor, Manifest, PlatformWords};
use crate::save::{SaveError, SaveOptions, json};

pub use kept::keep;
pub use provenance::{
    Builder, ConfigSource, Invocation, Material, Mode, Provenance, Steps, Version,
};

/// The type of a statement, and of the layer that it is.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// Something that can be said about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// What kind of thing it is: the address of its definition.
    pub kind: String,
    /// The thing itself.
    pub content: Value,
}

/// What is said about images, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attestations(BTreeMap<Digest, Vec<Predicate>>);

impl Attestations {
    /// Says one more thing about an image.
    pub fn add(&mut self, image: Digest, predicate: Predicate) {
        self.0.entry(image).or_default().push(predicate);
    }

    /// What is said about images that are to be written as `options` say: what those say, or else what
    /// is kept with the images.
    pub(crate) fn wanted<'a>(
        store: &Store,
        options: &SaveOptions,
        images: impl IntoIterator<Item = &'a ImageRecord>,
    ) -> Result<Self, SaveError> {
        if let Some(wanted) = &options.attestations {
            return Ok(wanted.clone());
        }
        let mut kept = Self::default();
        for image in images {
            for predicate in kept::of(store, &image.id)? {
                kept.add(image.id, predicate);
            }
        }
        Ok(kept)
    }

    /// What is said about an image.
    pub fn of(&self, image: &Digest) -> &[Predicate] {
        self.0.get(image).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is said about anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Predicate {
    /// The predicate as something said about files, each by its path and sha256.
    pub fn of_files(&self, files: &[(String, Digest)]) -> Vec<u8> {
        let subject = |(path, digest): &(String, Digest)| subject(path, digest);
        json(&self.statement(&files.iter().map(subject).collect::<Vec<_>>()))
    }

    fn statement(&self, subject: &[Value]) -> Value {
        json!({
            "_type": STATEMENT,
            "predicateType": self.kind,
            "subject": subject,
            "predicate": self.content,
        })
    }
}

fn subject(name: &str, digest: &Digest) -> Value {
    json!({ "name": name, "digest": { "sha256": digest.hex() } })
}

/// The image that something is said about, as others know it.
pub(crate) struct Subject<'a> {
    pub(crate) manifest: &'a Descriptor,
    pub(crate) names: &'a [Reference],
    pub(crate) platform: &'a Platform,
}

/// The documents of an attestation manifest, to be written in this order.
pub(crate) struct Documents {
    /// With their media types.
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
    pub(crate) manifest: Vec<u8>,
    /// As it stands in the index.
    pub(crate) descriptor: Descriptor,
}

/// What is said about an image, as documents; none where nothing is.
pub(crate) fn documents(predicates: &[Predicate], of: &Subject<'_>) -> Option<Documents> {
    if predicates.is_empty() {
        return None;
    }
    let subjects: Vec<Value> = match of.names {
        [] => vec![subject("_", &of.manifest.digest)],
        names => names
            .iter()
            .map(|name| subject(&package_url(name, of.platform), &of.manifest.digest))
            .collect(),
    };
    let mut blobs = Vec::new();
    let mut layers = Vec::new();
    for predicate in predicates {
        let bytes = json(&predicate.statement(&subjects));
        let mut layer = Descriptor::new(STATEMENT_TYPE, Digest::of(&bytes), bytes.len() as u64);
        let kind = (
            "in-toto.io/predicate-type".to_owned(),
            predicate.kind.clone(),
        );
        layer.annotations.extend([kind]);
        layers.push(layer);
        blobs.push((STATEMENT_TYPE.to_owned(), bytes));
    }
    let config = config(&layers);
    let manifest = json(&Manifest {
        schema_version: 2,
        media_type: media_type::MANIFEST,
        config: Descriptor::new(media_type::CONFIG, Digest::of(&config), config.len() as u64),
        layers,
        annotations: BTreeMap::new(),
    });
    blobs.push((media_type::CONFIG.to_owned(), config));
    let descriptor = descriptor(&manifest, &of.manifest.digest);
    Some(Documents {
        blobs,
        manifest,
        descriptor,
    })
}

/// A config that says that nothing runs here. It has the layers, so that no two are the same.
fn config(layers: &[Descriptor]) -> Vec<u8> {
    let digests: Vec<&Digest> = layers.iter().map(|it| &it.digest).collect();
    json(&json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    }))
}

fn descriptor(manifest: &[u8], image: &Digest) -> Descriptor {
    let mut descriptor = Descriptor::new(
        media_type::MANIFEST,
        Digest::of(manifest),
        manifest.len() as u64,
    );
    descriptor.annotations = BTreeMap::from([
        (
            "vnd.docker.reference.type".to_owned(),
            "attestation-manifest".to_owned(),
        ),
        ("vnd.docker.reference.digest".to_owned(), image.to_string()),
    ]);
    descriptor.platform = Some(PlatformWords {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        variant: None,
    });
    descriptor
}

/// An image as a package: `pkg:docker/alpine@3.17?platform=linux%2Famd64`.
pub fn package_url(name: &Reference, platform: &Platform) -> String {
    let path = name.familiar_name();
    let path: Vec<String> = path.split('/').map(percent).collect();
    let tag = name.tag().map(|tag| format!("@{}", percent(tag)));
    let digest = name
        .digest()
        .map(|it| format!("digest={}&", percent(&it.to_string())));
    format!(
        "pkg:docker/{}{}?{}platform={}",
        path.join("/"),
        tag.unwrap_or_default(),
        digest.unwrap_or_default(),
        percent(&platform.to_string()),
    )
}

/// A text as a part of a package's address.
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_packages() {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let url = |name: &str| package_url(&name.parse().unwrap(), &platform);
        assert_eq!(
            url("alpine:3.17"),
            "pkg:docker/alpine@3.17?platform=linux%2Famd64"
        );
        assert_eq!(
            url("localhost:5000/a/b"),
            "pkg:docker/localhost%3A5000/a/b@latest?platform=linux%2Famd64"
        );
    }

    #[test]
    fn what_is_said_of_an_image_names_it_in_each_document() {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let manifest = Descriptor::new(media_type::MANIFEST, Digest::of(b"m"), 1);
        let predicate = Predicate {
            kind: "https://example.org/kind".to_owned(),
            content: json!({ "a": 1 }),
        };
        let mut subject = Subject {
            manifest: &manifest,
            names: &[],
            platform: &platform,
        };
        assert!(documents(&[], &subject).is_none());
        let made = documents(std::slice::from_ref(&predicate), &subject).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&made.blobs[0].1).unwrap(),
            json!({
                "_type": STATEMENT,
                "predicate": { "a": 1 },
                "predicateType": "https://example.org/kind",
                "subject": [{ "digest": { "sha256": Digest::of(b"m").hex() }, "name": "_" }],
            })
        );
        let statement = Digest::of(&made.blobs[0].1).to_string();
        assert!(text(&made.blobs[1].1).contains(&statement));
        assert!(text(&made.manifest).contains(&statement));
        assert!(made.descriptor.is_attestation());
        assert_eq!(made.descriptor.digest, Digest::of(&made.manifest));
        let names = ["a:1".parse().unwrap(), "b:2".parse().unwrap()];
        subject.names = &names;
        let made = documents(&[predicate], &subject).unwrap();
        let named = text(&made.blobs[0].1);
        assert!(named.contains("pkg:docker/a@1?") && named.contains("pkg:docker/b@2?"));
    }
}
