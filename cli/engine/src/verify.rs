//! Whether a build comes out the same when all of it runs again (`--verify-reproducible`).
//!
//! Every step runs once more, without the cache, on what the steps before it made this time; what it
//! makes is compared with what is on record and recorded nowhere. A step that differs although all that
//! it was made from came out the same is where the difference begins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use llb::{Key, KeyHasher, VertexId};
use ops::Ref;
use snapshot::{How, Root, SnapshotError, SnapshotId};
use solve::progress::{Log, Progress, TransferStatus, VertexStatus};

use crate::caches::Caches;
use crate::images::Bases;
use crate::layers::Layers;
use crate::ledger::Ledger;
use crate::report::Reporter;
use crate::worker::{self, Executed, Task, Unsuccessful};
use crate::{
    Begun, BuildError, Definition, Engine, Job, NoCache, Place, Request, StepError, solving,
};

/// How a build came out when all of it ran again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many steps were compared.
    pub steps: usize,
    /// The steps where a difference begins, in the order of the build; none where it is reproducible.
    pub differing: Vec<Differing>,
    /// How many more differ, perhaps only because those do.
    pub later: usize,
    /// Whether the times of files were compared: where nothing dates them back, they are always others.
    pub times: bool,
}

/// A step that made something else when it ran again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// `[2/3] RUN make`
    pub step: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// The files that differ, in the order of their paths.
    pub files: Vec<Unlike>,
}

/// A file that differs between two runs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlike {
    /// `/etc/hosts`
    pub path: String,
    /// What differs: `byte 3 of 20 differs`.
    pub what: String,
}

/// Runs all of a build again that just went well.
pub(crate) fn verify(
    engine: &Engine,
    request: &Request,
    definition: &Definition,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Verified, BuildError> {
    let silent = |_| {};
    let request = Request {
        no_cache: NoCache::All,
        explain: false,
        ..request.clone()
    };
    let silent = Reporter::new(&silent);
    let bases = Bases::new(engine, &request, &silent);
    let targets = definition.plan(&request, &bases, &silent)?;
    let times = request.rewrite_timestamp;
    let epochs = targets
        .each
        .iter()
        .map(|it| request.epoch.or(it.source_date_epoch));
    let verifier = Verifier {
        engine,
        latest: epochs.min().flatten().filter(|_| times),
        passes: Mutex::default(),
    };
    let retell = |progress| tell(again(progress));
    let reporter = Reporter::new(&retell);
    let ledger = Ledger::default();
    let caches = Caches::none(engine, &reporter);
    let begun = Begun {
        reporter: &reporter,
        ledger: &ledger,
        caches: &caches,
        at: Timestamp::now(),
        verifier: Some(&verifier),
    };
    let job = Job::of((engine, &request), definition, (&targets, &bases), &begun);
    loop {
        wait_for_another_second(&request)?;
        thread::scope(|scope| {
            let layers = Layers::kept(engine, scope, &request.cancel);
            solving::solve(&job, scope, &layers).map(drop)
        })?;
        // What was not on record, as where the cache had only what stands on it, is compared with a
        // second run.
        if !verifier.passes().begin_another() {
            return Ok(verifier.verdict(&job));
        }
    }
}

/// A step that writes down the time in seconds is to meet another one.
fn wait_for_another_second(request: &Request) -> Result<(), BuildError> {
    let begun = Timestamp::now().as_second();
    while Timestamp::now().as_second() == begun {
        if request.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What is told of the second run, so that nobody takes it for the first.
fn again(progress: Progress) -> Progress {
    let other = |vertex: Key| KeyHasher::new("again").key(&vertex).finish();
    match progress {
        Progress::Vertex(status) => Progress::Vertex(VertexStatus {
            digest: other(status.digest),
            inputs: status.inputs.into_iter().map(other).collect(),
            name: format!("again: {}", status.name),
            ..status
        }),
        Progress::Transfer(status) => Progress::Transfer(TransferStatus {
            vertex: other(status.vertex),
            ..status
        }),
        Progress::Log(log) => Progress::Log(Log {
            vertex: other(log.vertex),
            ..log
        }),
        Progress::Warning(warning) => Progress::Warning(warning),
    }
}

/// Runs steps again and compares what they make. Threads may use it at once.
pub(crate) struct Verifier<'a> {
    engine: &'a Engine,
    /// The time that files are dated back to, where times count.
    latest: Option<i64>,
    passes: Mutex<Passes>,
}

/// What came of the steps.
#[derive(Default)]
struct Passes {
    /// What steps made for which nothing is on record.
    first: BTreeMap<VertexId, Vec<Option<SnapshotId>>>,
    /// Whether the run is one that looks at those alone.
    is_second: bool,
    compared: BTreeMap<VertexId, Vec<Unlike>>,
}

impl Verifier<'_> {
    /// Runs a step, whatever is known of it, and compares.
    pub(crate) fn execute(&self, job: &Job<'_>, task: &Task) -> Result<Executed, Unsuccessful> {
        let ran = worker::run(job, task)?;
        self.compare(task, &ran.outputs)
            .map_err(Unsuccessful::quietly)?;
        Ok(Executed {
            outputs: ran.outputs,
            shared: false,
            made: None,
        })
    }

    fn compare(&self, task: &Task, outputs: &[Ref]) -> Result<(), StepError> {
        let now = outputs.iter().map(|output| match output {
            Ref::Snapshot(id) => *id,
            Ref::Local(_) => None,
        });
        let now: Vec<Option<SnapshotId>> = now.collect();
        let Some(before) = self.before(task, &now)? else {
            return Ok(());
        };
        let mut unlike = Vec::new();
        for (before, now) in before.iter().zip(&now) {
            unlike.extend(
                self.differences(*before, *now)
                    .map_err(|source| StepError::Compare(Box::new(source)))?,
            );
        }
        self.passes().compared.insert(task.vertex, unlike);
        Ok(())
    }

    /// What the step made before, on record or in the run before this one.
    fn before(
        &self,
        task: &Task,
        now: &[Option<SnapshotId>],
    ) -> Result<Option<Vec<Option<SnapshotId>>>, StepError> {
        let mut passes = self.passes();
        if passes.is_second {
            return Ok(passes.first.remove(&task.vertex));
        }
        for step in &task.records {
            if let Some(known) = self.engine.store.result(&step.key())? {
                return Ok(Some(known.outputs));
            }
        }
        passes.first.insert(task.vertex, now.to_vec());
        Ok(None)
    }

    /// How the layers of two results differ, each without what is below it.
    fn differences(
        &self,
        before: Option<SnapshotId>,
        now: Option<SnapshotId>,
    ) -> Result<Vec<Unlike>, SnapshotError> {
        if before == now {
            return Ok(Vec::new());
        }
        let tree = |id: Option<SnapshotId>| {
            id.map_or(Ok(snapshot::Tree::default()), |id| {
                self.engine.snapshots.tree(id)
            })
        };
        let changes = tree(before)?.packed_changes(&tree(now)?, self.latest);
        let told = changes.into_iter().map(|change| {
            let at = match (&change.how, before, now) {
                (How::Content, Some(before), Some(now)) if !change.directory => {
                    self.content(&change.path, [before, now])
                }
                _ => None,
            };
            Unlike {
                path: Path::new("/").join(&change.path).display().to_string(),
                what: at.unwrap_or_else(|| said(&change.how)),
            }
        });
        Ok(told.collect())
    }

    /// Where the contents of a file begin to differ; `None` where it is no file.
    fn content(&self, path: &Path, layers: [SnapshotId; 2]) -> Option<String> {
        let open = |id| {
            let view = self.engine.snapshots.view(Some(id));
            let root = Root::from_fd(view.map_err(io::Error::other)?);
            let file = root.open_file(path)?;
            let size = file.metadata()?.len();
            io::Result::Ok((BufReader::new(file), size))
        };
        let ((before, old), (now, new)) = (open(layers[0]).ok()?, open(layers[1]).ok()?);
        if old != new {
            return Some(format!("{old} bytes, then {new}"));
        }
        let same = before.bytes().zip(now.bytes()).take_while(
            |(before, now)| matches!((before, now), (Ok(before), Ok(now)) if before == now),
        );
        Some(format!("byte {} of {new} differs", same.count() + 1))
    }

    fn verdict(&self, job: &Job<'_>) -> Verified {
        let passes = self.passes();
        let graph = &job.plan.graph;
        // In the order of the graph, in which a vertex comes after those that it is made from.
        let mut touched: BTreeSet<VertexId> = BTreeSet::new();
        let mut differing = Vec::new();
        let mut later = 0;
        for (id, vertex) in graph.vertices() {
            let follows = vertex.inputs.iter().any(|it| touched.contains(&it.vertex));
            let unlike = passes.compared.get(&id).filter(|it| !it.is_empty());
            if follows || unlike.is_some() {
                touched.insert(id);
            }
            match unlike {
                Some(_) if follows => later += 1,
                Some(files) => differing.push(Differing {
                    step: vertex.metadata.name.clone(),
                    place: job.definition.place(vertex.metadata.source),
                    files: files.clone(),
                }),
                None => {}
            }
        }
        Verified {
            steps: passes.compared.len(),
            differing,
            later,
            times: self.latest.is_some(),
        }
    }

    fn passes(&self) -> MutexGuard<'_, Passes> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passes {
    /// Whether another run is needed, which this then is.
    fn begin_another(&mut self) -> bool {
        !std::mem::replace(&mut self.is_second, true) && !self.first.is_empty()
    }
}

/// What is different, in a few words without the file's name.
fn said(how: &How) -> String {
    match how {
        How::New => "only there the second time".to_owned(),
        How::Gone => "only there the first time".to_owned(),
        How::Kind => "another kind of file".to_owned(),
        How::Content => "another target".to_owned(),
        How::Mode(old, new) => format!("mode {old:04o}, then {new:04o}"),
        How::Owner(old, new) => format!("owner {}:{}, then {}:{}", old.0, old.1, new.0, new.1),
        How::Attributes => "other extended attributes".to_owned(),
        How::Links => "other hard links".to_owned(),
        How::Time(old, new) => {
            let shown = |seconds: i64| {
                Timestamp::from_second(seconds)
                    .map_or_else(|_| seconds.to_string(), |it| it.to_string())
            };
            format!("time {}, then {}", shown(*old), shown(*new))
        }
    }
}
