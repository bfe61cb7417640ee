//! What a build would run and what it would find (`build --dry-run`).
//!
//! The scheduler goes through the graph as in a build. What the cache knows is looked up, what is in
//! the context is read; but a step that would run is said to have failed, which ends what stands on
//! it. Those steps *may* run: what they are made from may come out as it was. Where no earlier run of
//! such a step is on record with which it could then agree, it is sure to run.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use llb::op::Source;
use llb::{Op, VertexId};
use ops::Ref;
use serde::Serialize;
use serde_json::Value;
use snapshot::Entry;
use solve::{
    Event, InputKey, OnFailure, Options, OutputOf, ResultId, Scheduler, Selector, Step, Work,
};
use store::{Alike, Record, StoreError};

use crate::caches::Caches;
use crate::explain::{self, Cause, Explanation, Plain};
use crate::images::Bases;
use crate::ledger::Ledger;
use crate::lookups::Lookups;
use crate::progress::Progress;
use crate::report::Reporter;
use crate::worker::{self, Task, Unsuccessful};
use crate::{Begun, BuildError, Cancel, Definition, Engine, Job, Request, StepError, StepFailure};

/// How many earlier runs of a step are looked at to see whether it could agree with one.
const COMPARED: u32 = 64;

/// What a build would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// The steps, each after those that it is made from.
    pub steps: Vec<Foreseen>,
    /// How long it takes if all that may be found is found: the times of the steps that run, as far
    /// as they are known, where those that can run at once do.
    pub least: Duration,
    /// How long it takes if all runs that may run.
    pub most: Duration,
}

/// What is foreseen of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreseen {
    /// `[build 2/5] RUN make`
    pub step: String,
    /// Its first line in the Dockerfile.
    pub line: Option<u64>,
    /// What would become of it.
    pub verdict: Verdict,
    /// How long it took the last time; `None` where it is not on record, or takes none.
    pub time: Option<Duration>,
    /// Why it would run, where that is known; none for [`Verdict::May`], and for the layers of a base
    /// image, which are brought in from where it is.
    pub why: Option<Explanation>,
    /// The steps whose results decide whether it runs, for [`Verdict::May`].
    pub depends: Vec<String>,
}

/// What would become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its result is known, or nothing needs it.
    Cached,
    /// It would run.
    Run,
    /// It would run, unless what it is made from comes out as it was.
    May,
    /// It is outside, and whether it changed is only asked when it is built.
    Ask,
}

impl Engine {
    /// What a build would run and what it would find. Runs nothing, asks nobody and writes nothing, but
    /// that a context which is elsewhere is fetched: the Dockerfile is in it.
    ///
    /// # Errors
    /// As [`build`](crate::build), as far as that can be known.
    pub fn forecast(
        &self,
        request: &Request,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Forecast, BuildError> {
        let reporter = Reporter::new(progress);
        let definition = Definition::read(self, request, &reporter, &Ledger::default())?;
        let bases = Bases::new(self, request, &reporter);
        let targets = definition.plan(request, &bases, &reporter)?;
        let ledger = Ledger::default();
        let caches = Caches::none(self, &reporter);
        let begun = Begun {
            reporter: &reporter,
            ledger: &ledger,
            caches: &caches,
            at: Timestamp::now(),
            verifier: None,
        };
        let job = Job::of((self, request), &definition, (&targets, &bases), &begun);
        let mut looking = Looking::new(&job);
        for root in targets.each.iter().filter_map(|target| target.root) {
            looking.go(root.vertex)?;
            looking.judge(root.vertex)?;
        }
        Ok(looking.forecast())
    }
}

/// The walk through the graph of one build.
struct Looking<'a> {
    job: &'a Job<'a>,
    lookups: Lookups<'a>,
    results: Vec<Vec<Ref>>,
    /// What was found, or is a directory of the person who builds.
    found: BTreeSet<VertexId>,
    /// Those directories.
    directories: HashMap<VertexId, Ref>,
    /// What would have to be asked for outside.
    outside: BTreeSet<VertexId>,
    /// What the scheduler asked for, or was sent to.
    visited: BTreeSet<VertexId>,
    /// What would run, under its last record; `None` for one that another one makes as well.
    runs: HashMap<VertexId, Option<Step>>,
    producers: BTreeSet<llb::Key>,
    definitions: HashMap<VertexId, Step>,
    failure: Option<BuildError>,
    foreseen: BTreeMap<VertexId, Foreseen>,
}

impl<'a> Looking<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        Self {
            job,
            lookups: Lookups::new(job),
            results: Vec::new(),
            found: BTreeSet::new(),
            directories: HashMap::new(),
            outside: BTreeSet::new(),
            visited: BTreeSet::new(),
            runs: HashMap::new(),
            producers: BTreeSet::new(),
            definitions: HashMap::new(),
            failure: None,
            foreseen: BTreeMap::new(),
        }
    }

    /// Has the scheduler ask until it knows no more questions.
    fn go(&mut self, root: VertexId) -> Result<(), BuildError> {
        self.visited.insert(root);
        let options = Options {
            on_failure: OnFailure::KeepGoing,
            ..Options::default()
        };
        let mut scheduler = Scheduler::new(&self.job.plan.graph, vec![root], options);
        let mut work: VecDeque<Work> = scheduler.start().into();
        while let Some(next) = work.pop_front() {
            if let Some(event) = self.answer(next)? {
                work.extend(scheduler.handle(event));
            }
        }
        for (vertex, _) in self.job.plan.graph.vertices() {
            let definition = scheduler.definition(vertex).cloned();
            self.definitions.extend(definition.map(|it| (vertex, it)));
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn answer(&mut self, work: Work) -> Result<Option<Event>, BuildError> {
        Ok(match work {
            Work::Resolve { vertex } => {
                self.outside.insert(vertex);
                Some(Event::ResolveFailed { vertex })
            }
            Work::Lookup { vertex, key } => {
                self.visited.insert(vertex);
                let outputs = self.lookups.find(vertex, &key)?;
                let found = outputs.map(|outputs| {
                    self.found.insert(vertex);
                    self.add(outputs.into_iter().map(Ref::Snapshot).collect())
                });
                Some(Event::LookedUp { vertex, found })
            }
            Work::Checksum {
                id,
                vertex,
                of,
                selector,
            } => {
                let of = self.output(of);
                Some(match worker::checksum(self.job, vertex, &of, &selector) {
                    Ok(checksum) => Event::Checksummed { id, checksum },
                    Err(error) => {
                        self.fail(vertex, error);
                        Event::ChecksumFailed { id }
                    }
                })
            }
            Work::Execute {
                vertex, records, ..
            } => Some(self.would_run(vertex, records)),
            Work::Record { .. } | Work::Cancel { .. } => None,
        })
    }

    /// Opens a directory of the person who builds; anything else only would be run.
    fn would_run(&mut self, vertex: VertexId, records: Vec<Step>) -> Event {
        if !matches!(
            self.job.plan.graph.vertex(vertex).op,
            Op::Source(Source::Local(_))
        ) {
            if !self.runs.contains_key(&vertex) {
                let last = records.into_iter().next_back();
                let last = last.filter(|step| self.producers.insert(step.key()));
                self.runs.insert(vertex, last);
            }
            return Event::Failed { vertex };
        }
        let task = Task {
            vertex,
            source: None,
            inputs: Vec::new(),
            records,
            made: None,
            expired: false,
            cancel: Cancel::default(),
        };
        match worker::run(self.job, &task) {
            Ok(worker::Ran { outputs, .. }) => {
                for output in &outputs {
                    if let Ref::Local(local) = output {
                        local.keep_nothing();
                        self.directories.insert(vertex, output.clone());
                    }
                }
                self.found.insert(vertex);
                let result = self.add(outputs);
                Event::Executed { vertex, result }
            }
            Err(Unsuccessful { error, .. }) => {
                self.fail(vertex, *error);
                Event::Failed { vertex }
            }
        }
    }

    fn add(&mut self, outputs: Vec<Ref>) -> ResultId {
        self.results.push(outputs);
        ResultId(self.results.len() as u64 - 1)
    }

    fn output(&self, of: OutputOf) -> Ref {
        let index = usize::try_from(of.result.0).expect("a result's number is an index");
        self.results[index][of.output].clone()
    }

    /// What fails without anything having been run would fail in a build.
    fn fail(&mut self, vertex: VertexId, error: StepError) {
        let metadata = &self.job.plan.graph.vertex(vertex).metadata;
        let failure = BuildError::Step(Box::new(StepFailure {
            name: metadata.name.clone(),
            place: self.job.definition.place(metadata.source),
            log: Vec::new(),
            error,
        }));
        self.failure.get_or_insert(failure);
    }

    /// Says what would become of a vertex and of all that it is made from, those first.
    fn judge(&mut self, vertex: VertexId) -> Result<(), BuildError> {
        if self.foreseen.contains_key(&vertex) {
            return Ok(());
        }
        // Beside something outside that is not asked for, the scheduler looks at nothing.
        if !self.visited.contains(&vertex) && !self.outside.contains(&vertex) {
            self.go(vertex)?;
        }
        let graph = &self.job.plan.graph;
        if self.found.contains(&vertex) {
            self.spare(vertex);
            return Ok(());
        }
        for input in &graph.vertex(vertex).inputs {
            self.judge(input.vertex)?;
        }
        let foreseen = match self.runs.get(&vertex) {
            Some(Some(step)) => self.run(vertex, step)?,
            Some(None) => self.plain(vertex, Verdict::Cached),
            None if self.outside.contains(&vertex) => self.plain(vertex, Verdict::Ask),
            None => self.may_run(vertex)?,
        };
        self.foreseen.insert(vertex, foreseen);
        Ok(())
    }

    /// What is found needs nothing below it.
    fn spare(&mut self, vertex: VertexId) {
        let graph = &self.job.plan.graph;
        let mut open = vec![vertex];
        while let Some(vertex) = open.pop() {
            if !self.foreseen.contains_key(&vertex) {
                let cached = self.plain(vertex, Verdict::Cached);
                self.foreseen.insert(vertex, cached);
                open.extend(graph.vertex(vertex).inputs.iter().map(|it| it.vertex));
            }
        }
    }

    fn plain(&self, vertex: VertexId, verdict: Verdict) -> Foreseen {
        let metadata = &self.job.plan.graph.vertex(vertex).metadata;
        Foreseen {
            step: metadata.name.clone(),
            line: metadata.source.map(|lines| lines.first_line as u64),
            verdict,
            time: None,
            why: None,
            depends: Vec::new(),
        }
    }

    /// A step that would run, and why as far as that can be said before it did.
    fn run(&self, vertex: VertexId, step: &Step) -> Result<Foreseen, StoreError> {
        let node = self.job.plan.graph.vertex(vertex);
        if matches!(node.op, Op::Source(Source::Image(_))) {
            return Ok(self.plain(vertex, Verdict::Run));
        }
        let ignore_cache = node.metadata.ignore_cache;
        let cause = if ignore_cache {
            Cause::Plain(Plain::NoCache)
        } else if self.lookups.is_expired(vertex) {
            Cause::Plain(Plain::Expired)
        } else {
            let record = self.as_recorded(vertex, step);
            let look = |input, path: &str| self.look(vertex, input, path);
            let snapshots = &self.job.engine.snapshots;
            explain::compare_before(snapshots, &record, self.job.begun.at, &look)?
        };
        let plain = self.plain(vertex, Verdict::Run);
        Ok(Foreseen {
            time: self.time(&plain.step)?,
            why: Some(Explanation {
                step: plain.step.clone(),
                line: plain.line,
                cause,
                failed: None,
            }),
            ..plain
        })
    }

    /// What is at a path of a vertex's input, if that is a directory of the person who builds.
    fn look(&self, vertex: VertexId, input: usize, path: &str) -> Option<Vec<Entry>> {
        let input = self.job.plan.graph.vertex(vertex).inputs.get(input)?;
        let selector = Selector::Path(path.to_owned());
        let of = self.directories.get(&input.vertex)?;
        let listed = self.job.engine.ops.listed(of, &selector);
        listed.ok().map(|(_, entries)| entries)
    }

    fn as_recorded(&self, vertex: VertexId, step: &Step) -> Record {
        Record {
            key: step.key(),
            kind: worker::kind(step).to_owned(),
            preimage: step.preimage_with(&explain::facts(self.job, vertex, step)),
            outputs: Vec::new(),
            name: self.job.plan.graph.vertex(vertex).metadata.name.clone(),
            started: self.job.begun.at,
            duration: Duration::ZERO,
            project: self.job.request.project(),
            made: None,
            spent: None,
        }
    }

    /// A step that stands on one that would run.
    fn may_run(&self, vertex: VertexId) -> Result<Foreseen, StoreError> {
        let node = self.job.plan.graph.vertex(vertex);
        let depends: BTreeSet<&str> = node
            .inputs
            .iter()
            .filter_map(|input| self.foreseen.get(&input.vertex))
            .filter(|it| it.verdict != Verdict::Cached)
            .map(|it| it.step.as_str())
            .collect();
        let sure = node.metadata.ignore_cache || !self.could_agree(vertex)?;
        let verdict = if sure { Verdict::Run } else { Verdict::May };
        let plain = self.plain(vertex, verdict);
        Ok(Foreseen {
            time: self.time(&plain.step)?,
            depends: depends.into_iter().map(str::to_owned).collect(),
            ..plain
        })
    }

    /// Whether the same op ran before with the same files of the person who builds, on whatever else.
    fn could_agree(&self, vertex: VertexId) -> Result<bool, StoreError> {
        let node = self.job.plan.graph.vertex(vertex);
        let by_content = node.inputs.iter().map(|_| InputKey::Content(Vec::new()));
        let op = Step::new(&node.op, by_content.collect()).preimage();
        // What stands on something outside, which was not asked for, has no definition.
        let inputs = self.definitions.get(&vertex).map_or(&[][..], Step::inputs);
        let given: Vec<(usize, Vec<Value>)> = inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| matches!(input, InputKey::Content(_)))
            .filter_map(|(at, input)| Some((at, checksums(&serde_json::to_value(input).ok()?))))
            .collect();
        let agrees = |record: &Record| {
            let same = |(at, given): &(usize, Vec<Value>)| {
                checksums(&record.preimage["inputs"][*at]) == *given
            };
            record.preimage.get("op") == op.get("op") && given.iter().all(same)
        };
        let store = &self.job.engine.store;
        let name = &node.metadata.name;
        let alike = explain::split_name(name);
        let alike = alike.map_or(Alike::Named(name), |(_, text)| Alike::Ending(text));
        let earlier = store.records_alike(alike, self.job.begun.at, COMPARED)?;
        Ok(earlier.iter().any(agrees))
    }

    /// How long a step took when it last ran: here by its name, at another place in the Dockerfile, or
    /// where else something is built.
    fn time(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let store = &self.job.engine.store;
        let project = self.job.request.project();
        let place = explain::split_name(name);
        let nearest = [
            Some((Alike::Named(name), Some(project.as_str()))),
            place.map(|(_, text)| (Alike::Ending(text), Some(project.as_str()))),
            Some((Alike::Named(name), None)),
            place.map(|(_, text)| (Alike::Ending(text), None)),
        ];
        for (alike, project) in nearest.into_iter().flatten() {
            if let Some(time) = store.last_duration(alike, project)? {
                return Ok(Some(time));
            }
        }
        Ok(None)
    }

    fn forecast(self) -> Forecast {
        let least = self.longest(|verdict| verdict == Verdict::Run);
        let most = self.longest(|verdict| matches!(verdict, Verdict::Run | Verdict::May));
        let graph = &self.job.plan.graph;
        let is_step =
            |vertex: &VertexId| !matches!(graph.vertex(*vertex).op, Op::Source(Source::Local(_)));
        let steps = self
            .foreseen
            .into_iter()
            .filter(|(vertex, _)| is_step(vertex))
            .map(|(_, foreseen)| foreseen);
        Forecast {
            steps: steps.collect(),
            least,
            most,
        }
    }

    /// How long it takes to run those with these verdicts: as long as the longest chain of them, or
    /// all of them by as many as may run at once.
    fn longest(&self, counts: impl Fn(Verdict) -> bool) -> Duration {
        let graph = &self.job.plan.graph;
        let mut ends: HashMap<VertexId, Duration> = HashMap::new();
        let mut sum = Duration::ZERO;
        for (vertex, foreseen) in &self.foreseen {
            let inputs = graph.vertex(*vertex).inputs.iter();
            let begin = inputs.filter_map(|it| ends.get(&it.vertex)).max();
            let own = foreseen.time.filter(|_| counts(foreseen.verdict));
            let own = own.unwrap_or_default();
            let end = begin.copied().unwrap_or_default() + own;
            ends.insert(*vertex, end);
            sum += own;
        }
        let chain = ends.into_values().max().unwrap_or_default();
        let jobs = self.job.request.parallelism.unwrap_or(usize::MAX).max(1);
        chain.max(sum / u32::try_from(jobs).unwrap_or(u32::MAX))
    }
}

/// The checksums by which an input is known, read from how it is written: without the paths.
fn checksums(input: &Value) -> Vec<Value> {
    let parts = input.get("content").and_then(Value::as_array);
    let parts = parts.map(Vec::as_slice).unwrap_or_default();
    parts.iter().map(|part| part[1].clone()).collect()
}
