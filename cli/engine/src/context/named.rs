//! Named contexts: what goes by a name in place of a stage or an image of that name (G36).

use std::path::Path;

use llb::op::LocalSource;
use lower::{Contexts, NamedContext};
use snapshot::Root;

use super::{NamedFrom, require_directory};
use crate::definition;
use crate::report::Reporter;
use crate::session::CONTEXT;
use crate::{ReadError, Request};

/// The session's name for the directory of the named context `key`.
pub(crate) fn local_name(key: &str) -> String {
    format!("{CONTEXT}:{key}")
}

/// The named contexts of `request`, as lowering knows them. Directories are looked at now, with
/// their ignore files; everything else when something needs it.
pub(crate) fn contexts(request: &Request, reporter: &Reporter<'_>) -> Result<Contexts, ReadError> {
    let mut contexts = Contexts::default();
    for (key, from) in &request.contexts {
        let context = match from {
            NamedFrom::Directory(path) => NamedContext::Directory(directory(key, path, reporter)?),
            NamedFrom::Scratch => NamedContext::Scratch,
            NamedFrom::Image(reference) => NamedContext::Image(reference.clone()),
            NamedFrom::Layout(layout) => NamedContext::Layout(layout.clone()),
            NamedFrom::Remote(source) => NamedContext::Remote(source.clone()),
        };
        contexts.insert(key, context)?;
    }
    Ok(contexts)
}

/// Refuses named contexts that are not there, before anything else is begun.
pub(crate) fn require(request: &Request) -> Result<(), ReadError> {
    for (key, from) in &request.contexts {
        if let NamedFrom::Directory(path) = from {
            require_directory(path).map_err(|source| within(key, source))?;
        }
    }
    Ok(())
}

fn within(key: &str, source: ReadError) -> ReadError {
    ReadError::Named {
        name: key.to_owned(),
        source: Box::new(source),
    }
}

fn directory(key: &str, path: &Path, reporter: &Reporter<'_>) -> Result<LocalSource, ReadError> {
    let errand = format!("[context {key}] load .dockerignore");
    let ignore = reporter.errand(&errand, |errand| {
        let root = Root::open(path).map_err(|source| ReadError::UnreadableContext {
            path: path.to_owned(),
            source,
        })?;
        definition::ignore_of(&root, errand)
    });
    Ok(LocalSource {
        name: local_name(key),
        ignore: ignore.map_err(|source| within(key, source))?.lines(),
    })
}
