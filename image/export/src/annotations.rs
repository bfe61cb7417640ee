//! What people want to stand beside manifests, indices and the descriptors of both.

use std::collections::BTreeMap;

use oci::Platform;

/// What an annotation stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Annotated {
    /// The manifest of an image.
    Manifest,
    /// The index of the images of several platforms.
    Index,
    /// The descriptor of a manifest, in an index.
    ManifestDescriptor,
    /// The descriptor of an index, in the `index.json` of an archive.
    IndexDescriptor,
}

/// The annotations of an image, on all that is written of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Annotation {
    of: Annotated,
    /// Of all platforms where `None`.
    platform: Option<Platform>,
    key: String,
    value: String,
}

impl Annotated {
    /// Reads what BuildKit calls it.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "manifest" => Self::Manifest,
            "index" => Self::Index,
            "manifest-descriptor" => Self::ManifestDescriptor,
            "index-descriptor" => Self::IndexDescriptor,
            _ => return None,
        })
    }

    /// Whether there is such a thing only where an image is for several platforms.
    pub fn is_of_index(self) -> bool {
        matches!(self, Self::Index | Self::IndexDescriptor)
    }
}

impl Annotations {
    /// Adds one; of two with one key on the same thing, the later counts.
    pub fn add(
        &mut self,
        (of, platform): (Annotated, Option<Platform>),
        key: impl Into<String>,
        value: impl Into<String>,
    ) {
        self.0.push(Annotation {
            of,
            platform,
            key: key.into(),
            value: value.into(),
        });
    }

    /// These and then `others`.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one on an index or its descriptor.
    pub fn name_an_index(&self) -> bool {
        self.0.iter().any(|it| it.of.is_of_index())
    }

    /// Those of the manifest, or its descriptor, of a platform.
    pub(crate) fn of_image(&self, of: Annotated, platform: &Platform) -> BTreeMap<String, String> {
        self.pairs(|it| it.of == of && it.platform.as_ref().is_none_or(|meant| meant == platform))
    }

    /// Those of the index, or of its descriptor: it is for all platforms.
    pub(crate) fn of_index(&self, of: Annotated) -> BTreeMap<String, String> {
        self.pairs(|it| it.of == of && it.platform.is_none())
    }

    fn pairs(&self, is_meant: impl Fn(&Annotation) -> bool) -> BTreeMap<String, String> {
        let meant = self.0.iter().filter(|it| is_meant(it));
        meant.map(|it| (it.key.clone(), it.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_on_what_it_names_and_the_later_counts() {
        let arm: Platform = "linux/arm64".parse().unwrap();
        let amd: Platform = "linux/amd64".parse().unwrap();
        let mut all = Annotations::default();
        all.add((Annotated::Manifest, None), "a", "1");
        all.add((Annotated::Manifest, Some(arm.clone())), "a", "2");
        all.add((Annotated::Index, None), "b", "3");
        let pairs = |map: BTreeMap<String, String>| format!("{map:?}");
        let manifest = Annotated::Manifest;
        assert_eq!(pairs(all.of_image(manifest, &amd)), r#"{"a": "1"}"#);
        assert_eq!(pairs(all.of_image(manifest, &arm)), r#"{"a": "2"}"#);
        assert_eq!(pairs(all.of_index(Annotated::Index)), r#"{"b": "3"}"#);
        assert_eq!(pairs(all.of_index(Annotated::IndexDescriptor)), "{}");
        assert!(all.name_an_index());
    }

    #[test]
    fn types_are_buildkits() {
        let words = [
            "manifest",
            "index",
            "manifest-descriptor",
            "index-descriptor",
        ];
        let of_index = words.map(|it| Annotated::parse(it).unwrap().is_of_index());
        assert_eq!(of_index, [false, true, false, true]);
        assert_eq!(Annotated::parse("layer"), None);
    }
}
