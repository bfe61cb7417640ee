//! How each op runs: what a vertex of the graph does to its inputs, on this machine.
//!
//! Vocabulary: a [`Ref`] is what an output of a vertex is, a snapshot or a directory that the
//! [`Session`] lends; [`Ops`] are the hands, one for all builds of a process; a [`Context`] is what
//! surrounds one run: whose build it is, where output goes, whether to give up.
//!
//! Nothing here knows of keys or order: what is asked for is done.

mod agent;
mod cancel;
mod checksum;
mod context;
mod exec;
mod file;
mod merge;
mod source;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llb::Op;
use llb::op::Source;
use sandbox::network::Networks;
use snapshot::{Local, Snapshots};
use solve::Selector;
use store::{SnapshotId, Store};

pub use agent::{AgentFrom, KeyError, Keys};
pub use cancel::{Cancel, Cancellable, OnCancel};
pub use checksum::ChecksumError;
pub use context::{Context, LogLimits, Session};
pub use exec::{DeviceError, ExecError, Killed};
pub use file::FileError;
pub use merge::MergeError;
pub use source::{GitError, HttpSourceError, SourceError};

use source::Http;

/// What one output of a vertex is.
#[derive(Debug, Clone)]
pub enum Ref {
    /// The merged tree of a snapshot and its ancestors; `None` is scratch, the empty tree.
    Snapshot(Option<SnapshotId>),
    /// A directory of the person who builds, read in place.
    Local(Arc<Local>),
}

/// The hands. Threads may use them at once.
pub struct Ops {
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    /// Shared by all steps; its pool is set up by the first that needs it.
    pub(crate) networks: Networks,
    /// Whether it was said how far the network reaches.
    pub(crate) told: AtomicBool,
    pub(crate) http: Http,
}

impl Ops {
    /// Hands that work in `store`. Does nothing yet: namespaces are set up when the first step needs them.
    pub fn new(store: Store, snapshots: Snapshots) -> Self {
        Self {
            store,
            snapshots,
            networks: Networks::default(),
            told: AtomicBool::new(false),
            http: Http::default(),
        }
    }

    /// Asks outside what a source is at the moment: the same source with its pin. A source that is
    /// not remote, or that has its pin, is what it is.
    ///
    /// # Errors
    /// [`OpError::Cancelled`] once `context.cancel` was called.
    pub fn resolve(&self, source: &Source, context: &Context<'_>) -> Result<Source, OpError> {
        let resolved = source::resolve(self, source, context);
        resolved.map_err(|error| match context.cancel.is_cancelled() {
            true => OpError::Cancelled,
            false => error.into(),
        })
    }

    /// Does what `op` says to `inputs`, which stand in the order of the vertex's, and gives its outputs.
    ///
    /// # Errors
    /// [`OpError::Cancelled`] once `context.cancel` was called; what was begun is undone by then.
    pub fn run(&self, op: &Op, inputs: &[Ref], context: &Context<'_>) -> Result<Vec<Ref>, OpError> {
        if context.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let done = match op {
            Op::Source(source) => source::run(self, source, context)
                .map(|it| vec![it])
                .map_err(OpError::from),
            Op::Exec(exec) => exec::run(self, exec, inputs, context).map_err(OpError::from),
            Op::File(file) => file::run(self, file, inputs, context).map_err(OpError::from),
            Op::Merge => merge::merge(self, inputs)
                .map(|it| vec![it])
                .map_err(OpError::from),
            Op::Diff => merge::diff(self, inputs)
                .map(|it| vec![it])
                .map_err(OpError::from),
        };
        // What a step that was told to stop complains of is of no interest.
        done.map_err(|error| {
            if context.cancel.is_cancelled() {
                OpError::Cancelled
            } else {
                error
            }
        })
    }

    /// The checksum of the part of `of` that `selector` names.
    ///
    /// # Errors
    /// If there is no such part, or it cannot be read.
    pub fn checksum(&self, of: &Ref, selector: &Selector) -> Result<oci::Key, ChecksumError> {
        checksum::checksum(self, of, selector)
    }

    /// [`Ops::checksum`], and what of a mounted tree it was made from; nothing for other selectors.
    ///
    /// # Errors
    /// As [`Ops::checksum`].
    pub fn listed(
        &self,
        of: &Ref,
        selector: &Selector,
    ) -> Result<(oci::Key, Vec<snapshot::Entry>), ChecksumError> {
        checksum::listed(self, of, selector)
    }
}

/// Why an op gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// A source could not be brought in.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A process could not be run, or said that it failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Files could not be copied or made.
    #[error(transparent)]
    File(#[from] FileError),
    /// Trees could not be laid over each other.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// It was told to stop.
    #[error("canceled")]
    Cancelled,
}
