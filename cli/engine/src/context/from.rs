//! Where a context or a Dockerfile is, as people write it.

use std::path::{Path, PathBuf};

use llb::op::Source;
use lower::{Layout, RemoteError, remote};
use oci::{Digest, DigestError, Reference, ReferenceError};

/// What `COPY` copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextFrom {
    /// A directory.
    Directory(PathBuf),
    /// Nothing: the context is empty.
    Empty,
    /// The standard input: a tar of the context, packed or not, or a Dockerfile for an empty one.
    Stdin,
    /// An address of a tar or of a Dockerfile, or a repository (`REPOSITORY#REF:DIRECTORY`).
    Remote(String),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileFrom {
    /// `Dockerfile` in the context, or `dockerfile` where there is none.
    Context,
    /// A file: anywhere, relative to the working directory, or in the context if that is fetched.
    File(PathBuf),
    /// The standard input.
    Stdin,
    /// An address.
    Remote(String),
}

/// Where a named context is (`--build-context`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedFrom {
    /// A directory.
    Directory(PathBuf),
    /// The empty file system.
    Scratch,
    /// An image.
    Image(Reference),
    /// An image of an OCI layout.
    Layout(Layout),
    /// A file of the web, or the files of a repository.
    Remote(Source),
}

/// Why a text says nowhere that a named context could be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamedFromError {
    /// Behind `docker-image://` stands no image's name.
    #[error("no image is called so")]
    Image(#[from] ReferenceError),
    /// Behind `@` stands no digest.
    #[error("what stands behind the `@` is no digest")]
    Digest(#[from] DigestError),
    /// Nothing stands behind `oci-layout://`.
    #[error("it names no directory")]
    NoDirectory,
    /// The repository's name says something that cannot be done.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Another kind.
    #[error(
        "unsupported context source {0}: it is a directory, http(s)://, a git repository, docker-image:// or oci-layout://"
    )]
    Unsupported(String),
}

impl ContextFrom {
    /// What `text` means on a command line. A directory that is there is itself, whatever its name
    /// looks like.
    pub fn parse(text: &Path) -> Self {
        if text == Path::new("-") {
            return Self::Stdin;
        }
        let remote = text.to_str().filter(|_| !text.is_dir());
        match remote.filter(|it| remote::remote_context(it).is_some()) {
            Some(remote) => Self::Remote(remote.to_owned()),
            None => Self::Directory(text.to_owned()),
        }
    }

    /// Where it is, without credentials.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Empty | Self::Stdin => "-".to_owned(),
            Self::Remote(address) => llb::without_credentials(address),
        }
    }
}

impl DockerfileFrom {
    /// What `-f` means.
    pub fn parse(text: &Path) -> Self {
        let is_address = |it: &&str| it.starts_with("http://") || it.starts_with("https://");
        match text.to_str() {
            Some("-") => Self::Stdin,
            other => match other.filter(is_address) {
                Some(address) => Self::Remote(address.to_owned()),
                None => Self::File(text.to_owned()),
            },
        }
    }
}

impl NamedFrom {
    /// What stands behind the `=` of a `--build-context`.
    ///
    /// # Errors
    /// If that says nowhere that a context could be. That there is nothing is found out later.
    pub fn parse(text: &str) -> Result<Self, NamedFromError> {
        match text.split_once("://") {
            Some(("docker-image", "scratch")) => return Ok(Self::Scratch),
            Some(("docker-image", name)) => return Ok(Self::Image(name.parse()?)),
            Some(("oci-layout", rest)) => return Ok(Self::Layout(layout(rest)?)),
            _ => {}
        }
        if Path::new(text).exists() {
            return Ok(Self::Directory(text.into()));
        }
        match (remote::remote_context(text), text.split_once("://")) {
            (Some(remote), _) => Ok(Self::Remote(remote?)),
            (None, Some((scheme, _))) => Err(NamedFromError::Unsupported(scheme.to_owned())),
            (None, None) if text.starts_with("target:") => {
                Err(NamedFromError::Unsupported("target".to_owned()))
            }
            (None, None) => Ok(Self::Directory(text.into())),
        }
    }
}

/// `DIRECTORY[:TAG][@DIGEST]`
fn layout(text: &str) -> Result<Layout, NamedFromError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
        None => (text, None),
    };
    // A tag has no slash, a directory may have a colon.
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag.to_owned())),
        _ => (rest, None),
    };
    if directory.is_empty() {
        return Err(NamedFromError::NoDirectory);
    }
    Ok(Layout {
        directory: directory.into(),
        tag: tag.filter(|it| !it.is_empty()),
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match NamedFrom::parse(text) {
            Ok(NamedFrom::Directory(path)) => format!("directory {}", path.display()),
            Ok(NamedFrom::Scratch) => "scratch".to_owned(),
            Ok(NamedFrom::Image(name)) => format!("image {name}"),
            Ok(NamedFrom::Layout(Layout {
                directory,
                tag,
                digest,
            })) => {
                let tag = tag.map(|it| format!(" tag {it}")).unwrap_or_default();
                let digest = digest.map(|it| format!(" is {it}")).unwrap_or_default();
                format!("layout {}{tag}{digest}", directory.display())
            }
            Ok(NamedFrom::Remote(source)) => format!("remote {}", remote::shown(&source)),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_named_context_is_where_its_text_says() {
        let digest = Digest::of(b"x");
        let pinned = format!("oci-layout:///l:v1@{digest}");
        let expected = format!("layout /l tag v1 is {digest}");
        let table = [
            ("../src", "directory ../src"),
            ("/tmp", "directory /tmp"),
            (
                "docker-image://alpine",
                "image docker.io/library/alpine:latest",
            ),
            ("docker-image://scratch", "scratch"),
            ("docker-image://A", "error: no image is called so"),
            ("oci-layout://./a/b", "layout ./a/b"),
            ("oci-layout:///a:b/c", "layout /a:b/c"),
            ("oci-layout:///a:1.0", "layout /a tag 1.0"),
            (pinned.as_str(), expected.as_str()),
            (
                "oci-layout://x@y",
                "error: what stands behind the `@` is no digest",
            ),
            ("oci-layout://", "error: it names no directory"),
            ("https://h/r.git#v1:d", "remote https://h/r.git#v1:d"),
            ("https://u:p@h/a.tar", "remote https://h/a.tar"),
            ("git@h:r.git", "remote git@h:r.git"),
            ("github.com/u/r", "remote https://github.com/u/r"),
            (
                "https://h/r.git?depth=1",
                "error: unexpected query \"depth\"",
            ),
            (
                "s3://bucket",
                "error: unsupported context source s3: it is a directory, http(s)://, a git repository, docker-image:// or oci-layout://",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(shown("target:base").contains("source target"));
    }

    #[test]
    fn a_context_is_a_directory_an_address_or_the_standard_input() {
        let table = [
            ("-", ContextFrom::Stdin),
            (".", ContextFrom::Directory(".".into())),
            ("nowhere", ContextFrom::Directory("nowhere".into())),
            ("https://h/a", ContextFrom::Remote("https://h/a".to_owned())),
            ("git@h:r", ContextFrom::Remote("git@h:r".to_owned())),
        ];
        for (text, expected) in table {
            assert_eq!(ContextFrom::parse(Path::new(text)), expected, "{text}");
        }
        let secret = ContextFrom::Remote("https://u:p@h/r.git#x".to_owned());
        assert_eq!(secret.shown(), "https://h/r.git#x");
    }
}
