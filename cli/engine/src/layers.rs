//! The digests of new layers, computed beside the steps that follow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded};
use export::{PushState, PushWatch, There};
use oci::Digest;
use snapshot::{DiffError, SnapshotId, SnapshotRow, Snapshots};
use store::StoreError;

use crate::ahead::{Ahead, Packing};
use crate::queue::Queue;
use crate::report::Reporter;
use crate::workers::{Told, Workers};
use crate::{Cancel, Engine, Request};

/// The digests of new layers. Dropped, it stops computing what nobody took.
///
/// Where the image goes to registries, layers are packed for that in the same go, and sent while the build
/// goes on.
pub(crate) struct Layers<'scope, 'env> {
    engine: &'env Engine,
    workers: Workers<'scope, 'env, ()>,
    /// What came of every layer, apart from its digest: whether it was to a panic.
    told: Queue<Told<()>>,
    under_way: RefCell<HashMap<SnapshotId, Receiver<Result<Digest, DiffError>>>>,
    ahead: RefCell<Option<Ahead>>,
    there: Arc<There>,
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
    /// For a build whose image goes where the request says.
    pub(crate) fn new(
        engine: &'env Engine,
        scope: &'scope Scope<'scope, 'env>,
        (request, reporter): (&Request, &'env Reporter<'env>),
    ) -> Self {
        let mut layers = Self::kept(engine, scope, &request.cancel);
        let (there, watch) = (&layers.there, layers.nowhere.clone());
        let ahead = Ahead::of(engine, request, (scope, reporter), there, watch);
        layers.ahead = RefCell::new(ahead);
        layers
    }

    /// For a build whose layers go nowhere.
    pub(crate) fn kept(
        engine: &'env Engine,
        scope: &'scope Scope<'scope, 'env>,
        cancel: &Cancel,
    ) -> Self {
        let told = Queue::new();
        Self {
            engine,
            workers: Workers::new(scope, told.clone()),
            told,
            under_way: RefCell::default(),
            ahead: RefCell::default(),
            there: Arc::default(),
            nowhere: Nowhere {
                abandoned: Arc::default(),
                cancel: cancel.clone(),
            },
        }
    }

    /// Begins to compute the digest of a layer, unless that was begun.
    pub(crate) fn begin(&self, id: SnapshotId) {
        self.under_way.borrow_mut().entry(id).or_insert_with(|| {
            let (sender, receiver) = bounded(1);
            let snapshots = &self.engine.snapshots;
            let nowhere = self.nowhere.clone();
            let packing = self.ahead.borrow().as_ref().map(Ahead::packing);
            self.workers.start(move || match packing {
                None => drop(sender.send(nowhere.digest(snapshots, id))),
                Some(packing) => nowhere.pack((snapshots, id), packing, &sender),
            });
            receiver
        });
    }

    /// Begins to send a result that is a layer of the image, and all below it, where the image goes to
    /// registries. What cannot be found now goes with the image.
    pub(crate) fn send(&self, top: SnapshotId) {
        if self.ahead.borrow().is_some() {
            let rows = self.engine.store.ancestry(top).unwrap_or_default();
            rows.iter().for_each(|row| self.begin(row.id));
        }
    }

    /// Waits until what was begun to be sent is sent, or nobody wants it any more, and gives what is at the
    /// registries then.
    pub(crate) fn settle(&self) -> &Arc<There> {
        if let Some(ahead) = self.ahead.take() {
            ahead.settle(&self.nowhere.cancel);
        }
        &self.there
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
        let under_way = self.under_way.borrow_mut().remove(&row.id);
        let digest = under_way.expect("what is not known was begun").recv();
        let digest = digest.unwrap_or_else(|_| self.panic());
        digest.map_err(|error| LayersError::Diff(row.id, error))
    }

    /// Panics as the thread did that gives no answer.
    fn panic(&self) -> ! {
        loop {
            if let Some(Err(panic)) = self.told.pop() {
                std::panic::resume_unwind(panic)
            }
        }
    }
}

impl Drop for Layers<'_, '_> {
    fn drop(&mut self) {
        self.nowhere.abandoned.store(true, Ordering::Relaxed);
        if let Some(ahead) = self.ahead.take() {
            ahead.give_up();
        }
    }
}

/// Where the tar goes: only its digest is wanted, and that perhaps not to the end.
#[derive(Clone)]
struct Nowhere {
    abandoned: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Nowhere {
    fn digest(&self, snapshots: &Snapshots, id: SnapshotId) -> Result<Digest, DiffError> {
        snapshots.diff(id, &mut self.clone()).map(|it| it.diff_id)
    }

    /// Packs a layer, tells its digest, and has it sent. What cannot be packed now is packed with the
    /// image, and told of then.
    fn pack(
        &self,
        (snapshots, id): (&Snapshots, SnapshotId),
        packing: Packing,
        digest: &Sender<Result<Digest, DiffError>>,
    ) {
        match packing.pack(snapshots, id, self) {
            Ok(packed) => {
                let _ = digest.send(Ok(packed.diff_id));
                packing.send((snapshots, id), &packed, &self.cancel);
            }
            Err(error) => {
                tracing::debug!(error = crate::error::chain(&error), "not packed ahead");
                let _ = digest.send(self.digest(snapshots, id));
            }
        }
    }

    /// Whether nobody wants the layer any more.
    fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

impl PushWatch for Nowhere {
    fn layer(&self, _: &Digest, _: PushState) {}

    fn is_cancelled(&self) -> bool {
        self.is_over()
    }
}

impl Write for Nowhere {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.is_over() {
            return Err(io::Error::other("nobody wants the layer any more"));
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
