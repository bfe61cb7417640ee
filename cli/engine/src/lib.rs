//! One build, from the request to what it leaves behind: reads the definition, plans, solves, exports.
//!
//! Vocabulary: an [`Engine`] is a store with the hands that work in it, and serves many builds; a
//! [`Request`] is what one person wants built; *progress* is what a build tells while it runs, and
//! it tells of its own errands (`[internal] load .dockerignore`) as it tells of vertices.
//!
//! One loop owns the scheduler and all that is known of the build. What takes time, checksums and
//! runs, happens beside it, on threads that send the loop one message for each. A build that is cached to
//! the end starts threads for local checksums and no other.

mod ahead;
mod caches;
mod call;
mod context;
mod definition;
mod error;
mod explain;
mod forecast;
mod image;
mod images;
mod late;
mod layers;
mod leaks;
mod ledger;
mod lifetime;
mod lookups;
mod output;
mod queue;
mod report;
mod request;
mod session;
mod sizes;
mod solving;
mod targets;
mod verify;
mod worker;
mod workers;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use llb::Graph;
use lower::Plan;
use ops::Ops;
use registry::{Client, DockerConfig};
use snapshot::Snapshots;
use store::Store;

pub use call::{Answer, Answered, Call, Given, Lent, Outline, Target, Warning};
pub use context::{
    ContextFrom, DockerfileFrom, Excluded, Listed, Listing, NamedFrom, NamedFromError, Rule,
};
pub use error::{
    BuildError, ExportError, ImageError, LogLine, Place, PlanFailure, ReadError, StepError,
    StepFailure,
};
pub use explain::{Cause, Explanation, FileCause, Plain};
pub use forecast::{Forecast, Foreseen, Verdict};
pub use leaks::{Leak, Leaks};
pub use lower::{ContextNameError, known_as as context_name};
pub use ops::{AgentFrom, Cancel, KeyError, Keys, LogLimits};
pub use output::Built;
pub use request::{
    Allowed, Attest, Devices, Files, NoCache, Output, ProvenanceOf, Pull, Push, Request, SecretFrom,
};
pub use sizes::{Growth, ImageSize, LayerSize, SizeLimits};
pub use solve::progress;
pub use verify::{Differing, Unlike, Verified};

use caches::Caches;
use definition::Definition;
use images::Bases;
use layers::Layers;
use ledger::Ledger;
use lifetime::Lifetimes;
use progress::Progress;
use report::Reporter;
use targets::Targets;
use verify::Verifier;

/// A store with the hands that work in it. Threads may build with it at once.
pub struct Engine {
    store: Store,
    snapshots: Snapshots,
    ops: Ops,
    registries: Arc<Client>,
}

impl Engine {
    /// An engine that works in `store`, and asks registries as docker's credentials say. Does
    /// nothing yet.
    pub fn new(store: Store) -> Self {
        let anybody = Client::new(registry::Settings::default(), Box::new(DockerConfig));
        Self::with_registries(store, anybody)
    }

    /// An engine that works in `store` and has `registries` for images from outside.
    pub fn with_registries(store: Store, registries: Client) -> Self {
        let snapshots = Snapshots::limited(store.clone(), *registries.limits());
        let ops = Ops::new(store.clone(), snapshots.clone());
        Self {
            store,
            snapshots,
            ops,
            registries: Arc::new(registries),
        }
    }

    /// Who speaks to registries.
    pub fn registries(&self) -> &Arc<Client> {
        &self.registries
    }

    /// The store it works in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The graph that a build would solve (`--graph=dot`). Runs nothing.
    ///
    /// # Errors
    /// As [`build`], as far as that comes before anything runs.
    pub fn graph(
        &self,
        request: &Request,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Graph, BuildError> {
        let reporter = Reporter::new(progress);
        let definition = Definition::read(self, request, &reporter, &Ledger::default())?;
        let bases = Bases::new(self, request, &reporter);
        let targets = definition.plan(request, &bases, &reporter)?;
        Ok(targets.whole.graph)
    }

    /// What the Dockerfile says about itself (`--call`). Runs nothing.
    ///
    /// # Errors
    /// As [`build`], as far as that comes before anything runs; but for [`Call::Check`] what is wrong
    /// with the file is part of the answer.
    pub fn call(
        &self,
        request: &Request,
        call: Call,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Answered, BuildError> {
        let reporter = Reporter::new(progress);
        let definition = Definition::read(self, request, &reporter, &Ledger::default())?;
        definition.answer(self, request, call, &reporter)
    }

    /// What the context holds and what its ignore file leaves out (`--list-context`). Runs nothing.
    ///
    /// # Errors
    /// As [`build`], as far as that comes before anything runs; and if a file cannot be looked at.
    pub fn list_context(
        &self,
        request: &Request,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Listing, BuildError> {
        let reporter = Reporter::new(progress);
        let (context, ignore) = definition::context(self, request, &reporter, &Ledger::default())?;
        Ok(context::list(self, &context, &ignore)?)
    }
}

/// Builds what `request` asks for, telling `progress` of it from any thread.
///
/// Whatever ran to its end is in the cache afterwards, also where the build failed or was cancelled.
/// The caller, once it has told the person, makes it durable with [`Store::mark_synced`].
///
/// # Errors
/// See [`BuildError`]. All that was begun is undone when this returns.
pub fn build(
    engine: &Engine,
    request: &Request,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Built, BuildError> {
    let clock = Clock::start();
    let reporter = Reporter::new(progress);
    // What goes wrong once the person has given up is of no interest.
    let given_up = |error| {
        if request.cancel.is_cancelled() {
            BuildError::Cancelled
        } else {
            error
        }
    };
    let ledger = Ledger::default();
    let caches = Caches::open(engine, request, &reporter);
    let begun = Begun {
        reporter: &reporter,
        ledger: &ledger,
        caches: &caches,
        at: clock.started,
        verifier: None,
    };
    // Caches elsewhere get what is made while the rest is being made.
    let built = thread::scope(|scope| {
        let working = caches.work(scope);
        let built = run_until_found(engine, request, &begun);
        if !request.cancel.is_cancelled() {
            working.close();
        }
        built
    });
    let exported = match &built {
        Err(_) if request.cancel.is_cancelled() => {
            caches.abandon();
            Ok(())
        }
        built => caches.finish(built.is_ok()),
    };
    let built = built.and_then(|built| exported.map(|()| built));
    let mut built = built.map_err(given_up);
    let number = clock.remember(engine, request, &ledger, &built);
    if let Ok(built) = &mut built {
        built.number = number;
    }
    built
}

/// Runs a build, and once more where a result that it had found was gone when it was to be used.
fn run_until_found(
    engine: &Engine,
    request: &Request,
    begun: &Begun<'_>,
) -> Result<Built, BuildError> {
    output::check(request)?;
    // Once: the standard input is not there a second time.
    let definition = Definition::read(engine, request, begun.reporter, begun.ledger)?;
    let mut built = run(engine, request, begun, &definition);
    for _ in 0..LOST_RESULTS + begun.caches.disappointments() {
        match &built {
            // Somebody pruned it, or a cache only said it had it, or it is not what it was. All else that was done is
            // in the cache.
            Err(error)
                if !request.cancel.is_cancelled()
                    && (error.is_lost_result()
                        || begun.ledger.is_bereft(&engine.store)
                        || error.may_come_of_damage() && has_dropped(engine)) =>
            {
                begun.ledger.begin_anew();
                built = run(engine, request, begun, &definition);
            }
            _ => break,
        }
    }
    if request.verify
        && let Ok(built) = &mut built
    {
        let tell = |progress| begun.reporter.tell(progress);
        built.verified = Some(verify::verify(engine, request, &definition, &tell)?);
    }
    built
}

/// Whether the store had layers that are not what they were. They are gone now.
fn has_dropped(engine: &Engine) -> bool {
    match engine.snapshots.drop_lost() {
        Ok(dropped) => !dropped.is_empty(),
        Err(error) => {
            tracing::warn!(
                error = error::chain(&error),
                "the layers cannot be looked at"
            );
            false
        }
    }
}

/// How often a build begins anew because a result that it had found was collected under its hands.
const LOST_RESULTS: usize = 3;

/// A build that has begun.
struct Begun<'a> {
    reporter: &'a Reporter<'a>,
    ledger: &'a Ledger,
    caches: &'a Caches<'a>,
    at: Timestamp,
    /// Where all of it runs again to be compared: who does that.
    verifier: Option<&'a Verifier<'a>>,
}

fn run(
    engine: &Engine,
    request: &Request,
    begun: &Begun<'_>,
    definition: &Definition,
) -> Result<Built, BuildError> {
    let reporter = begun.reporter;
    let bases = Bases::new(engine, request, reporter);
    let targets = definition.plan(request, &bases, reporter)?;
    let work = Job::of((engine, request), definition, (&targets, &bases), begun);
    // Digests of new layers are computed beside the steps that follow.
    thread::scope(|scope| {
        let layers = Layers::new(engine, scope, (request, reporter));
        let solved = solving::solve(&work, scope, &layers)?;
        output::export(&work, &solved, &layers)
    })
}

/// What everything after the plan works from.
struct Job<'a> {
    engine: &'a Engine,
    request: &'a Request,
    definition: &'a Definition,
    /// The graph and layers of all platforms.
    plan: &'a Plan,
    /// What the image of each platform is made of.
    targets: &'a [Plan],
    bases: &'a Bases<'a>,
    reporter: &'a Reporter<'a>,
    begun: &'a Begun<'a>,
    lifetimes: Lifetimes,
}

impl<'a> Job<'a> {
    /// All of it, once the plan is made.
    fn of(
        (engine, request): (&'a Engine, &'a Request),
        definition: &'a Definition,
        (targets, bases): (&'a Targets, &'a Bases<'a>),
        begun: &'a Begun<'a>,
    ) -> Self {
        Self {
            engine,
            request,
            definition,
            plan: &targets.whole,
            targets: &targets.each,
            bases,
            reporter: begun.reporter,
            begun,
            lifetimes: Lifetimes::of(&targets.whole.graph),
        }
    }

    /// The latest time that the image of a platform may show, in seconds since 1970.
    fn epoch(&self, target: &Plan) -> Option<i64> {
        self.request.epoch.or(target.source_date_epoch)
    }
}

/// When a build began, for the history.
struct Clock {
    started: Timestamp,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Timestamp::now(),
            since: Instant::now(),
        }
    }

    /// Adds the build to the history, and gives its number there. One that is missing is no reason to
    /// fail.
    fn remember(
        &self,
        engine: &Engine,
        request: &Request,
        ledger: &Ledger,
        built: &Result<Built, BuildError>,
    ) -> Option<i64> {
        let (steps, cached, image) = built
            .as_ref()
            .map_or((0, 0, None), |it| (it.steps, it.cached, it.image));
        let row = store::Build {
            name: request.title(),
            started: self.started,
            duration: self.elapsed(),
            steps,
            cached,
            image,
            error: built.as_ref().err().map(error::chain),
            project: request.project(),
        };
        let recorded = engine
            .store
            .record_build(&row, &ledger.steps(), &ledger.keys());
        recorded
            .inspect_err(|error| {
                tracing::warn!(
                    error = error::chain(error),
                    "the build is missing in the history"
                );
            })
            .ok()
    }

    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}
