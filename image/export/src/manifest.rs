//! The JSON documents of archives, as far as images need them.

use std::collections::BTreeMap;

use oci::media_type::{self, MediaTypes};
use oci::{Digest, Platform};
use serde::{Deserialize, Serialize};

/// Where bytes belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformWords>,
}

/// A platform as written, which may be none that is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformWords {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// A manifest or an index: which of them is seen by what it holds, and it must not be both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Option<Vec<Descriptor>>,
    pub(crate) manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) fs_layers: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// An image manifest to be written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest<'a> {
    pub(crate) schema_version: u32,
    pub(crate) media_type: &'a str,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An index to be written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index<'a> {
    pub(crate) schema_version: u32,
    pub(crate) media_type: &'a str,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What others call an image by: the descriptor of its manifest, or of the index of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// What is described.
    pub media_type: String,
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// How long that is.
    pub size: u64,
    /// The annotations of the descriptor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl From<&Descriptor> for Described {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            annotations: descriptor.annotations.clone(),
        }
    }
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) layer_sources: BTreeMap<Digest, Descriptor>,
}

/// What [`Document`] is, once its ambiguities are ruled out.
pub(crate) enum Meaning {
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    Index(Vec<Descriptor>),
}

impl Document {
    /// Whose media types it has.
    pub(crate) fn types(&self) -> MediaTypes {
        self.media_type
            .as_deref()
            .map(MediaTypes::of)
            .unwrap_or_default()
    }

    /// What the document is; `Err` says why it can be nothing.
    pub(crate) fn meaning(self) -> Result<Meaning, &'static str> {
        if self.fs_layers.is_some() {
            return Err("it is a manifest of the abandoned schema 1");
        }
        let says_index = self.media_type.as_deref().map(is_index);
        match (self.config, self.layers, self.manifests) {
            (Some(config), Some(layers), None) if says_index != Some(true) => {
                Ok(Meaning::Manifest { config, layers })
            }
            (None, None, Some(manifests)) if says_index != Some(false) => {
                Ok(Meaning::Index(manifests))
            }
            (None, None, None) => Err("it is neither a manifest nor an index"),
            (Some(_), None, None) | (None, Some(_), None) => Err("it is half a manifest"),
            (.., Some(_)) if says_index != Some(false) => {
                Err("it is a manifest and an index at once")
            }
            _ => Err("it is not what its media type says"),
        }
    }
}

fn is_index(media_type: &str) -> bool {
    matches!(media_type, media_type::INDEX | media_type::DOCKER_INDEX)
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// The descriptor of a layer with the media type that `types` has for it.
    pub(crate) fn typed(&self, types: MediaTypes) -> Self {
        let compression = media_type::layer_compression(&self.media_type);
        let own = compression.map(|it| types.layer(it).to_owned());
        Self {
            media_type: own.unwrap_or_else(|| self.media_type.clone()),
            ..self.clone()
        }
    }

    /// The platform, where it is one on which something can run; attestations name `unknown`.
    pub(crate) fn runs_on(&self) -> Option<Platform> {
        let words = self.platform.as_ref()?;
        (words.os != "unknown")
            .then(|| Platform::new(&words.os, &words.architecture, words.variant.as_deref()))
    }

    /// Whether this is no image but something said about one.
    pub(crate) fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|it| it.os == "unknown")
    }
}

impl From<&Platform> for PlatformWords {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let document: Document = serde_json::from_str(text).unwrap();
        let meaning = document.meaning().map(|meaning| match meaning {
            Meaning::Manifest { .. } => "manifest",
            Meaning::Index(_) => "index",
        });
        assert_eq!(meaning, expected, "{text}");
    }

    #[test]
    fn a_document_means_one_thing_or_nothing() {
        let d = format!(
            r#"{{"mediaType":"x","digest":"{}","size":0}}"#,
            Digest::of(b"")
        );
        let index = media_type::INDEX;
        let manifest = media_type::DOCKER_MANIFEST;
        check(&format!(r#"{{"config":{d},"layers":[]}}"#), Ok("manifest"));
        check(
            &format!(r#"{{"mediaType":"{manifest}","config":{d},"layers":[{d}]}}"#),
            Ok("manifest"),
        );
        check(
            &format!(r#"{{"mediaType":"{index}","manifests":[{d}]}}"#),
            Ok("index"),
        );
        check(
            &format!(r#"{{"config":{d},"layers":[],"manifests":[]}}"#),
            Err("it is a manifest and an index at once"),
        );
        check(
            &format!(r#"{{"mediaType":"{index}","config":{d},"layers":[]}}"#),
            Err("it is not what its media type says"),
        );
        check(
            r#"{"fsLayers":[],"layers":[]}"#,
            Err("it is a manifest of the abandoned schema 1"),
        );
        check("{}", Err("it is neither a manifest nor an index"));
    }
}
