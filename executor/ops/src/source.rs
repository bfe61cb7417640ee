//! Sources: images whose layers are in the store, directories that the session lends, files of the
//! web, repositories.

mod git;
mod http;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use llb::Key;
use llb::op::{ImageSource, LocalSource, Source};
use snapshot::{PatternError, Patterns, SnapshotError};
use store::{KeyLock, StoreError};

use crate::{Cancel, Context, Ops, Ref};

pub use git::GitError;
pub use http::HttpSourceError;

pub(crate) use http::Http;

/// Why a source could not be brought in.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The layers of an image are not in the store.
    #[error("the layers of {reference} are not in the store any more")]
    NoLayers {
        /// Its name.
        reference: String,
    },
    /// The session has no directory of that name.
    #[error("no local directory {name:?} in this build")]
    NoLocal {
        /// The name.
        name: String,
    },
    /// A line of its ignore file is no pattern.
    #[error("failed to read the ignore file of {name:?}")]
    Ignore {
        /// The directory's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// An address cannot be had.
    #[error(transparent)]
    Http(#[from] HttpSourceError),
    /// A repository cannot be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A directory cannot be opened.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn run(ops: &Ops, source: &Source, context: &Context<'_>) -> Result<Ref, SourceError> {
    match source {
        Source::Image(image) => layers(ops, image),
        Source::Local(local) => directory(ops, local, context),
        Source::Http(source) => Ok(http::bring(ops, source, context)?),
        Source::Git(source) => Ok(git::bring(ops, source, context)?),
    }
}

/// The same source with its pin, where it needs one.
pub(crate) fn resolve(
    ops: &Ops,
    source: &Source,
    context: &Context<'_>,
) -> Result<Source, SourceError> {
    Ok(match source {
        Source::Http(source) => Source::Http(http::resolve(ops, source, context)?),
        Source::Git(source) => Source::Git(git::resolve(ops, source, context)?),
        Source::Image(_) | Source::Local(_) => source.clone(),
    })
}

/// The sole right to what is remembered of a source. A lock that is waited for cannot be cancelled,
/// so it is tried again and again; `None` once it is not wanted any more.
fn claim(ops: &Ops, key: &Key, cancel: &Cancel) -> Result<Option<KeyLock>, StoreError> {
    let mut pause = Duration::from_millis(1);
    while !cancel.is_cancelled() {
        if let Some(lock) = ops.store.try_lock_key(key)? {
            return Ok(Some(lock));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(None)
}

/// The chain of an image's layers.
fn layers(ops: &Ops, image: &ImageSource) -> Result<Ref, SourceError> {
    let Some(chain_id) = oci::config::chain_ids(&image.diff_ids).pop() else {
        return Ok(Ref::Snapshot(None));
    };
    let row = ops.store.snapshot_by_chain_id(&chain_id)?;
    let row = row.ok_or_else(|| SourceError::NoLayers {
        reference: image.reference.clone(),
    })?;
    Ok(Ref::Snapshot(Some(row.id)))
}

fn directory(ops: &Ops, local: &LocalSource, context: &Context<'_>) -> Result<Ref, SourceError> {
    let missing = || SourceError::NoLocal {
        name: local.name.clone(),
    };
    let path = context.session.local(&local.name).ok_or_else(missing)?;
    let ignore = Patterns::new(&local.ignore).map_err(|source| SourceError::Ignore {
        name: local.name.clone(),
        source,
    })?;
    Ok(Ref::Local(Arc::new(ops.snapshots.local(&path, ignore)?)))
}
