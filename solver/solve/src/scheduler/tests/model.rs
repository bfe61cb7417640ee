//! A world in which ops have results at once: trees are maps from paths to numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use llb::op::{
    Copy, Exec, File, FileAction, FileChange, HttpPin, HttpSource, ImageSource, LocalSource, Mount,
    MountKind, Network, Security, Source, Tree,
};
use llb::{Graph, Key, KeyHasher, Op, VertexId};

use crate::{Event, OnFailure, Options, Outcome, ResultId, Scheduler, Selector, Work};

pub(super) type Files = BTreeMap<String, u64>;

/// A process that reads its root and its mounts and writes one number, below `modulus`, to `/out`.
pub(super) fn exec(text: &str, modulus: u64, mounts: &[(usize, &str)]) -> Op {
    let bind = |target: &str, input, selector: &str, output: bool| Mount {
        target: target.to_owned(),
        kind: MountKind::Bind {
            input: Some(input),
            selector: selector.to_owned(),
        },
        read_only: !output,
        output,
    };
    let root = bind("/", 0, "/", true);
    let others = mounts
        .iter()
        .enumerate()
        .map(|(n, (input, path))| bind(&format!("/mnt{n}"), *input, path, false));
    Op::Exec(Exec {
        args: vec![text.to_owned(), modulus.to_string()],
        env: Arc::default(),
        unkeyed_env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        mounts: std::iter::once(root).chain(others).collect(),
        network: Network::Default,
        security: Security::Sandbox,
        extra_hosts: BTreeMap::new(),
        hostname: String::new(),
        shm_size: None,
        devices: Vec::new(),
        ulimits: BTreeMap::new(),
        cgroup_parent: None,
        resources: Arc::default(),
        terms: llb::op::Terms::default(),
    })
}

/// Copies `source` of input 1 over input 0.
pub(super) fn copy(source: &str, destination: &str) -> Op {
    let change = FileChange::Copy(Copy {
        from: Tree::Input(1),
        source: source.to_owned(),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        wildcard: false,
        unpack: false,
        exclude: Vec::new(),
        parents: false,
    });
    Op::File(File {
        actions: vec![FileAction {
            base: Tree::Input(0),
            change,
            output: true,
        }],
    })
}

pub(super) fn image(name: &str) -> Op {
    let id = oci::Digest::of(name.as_bytes());
    Op::Source(Source::Image(ImageSource {
        reference: name.to_owned(),
        id,
        diff_ids: vec![id],
    }))
}

pub(super) fn local(name: &str) -> Op {
    Op::Source(Source::Local(LocalSource {
        name: name.to_owned(),
        ignore: Vec::new(),
    }))
}

/// Answers with the files that go by `address` among the directories, or not at all.
pub(super) fn http(address: &str) -> Op {
    Op::Source(Source::Http(HttpSource {
        url: address.to_owned(),
        checksum: None,
        filename: String::new(),
        mode: 0,
        owner: (0, 0),
        pin: None,
    }))
}

/// The source of `op`, a remote one, as it is now.
fn resolve(op: &Op, locals: &Locals) -> Option<Source> {
    let Op::Source(Source::Http(http)) = op else {
        panic!("{op:?} need not be resolved")
    };
    let files = number(locals.get(&http.url)?);
    Some(Source::Http(HttpSource {
        pin: Some(HttpPin {
            content: oci::Digest::of(&files.to_le_bytes()),
            last_modified: None,
        }),
        ..http.clone()
    }))
}

/// The directories that the person who builds lends, by name.
pub(super) type Locals = BTreeMap<String, Files>;

/// What a vertex comes to: the interpreter that is obviously right. `None` where it cannot be done.
pub(super) fn interpret(graph: &Graph, vertex: VertexId, locals: &Locals) -> Option<Files> {
    let vertex = graph.vertex(vertex);
    let inputs: Option<Vec<Files>> = vertex
        .inputs
        .iter()
        .map(|input| interpret(graph, input.vertex, locals))
        .collect();
    evaluate(&vertex.op, &inputs?, locals)
}

/// What an op makes of its inputs. Reads what the op says, and knows nothing of selectors.
fn evaluate(op: &Op, inputs: &[Files], locals: &Locals) -> Option<Files> {
    match op {
        Op::Source(Source::Image(image)) => Some(Files::from([(
            "/image".to_owned(),
            number(&image.id.to_string()),
        )])),
        Op::Source(Source::Local(local)) => Some(locals[&local.name].clone()),
        Op::Source(Source::Http(http)) => locals.get(&http.url).cloned(),
        Op::Source(Source::Git(_)) => panic!("the model has no repositories"),
        Op::Exec(exec) => Some(evaluate_exec(exec, inputs)),
        Op::File(file) => {
            let mut files = inputs[0].clone();
            let FileChange::Copy(copy) = &file.actions[0].change else {
                panic!("the model only copies")
            };
            files.insert(copy.destination.clone(), *inputs[1].get(&copy.source)?);
            Some(files)
        }
        Op::Merge => Some(
            inputs
                .iter()
                .flatten()
                .map(|(path, content)| (path.clone(), *content))
                .collect(),
        ),
        Op::Diff => panic!("the model has no diff"),
    }
}

fn evaluate_exec(exec: &Exec, inputs: &[Files]) -> Files {
    let mut files = inputs[0].clone();
    let read = |mount: &Mount| match &mount.kind {
        MountKind::Bind { input, selector } => inputs[input.unwrap()].get(selector).copied(),
        other => panic!("the model has no {other:?}"),
    };
    let read: Vec<Option<u64>> = exec.mounts[1..].iter().map(read).collect();
    let modulus: u64 = exec.args[1].parse().unwrap();
    let written = number(&(&exec.args[0], &files, read)) % modulus;
    files.insert("/out".to_owned(), written);
    files
}

fn number(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What is left from one build to the next.
#[derive(Default)]
pub(super) struct World {
    cache: HashMap<Key, ResultId>,
    results: Vec<Files>,
}

/// One build of it.
pub(super) struct Build<'a> {
    pub(super) graph: &'a Graph,
    pub(super) targets: Vec<VertexId>,
    pub(super) locals: &'a Locals,
    pub(super) options: Options,
    /// What fails when it runs.
    pub(super) broken: BTreeSet<VertexId>,
}

/// What happened in a build.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) resolved: BTreeSet<VertexId>,
    /// In the order in which they started.
    pub(super) ran: Vec<VertexId>,
    /// Found in the cache.
    pub(super) cached: BTreeSet<VertexId>,
    /// Those that were found by content, or that ran as another vertex.
    pub(super) cut_off: BTreeSet<VertexId>,
    pub(super) failed: BTreeSet<VertexId>,
    pub(super) asked_to_stop: BTreeSet<VertexId>,
    pub(super) most_at_once: usize,
    pub(super) results: BTreeMap<VertexId, Files>,
}

impl World {
    /// Builds; `choose` picks which of the works under way ends next. Checks all the while that
    /// what the scheduler does is legal.
    pub(super) fn build(
        &mut self,
        build: &Build<'_>,
        mut choose: impl FnMut(&[Work]) -> usize,
    ) -> Report {
        let mut scheduler = Scheduler::new(build.graph, build.targets.clone(), build.options);
        let mut report = Report::new();
        let mut under_way: Vec<Work> = Vec::new();
        let mut stopped = false;
        self.accept(build, scheduler.start(), &mut under_way, &mut report);
        report.outcome = loop {
            if let Some(outcome) = scheduler.outcome() {
                assert!(
                    under_way.is_empty(),
                    "it is over while {under_way:?} is under way"
                );
                break outcome;
            }
            let work = under_way.swap_remove(choose(&under_way));
            let event = self.answer(build, &work, &mut report);
            stopped |= matches!(
                event,
                Event::Failed { .. } | Event::ChecksumFailed { .. } | Event::ResolveFailed { .. }
            ) && build.options.on_failure == OnFailure::Stop;
            let more = scheduler.handle(event);
            assert!(
                !stopped || more.iter().all(|work| matches!(work, Work::Cancel { .. })),
                "it goes on: {more:?}"
            );
            self.accept(build, more, &mut under_way, &mut report);
        };
        for (vertex, _) in build.graph.vertices() {
            if let Some(result) = scheduler.result(vertex) {
                report.results.insert(vertex, self.files(result).clone());
            }
        }
        report
    }

    /// Takes new work, and checks that it may be begun.
    fn accept(
        &mut self,
        build: &Build<'_>,
        more: Vec<Work>,
        under_way: &mut Vec<Work>,
        report: &mut Report,
    ) {
        for work in more {
            match &work {
                Work::Execute { vertex, .. } => {
                    assert!(!report.ran.contains(vertex), "{vertex:?} runs twice");
                    report.ran.push(*vertex);
                }
                Work::Lookup { vertex, .. } => {
                    assert!(!build.graph.vertex(*vertex).metadata.ignore_cache);
                }
                Work::Record {
                    vertex,
                    result,
                    step,
                } => {
                    report.cut_off.insert(*vertex);
                    self.cache.insert(step.key(), *result);
                    continue;
                }
                Work::Cancel { vertex } => {
                    report.asked_to_stop.insert(*vertex);
                    continue;
                }
                Work::Resolve { vertex } => assert!(report.resolved.insert(*vertex)),
                Work::Checksum { .. } => {}
            }
            under_way.push(work);
        }
        let at_once = under_way
            .iter()
            .filter(|work| matches!(work, Work::Execute { .. }))
            .count();
        report.most_at_once = report.most_at_once.max(at_once);
    }

    fn answer(&mut self, build: &Build<'_>, work: &Work, report: &mut Report) -> Event {
        match work {
            Work::Resolve { vertex } if report.asked_to_stop.contains(vertex) => {
                Event::Stopped { vertex: *vertex }
            }
            Work::Resolve { vertex } => {
                match resolve(&build.graph.vertex(*vertex).op, build.locals) {
                    Some(source) => Event::Resolved {
                        vertex: *vertex,
                        source: Box::new(source),
                    },
                    None => {
                        report.failed.insert(*vertex);
                        Event::ResolveFailed { vertex: *vertex }
                    }
                }
            }
            Work::Lookup { vertex, key } => {
                let found = self.cache.get(key).copied();
                if let Some(found) = found {
                    let expected = interpret(build.graph, *vertex, build.locals);
                    assert_eq!(Some(self.files(found)), expected.as_ref(), "an illegal hit");
                    report.cached.insert(*vertex);
                }
                Event::LookedUp {
                    vertex: *vertex,
                    found,
                }
            }
            Work::Checksum {
                id, of, selector, ..
            } => match checksum(self.files(of.result), selector) {
                Some(checksum) => Event::Checksummed { id: *id, checksum },
                None => Event::ChecksumFailed { id: *id },
            },
            Work::Execute { vertex, .. } if report.asked_to_stop.contains(vertex) => {
                Event::Stopped { vertex: *vertex }
            }
            Work::Execute { vertex, .. } if build.broken.contains(vertex) => {
                report.failed.insert(*vertex);
                Event::Failed { vertex: *vertex }
            }
            Work::Execute {
                vertex,
                inputs,
                records,
            } => {
                let inputs: Vec<Files> = inputs
                    .iter()
                    .map(|it| self.files(it.result).clone())
                    .collect();
                let files = evaluate(&build.graph.vertex(*vertex).op, &inputs, build.locals);
                let result = ResultId(self.results.len() as u64);
                self.results
                    .push(files.expect("a copy's source was checksummed before it ran"));
                self.cache
                    .extend(records.iter().map(|step| (step.key(), result)));
                Event::Executed {
                    vertex: *vertex,
                    result,
                }
            }
            Work::Record { .. } | Work::Cancel { .. } => panic!("these are not answered"),
        }
    }

    fn files(&self, result: ResultId) -> &Files {
        &self.results[usize::try_from(result.0).unwrap()]
    }
}

fn checksum(files: &Files, selector: &Selector) -> Option<Key> {
    let number = match selector {
        Selector::Base | Selector::Tree => number(files),
        Selector::Path(path) => number(&files.get(path)),
        Selector::Copy(copy) => number(files.get(&copy.path)?),
        Selector::Names => panic!("the model has no names"),
    };
    Some(KeyHasher::new("files").number(number).finish())
}

impl Report {
    fn new() -> Self {
        Self {
            outcome: Outcome::Cancelled,
            resolved: BTreeSet::new(),
            ran: Vec::new(),
            cached: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            failed: BTreeSet::new(),
            asked_to_stop: BTreeSet::new(),
            most_at_once: 0,
            results: BTreeMap::new(),
        }
    }
}
