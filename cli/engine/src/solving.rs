//! The loop: owns the scheduler, does the work it asks for, gives it the answers.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::Scope;
use std::time::SystemTime;

use llb::op::Source;
use llb::{Input, Key, Op, VertexId};
use ops::Ref;
use solve::progress::{VertexError, VertexStatus};
use solve::{
    ChecksumId, Event, Options, Outcome, OutputOf, ResultId, Scheduler, Selector, Step, Work,
};
use store::{Lease, SnapshotId, StoreError};

use crate::caches::snapshots_of;
use crate::late::{Late, Output};
use crate::layers::Layers;
use crate::lookups::Lookups;
use crate::queue::Queue;
use crate::report::waiting_vertex;
use crate::worker::{self, Executed, Unsuccessful};
use crate::workers::{Told, Workers};
use crate::{BuildError, Cancel, Job, StepError, StepFailure};

/// What solving a graph came to.
pub(crate) struct Solved {
    /// The result of each platform; `None` is scratch.
    pub(crate) outputs: Vec<Option<Output>>,
    /// How many vertices there were.
    pub(crate) steps: u32,
    /// How many of them were cached.
    pub(crate) cached: u32,
    /// What remote sources were.
    pub(crate) resolved: HashMap<VertexId, Source>,
}

/// What the loop is told.
enum Message {
    Resolved {
        vertex: VertexId,
        resolved: Result<Source, Unsuccessful>,
    },
    Checksummed {
        id: ChecksumId,
        vertex: VertexId,
        checksum: Result<Key, StepError>,
    },
    Executed {
        vertex: VertexId,
        executed: Result<Executed, Unsuccessful>,
    },
    /// The person gave up.
    Cancelled,
}

/// Solves the plan's graph.
pub(crate) fn solve<'scope, 'env>(
    job: &'env Job<'env>,
    scope: &'scope Scope<'scope, 'env>,
    layers: &Layers<'scope, 'env>,
) -> Result<Solved, BuildError> {
    let roots: Vec<Option<Input>> = job.targets.iter().map(|target| target.root).collect();
    let vertices: Vec<VertexId> = roots.iter().flatten().map(|root| root.vertex).collect();
    if vertices.is_empty() {
        return Ok(Solved {
            outputs: vec![None; roots.len()],
            steps: 0,
            cached: 0,
            resolved: HashMap::new(),
        });
    }
    let messages = Queue::new();
    let given_up = messages.clone();
    let _watch = job
        .request
        .cancel
        .on_cancel(move || given_up.push(Ok(Message::Cancelled)));
    let options = Options {
        parallelism: job.request.parallelism,
        ..Options::default()
    };
    let scheduler = Scheduler::new(&job.plan.graph, vertices, options);
    let mut solving = Solving::new(job, scope, layers, &messages);
    let outcome = solving.turn(scheduler, &messages)?;
    if let Some(panic) = solving.panic.take() {
        std::panic::resume_unwind(panic);
    }
    match (outcome, solving.failure.take()) {
        (Outcome::Solved(results), None) => {
            let mut results = results.into_iter();
            let output = |root: Option<Input>| {
                // Only a root that there is has a result.
                let (root, result) = (root?, results.next()?);
                Some(solving.results.output(OutputOf {
                    result,
                    output: root.output,
                }))
            };
            Ok(Solved {
                outputs: roots.into_iter().map(output).collect(),
                steps: count(job.plan.graph.len()),
                cached: count(solving.cached.len()),
                resolved: std::mem::take(&mut solving.resolved),
            })
        }
        _ if job.request.cancel.is_cancelled() => Err(BuildError::Cancelled),
        (_, Some(failure)) => Err(failure),
        (Outcome::Cancelled | Outcome::Failed(_), None) => Err(BuildError::Cancelled),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// All that is known of a build that is being solved, apart from what the scheduler knows.
struct Solving<'l, 'scope, 'env> {
    job: &'env Job<'env>,
    workers: Workers<'scope, 'env, Message>,
    layers: &'l Layers<'scope, 'env>,
    results: Results,
    /// What remote sources are at the moment.
    resolved: HashMap<VertexId, Source>,
    /// How to stop what runs.
    cancels: HashMap<VertexId, Cancel>,
    started: HashMap<VertexId, SystemTime>,
    /// The vertices whose start, or being cached, people were told of.
    told: HashSet<VertexId>,
    cached: HashSet<VertexId>,
    lookups: Lookups<'env>,
    /// The first failure; what fails after it most likely fails because of it.
    failure: Option<BuildError>,
    /// What a thread panicked with: so does the loop, once all threads are done.
    panic: Option<Box<dyn Any + Send>>,
}

/// The outputs of every result.
#[derive(Default)]
struct Results {
    all: Vec<Made>,
    /// Snapshots from the cache that nothing keeps from being collected yet.
    unkept: HashSet<SnapshotId>,
    leases: Vec<Lease>,
}

/// The outputs of one result.
enum Made {
    Here(Vec<Ref>),
    /// In a cache elsewhere.
    Late(Arc<Late>),
}

impl<'l, 'scope, 'env> Solving<'l, 'scope, 'env> {
    fn new(
        job: &'env Job<'env>,
        scope: &'scope Scope<'scope, 'env>,
        layers: &'l Layers<'scope, 'env>,
        messages: &Queue<Told<Message>>,
    ) -> Self {
        Self {
            job,
            workers: Workers::new(scope, messages.clone()),
            layers,
            results: Results::default(),
            resolved: HashMap::new(),
            cancels: HashMap::new(),
            started: HashMap::new(),
            told: HashSet::new(),
            cached: HashSet::new(),
            lookups: Lookups::new(job),
            failure: None,
            panic: None,
        }
    }

    /// Goes on until the scheduler says that it is over.
    fn turn(
        &mut self,
        mut scheduler: Scheduler<'env>,
        messages: &Queue<Told<Message>>,
    ) -> Result<Outcome, StoreError> {
        for (vertex, _) in self.job.plan.graph.vertices() {
            self.job.reporter.vertex(self.status(vertex));
        }
        let mut work: VecDeque<Work> = scheduler.start().into();
        loop {
            while let Some(next) = work.pop_front() {
                if let Some(event) = self.perform(next, &scheduler) {
                    work.extend(scheduler.handle(event));
                }
                if self.is_doomed() {
                    work.extend(scheduler.handle(Event::Cancelled));
                }
            }
            if let Some(outcome) = scheduler.outcome() {
                self.offer_rest(&scheduler)?;
                return Ok(outcome);
            }
            match messages.pop().expect("nobody closes it") {
                Ok(message) => work.extend(scheduler.handle(self.event(message))),
                // Whatever the thread was to answer, it never will.
                Err(panic) => {
                    self.panic = Some(panic);
                    return Ok(Outcome::Cancelled);
                }
            }
        }
    }

    /// Whether something went wrong that is no step's fault, so that nothing else need be tried.
    fn is_doomed(&self) -> bool {
        matches!(self.failure, Some(BuildError::Store(_)))
    }

    /// Does a work or has it done; gives the answer if it is there at once.
    fn perform(&mut self, work: Work, scheduler: &Scheduler<'_>) -> Option<Event> {
        match work {
            Work::Resolve { vertex } => {
                self.begin_resolving(vertex);
                None
            }
            Work::Lookup { vertex, key } => {
                let found = self
                    .look_up(vertex, &key)
                    .and_then(|found| match found {
                        None => self.look_elsewhere(vertex, &key, scheduler),
                        found => Ok(found),
                    })
                    .unwrap_or_else(|error| {
                        self.fail(error.into());
                        None
                    });
                Some(Event::LookedUp { vertex, found })
            }
            Work::Checksum {
                id,
                vertex,
                of,
                selector,
            } => {
                self.begin_checksum(id, vertex, of, selector);
                None
            }
            Work::Execute {
                vertex,
                inputs,
                records,
            } => self.execute(vertex, &inputs, records),
            Work::Record {
                vertex,
                result,
                step,
            } => {
                self.tell_cached(vertex);
                let recorded = match self.results.made(result) {
                    Made::Here(outputs) => {
                        let came = (&outputs[..], self.lookups.made_of(vertex));
                        worker::record_again(self.job, vertex, &step, came)
                    }
                    Made::Late(late) => late.record(self.job, *step),
                };
                if let Err(error) = recorded {
                    self.fail(error.into());
                }
                None
            }
            Work::Cancel { vertex } => {
                self.cancels.get(&vertex).map(Cancel::cancel);
                None
            }
        }
    }

    /// What happened, told to people, as the scheduler takes it.
    fn event(&mut self, message: Message) -> Event {
        match message {
            Message::Resolved { vertex, resolved } => self.resolved(vertex, resolved),
            Message::Checksummed {
                id,
                checksum: Ok(checksum),
                ..
            } => Event::Checksummed { id, checksum },
            Message::Checksummed {
                id,
                vertex,
                checksum: Err(error),
            } => {
                self.tell_start(vertex);
                self.fail_step(vertex, Unsuccessful::quietly(error));
                Event::ChecksumFailed { id }
            }
            Message::Executed { vertex, executed } => self.executed(vertex, executed),
            Message::Cancelled => Event::Cancelled,
        }
    }

    fn look_up(&mut self, vertex: VertexId, key: &Key) -> Result<Option<ResultId>, StoreError> {
        let Some(outputs) = self.lookups.find(vertex, key)? else {
            return Ok(None);
        };
        let ledger = self.job.begun.ledger;
        ledger.found(*key);
        ledger.took(outputs.iter().flatten().copied());
        self.tell_cached(vertex);
        self.job.begun.caches.offer(self.job, vertex, &[*key])?;
        for layer in self.layers_of(vertex, |at| *outputs.get(at)?) {
            self.layers.send(layer);
        }
        Ok(Some(self.results.add_cached(outputs)))
    }

    /// Looks in the caches elsewhere.
    fn look_elsewhere(
        &mut self,
        vertex: VertexId,
        key: &Key,
        scheduler: &Scheduler<'_>,
    ) -> Result<Option<ResultId>, StoreError> {
        let caches = self.job.begun.caches;
        // What an image is made of, its own registry knows best.
        if matches!(
            self.job.plan.graph.vertex(vertex).op,
            Op::Source(Source::Image(_))
        ) {
            return Ok(None);
        }
        let Some((source, hit)) = caches.find(key) else {
            return Ok(None);
        };
        let late = Late::new(vertex, source, hit);
        let by_definition = scheduler
            .definition(vertex)
            .is_some_and(|it| it.key() == *key);
        if !self
            .lookups
            .take_other(vertex, &late.as_cached(), by_definition)
        {
            return Ok(None);
        }
        let steps = scheduler.definition(vertex).into_iter();
        for step in steps.chain(scheduler.content(vertex)) {
            if step.key() == *key {
                late.record(self.job, step.clone())?;
            }
        }
        self.tell_cached(vertex);
        caches.offer_late(self.job, &late);
        Ok(Some(self.results.add_late(late)))
    }

    /// Offers to the caches elsewhere what they do not know of yet.
    fn offer_rest(&self, scheduler: &Scheduler<'_>) -> Result<(), StoreError> {
        let outputs = |vertex| match scheduler.result(vertex).map(|it| self.results.made(it)) {
            Some(Made::Here(outputs)) => snapshots_of(outputs),
            Some(Made::Late(late)) => snapshots_of(&late.here().unwrap_or_default()),
            None => Vec::new(),
        };
        let caches = self.job.begun.caches;
        caches.offer_rest(self.job, scheduler, outputs)
    }

    /// Asks outside what a source is. People are told that it begins: it may take a while, and may be
    /// all that there is to do.
    fn begin_resolving(&mut self, vertex: VertexId) {
        let job = self.job;
        let cancel = Cancel::default();
        self.cancels.insert(vertex, cancel.clone());
        self.tell_running(vertex);
        self.spawn(move || Message::Resolved {
            vertex,
            resolved: worker::resolve(job, vertex, &cancel),
        });
    }

    fn resolved(&mut self, vertex: VertexId, resolved: Result<Source, Unsuccessful>) -> Event {
        self.cancels.remove(&vertex);
        match resolved {
            Ok(source) => {
                self.resolved.insert(vertex, source.clone());
                Event::Resolved {
                    vertex,
                    source: Box::new(source),
                }
            }
            Err(unsuccessful) if unsuccessful.is_cancelled() => {
                self.told.insert(vertex);
                self.tell_end(vertex, Some(VertexError::Canceled));
                Event::Stopped { vertex }
            }
            Err(unsuccessful) => {
                self.told.insert(vertex);
                self.fail_step(vertex, unsuccessful);
                Event::ResolveFailed { vertex }
            }
        }
    }

    fn begin_checksum(
        &mut self,
        id: ChecksumId,
        vertex: VertexId,
        of: OutputOf,
        selector: Selector,
    ) {
        let of = self.results.output(of);
        if of.is_late() {
            self.tell_running(vertex);
        }
        let job = self.job;
        self.spawn(move || {
            let digest = *job.plan.graph.vertex(vertex).digest();
            let checksum = of
                .bring(job, digest, &job.request.cancel)
                .and_then(|of| worker::checksum(job, vertex, &of, &selector));
            Message::Checksummed {
                id,
                vertex,
                checksum,
            }
        });
    }

    fn execute(
        &mut self,
        vertex: VertexId,
        inputs: &[OutputOf],
        records: Vec<Step>,
    ) -> Option<Event> {
        let job = self.job;
        let cancel = Cancel::default();
        self.cancels.insert(vertex, cancel.clone());
        self.tell_start(vertex);
        let inputs: Vec<Output> = inputs
            .iter()
            .map(|input| self.results.output(*input))
            .collect();
        if let Err(error) = self.results.keep(&inputs, &job.engine.store) {
            return Some(self.executed(vertex, Err(Unsuccessful::quietly(error))));
        }
        let source = self.resolved.get(&vertex).cloned();
        let made = self.lookups.made_below(vertex);
        let expired = self.lookups.is_expired(vertex);
        let run = move || {
            let digest = *job.plan.graph.vertex(vertex).digest();
            let inputs = inputs.iter().map(|it| it.bring(job, digest, &cancel));
            let inputs = inputs.collect::<Result<Vec<Ref>, StepError>>();
            let inputs = inputs.map_err(Unsuccessful::quietly)?;
            worker::execute(
                job,
                &worker::Task {
                    vertex,
                    source,
                    inputs,
                    records,
                    made,
                    expired,
                    cancel,
                },
            )
        };
        // A directory is only opened here, which is quicker than a thread is started.
        if matches!(
            job.plan.graph.vertex(vertex).op,
            Op::Source(Source::Local(_))
        ) {
            let executed = run();
            return Some(self.executed(vertex, executed));
        }
        self.spawn(move || Message::Executed {
            vertex,
            executed: run(),
        });
        None
    }

    /// Has something done beside the loop, which is told in any case.
    fn spawn(&self, task: impl FnOnce() -> Message + Send + 'scope) {
        self.workers.start(task);
    }

    fn executed(&mut self, vertex: VertexId, executed: Result<Executed, Unsuccessful>) -> Event {
        self.cancels.remove(&vertex);
        match executed {
            Ok(Executed {
                outputs,
                shared,
                made,
            }) => {
                self.lookups.made(vertex, made);
                self.begin_digests(vertex, &outputs);
                if shared {
                    self.cached.insert(vertex);
                    self.job
                        .begun
                        .ledger
                        .took(self.results.keep_later(&outputs));
                }
                self.tell_end(vertex, None);
                Event::Executed {
                    vertex,
                    result: self.results.add(outputs),
                }
            }
            Err(unsuccessful) if unsuccessful.is_cancelled() => {
                self.tell_end(vertex, Some(VertexError::Canceled));
                Event::Stopped { vertex }
            }
            Err(unsuccessful) => {
                self.fail_step(vertex, unsuccessful);
                Event::Failed { vertex }
            }
        }
    }

    /// Begins to compute the digests of those outputs that are layers of the result.
    fn begin_digests(&self, vertex: VertexId, outputs: &[Ref]) {
        let snapshot = |at| match outputs.get(at)? {
            Ref::Snapshot(id) => *id,
            Ref::Local(_) => None,
        };
        for layer in self.layers_of(vertex, snapshot) {
            self.layers.begin(layer);
            self.layers.send(layer);
        }
    }

    /// Those outputs of a vertex that are layers of the result.
    fn layers_of(
        &self,
        vertex: VertexId,
        output: impl Fn(usize) -> Option<SnapshotId>,
    ) -> impl Iterator<Item = SnapshotId> {
        let layers = self.job.plan.layers.iter().map(|layer| layer.output);
        let layers = layers.filter(move |it| it.vertex == vertex);
        layers.filter_map(move |it| output(it.output))
    }

    fn fail_step(&mut self, vertex: VertexId, unsuccessful: Unsuccessful) {
        if self.job.request.cancel.is_cancelled() {
            // What goes wrong once the person has given up is of no interest.
            return self.tell_end(vertex, Some(VertexError::Canceled));
        }
        let why = VertexError::Failed(crate::error::chain(&*unsuccessful.error));
        self.tell_end(vertex, Some(why));
        let metadata = &self.job.plan.graph.vertex(vertex).metadata;
        self.fail(BuildError::Step(Box::new(StepFailure {
            name: metadata.name.clone(),
            place: self.job.definition.place(metadata.source),
            log: unsuccessful.log,
            error: *unsuccessful.error,
        })));
    }

    fn fail(&mut self, failure: BuildError) {
        self.failure.get_or_insert(failure);
    }

    fn status(&self, vertex: VertexId) -> VertexStatus {
        waiting_vertex(&self.job.plan.graph, vertex)
    }

    fn tell_start(&mut self, vertex: VertexId) {
        self.told.insert(vertex);
        self.tell_running(vertex);
    }

    /// Tells that something is done for a vertex, which may turn out to be cached after all.
    fn tell_running(&mut self, vertex: VertexId) {
        let since = *self.started.entry(vertex).or_insert_with(SystemTime::now);
        self.job.reporter.vertex(VertexStatus {
            started: Some(since),
            ..self.status(vertex)
        });
    }

    fn tell_end(&self, vertex: VertexId, error: Option<VertexError>) {
        self.job.reporter.vertex(VertexStatus {
            started: self.started.get(&vertex).copied(),
            completed: Some(SystemTime::now()),
            cached: self.cached.contains(&vertex),
            error,
            ..self.status(vertex)
        });
    }

    /// Tells that a vertex is cached, and with it all that it was made from: nothing of it is looked at.
    fn tell_cached(&mut self, vertex: VertexId) {
        let graph = &self.job.plan.graph;
        let mut news = BTreeSet::new();
        let mut open = vec![vertex];
        while let Some(vertex) = open.pop() {
            if !self.told.contains(&vertex) && news.insert(vertex) {
                open.extend(graph.vertex(vertex).inputs.iter().map(|input| input.vertex));
            }
        }
        for vertex in news {
            let now = Some(SystemTime::now());
            self.told.insert(vertex);
            self.cached.insert(vertex);
            self.job.reporter.vertex(VertexStatus {
                started: self.started.get(&vertex).copied().or(now),
                completed: now,
                cached: true,
                ..self.status(vertex)
            });
        }
    }
}

impl Drop for Solving<'_, '_, '_> {
    /// Where the loop ends early, by a panic, what runs is not waited for to its own end.
    fn drop(&mut self) {
        self.cancels.values().for_each(Cancel::cancel);
    }
}

impl Results {
    fn add(&mut self, outputs: Vec<Ref>) -> ResultId {
        self.push(Made::Here(outputs))
    }

    fn add_late(&mut self, late: Late) -> ResultId {
        self.push(Made::Late(Arc::new(late)))
    }

    fn push(&mut self, made: Made) -> ResultId {
        self.all.push(made);
        ResultId(self.all.len() as u64 - 1)
    }

    fn add_cached(&mut self, outputs: Vec<Option<SnapshotId>>) -> ResultId {
        self.unkept.extend(outputs.iter().flatten());
        self.add(outputs.into_iter().map(Ref::Snapshot).collect())
    }

    /// What another process made is nobody's to keep either. Says which snapshots that are.
    fn keep_later(&mut self, outputs: &[Ref]) -> std::vec::IntoIter<SnapshotId> {
        let ids: Vec<SnapshotId> = outputs
            .iter()
            .filter_map(|output| match output {
                Ref::Snapshot(id) => *id,
                Ref::Local(_) => None,
            })
            .collect();
        self.unkept.extend(&ids);
        ids.into_iter()
    }

    fn made(&self, result: ResultId) -> &Made {
        let index = usize::try_from(result.0).expect("a result's number is an index");
        &self.all[index]
    }

    fn output(&self, of: OutputOf) -> Output {
        match self.made(of.result) {
            Made::Here(outputs) => {
                let output = outputs.get(of.output);
                let output = output.expect("a vertex has the outputs that its op says");
                Output::Here(output.clone())
            }
            Made::Late(late) => Output::Late(Arc::clone(late), of.output),
        }
    }

    /// Keeps what a step is about to use from being collected under its hands.
    fn keep(&mut self, inputs: &[Output], store: &store::Store) -> Result<(), StoreError> {
        let unkept: Vec<SnapshotId> = inputs
            .iter()
            .filter_map(|input| match input {
                Output::Here(Ref::Snapshot(Some(id))) => self.unkept.take(id),
                Output::Here(Ref::Snapshot(None) | Ref::Local(_)) | Output::Late(..) => None,
            })
            .collect();
        if !unkept.is_empty() {
            self.leases.push(store.lease(&unkept, &[])?);
        }
        Ok(())
    }
}
