//! Writing what a build made into a cache: layers as they come, the catalog at the end.

use std::collections::{HashMap, HashSet};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use export::{Packer, PullError};
use oci::media_type::{self, Compression};
use oci::{Digest, Key};
use registry::Content;
use serde::Serialize;
use snapshot::{DiffError, SnapshotId, SnapshotRow, Snapshots};
use store::{Store, StoreError};

use crate::backend::Put;
use crate::catalog::{Builder, MEDIA_TYPE};
use crate::fetch::into_store;
use crate::{
    Backend, BackendError, Blob, Chain, ChainLayer, Hit, Layer, MountEntry, MountError, Record,
    Source,
};

/// Of which steps an export has the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those whose layers the result has.
    #[default]
    Min,
    /// All.
    Max,
}

/// Which cache mounts travel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// None.
    #[default]
    None,
    /// Those that the build has.
    All,
    /// Those with these ids.
    Some(Vec<String>),
}

/// What one `--cache-to` asks for.
#[derive(Debug, Clone)]
pub struct CacheTo {
    /// Where to.
    pub backend: Arc<dyn Backend>,
    /// `mode`
    pub mode: Mode,
    /// `compression`
    pub compression: Compression,
    /// `compression-level`, see [`Packer::new`].
    pub level: Option<i32>,
    /// `force-compression`: also layers that are there packed another way.
    pub force_compression: bool,
    /// `ignore-error`: the build does not fail with the export.
    pub ignore_error: bool,
    /// `oci-mediatypes`
    pub oci_media_types: bool,
    /// `mounts`
    pub mounts: Which,
}

/// Why a cache was not written. What was sent has no name then.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The backend did not take it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A layer could not be read or packed.
    #[error("cannot pack layer {layer}")]
    Layer {
        /// Which.
        layer: SnapshotId,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// A layer could not be written.
    #[error("cannot pack layer {layer}")]
    Pack {
        /// Which.
        layer: SnapshotId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A cache mount could not be packed.
    #[error("cannot pack cache mount `{id}`")]
    Mount {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: Box<MountError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
}

/// How far the sending of a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Bytes so far, of a blob of so many.
    Sent(u64, u64),
    /// It is there.
    Done,
    /// It was there before.
    Existed,
}

/// Is told what is sent, and asked whether to give up.
pub trait ExportWatch: export::PullWatch {
    /// The blob with this digest, `layer` or another kind of it, is so far.
    fn blob(&self, kind: &'static str, digest: &Digest, sending: Sending);
}

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// The manifest's digest; `None` where there was nothing to write.
    pub manifest: Option<Digest>,
    /// How many records the catalog has.
    pub records: usize,
    /// Bytes of the blobs that were sent.
    pub sent: u64,
    /// Why results were left out, each reason once.
    pub left_out: Vec<String>,
}

/// An export under way.
///
/// Results are offered as they come ([`Exporter::offer`]); threads that [`Exporter::work`] send their
/// layers meanwhile. Once nothing more comes ([`Exporter::close`]) and they have returned,
/// [`Exporter::finish`] writes the catalog.
pub struct Exporter {
    to: CacheTo,
    snapshots: Snapshots,
    /// What the destination had before.
    before: Option<Arc<Source>>,
    /// How layers are kept already, there or where this build imports from, by diff id.
    known: HashMap<Digest, Layer>,
    jobs: Mutex<Option<Sender<Job>>>,
    queue: Receiver<Job>,
    state: Mutex<State>,
    failed: AtomicBool,
    pub(crate) sent: AtomicU64,
}

enum Job {
    /// A layer of the store.
    Own(Box<SnapshotRow>),
    /// One that another cache has and the store perhaps not.
    Other(Box<ChainLayer>, Arc<dyn Backend>),
}

#[derive(Default)]
struct State {
    begun: HashSet<SnapshotId>,
    begun_others: HashSet<Digest>,
    own: HashMap<SnapshotId, Layer>,
    others: HashMap<Digest, Layer>,
    offers: Vec<Offer>,
    /// The keys, and whether what they were offered with is in the store.
    offered: HashMap<Key, bool>,
    left_out: Vec<String>,
    error: Option<ExportError>,
}

struct Offer {
    record: Record,
    chains: Vec<Option<Offered>>,
}

enum Offered {
    Own(Vec<SnapshotRow>),
    Other(Chain),
}

impl Exporter {
    /// Begins an export. `before` is what the destination has now, `sources` where the build imports
    /// from: layers that are known there need not be packed again.
    pub fn new(
        snapshots: Snapshots,
        to: CacheTo,
        before: Option<Arc<Source>>,
        sources: &[Arc<Source>],
    ) -> Self {
        let (sender, queue) = crossbeam_channel::unbounded();
        // The destination's own last: that it has the very blobs is most likely.
        let sources = sources.iter().chain(before.as_ref());
        let known = sources.flat_map(|it| it.layers());
        let known = known.map(|it| (it.diff_id, it.clone())).collect();
        Self {
            to,
            snapshots,
            before,
            known,
            jobs: Mutex::new(Some(sender)),
            queue,
            state: Mutex::default(),
            failed: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        }
    }

    /// What was asked for.
    pub fn to(&self) -> &CacheTo {
        &self.to
    }

    /// What the destination had before.
    pub fn before(&self) -> Option<&Source> {
        self.before.as_deref()
    }

    /// Takes a result of the store.
    ///
    /// # Errors
    /// If the store cannot be read. A result that is gone is left out.
    pub fn offer(&self, record: &store::Record) -> Result<(), StoreError> {
        let mut chains = Vec::new();
        for output in &record.outputs {
            chains.push(match output {
                None => None,
                Some(top) => match self.snapshots.store().ancestry(*top) {
                    Ok(rows) => Some(Offered::Own(rows)),
                    Err(StoreError::MissingSnapshot(_)) => return Ok(()),
                    Err(error) => return Err(error),
                },
            });
        }
        let record = record.into();
        self.take(Offer { record, chains });
        Ok(())
    }

    /// Takes a result of another cache, as each of `records` knows it.
    pub fn offer_hit(&self, hit: &Hit, records: &[&Record]) {
        for record in records {
            self.take(Offer {
                record: (*record).clone(),
                chains: hit
                    .outputs
                    .iter()
                    .map(|it| it.clone().map(Offered::Other))
                    .collect(),
            });
        }
    }

    fn take(&self, offer: Offer) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = &*jobs else { return };
        let mut state = self.state();
        // What is here is better than what another cache may turn out not to have.
        let here = !offer
            .chains
            .iter()
            .flatten()
            .any(|it| matches!(it, Offered::Other(_)));
        match state.offered.get(&offer.record.key) {
            Some(was_here) if *was_here || !here => return,
            _ => state.offered.insert(offer.record.key, here),
        };
        for chain in offer.chains.iter().flatten() {
            match chain {
                Offered::Own(rows) => {
                    for row in rows {
                        if state.begun.insert(row.id) {
                            let _ = jobs.send(Job::Own(Box::new(row.clone())));
                        }
                    }
                }
                Offered::Other(chain) => {
                    for it in &chain.layers {
                        if state.begun_others.insert(it.layer.diff_id) {
                            let backend = Arc::clone(&chain.backend);
                            let _ = jobs.send(Job::Other(Box::new(it.clone()), backend));
                        }
                    }
                }
            }
        }
        state.offers.push(offer);
    }

    /// Sends layers until [`Exporter::close`] and there are none left. To be called by several threads.
    pub fn work(&self, watch: &dyn ExportWatch) {
        for job in &self.queue {
            if self.failed.load(Ordering::Relaxed) {
                continue;
            }
            let done = match job {
                Job::Own(row) => self.own(&row, watch).map(|layer| {
                    let mut state = self.state();
                    state.own.extend(layer.map(|it| (row.id, it)));
                }),
                Job::Other(it, backend) => self.other(&it.layer, &*backend, watch).map(|layer| {
                    let mut state = self.state();
                    state
                        .others
                        .extend(layer.map(|layer| (it.layer.diff_id, layer)));
                }),
            };
            if let Err(error) = done {
                self.fail(error);
            }
        }
    }

    /// Takes nothing more.
    pub fn close(&self) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Sends nothing more and writes no catalog.
    pub fn give_up(&self) {
        self.fail(ExportError::Cancelled);
        self.close();
    }

    /// Packs and sends a layer of the store; `None` if it is one that cannot travel.
    fn own(
        &self,
        row: &SnapshotRow,
        watch: &dyn ExportWatch,
    ) -> Result<Option<Layer>, ExportError> {
        if let Some(diff_id) = &row.diff_id {
            if let Some(layer) = self.sent_before(diff_id, watch)? {
                return Ok(Some(layer));
            }
            if let Some(layer) = self.send_stored(diff_id, row, watch)? {
                return Ok(Some(layer));
            }
        }
        let (diff_id, blob) = match self.pack(row, watch) {
            Ok(packed) => packed,
            Err(ExportError::Layer { source, .. }) if !is_stopped(&source) => {
                self.leave_out(&format!("layer {} cannot be packed: {source}", row.id));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if row.diff_id.is_some_and(|known| known != diff_id) {
            // It came as other bytes than its files give, and those are promised to somebody.
            let why = format!("the bytes of layer {} are not in the store", row.id);
            self.leave_out(&why);
            return Ok(None);
        }
        let store = self.snapshots.store();
        store.record_layer_blob(&diff_id, self.to.compression, &blob.digest)?;
        self.send_blob(blob, watch)?;
        Ok(Some(self.layer(row, diff_id, blob, self.to.compression)))
    }

    /// A layer that the destination has, under whatever blob.
    fn sent_before(
        &self,
        diff_id: &Digest,
        watch: &dyn ExportWatch,
    ) -> Result<Option<Layer>, ExportError> {
        let Some(layer) = self.known.get(diff_id).filter(|it| self.fits(it)) else {
            return Ok(None);
        };
        if !self.to.backend.has(&layer.blob)? {
            return Ok(None);
        }
        watch.blob("layer", &layer.blob.digest, Sending::Existed);
        Ok(Some(layer.clone()))
    }

    /// A layer whose blob the store has.
    fn send_stored(
        &self,
        diff_id: &Digest,
        row: &SnapshotRow,
        watch: &dyn ExportWatch,
    ) -> Result<Option<Layer>, ExportError> {
        let store = self.snapshots.store();
        let others = [Compression::Zstd, Compression::Gzip, Compression::None];
        let others = others
            .into_iter()
            .filter(|it| *it != self.to.compression && !self.to.force_compression);
        for compression in [self.to.compression].into_iter().chain(others) {
            if let Some((digest, size)) = store.layer_blob(diff_id, compression)? {
                let blob = Blob { digest, size };
                self.send_blob(blob, watch)?;
                return Ok(Some(self.layer(row, *diff_id, blob, compression)));
            }
        }
        Ok(None)
    }

    fn fits(&self, layer: &Layer) -> bool {
        !self.to.force_compression || layer.compression() == self.to.compression
    }

    fn layer(
        &self,
        row: &SnapshotRow,
        diff_id: Digest,
        blob: Blob,
        compression: Compression,
    ) -> Layer {
        Layer {
            diff_id,
            blob,
            media_type: media_type(compression, self.to.oci_media_types).to_owned(),
            parent: None,
            created: row.created,
        }
    }

    fn pack(
        &self,
        row: &SnapshotRow,
        watch: &dyn ExportWatch,
    ) -> Result<(Digest, Blob), ExportError> {
        let layer = row.id;
        let failed = |source| ExportError::Pack { layer, source };
        let out = Stoppable {
            inner: self.snapshots.store().blob_writer()?,
            is_stopped: &|| watch.is_cancelled() || self.failed.load(Ordering::Relaxed),
        };
        let mut packer = Packer::new(out, self.to.compression, self.to.level).map_err(failed)?;
        let info = self
            .snapshots
            .diff(layer, &mut packer)
            .map_err(|source| ExportError::Layer { layer, source })?;
        let writer = packer.finish().map_err(failed)?.inner;
        let (digest, size) = writer.commit()?;
        Ok((info.diff_id, Blob { digest, size }))
    }

    /// Sends a layer of another cache, if the destination lacks it; `None` if it cannot be had.
    fn other(
        &self,
        layer: &Layer,
        from: &dyn Backend,
        watch: &dyn ExportWatch,
    ) -> Result<Option<Layer>, ExportError> {
        if let Some(layer) = self.sent_before(&layer.diff_id, watch)? {
            return Ok(Some(layer));
        }
        if self.to.backend.has(&layer.blob)? {
            watch.blob("layer", &layer.blob.digest, Sending::Existed);
            return Ok(Some(layer.clone()));
        }
        match into_store(self.snapshots.store(), from, &layer.blob, watch) {
            Ok(()) => {}
            Err(PullError::Cancelled) => return Err(ExportError::Cancelled),
            Err(error) => {
                self.leave_out(&format!("{}: {error}", from.name()));
                return Ok(None);
            }
        }
        self.send_blob(layer.blob, watch)?;
        Ok(Some(layer.clone()))
    }

    fn send_blob(&self, blob: Blob, watch: &dyn ExportWatch) -> Result<(), ExportError> {
        let mut file = self.snapshots.store().open_blob(&blob.digest)?;
        self.send("layer", blob, &mut file, watch)
    }

    /// Sends a blob, unless it is there.
    pub(crate) fn send(
        &self,
        kind: &'static str,
        blob: Blob,
        content: &mut dyn Content,
        watch: &dyn ExportWatch,
    ) -> Result<(), ExportError> {
        let mut content = Stoppable {
            inner: content,
            is_stopped: &|| watch.is_cancelled() || self.failed.load(Ordering::Relaxed),
        };
        let progress = |sent| watch.blob(kind, &blob.digest, Sending::Sent(sent, blob.size));
        match self.to.backend.put(&blob, &mut content, &progress)? {
            Put::Sent => {
                self.sent.fetch_add(blob.size, Ordering::Relaxed);
                watch.blob(kind, &blob.digest, Sending::Done);
            }
            Put::Existed => watch.blob(kind, &blob.digest, Sending::Existed),
        }
        Ok(())
    }

    /// Writes the catalog. The build was `complete`, or what it did not come to stays as it was there
    /// before. `mounts` are the cache mounts that it has.
    ///
    /// # Errors
    /// If anything of the export failed; nothing has a name then.
    pub fn finish(
        &self,
        complete: bool,
        mut mounts: Vec<MountEntry>,
        watch: &dyn ExportWatch,
    ) -> Result<Exported, ExportError> {
        if watch.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let mut state = self.state();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let mut builder = Builder::default();
        for offer in &state.offers {
            if let Some(chains) = state.chains(offer) {
                builder.add(&offer.record, chains);
            }
        }
        self.remember(&state)?;
        let left_out = std::mem::take(&mut state.left_out);
        drop(state);
        if let Some(before) = &self.before {
            self.keep(&mut builder, before, complete);
            if !complete {
                let has = |it: &&MountEntry| mounts.iter().all(|mount| mount.id != it.id);
                let kept: Vec<MountEntry> = before
                    .catalog()
                    .mounts
                    .iter()
                    .filter(has)
                    .cloned()
                    .collect();
                mounts.extend(kept);
            }
        }
        let catalog = builder.finish(mounts);
        let records = catalog.records.len();
        let manifest = match catalog.blobs().is_empty() {
            true => None,
            false => Some(self.write(&catalog, watch)?),
        };
        Ok(Exported {
            manifest,
            records,
            sent: self.sent.load(Ordering::Relaxed),
            left_out,
        })
    }

    /// Takes over what the destination has: of a complete build, further keys of the same results;
    /// else all that was not made anew.
    fn keep(&self, builder: &mut Builder, before: &Source, complete: bool) {
        for (record, chains) in before.records() {
            let known = |chain: &Option<Vec<ChainLayer>>| {
                chain.as_ref().is_none_or(|chain| builder.has_chain(chain))
            };
            if builder.has(&record.key) || (complete && !chains.iter().all(known)) {
                continue;
            }
            let chains: Vec<Option<Vec<Layer>>> = chains
                .into_iter()
                .map(|chain| chain.map(|it| it.into_iter().map(|it| it.layer).collect()))
                .collect();
            builder.add(record, chains);
        }
    }

    /// Notes the digests of layers that had none, so that they need not be packed again to be known.
    fn remember(&self, state: &State) -> Result<(), StoreError> {
        let store = self.snapshots.store();
        let mut done = HashSet::new();
        for offer in &state.offers {
            for chain in offer.chains.iter().flatten() {
                let Offered::Own(rows) = chain else { continue };
                let known = |row: &SnapshotRow| state.own.get(&row.id).map(|it| it.diff_id);
                let Some(diff_ids) = rows.iter().map(known).collect::<Option<Vec<Digest>>>() else {
                    continue;
                };
                for ((row, diff_id), chain_id) in rows
                    .iter()
                    .zip(&diff_ids)
                    .zip(oci::config::chain_ids(&diff_ids))
                {
                    if row.chain_id.is_none() && done.insert(row.id) {
                        match store.set_diff_id(row.id, diff_id, &chain_id) {
                            Ok(()) | Err(StoreError::MissingSnapshot(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn write(
        &self,
        catalog: &crate::Catalog,
        watch: &dyn ExportWatch,
    ) -> Result<Digest, ExportError> {
        let bytes = catalog.to_json();
        let config = Blob {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        self.send("config", config, &mut Cursor::new(&bytes), watch)?;
        let media_type = match self.to.oci_media_types {
            true => media_type::MANIFEST,
            false => media_type::DOCKER_MANIFEST,
        };
        let descriptor = |(blob, media_type): (Blob, String)| Descriptor { media_type, blob };
        let manifest = Manifest {
            schema_version: 2,
            media_type,
            config: descriptor((config, MEDIA_TYPE.to_owned())),
            layers: catalog.blobs().into_iter().map(descriptor).collect(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("it holds nothing that JSON cannot");
        let digest = Digest::of(&bytes);
        if watch.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let before = self.before.as_ref().map(|it| it.manifest());
        if before == Some(&bytes[..]) {
            watch.blob("cache image manifest", &digest, Sending::Existed);
            return Ok(digest);
        }
        let size = bytes.len() as u64;
        watch.blob("cache image manifest", &digest, Sending::Sent(0, size));
        self.to.backend.put_manifest(media_type, &bytes)?;
        watch.blob("cache image manifest", &digest, Sending::Done);
        Ok(digest)
    }

    /// The store that layers come from.
    pub(crate) fn store(&self) -> &Store {
        self.snapshots.store()
    }

    fn leave_out(&self, why: &str) {
        let mut state = self.state();
        if !state.left_out.iter().any(|it| it == why) {
            state.left_out.push(why.to_owned());
        }
    }

    fn fail(&self, error: ExportError) {
        // In this order: whoever sees that it failed stops, which is an error, too, and not the one to tell.
        self.state().error.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The layers of an offer's outputs, if all of them are at the destination.
    fn chains(&self, offer: &Offer) -> Option<Vec<Option<Vec<Layer>>>> {
        let layers = |chain: &Offered| -> Option<Vec<Layer>> {
            match chain {
                Offered::Own(rows) => rows
                    .iter()
                    .map(|row| self.own.get(&row.id).cloned())
                    .collect(),
                Offered::Other(chain) => chain
                    .layers
                    .iter()
                    .map(|it| self.others.get(&it.layer.diff_id).cloned())
                    .collect(),
            }
        };
        offer
            .chains
            .iter()
            .map(|chain| match chain {
                None => Some(None),
                Some(chain) => layers(chain).map(Some),
            })
            .collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    #[serde(flatten)]
    blob: Blob,
}

/// The media type of a layer, in OCI's words or docker's.
fn media_type(compression: Compression, oci: bool) -> &'static str {
    match (compression, oci) {
        (Compression::None, true) => media_type::LAYER,
        (Compression::Gzip, true) => media_type::LAYER_GZIP,
        (Compression::Zstd, true) => media_type::LAYER_ZSTD,
        (Compression::None, false) => media_type::DOCKER_LAYER,
        (Compression::Gzip, false) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd, false) => media_type::DOCKER_LAYER_ZSTD,
    }
}

/// Fails once it is stopped, so that whoever reads or writes comes to an end.
struct Stoppable<'a, T> {
    inner: T,
    is_stopped: &'a dyn Fn() -> bool,
}

impl<T> Stoppable<'_, T> {
    fn check(&self) -> io::Result<()> {
        match (self.is_stopped)() {
            true => Err(io::Error::other("canceled")),
            false => Ok(()),
        }
    }
}

impl<T: Read> Read for Stoppable<'_, T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(out)
    }
}

impl<T: Seek> Seek for Stoppable<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<T: Write> Write for Stoppable<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a layer was only not packed because nobody takes its bytes.
fn is_stopped(error: &DiffError) -> bool {
    matches!(error, DiffError::Write(_))
}
