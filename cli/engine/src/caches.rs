//! Caches kept elsewhere: what a build imports from, and what it exports to while it runs.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use export::{LayerState, PullWatch};
use llb::op::{MountKind, Source as Op_};
use llb::{Graph, Op, VertexId};
use oci::{Digest, Key};
use ops::Ref;
use remote::{
    Backend, CacheTo, ExportWatch, Exporter, ImportError, Mode, MountEntry, Sending, Source, Which,
};
use solve::Scheduler;
use solve::progress::Warning;
use store::{SnapshotId, StoreError};

use crate::images::{Watch, unless_cancelled};
use crate::late::Late;
use crate::report::{Aside, Reporter};
use crate::{BuildError, Cancel, Engine, Job, Request};

/// How many layers of one export are sent at once.
const SENDING: usize = 3;

/// The caches of one build. Threads may use them at once.
pub(crate) struct Caches<'a> {
    engine: &'a Engine,
    reporter: &'a Reporter<'a>,
    sources: Vec<Arc<Source>>,
    exports: Vec<Export<'a>>,
    /// The ids of the cache mounts that were looked for in the caches.
    restored: Mutex<HashSet<String>>,
    /// The ids of those that the build has.
    mounts: Mutex<BTreeSet<String>>,
}

/// An export under way.
struct Export<'a> {
    exporter: Exporter,
    teller: Teller<'a>,
    /// Whether it is not known what the destination has, though it may have something.
    blind: bool,
}

impl<'a> Caches<'a> {
    /// Reads what the caches have that the request imports from. One that cannot be read is told of
    /// and does without.
    pub(crate) fn open(
        engine: &'a Engine,
        request: &'a Request,
        reporter: &'a Reporter<'a>,
    ) -> Self {
        let mut sources = Vec::new();
        for backend in &request.cache_from {
            sources.extend(import(backend, request, reporter));
        }
        let exports = request
            .cache_to
            .iter()
            .enumerate()
            .map(|(number, to)| Export::begin(engine, request, reporter, (to, &sources, number)))
            .collect();
        Self {
            engine,
            reporter,
            sources,
            exports,
            restored: Mutex::default(),
            mounts: Mutex::default(),
        }
    }

    /// No caches: nobody is asked and nothing is sent.
    pub(crate) fn none(engine: &'a Engine, reporter: &'a Reporter<'a>) -> Self {
        Self {
            engine,
            reporter,
            sources: Vec::new(),
            exports: Vec::new(),
            restored: Mutex::default(),
            mounts: Mutex::default(),
        }
    }

    /// How often a build may have to begin anew because a cache does not have what it said it had.
    pub(crate) fn disappointments(&self) -> usize {
        2 * self.sources.len()
    }

    /// Has threads of `scope` send what is offered. They end with the guard.
    pub(crate) fn work<'s, 'scope>(&'s self, scope: &'scope Scope<'scope, '_>) -> Working<'s, 'a>
    where
        's: 'scope,
    {
        for export in &self.exports {
            for _ in 0..SENDING {
                scope.spawn(|| export.exporter.work(&export.teller));
            }
        }
        Working {
            caches: self,
            closed: Cell::new(false),
        }
    }

    /// What a cache has under a key.
    pub(crate) fn find(&self, key: &Key) -> Option<(Arc<Source>, remote::Hit)> {
        self.sources
            .iter()
            .find_map(|source| Some((Arc::clone(source), source.find(key)?)))
    }

    /// Offers the results that a vertex has in the store under `keys`.
    pub(crate) fn offer(
        &self,
        job: &Job<'_>,
        vertex: VertexId,
        keys: &[Key],
    ) -> Result<(), StoreError> {
        let store = &self.engine.store;
        for export in self.exports.iter().filter(|it| it.wants(job, vertex)) {
            for key in keys {
                if let Some(record) = store.record_of(key)? {
                    export.exporter.offer(&record)?;
                }
            }
        }
        Ok(())
    }

    /// Offers a result that another cache has.
    pub(crate) fn offer_late(&self, job: &Job<'_>, late: &Late) {
        for export in self.exports.iter().filter(|it| it.wants(job, late.vertex)) {
            export
                .exporter
                .offer_hit(&late.hit, &late.source.alike(&late.hit.record));
        }
    }

    /// Offers all else that is known of a graph when it is solved, or as far as it is: further keys of
    /// results, and the results of what nobody had to look at because something above it was found.
    pub(crate) fn offer_rest(
        &self,
        job: &Job<'_>,
        scheduler: &Scheduler<'_>,
        outputs: impl Fn(VertexId) -> Vec<SnapshotId>,
    ) -> Result<(), StoreError> {
        if self.exports.is_empty() {
            return Ok(());
        }
        let store = &self.engine.store;
        for (vertex, _) in job.plan.graph.vertices() {
            let mut tops: BTreeSet<SnapshotId> = outputs(vertex).into_iter().collect();
            if let Some(step) = scheduler.definition(vertex) {
                let key = step.key();
                match store.result(&key)? {
                    Some(cached) => {
                        tops.extend(cached.outputs.iter().flatten());
                        self.offer(job, vertex, &[key])?;
                    }
                    None => {
                        if let Some((source, hit)) = self.find(&key) {
                            self.offer_late(job, &Late::new(vertex, source, hit));
                        }
                    }
                }
            }
            for top in tops {
                self.offer(job, vertex, &store.keys_of(top)?)?;
            }
        }
        let ids = mounts_of(&job.plan.graph).map(str::to_owned);
        self.mounts().extend(ids);
        Ok(())
    }

    /// Fills the cache mounts of a process that have nothing in them with what a cache has of them.
    pub(crate) fn restore(&self, op: &Op, vertex: Key, cancel: &Cancel) {
        let Op::Exec(exec) = op else { return };
        if self.sources.is_empty() {
            return;
        }
        for mount in &exec.mounts {
            let MountKind::Cache { id, .. } = &mount.kind else {
                continue;
            };
            // Whoever comes second waits for the first.
            let mut restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
            if restored.insert(id.clone()) {
                self.restore_one(id, vertex, cancel);
            }
        }
    }

    fn restore_one(&self, id: &str, vertex: Key, cancel: &Cancel) {
        let found = |source: &Arc<Source>| Some((Arc::clone(source), source.mount(id)?.clone()));
        let Some((source, entry)) = self.sources.iter().find_map(found) else {
            return;
        };
        let watch = Watch::new(self.reporter, vertex, cancel);
        let restored = remote::restore(&self.engine.store, &entry, &**source.backend(), &watch);
        match restored {
            Ok(done) => tracing::debug!(id, done, "cache mount restored"),
            Err(remote::MountError::Cancelled) => {}
            Err(error) => self.warn(format!(
                "cache mount `{id}` begins empty: {}: {}",
                source.name(),
                crate::error::chain(&error)
            )),
        }
    }

    /// Says that something of a cache could not be used and that the build goes on without.
    pub(crate) fn warn(&self, message: String) {
        self.reporter.warning(warning(message));
    }

    /// Writes nothing: the person gave up. What was sent has no name.
    pub(crate) fn abandon(&self) {
        self.exports.iter().for_each(|it| it.teller.aside.cancel());
    }

    /// Writes the catalogs. Of a build that failed, what it made is added to what was there.
    pub(crate) fn finish(&self, complete: bool) -> Result<(), BuildError> {
        let mut first = Ok(());
        for export in &self.exports {
            let done = self.finish_one(export, complete);
            let (ignored, failed) = match &done {
                Ok(_) => (false, None),
                Err(error) => (export.exporter.to().ignore_error, Some(error)),
            };
            export.teller.aside.end(failed.map(crate::error::chain));
            match done {
                Ok(why) => why.into_iter().for_each(|why| self.warn(why)),
                Err(remote::ExportError::Cancelled) => {
                    first = first.and(Err(BuildError::Cancelled));
                }
                Err(error) if ignored => self.warn(format!(
                    "the cache was not exported: {}",
                    crate::error::chain(&error)
                )),
                Err(error) => {
                    first = first.and(Err(BuildError::CacheExport {
                        name: export.exporter.to().backend.name(),
                        source: Box::new(error),
                    }));
                }
            }
        }
        first
    }

    /// Returns what was left out.
    fn finish_one(
        &self,
        export: &Export<'_>,
        complete: bool,
    ) -> Result<Vec<String>, remote::ExportError> {
        let Export {
            exporter, teller, ..
        } = export;
        if !complete && export.blind {
            return Ok(vec![
                "what the build made is not in the cache: what was there cannot be read and would be lost"
                    .to_owned(),
            ]);
        }
        let mut mounts: Vec<MountEntry> = Vec::new();
        for id in self.wanted_mounts(&exporter.to().mounts) {
            mounts.extend(exporter.mount(&id, &self.sources, teller)?);
        }
        let exported = exporter.finish(complete, mounts, teller)?;
        tracing::debug!(?exported, "cache exported");
        let left_out = |why: &String| format!("not in the cache: {why}");
        Ok(exported.left_out.iter().map(left_out).collect())
    }

    fn wanted_mounts(&self, which: &Which) -> Vec<String> {
        match which {
            Which::None => Vec::new(),
            Which::All => self.mounts().iter().cloned().collect(),
            Which::Some(ids) => ids.clone(),
        }
    }

    fn mounts(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads of the exports end with what was offered once this is closed, and soon if it is dropped
/// before that.
pub(crate) struct Working<'s, 'a> {
    caches: &'s Caches<'a>,
    closed: Cell<bool>,
}

impl Working<'_, '_> {
    /// Nothing more is offered.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let exports = &self.caches.exports;
        exports.iter().for_each(|it| it.exporter.close());
    }
}

impl Drop for Working<'_, '_> {
    fn drop(&mut self) {
        if !self.closed.get() {
            let exports = &self.caches.exports;
            exports.iter().for_each(|it| it.exporter.give_up());
        }
    }
}

impl<'a> Export<'a> {
    fn begin(
        engine: &Engine,
        request: &'a Request,
        reporter: &'a Reporter<'a>,
        (to, sources, number): (&CacheTo, &[Arc<Source>], usize),
    ) -> Self {
        let same = |it: &&Arc<Source>| {
            let (from, to) = (it.backend(), &to.backend);
            (from.kind(), from.name()) == (to.kind(), to.name())
        };
        let (before, blind) = match sources.iter().find(same) {
            Some(source) => (Some(Arc::clone(source)), false),
            None => match read(&to.backend, &request.cancel) {
                None => (None, true),
                Some(Ok(source)) => (Some(Arc::new(source)), false),
                // Nothing is there, or nothing of ours.
                Some(Err(ImportError::Missing(_) | ImportError::Foreign { .. })) => (None, false),
                Some(Err(error)) => {
                    tracing::debug!(%error, "what the destination has cannot be read");
                    (None, true)
                }
            },
        };
        let what = match to.backend.kind() {
            "local" => "client directory",
            "s3" => "Amazon S3",
            other => other,
        };
        let aside = Aside::new(reporter, &format!("exporting cache to {what}"), number);
        let teller = Teller {
            watch: Watch::new(reporter, aside.vertex(), &request.cancel),
            aside,
        };
        let exporter = Exporter::new(engine.snapshots.clone(), to.clone(), before, sources);
        Self {
            exporter,
            teller,
            blind,
        }
    }

    /// Whether it takes the result of a vertex.
    fn wants(&self, job: &Job<'_>, vertex: VertexId) -> bool {
        let plan = job.plan;
        if matches!(
            plan.graph.vertex(vertex).op,
            Op::Source(Op_::Local(_) | Op_::Image(_))
        ) {
            return false;
        }
        match self.exporter.to().mode {
            Mode::Max => true,
            Mode::Min => {
                plan.layers.iter().any(|it| it.output.vertex == vertex)
                    || job
                        .targets
                        .iter()
                        .any(|it| it.root.is_some_and(|it| it.vertex == vertex))
            }
        }
    }
}

/// Tells of what is sent as of parts of an errand, which begins with the first.
struct Teller<'a> {
    aside: Aside<'a>,
    watch: Watch<'a>,
}

impl PullWatch for Teller<'_> {
    fn layer(&self, digest: &Digest, state: LayerState) {
        self.aside.begin();
        self.watch.layer(digest, state);
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}

impl ExportWatch for Teller<'_> {
    fn blob(&self, kind: &'static str, digest: &Digest, sending: Sending) {
        self.aside.begin();
        let name = format!("writing {kind} {digest}");
        match sending {
            Sending::Sent(sent, size) => self.watch.moved(name, sent, size),
            Sending::Done => self.watch.ended(&name),
            Sending::Existed => {
                self.watch.moved(name.clone(), 0, 0);
                self.watch.ended(&name);
            }
        }
    }
}

fn import(
    backend: &Arc<dyn Backend>,
    request: &Request,
    reporter: &Reporter<'_>,
) -> Option<Arc<Source>> {
    let errand = format!("importing cache manifest from {}", backend.name());
    let read = reporter.errand(&errand, |_| match read(backend, &request.cancel) {
        Some(read) => read.map_err(Unread::Import),
        None => Err(Unread::Cancelled),
    });
    let source = read.ok()?;
    let malformed = source.catalog().malformed;
    if malformed > 0 {
        let what = match malformed {
            1 => "an entry makes no sense and was".to_owned(),
            more => format!("{more} entries make no sense and were"),
        };
        reporter.warning(warning(format!("cache {}: {what} ignored", source.name())));
    }
    Some(Arc::new(source))
}

/// Why a cache was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Import(ImportError),
    #[error("canceled")]
    Cancelled,
}

fn read(backend: &Arc<dyn Backend>, cancel: &Cancel) -> Option<Result<Source, ImportError>> {
    let backend = Arc::clone(backend);
    unless_cancelled(cancel, move || Source::read(backend))
}

fn warning(message: String) -> Warning {
    Warning {
        rule: String::new(),
        message,
        url: String::new(),
        place: None,
    }
}

/// The ids of the cache mounts of a graph's processes.
fn mounts_of(graph: &Graph) -> impl Iterator<Item = &str> {
    let mounts = graph.vertices().flat_map(|(_, vertex)| match &vertex.op {
        Op::Exec(exec) => &exec.mounts[..],
        _ => &[],
    });
    mounts.filter_map(|mount| match &mount.kind {
        MountKind::Cache { id, .. } => Some(&**id),
        _ => None,
    })
}

/// The snapshots among outputs.
pub(crate) fn snapshots_of(outputs: &[Ref]) -> Vec<SnapshotId> {
    let snapshot = |it: &Ref| match it {
        Ref::Snapshot(id) => *id,
        Ref::Local(_) => None,
    };
    outputs.iter().filter_map(snapshot).collect()
}
