//! `--metadata-file`: what scripts want to know of a build, as JSON in buildx's words.

use engine::Built;
use export::Described;
use oci::media_type;
use serde_json::{Map, Value, json};
use solve::progress::Warning;
use store::{Store, StoreError};

use crate::progress::rawjson;

/// What a build left behind.
pub(super) struct Metadata<'a> {
    pub(super) built: &'a Built,
    /// What an archive that was written calls the image.
    pub(super) archived: Option<Described>,
    /// The warnings, where they are asked for.
    pub(super) warnings: &'a [Warning],
}

impl Metadata<'_> {
    /// The content of the file.
    pub(super) fn text(&self, store: &Store) -> Result<String, StoreError> {
        let mut fields = Map::new();
        let mut say = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        let built = self.built;
        // A builder, a node and the build, as buildx has it; there is but one builder.
        if let Some(number) = built.number {
            say("buildx.build.ref", json!(format!("rbuild/rbuild/{number}")));
        }
        if !self.warnings.is_empty() {
            let warnings = self.warnings.iter().map(rawjson::warning).collect();
            say("buildx.build.warnings", Value::Array(warnings));
        }
        let described = match built.pushed.clone().or_else(|| self.archived.clone()) {
            None => stored(built, store)?,
            known => known,
        };
        if let Some(id) = &built.image {
            say("containerimage.config.digest", json!(id));
            // An image in the store need have no manifest; Docker's own store names it by its config too.
            let digest = described.as_ref().map_or(*id, |it| it.digest);
            say("containerimage.digest", json!(digest));
        }
        if let Some(described) = &described {
            say("containerimage.descriptor", json!(described));
        }
        if !built.names.is_empty() {
            let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
            say("image.name", json!(names.join(",")));
        }
        Ok(format!("{:#}\n", Value::Object(fields)))
    }
}

/// The manifest of an image that is in the store alone, where it has one.
fn stored(built: &Built, store: &Store) -> Result<Option<Described>, StoreError> {
    let [(_, id)] = &built.images[..] else {
        return Ok(None);
    };
    let manifest = store.image(id)?.and_then(|image| image.manifest);
    let Some(digest) = manifest else {
        return Ok(None);
    };
    if !store.has_blob(&digest)? {
        return Ok(None);
    }
    Ok(Some(Described {
        media_type: media_type::MANIFEST.to_owned(),
        digest,
        size: store.blob_size(&digest)?,
        annotations: Default::default(),
    }))
}

/// Whether `BUILDX_METADATA_WARNINGS` has this value that asks for warnings: what Go takes for true.
pub(super) fn is_asked(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "t" | "T" | "true" | "True" | "TRUE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;

    #[test]
    fn the_metadata_names_the_image_and_what_others_call_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let built = Built {
            image: Some(Digest::of(b"")),
            images: Vec::new(),
            pushed: None,
            names: vec!["demo".parse().unwrap(), "demo:2".parse().unwrap()],
            sizes: Vec::new(),
            steps: 1,
            cached: 0,
            number: Some(7),
            verified: None,
            attestations: Default::default(),
        };
        let read = |archived| -> Value {
            let metadata = Metadata {
                built: &built,
                archived,
                warnings: &[],
            };
            serde_json::from_str(&metadata.text(&store).unwrap()).unwrap()
        };
        let id = Digest::of(b"").to_string();
        let expected = json!({
            "buildx.build.ref": "rbuild/rbuild/7",
            "containerimage.config.digest": id,
            "containerimage.digest": id,
            "image.name": "docker.io/library/demo:latest,docker.io/library/demo:2",
        });
        assert_eq!(read(None), expected);
        let described = Described {
            media_type: media_type::MANIFEST.to_owned(),
            digest: Digest::of(b"manifest"),
            size: 8,
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let described = read(Some(described));
        let digest = Digest::of(b"manifest").to_string();
        assert_eq!(described["containerimage.digest"], digest);
        let descriptor = json!({
            "mediaType": media_type::MANIFEST, "digest": digest, "size": 8, "annotations": {"a": "b"},
        });
        assert_eq!(described["containerimage.descriptor"], descriptor);
    }
}
