//! The digests of new layers, computed beside the steps that follow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use oci::Digest;
use snapshot::{DiffError, SnapshotId, SnapshotRow};
use store::StoreError;

use crate::{Cancel, Engine};

/// The digests of new layers. Dropped, it stops computing what nobody took.
pub(crate) struct Layers<'scope, 'env> {
    engine: &'env Engine,
    scope: &'scope Scope<'scope, 'env>,
    under_way: RefCell<HashMap<SnapshotId, ScopedJoinHandle<'scope, Result<Digest, DiffError>>>>,
    nowhere: Nowhere,
}

/// Why the digests of a chain's layers are not known.
#[derive(Debug)]
pub(crate) enum LayersError {
    /// This layer has no tar.
    Diff(SnapshotId, DiffError),
    Store(StoreError),
}

impl<'scope, 'env> Layers<'scope, 'env> {
    pub(crate) fn new(
        engine: &'env Engine,
        scope: &'scope Scope<'scope, 'env>,
        cancel: &Cancel,
    ) -> Self {
        Self {
            engine,
            scope,
            under_way: RefCell::default(),
            nowhere: Nowhere {
                abandoned: Arc::default(),
                cancel: cancel.clone(),
            },
        }
    }

    /// Begins to compute the digest of a layer, unless that was begun.
    pub(crate) fn begin(&self, id: SnapshotId) {
        self.under_way.borrow_mut().entry(id).or_insert_with(|| {
            let snapshots = &self.engine.snapshots;
            let mut nowhere = self.nowhere.clone();
            self.scope
                .spawn(move || snapshots.diff(id, &mut nowhere).map(|it| it.diff_id))
        });
    }

    /// The digests of all layers of a chain, lowest first. Those that were not known are recorded.
    pub(crate) fn digests(&self, chain: &[SnapshotRow]) -> Result<Vec<Digest>, LayersError> {
        for row in chain.iter().filter(|row| row.diff_id.is_none()) {
            self.begin(row.id);
        }
        let digests: Vec<Digest> = chain
            .iter()
            .map(|row| self.digest(row))
            .collect::<Result<_, _>>()?;
        let chain_ids = oci::config::chain_ids(&digests);
        let known: Vec<(SnapshotId, Digest, Digest)> = chain
            .iter()
            .zip(digests.iter().zip(&chain_ids))
            .filter(|(row, _)| row.diff_id.is_none() || row.chain_id.is_none())
            .map(|(row, (digest, chain_id))| (row.id, *digest, *chain_id))
            .collect();
        let store = &self.engine.store;
        store.set_diff_ids(&known).map_err(LayersError::Store)?;
        Ok(digests)
    }

    fn digest(&self, row: &SnapshotRow) -> Result<Digest, LayersError> {
        if let Some(known) = row.diff_id {
            return Ok(known);
        }
        let thread = self
            .under_way
            .borrow_mut()
            .remove(&row.id)
            .expect("what is not known was begun");
        let digest = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        digest.map_err(|error| LayersError::Diff(row.id, error))
    }
}

impl Drop for Layers<'_, '_> {
    fn drop(&mut self) {
        self.nowhere.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Where the tar goes: only its digest is wanted, and that perhaps not to the end.
#[derive(Clone)]
struct Nowhere {
    abandoned: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Write for Nowhere {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.abandoned.load(Ordering::Relaxed) || self.cancel.is_cancelled() {
            return Err(io::Error::other("nobody wants the layer any more"));
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
