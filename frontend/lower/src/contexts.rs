//! `--build-context`: what goes by a name in place of a stage or an image of that name (G36).

use std::collections::BTreeMap;
use std::path::PathBuf;

use llb::op::{LocalSource, Source};
use oci::{Digest, Platform, Reference};

/// What stands between a context's name and the platform that alone it is for.
const PLATFORM: &str = "::";
/// The tag that need not be written.
const USUAL_TAG: &str = ":latest";

/// Named contexts. A name may be for one platform only (`NAME::linux/arm64`).
#[derive(Debug, Clone, Default)]
pub struct Contexts(BTreeMap<String, NamedContext>);

/// What goes by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// The empty file system (`docker-image://scratch`).
    Scratch,
    /// A directory that the session lends.
    Directory(LocalSource),
    /// An image (`docker-image://REFERENCE`).
    Image(Reference),
    /// An image of an OCI layout (`oci-layout://DIRECTORY`).
    Layout(Layout),
    /// The files of a repository, or the one file of an address.
    Remote(Source),
}

/// One image of a directory that is laid out as OCI says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where it is.
    pub directory: PathBuf,
    /// The name that the index gives the image; the only image, or `latest`, where `None`.
    pub tag: Option<String>,
    /// What the image's manifest or index must be.
    pub digest: Option<Digest>,
}

/// A name that no context can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid context name {name}: {why}")]
pub struct ContextNameError {
    /// As written.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl Contexts {
    /// Adds what goes by `name`, in place of what went by it before. Names of images are the same
    /// however much of them is written: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// # Errors
    /// If nothing could ever be called so.
    pub fn insert(&mut self, name: &str, context: NamedContext) -> Result<(), ContextNameError> {
        self.0.insert(known_as(name)?, context);
        Ok(())
    }

    /// What goes by `name` on `platform`, with the name that it has here: that of the platform alone
    /// comes first.
    pub(crate) fn find(&self, name: &str, platform: &Platform) -> Option<(&str, &NamedContext)> {
        if self.0.is_empty() {
            return None;
        }
        let name = known_as(name).ok()?;
        let found = self.0.get_key_value(&format!("{name}{PLATFORM}{platform}"));
        let (name, context) = found.or_else(|| self.0.get_key_value(&name))?;
        Some((name, context))
    }
}

/// A context's name as it is kept, whichever way it is written.
///
/// # Errors
/// If nothing could ever be called so.
pub fn known_as(name: &str) -> Result<String, ContextNameError> {
    let fail = |why: String| ContextNameError {
        name: name.to_owned(),
        why,
    };
    let (bare, platform) = match name.split_once(PLATFORM) {
        Some((bare, platform)) => (bare, Some(platform)),
        None => (name, None),
    };
    let reference: Reference = bare
        .parse()
        .map_err(|error: oci::ReferenceError| fail(error.to_string()))?;
    let familiar = reference.familiar();
    let familiar = familiar.strip_suffix(USUAL_TAG).unwrap_or(&familiar);
    let platform: Option<Platform> = platform
        .map(str::parse)
        .transpose()
        .map_err(|error: oci::PlatformError| fail(error.to_string()))?;
    Ok(match platform {
        Some(platform) => format!("{familiar}{PLATFORM}{platform}"),
        None => familiar.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        let table = [
            ("alpine", "alpine"),
            ("alpine:latest", "alpine"),
            ("docker.io/library/alpine", "alpine"),
            ("index.docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "alpine:3"),
            ("ghcr.io/a/b:latest", "ghcr.io/a/b"),
            ("src::linux/aarch64", "src::linux/arm64"),
        ];
        for (written, expected) in table {
            assert_eq!(known_as(written).as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn a_name_that_nothing_can_have_is_refused() {
        for name in ["", "Src", "a b", "a::nowhere/at/all/x", "a=b"] {
            let error = known_as(name).expect_err(name).to_string();
            let expected = format!("invalid context name {name}: ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_context_of_the_platform_comes_first() {
        let mut contexts = Contexts::default();
        let image = |name: &str| NamedContext::Image(name.parse().expect("a name"));
        contexts.insert("src", image("any")).expect("a name");
        contexts
            .insert("src::linux/arm64", image("arm"))
            .expect("a name");
        let find = |name: &str, architecture: &str| {
            let platform = Platform::new("linux", architecture, None);
            contexts.find(name, &platform).map(|(_, it)| it.clone())
        };
        assert_eq!(find("src", "amd64"), Some(image("any")));
        assert_eq!(find("src:latest", "arm64"), Some(image("arm")));
        assert_eq!(find("other", "arm64"), None);
        assert_eq!(find("No Name", "arm64"), None);
    }
}
