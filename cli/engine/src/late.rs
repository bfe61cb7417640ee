//! Results that a cache elsewhere has: brought in once somebody needs what is in them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use export::PullError;
use jiff::Timestamp;
use llb::{Key, VertexId};
use ops::Ref;
use remote::{Hit, Source};
use solve::Step;
use store::{Cached, Lease, Record, StoreError};

use crate::images::Watch;
use crate::{Cancel, Job, StepError, explain, worker};

/// A result that a cache elsewhere has.
pub(crate) struct Late {
    /// Whose result it is.
    pub(crate) vertex: VertexId,
    pub(crate) source: Arc<Source>,
    pub(crate) hit: Hit,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What it is to be recorded under once it is here.
    steps: Vec<Step>,
    here: Option<Vec<Ref>>,
    /// Keeps it from being collected.
    lease: Option<Lease>,
}

/// An output that may have to be brought in.
#[derive(Clone)]
pub(crate) enum Output {
    Here(Ref),
    Late(Arc<Late>, usize),
}

impl Output {
    /// The output itself. What has to be done for that is told as what the vertex `of` does.
    pub(crate) fn bring(&self, job: &Job<'_>, of: Key, cancel: &Cancel) -> Result<Ref, StepError> {
        match self {
            Self::Here(output) => Ok(output.clone()),
            Self::Late(late, output) => late.bring(job, of, cancel).map(|all| {
                all.get(*output)
                    .cloned()
                    .expect("the outputs were counted when it was found")
            }),
        }
    }

    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Late(..))
    }
}

impl Late {
    pub(crate) fn new(vertex: VertexId, source: Arc<Source>, hit: Hit) -> Self {
        Self {
            vertex,
            source,
            hit,
            state: Mutex::default(),
        }
    }

    /// As a look-up in the store would have found it.
    pub(crate) fn as_cached(&self) -> Cached {
        let record = &self.hit.record;
        Cached {
            outputs: Vec::new(),
            created: record.started,
            started: record.started,
            made: record.made,
        }
    }

    /// Records it under one more step, as soon as it is here.
    pub(crate) fn record(&self, job: &Job<'_>, step: Step) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(here) = &state.here {
            self.write(job, &step, here)?;
        }
        state.steps.push(step);
        Ok(())
    }

    /// The outputs, if they were brought in.
    pub(crate) fn here(&self) -> Option<Vec<Ref>> {
        self.state().here.clone()
    }

    /// Brings it in, unless that was done; whoever comes second waits for the first.
    ///
    /// # Errors
    /// [`StepError::Lost`] if the cache does not have what it said it had: it says so no more.
    fn bring(&self, job: &Job<'_>, of: Key, cancel: &Cancel) -> Result<Vec<Ref>, StepError> {
        let mut state = self.state();
        if let Some(here) = &state.here {
            return Ok(here.clone());
        }
        let watch = Watch::new(job.reporter, of, cancel);
        let mut here = Vec::new();
        for output in &self.hit.outputs {
            here.push(Ref::Snapshot(match output {
                None => None,
                Some(chain) => {
                    let fetched = remote::fetch(&job.engine.snapshots, chain, &watch);
                    Some(fetched.map_err(|error| self.lost(job, error))?)
                }
            }));
        }
        let tops = crate::caches::snapshots_of(&here);
        state.lease = Some(job.engine.store.lease(&tops, &[])?);
        for step in &state.steps {
            self.write(job, step, &here)?;
        }
        state.here = Some(here.clone());
        Ok(here)
    }

    fn lost(&self, job: &Job<'_>, error: PullError) -> StepError {
        match error {
            PullError::Cancelled => ops::OpError::Cancelled.into(),
            // A full disk is nobody's lie.
            PullError::Store(error) if !matches!(error, StoreError::WrongDigest { .. }) => {
                error.into()
            }
            error => {
                self.source.spoil(&self.hit.record);
                job.begun.caches.warn(format!(
                    "cache {} does not have the result of `{}`: {}",
                    self.source.name(),
                    self.hit.record.name,
                    crate::error::chain(&error)
                ));
                StepError::Lost {
                    name: self.source.name(),
                    source: Box::new(error),
                }
            }
        }
    }

    fn write(&self, job: &Job<'_>, step: &Step, outputs: &[Ref]) -> Result<(), StoreError> {
        let record = &self.hit.record;
        let outputs = outputs.iter().map(|it| match it {
            Ref::Snapshot(id) => *id,
            Ref::Local(_) => None,
        });
        job.engine.store.record(&Record {
            key: step.key(),
            kind: worker::kind(step).to_owned(),
            preimage: step.preimage_with(&explain::facts(job, self.vertex, step)),
            outputs: outputs.collect(),
            name: job.plan.graph.vertex(self.vertex).metadata.name.clone(),
            started: record.started.min(Timestamp::now()),
            duration: Duration::from_micros(record.duration),
            project: job.request.project(),
            made: record.made,
            spent: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
