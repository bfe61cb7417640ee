//! What the threads of a build do: checksums and runs.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use llb::op::Source;
use llb::{Key, Op, VertexId};
use ops::{OpError, Ops, Ref};
use solve::{Selector, Step};
use store::{KeyLock, Record, SnapshotId, StoreError};

use crate::report::Tail;
use crate::session::CONTEXT;
use crate::{Cancel, ContextFrom, Job, LogLine, StepError};

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
    pub(crate) cancel: Cancel,
}

/// A vertex that has outputs.
pub(crate) struct Executed {
    pub(crate) outputs: Vec<Ref>,
    /// Whether somebody else ran it in the meantime.
    pub(crate) shared: bool,
}

/// A vertex that has none.
pub(crate) struct Unsuccessful {
    pub(crate) error: Box<StepError>,
    /// The last lines that it wrote.
    pub(crate) log: Vec<LogLine>,
}

pub(crate) fn checksum(ops: &Ops, of: &Ref, selector: &Selector) -> Result<Key, StepError> {
    ops.checksum(of, selector).map_err(|source| {
        let of = match of {
            Ref::Snapshot(None) => "scratch".to_owned(),
            Ref::Snapshot(Some(id)) => id.to_string(),
            Ref::Local(directory) => directory.directory().display().to_string(),
        };
        StepError::Checksum { of, source }
    })
}

impl Unsuccessful {
    /// One that wrote nothing, or nothing that would explain the error.
    pub(crate) fn quietly(error: impl Into<StepError>) -> Self {
        Self {
            error: Box::new(error.into()),
            log: Vec::new(),
        }
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
        .filter(|_| !matches!(&vertex.op, Op::Source(source) if !source.is_remote()))
    else {
        return run(job, task).map(|outputs| Executed {
            outputs,
            shared: false,
        });
    };
    let _lock = claim(job, &last.key(), &task.cancel).map_err(Unsuccessful::quietly)?;
    // It may have been made between the look-up and now, above all by whoever held the lock.
    if !vertex.metadata.ignore_cache
        && let Some(cached) = job
            .engine
            .store
            .result(&last.key())
            .map_err(Unsuccessful::quietly)?
    {
        let outputs: Vec<Ref> = cached.outputs.into_iter().map(Ref::Snapshot).collect();
        record(job, task, &outputs, None).map_err(Unsuccessful::quietly)?;
        return Ok(Executed {
            outputs,
            shared: true,
        });
    }
    let begun = Begun::now();
    let outputs = run(job, task)?;
    record(job, task, &outputs, Some(&begun)).map_err(Unsuccessful::quietly)?;
    Ok(Executed {
        outputs,
        shared: false,
    })
}

/// Records a known result under one more step.
pub(crate) fn record_again(
    job: &Job<'_>,
    vertex: VertexId,
    step: &Step,
    outputs: &[Ref],
) -> Result<(), StoreError> {
    write(job, vertex, step, outputs, &Begun::now())
}

fn run(job: &Job<'_>, task: &Task) -> Result<Vec<Ref>, Unsuccessful> {
    let vertex = job.plan.graph.vertex(task.vertex);
    if let Op::Source(Source::Local(local)) = &vertex.op
        && local.name == CONTEXT
        && job.request.context == ContextFrom::Empty
    {
        return Ok(vec![Ref::Snapshot(None)]);
    }
    let tail = Tail::new(job.reporter, *vertex.digest());
    let context = ops::Context {
        session: job.request,
        log: &|stream, data| tail.write(stream, data),
        cancel: &task.cancel,
    };
    let resolved = task.source.clone().map(Op::Source);
    let op = resolved.as_ref().unwrap_or(&vertex.op);
    let outputs = job.engine.ops.run(op, &task.inputs, &context);
    outputs.map_err(|error| Unsuccessful {
        error: Box::new(error.into()),
        log: tail.into_lines(),
    })
}

/// The right to make what `key` names. Waits for whoever makes it now, and looks up from time to
/// time to see whether it is to give up: a lock that is waited for cannot be cancelled.
fn claim(job: &Job<'_>, key: &Key, cancel: &Cancel) -> Result<KeyLock, StepError> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = job.engine.store.try_lock_key(key)? {
            return Ok(lock);
        }
        if cancel.is_cancelled() {
            return Err(OpError::Cancelled.into());
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

/// Records the result of a task under all its steps; one that somebody else ran is on record under
/// the last already.
fn record(
    job: &Job<'_>,
    task: &Task,
    outputs: &[Ref],
    ran: Option<&Begun>,
) -> Result<(), StoreError> {
    let (steps, begun) = match (ran, task.records.split_last()) {
        (Some(begun), _) => (task.records.as_slice(), begun),
        (None, Some((_, others))) => (others, &Begun::now()),
        (None, None) => return Ok(()),
    };
    steps
        .iter()
        .try_for_each(|step| write(job, task.vertex, step, outputs, begun))
}

fn write(
    job: &Job<'_>,
    vertex: VertexId,
    step: &Step,
    outputs: &[Ref],
    begun: &Begun,
) -> Result<(), StoreError> {
    let by_content = step
        .inputs()
        .iter()
        .all(|input| matches!(input, solve::InputKey::Content(_)));
    job.engine.store.record(&Record {
        key: step.key(),
        kind: if by_content { "content" } else { "definition" }.to_owned(),
        preimage: step.preimage(),
        outputs: outputs.iter().map(snapshot).collect(),
        name: job.plan.graph.vertex(vertex).metadata.name.clone(),
        started: begun.at,
        duration: begun.since.elapsed(),
    })
}

fn snapshot(output: &Ref) -> Option<SnapshotId> {
    match output {
        Ref::Snapshot(id) => *id,
        // Only a local source gives a directory, and those are not recorded.
        Ref::Local(_) => None,
    }
}
