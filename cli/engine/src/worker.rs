//! What the threads of a build do: checksums and runs.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use export::PullError;
use jiff::Timestamp;
use llb::op::Source;
use llb::{Key, Op, VertexId};
use ops::{ChecksumError, OpError, Ref};
use snapshot::Root;
use snapshot::source::SourceError;
use solve::progress::Stream;
use solve::{Selector, Step};
use store::{Failure, KeyLock, RanStep, Record, SnapshotId, Spent, StoreError};

use crate::context;
use crate::explain;
use crate::report::Tail;
use crate::session::CONTEXT;
use crate::{Cancel, Job, LogLine, StepError};

/// What people are told while another process runs the same step.
const WAITING: &[u8] = b"waiting for another rbuild that runs this step\n";

/// How long at most a step that another process runs is left alone before it is looked at again.
const PATIENCE: Duration = Duration::from_millis(50);

/// A vertex to run.
pub(crate) struct Task {
    pub(crate) vertex: VertexId,
    /// What to bring in, if the vertex is a source that had to be asked for.
    pub(crate) source: Option<Source>,
    pub(crate) inputs: Vec<Ref>,
    /// What its result is recorded under.
    pub(crate) records: Vec<Step>,
    /// When the oldest of the limited steps that its inputs were made from ran.
    pub(crate) made: Option<Timestamp>,
    /// Whether a result of it was found that is too old.
    pub(crate) expired: bool,
    pub(crate) cancel: Cancel,
}

/// A vertex that has outputs.
pub(crate) struct Executed {
    pub(crate) outputs: Vec<Ref>,
    /// Whether somebody else ran it in the meantime.
    pub(crate) shared: bool,
    /// As [`Task::made`], with itself.
    pub(crate) made: Option<Timestamp>,
}

/// A vertex that has none.
pub(crate) struct Unsuccessful {
    pub(crate) error: Box<StepError>,
    /// The last lines that it wrote.
    pub(crate) log: Vec<LogLine>,
}

pub(crate) fn checksum(
    job: &Job<'_>,
    vertex: VertexId,
    of: &Ref,
    selector: &Selector,
) -> Result<Key, StepError> {
    let ops = &job.engine.ops;
    // Of what is copied the layers say what it was; of what is only mounted, nothing does.
    let checksum = match &job.plan.graph.vertex(vertex).op {
        Op::Exec(_) => ops.listed(of, selector).map(|(key, entries)| {
            if !entries.is_empty() {
                job.begun.ledger.saw(key, &entries);
            }
            key
        }),
        _ => ops.checksum(of, selector),
    };
    checksum.map_err(|source| {
        let hint = hint(job, of, &source);
        let of = match of {
            Ref::Snapshot(None) => "scratch".to_owned(),
            Ref::Snapshot(Some(id)) => id.to_string(),
            Ref::Local(directory) => directory.directory().display().to_string(),
        };
        StepError::Checksum {
            of,
            hint,
            source: Box::new(source),
        }
    })
}

/// What helps where something is not there: a name that is nearly the same, or who left it out.
fn hint(job: &Job<'_>, of: &Ref, error: &ChecksumError) -> Option<String> {
    let ChecksumError::Unreadable(snapshot::ChecksumError::Source(SourceError::NotFound(path))) =
        error
    else {
        return None;
    };
    match of {
        Ref::Snapshot(None) => None,
        Ref::Snapshot(top) => {
            let root = Root::from_fd(job.engine.snapshots.view(*top).ok()?);
            context::hint(&root, None, path)
        }
        Ref::Local(local) => {
            let ignore = job.definition.ignore_of(local.directory());
            context::hint(local.root(), ignore, path)
        }
    }
}

impl Unsuccessful {
    /// One that wrote nothing, or nothing that would explain the error.
    pub(crate) fn quietly(error: impl Into<StepError>) -> Self {
        Self {
            error: Box::new(error.into()),
            log: Vec::new(),
        }
    }

    /// Whether the disk was full. A process says so in its own words, which are the system's, and what
    /// it had written is gone by the time it can be asked for.
    fn is_for_want_of_room(&self) -> bool {
        const WORDS: [&str; 3] = [
            "No space left on device",
            "no space left on",
            "Disk quota exceeded",
        ];
        let said = crate::error::chain(&*self.error);
        let lines = self.log.iter().map(|line| line.text.as_str());
        lines
            .chain([said.as_str()])
            .any(|line| WORDS.iter().any(|words| line.contains(words)))
    }

    /// Whether it only did as it was told.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(*self.error, StepError::Run(OpError::Cancelled))
    }
}

/// Asks outside what a vertex's source is at the moment.
pub(crate) fn resolve(
    job: &Job<'_>,
    vertex: VertexId,
    cancel: &Cancel,
) -> Result<Source, Unsuccessful> {
    let vertex = job.plan.graph.vertex(vertex);
    let Op::Source(source) = &vertex.op else {
        panic!("only sources are resolved")
    };
    let tail = Tail::new(job.reporter, *vertex.digest());
    let context = ops::Context {
        session: job.request,
        log: &|stream, data| tail.write(stream, data),
        log_limits: job.request.log_limits,
        spent: &|_| {},
        cancel,
    };
    let resolved = job.engine.ops.resolve(source, &context);
    resolved.map_err(|error| Unsuccessful {
        error: Box::new(error.into()),
        log: tail.into_lines(),
    })
}

/// Runs a vertex and records what came of it, unless another process does.
pub(crate) fn execute(job: &Job<'_>, task: &Task) -> Result<Executed, Unsuccessful> {
    let vertex = job.plan.graph.vertex(task.vertex);
    let Some(last) = task
        .records
        .last()
        .filter(|_| !matches!(&vertex.op, Op::Source(Source::Local(_))))
    else {
        return run(job, task).map(|ran| Executed {
            outputs: ran.outputs,
            shared: false,
            made: task.made,
        });
    };
    if let Some(verifier) = job.begun.verifier {
        return verifier.execute(job, task);
    }
    let _lock = claim(job, task, &last.key()).map_err(Unsuccessful::quietly)?;
    // It may have been made between the look-up and now, above all by whoever held the lock.
    if !vertex.metadata.ignore_cache
        && let Some(cached) = job
            .engine
            .store
            .result(&last.key())
            .map_err(Unsuccessful::quietly)?
        && job.lifetimes.is_good_itself(task.vertex, &cached)
    {
        let begun = Begun {
            at: cached.started,
            ..Begun::now()
        };
        let outputs: Vec<Ref> = cached.outputs.into_iter().map(Ref::Snapshot).collect();
        let made = made(job, task, begun.at);
        let (_, others) = task.records.split_last().expect("there is a last one");
        let came = Came {
            outputs: &outputs,
            begun: &begun,
            made,
            spent: None,
        };
        write(job, task.vertex, others, &came).map_err(Unsuccessful::quietly)?;
        offer(job, task).map_err(Unsuccessful::quietly)?;
        return Ok(Executed {
            outputs,
            shared: true,
            made,
        });
    }
    let begun = Begun::now();
    let Ran { outputs, spent } = run_with_room(job, task).inspect_err(|failed| {
        if !failed.is_cancelled() {
            let failure = Failure {
                error: crate::error::chain(&*failed.error),
                kind: kind(last).to_owned(),
                preimage: last.preimage_with(&explain::facts(job, task.vertex, last)),
            };
            remember(job, task, &begun, Some(failure));
        }
    })?;
    let made = made(job, task, begun.at);
    let came = Came {
        outputs: &outputs,
        begun: &begun,
        made,
        spent,
    };
    write(job, task.vertex, &task.records, &came).map_err(Unsuccessful::quietly)?;
    remember(job, task, &begun, None);
    offer(job, task).map_err(Unsuccessful::quietly)?;
    Ok(Executed {
        outputs,
        shared: false,
        made,
    })
}

/// Offers what a task made to the caches elsewhere, which send it while other steps run.
fn offer(job: &Job<'_>, task: &Task) -> Result<(), StoreError> {
    let keys: Vec<Key> = task.records.iter().map(Step::key).collect();
    job.begun.caches.offer(job, task.vertex, &keys)
}

/// When the oldest limited step ran that a task's result is made from, given when it ran itself.
fn made(job: &Job<'_>, task: &Task, began: Timestamp) -> Option<Timestamp> {
    let own = job.lifetimes.own(task.vertex).map(|_| began);
    task.made.into_iter().chain(own).min()
}

/// Notes that a step ran, and says why if that is wanted.
fn remember(job: &Job<'_>, task: &Task, begun: &Begun, failure: Option<Failure>) {
    let Some(step) = task.records.last() else {
        return;
    };
    let metadata = &job.plan.graph.vertex(task.vertex).metadata;
    let why = if metadata.ignore_cache {
        explain::NO_CACHE
    } else if task.expired {
        explain::EXPIRED
    } else {
        explain::MISSING
    };
    let ran = RanStep {
        name: metadata.name.clone(),
        line: metadata.source.map(|lines| lines.first_line as u64),
        key: step.key(),
        why: why.to_owned(),
        duration: Some(begun.since.elapsed()),
        failure,
    };
    if job.request.explain {
        let now = explain::Now {
            since: job.begun.at,
            project: job.request.project(),
            build: i64::MAX,
        };
        match explain::explain(&job.engine.snapshots, &ran, &now) {
            Ok(explanation) => {
                let tail = Tail::new(job.reporter, *job.plan.graph.vertex(task.vertex).digest());
                let line = format!("ran because: {}\n", explanation.sentence());
                tail.write(Stream::Stderr, line.as_bytes());
            }
            Err(error) => tracing::warn!(error = crate::error::chain(&error), "no explanation"),
        }
    }
    job.begun.ledger.ran(ran);
}

/// Runs a vertex; one that meets a full disk once more after the cache gave up what it could.
fn run_with_room(job: &Job<'_>, task: &Task) -> Result<Ran, Unsuccessful> {
    match run(job, task) {
        Err(failed) if failed.is_for_want_of_room() && !task.cancel.is_cancelled() => {
            match job.engine.store.make_room() {
                Ok(freed) if freed > 0 => {
                    tracing::info!(freed, "the disk was full; the cache made room");
                    run(job, task)
                }
                _ => Err(failed),
            }
        }
        other => other,
    }
}

/// Records a known result under one more step.
pub(crate) fn record_again(
    job: &Job<'_>,
    vertex: VertexId,
    step: &Step,
    (outputs, made): (&[Ref], Option<Timestamp>),
) -> Result<(), StoreError> {
    let now = Begun::now();
    let begun = Begun {
        at: made.unwrap_or(now.at),
        ..now
    };
    let came = Came {
        outputs,
        begun: &begun,
        made,
        spent: None,
    };
    write(job, vertex, std::slice::from_ref(step), &came)
}

/// What came of a step.
struct Came<'a> {
    outputs: &'a [Ref],
    begun: &'a Begun,
    made: Option<Timestamp>,
    spent: Option<Spent>,
}

/// What a vertex that ran gave, and what that took.
pub(crate) struct Ran {
    pub(crate) outputs: Vec<Ref>,
    spent: Option<Spent>,
}

/// Runs a vertex, whatever is known of it.
pub(crate) fn run(job: &Job<'_>, task: &Task) -> Result<Ran, Unsuccessful> {
    let vertex = job.plan.graph.vertex(task.vertex);
    if let Op::Source(Source::Local(local)) = &vertex.op
        && local.name == CONTEXT
        && let Some(top) = job.definition.context().snapshot()
    {
        return Ok(Ran {
            outputs: vec![Ref::Snapshot(top)],
            spent: None,
        });
    }
    if let Op::Source(Source::Image(image)) = &vertex.op
        && let Some(brought) = job.bases.bring(&image.id, *vertex.digest(), &task.cancel)
    {
        return match brought {
            Ok(top) => Ok(Ran {
                outputs: vec![Ref::Snapshot(top)],
                spent: None,
            }),
            Err(PullError::Cancelled) => Err(Unsuccessful::quietly(OpError::Cancelled)),
            Err(source) => Err(Unsuccessful::quietly(StepError::Pull {
                reference: image.reference.clone(),
                source: Box::new(source),
            })),
        };
    }
    let spent = Mutex::new(None);
    let spend = |more: Spent| {
        let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = Some(spent.map_or(more, |earlier: Spent| earlier.and(more)));
    };
    let tail = Tail::new(job.reporter, *vertex.digest());
    let context = ops::Context {
        session: job.request,
        log: &|stream, data| tail.write(stream, data),
        log_limits: job.request.log_limits,
        spent: &spend,
        cancel: &task.cancel,
    };
    let resolved = task.source.clone().map(Op::Source);
    let op = resolved.as_ref().unwrap_or(&vertex.op);
    job.begun.caches.restore(op, *vertex.digest(), &task.cancel);
    let outputs = job.engine.ops.run(op, &task.inputs, &context);
    let outputs = outputs.map_err(|error| Unsuccessful {
        error: Box::new(error.into()),
        log: tail.into_lines(),
    })?;
    let spent = spent.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Ran { outputs, spent })
}

/// The right to make what `key` names. Waits for whoever makes it now, and looks up from time to
/// time to see whether it is to give up: a lock that is waited for cannot be cancelled.
fn claim(job: &Job<'_>, task: &Task, key: &Key) -> Result<KeyLock, StepError> {
    let mut pause = Duration::from_millis(1);
    let mut said = false;
    loop {
        if let Some(lock) = job.engine.store.try_lock_key(key)? {
            return Ok(lock);
        }
        if task.cancel.is_cancelled() {
            return Err(OpError::Cancelled.into());
        }
        if pause == PATIENCE && !said {
            let digest = *job.plan.graph.vertex(task.vertex).digest();
            Tail::new(job.reporter, digest).write(Stream::Stderr, WAITING);
            said = true;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PATIENCE);
    }
}

/// When a step began.
struct Begun {
    at: Timestamp,
    since: Instant,
}

impl Begun {
    fn now() -> Self {
        Self {
            at: Timestamp::now(),
            since: Instant::now(),
        }
    }
}

/// Records what came of a vertex under the keys of several steps.
fn write(
    job: &Job<'_>,
    vertex: VertexId,
    steps: &[Step],
    came: &Came<'_>,
) -> Result<(), StoreError> {
    if steps.is_empty() {
        return Ok(());
    }
    let record = |step: &Step| Record {
        key: step.key(),
        kind: kind(step).to_owned(),
        preimage: step.preimage_with(&explain::facts(job, vertex, step)),
        outputs: came.outputs.iter().map(snapshot).collect(),
        name: job.plan.graph.vertex(vertex).metadata.name.clone(),
        started: came.begun.at,
        duration: came.begun.since.elapsed(),
        project: job.request.project(),
        made: came.made,
        spent: came.spent,
    };
    let records: Vec<Record> = steps.iter().map(record).collect();
    job.engine.store.record_all(&records)
}

/// As [`Record::kind`].
pub(crate) fn kind(step: &Step) -> &'static str {
    let by_content = |input: &solve::InputKey| matches!(input, solve::InputKey::Content(_));
    if step.inputs().iter().all(by_content) {
        "content"
    } else {
        "definition"
    }
}

fn snapshot(output: &Ref) -> Option<SnapshotId> {
    match output {
        Ref::Snapshot(id) => *id,
        // Only a local source gives a directory, and those are not recorded.
        Ref::Local(_) => None,
    }
}
