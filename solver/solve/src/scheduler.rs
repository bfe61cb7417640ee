//! The scheduler: one event in, the work it made possible out.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use llb::op::Source;
use llb::{Graph, Input, Key, Op, VertexId};

use crate::{Dependency, InputKey, Selector, Step, dependency};

/// The outputs of one vertex, as the engine knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultId(pub u64);

/// One output of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputOf {
    /// The result.
    pub result: ResultId,
    /// Which of its outputs.
    pub output: usize,
}

/// A checksum that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChecksumId(usize);

/// How to go about a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How many vertices may run at once; no limit where `None`.
    pub parallelism: Option<usize>,
    /// What a failure means for what does not depend on it.
    pub on_failure: OnFailure,
}

/// What a failure means for what does not depend on the vertex that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Nothing else starts, and what runs is asked to stop.
    #[default]
    Stop,
    /// It goes on, and its results are in the cache the next time.
    KeepGoing,
}

/// Something to do. Each is answered by one [`Event`], except where it says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Ask outside what a source is at the moment; answered by [`Event::Resolved`],
    /// [`Event::ResolveFailed`] or [`Event::Stopped`].
    Resolve {
        /// A vertex whose op is a remote source.
        vertex: VertexId,
    },
    /// Look in the cache; answered by [`Event::LookedUp`].
    Lookup {
        /// For which vertex.
        vertex: VertexId,
        /// Under which key.
        key: Key,
    },
    /// Checksum a part of an output; answered by [`Event::Checksummed`] or [`Event::ChecksumFailed`].
    Checksum {
        /// To be named in the answer.
        id: ChecksumId,
        /// A vertex that needs it; there may be others.
        vertex: VertexId,
        /// Of what.
        of: OutputOf,
        /// Which part.
        selector: Selector,
    },
    /// Run a vertex and record the result under the keys of all `records`; answered by
    /// [`Event::Executed`], [`Event::Failed`] or [`Event::Stopped`].
    Execute {
        /// Which one.
        vertex: VertexId,
        /// What it takes, in the order of its inputs.
        inputs: Vec<OutputOf>,
        /// What the result is to be recorded under. The last one knows most of its inputs by
        /// content: what it means is the same in another build or process, and need run only once.
        /// Empty for local sources, which are never recorded.
        records: Vec<Step>,
    },
    /// Record a result under one more key; not answered.
    Record {
        /// The vertex it is the result of.
        vertex: VertexId,
        /// The result.
        result: ResultId,
        /// What it is to be recorded under.
        step: Box<Step>,
    },
    /// Stop running or resolving a vertex; not answered itself, its `Execute` or `Resolve` still is.
    Cancel {
        /// Which one.
        vertex: VertexId,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is known what a source is at the moment.
    Resolved {
        /// Which one.
        vertex: VertexId,
        /// The vertex's source with its pin: what it is keyed by from now on, and what is to be
        /// brought in should it be executed.
        source: Box<Source>,
    },
    /// A source cannot be found out about: the vertex fails.
    ResolveFailed {
        /// Which one.
        vertex: VertexId,
    },
    /// A look-up ended.
    LookedUp {
        /// For which vertex it was.
        vertex: VertexId,
        /// What the cache knows.
        found: Option<ResultId>,
    },
    /// A checksum is there.
    Checksummed {
        /// Which one.
        id: ChecksumId,
        /// The checksum.
        checksum: Key,
    },
    /// A checksum cannot be made: the vertices that need it fail.
    ChecksumFailed {
        /// Which one.
        id: ChecksumId,
    },
    /// A vertex has a result: it ran, or somebody else ran the same in the meantime.
    Executed {
        /// Which one.
        vertex: VertexId,
        /// Its outputs.
        result: ResultId,
    },
    /// A vertex ran and failed.
    Failed {
        /// Which one.
        vertex: VertexId,
    },
    /// A vertex was stopped, as asked.
    Stopped {
        /// Which one.
        vertex: VertexId,
    },
    /// The person gave up.
    Cancelled,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All targets have results, in their order.
    Solved(Vec<ResultId>),
    /// These vertices failed, in the order of the graph.
    Failed(Vec<VertexId>),
    /// The person gave up.
    Cancelled,
}

/// What must run of a graph, and what of it can run now.
///
/// [`Scheduler::start`] gives the first work; [`Scheduler::handle`] takes each answer and gives more.
/// It is over when [`Scheduler::outcome`] says so, which is when nothing is under way any more.
#[derive(Debug)]
pub struct Scheduler<'graph> {
    graph: &'graph Graph,
    targets: Vec<VertexId>,
    options: Options,
    /// The vertices that the targets need, by their place in the graph: each after its inputs.
    nodes: BTreeMap<VertexId, Node>,
    checksums: Vec<Checksum>,
    checksum_of: HashMap<(Input, Selector), ChecksumId>,
    /// Vertices whose situation changed and that were not looked at since.
    touched: VecDeque<VertexId>,
    ready: BTreeSet<VertexId>,
    running: usize,
    /// Who is about to produce what, so that equal steps wait for each other.
    producers: HashMap<Key, VertexId>,
    unanswered: usize,
    halted: bool,
    cancelled: bool,
    work: Vec<Work>,
}

#[derive(Debug)]
struct Node {
    dependencies: Vec<Dependency>,
    consumers: Vec<VertexId>,
    /// Whether what it makes may differ from what its definition key is on record for: it, or
    /// something that it depends on, ignores the cache.
    tainted: bool,
    wanted: bool,
    resolution: Resolution,
    definition: Option<Step>,
    content: Option<Step>,
    followers: Vec<VertexId>,
    state: State,
}

/// What is known of the op of a vertex.
#[derive(Debug, Clone, PartialEq)]
enum Resolution {
    /// It says all itself.
    Plain,
    /// It has to be asked for; whoever is asked has not answered yet.
    Pending,
    /// The op with its pin.
    Pinned(Box<Op>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody asked for it, or its definition is not known yet.
    Idle,
    LookingUpDefinition,
    /// Not found by definition: waits for its inputs and their checksums.
    Descended,
    LookingUpContent,
    /// Waits for its turn.
    Queued,
    /// Another vertex that comes to the same is queued or runs.
    Following,
    Running,
    Done(ResultId),
    Failed,
    Cancelled,
}

#[derive(Debug)]
struct Checksum {
    waiting: Vec<VertexId>,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Pending,
    Known(Key),
    Failed,
}

impl<'graph> Scheduler<'graph> {
    /// A scheduler for the part of `graph` that `targets` need.
    ///
    /// # Panics
    /// If a target is of another graph.
    pub fn new(graph: &'graph Graph, targets: Vec<VertexId>, options: Options) -> Self {
        let nodes = needed(graph, &targets);
        Self {
            graph,
            targets,
            options,
            nodes,
            checksums: Vec::new(),
            checksum_of: HashMap::new(),
            touched: VecDeque::new(),
            ready: BTreeSet::new(),
            running: 0,
            producers: HashMap::new(),
            unanswered: 0,
            halted: false,
            cancelled: false,
            work: Vec::new(),
        }
    }

    /// The first work. To be called once.
    pub fn start(&mut self) -> Vec<Work> {
        let all: Vec<VertexId> = self.nodes.keys().copied().collect();
        for vertex in &all {
            if is_local(self.graph, *vertex) {
                self.ready.insert(*vertex);
            }
            if self.nodes[vertex].resolution == Resolution::Pending {
                self.ask(Work::Resolve { vertex: *vertex });
            }
        }
        self.touched.extend(all);
        for target in self.targets.clone() {
            self.node(target).wanted = true;
        }
        self.settle()
    }

    /// Takes an answer and gives the work that it made possible.
    ///
    /// # Panics
    /// If the event answers nothing that was asked.
    pub fn handle(&mut self, event: Event) -> Vec<Work> {
        if event != Event::Cancelled {
            self.unanswered = self
                .unanswered
                .checked_sub(1)
                .expect("every event answers one work");
        }
        match event {
            Event::Resolved { vertex, source } => self.resolved(vertex, *source),
            Event::ResolveFailed { vertex } => {
                self.node(vertex).resolution = Resolution::Plain;
                self.fail(vertex);
            }
            Event::LookedUp { vertex, found } => self.looked_up(vertex, found),
            Event::Checksummed { id, checksum } => {
                self.checksums[id.0].answer = Answer::Known(checksum);
                let waiting = std::mem::take(&mut self.checksums[id.0].waiting);
                self.touched.extend(waiting);
            }
            Event::ChecksumFailed { id } => {
                self.checksums[id.0].answer = Answer::Failed;
                for vertex in std::mem::take(&mut self.checksums[id.0].waiting) {
                    self.fail(vertex);
                }
            }
            Event::Executed { vertex, result } => self.executed(vertex, result),
            Event::Failed { vertex } => {
                self.ended(vertex);
                self.fail(vertex);
            }
            Event::Stopped { vertex } => {
                if self.nodes[&vertex].resolution != Resolution::Pending {
                    self.ended(vertex);
                }
                self.give_up(vertex);
            }
            Event::Cancelled => {
                self.cancelled = true;
                self.halt();
            }
        }
        self.settle()
    }

    /// How it ended; `None` while something is under way.
    pub fn outcome(&self) -> Option<Outcome> {
        let results: Option<Vec<ResultId>> = self
            .targets
            .iter()
            .map(|target| self.result(*target))
            .collect();
        if let Some(results) = results {
            return Some(Outcome::Solved(results));
        }
        if self.unanswered > 0 {
            return None;
        }
        let failed: Vec<VertexId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.state == State::Failed)
            .map(|(vertex, _)| *vertex)
            .collect();
        Some(if failed.is_empty() && self.cancelled {
            Outcome::Cancelled
        } else {
            Outcome::Failed(failed)
        })
    }

    /// The result of a vertex, once it has one.
    pub fn result(&self, vertex: VertexId) -> Option<ResultId> {
        match self.nodes.get(&vertex)?.state {
            State::Done(result) => Some(result),
            _ => None,
        }
    }

    /// The step by which a vertex is looked up first, once everything that it needs is known.
    pub fn definition(&self, vertex: VertexId) -> Option<&Step> {
        self.nodes.get(&vertex)?.definition.as_ref()
    }

    /// The step that knows all inputs of a vertex by content, once they are there.
    pub fn content(&self, vertex: VertexId) -> Option<&Step> {
        self.nodes.get(&vertex)?.content.as_ref()
    }

    fn node(&mut self, vertex: VertexId) -> &mut Node {
        self.nodes
            .get_mut(&vertex)
            .expect("only vertices that the targets need are looked at")
    }

    /// What a vertex does, as far as that is known.
    fn op(&self, vertex: VertexId) -> &Op {
        match &self.nodes[&vertex].resolution {
            Resolution::Pinned(op) => op,
            Resolution::Plain | Resolution::Pending => &self.graph.vertex(vertex).op,
        }
    }

    fn state(&self, vertex: VertexId) -> State {
        self.nodes[&vertex].state
    }

    fn ask(&mut self, work: Work) {
        self.unanswered += 1;
        self.work.push(work);
    }

    /// Looks at every touched vertex, then fills the free places.
    fn settle(&mut self) -> Vec<Work> {
        while let Some(vertex) = self.touched.pop_front() {
            if !self.halted {
                self.define(vertex);
                self.advance(vertex);
            }
        }
        while !self.halted
            && self
                .options
                .parallelism
                .is_none_or(|limit| self.running < limit.max(1))
        {
            let Some(vertex) = self.ready.pop_first() else {
                break;
            };
            self.execute(vertex);
        }
        std::mem::take(&mut self.work)
    }

    /// Gives a vertex its definition, if all that it needs is known.
    fn define(&mut self, vertex: VertexId) {
        if self.nodes[&vertex].definition.is_some()
            || is_local(self.graph, vertex)
            || self.nodes[&vertex].resolution == Resolution::Pending
            || self.is_over(vertex)
        {
            return;
        }
        let graph = self.graph;
        let inputs: Vec<Option<InputKey>> = (0..graph.vertex(vertex).inputs.len())
            .map(|position| self.definition_of(vertex, position))
            .collect();
        if let Some(inputs) = inputs.into_iter().collect() {
            let definition = Step::new(self.op(vertex), inputs);
            let node = self.node(vertex);
            node.definition = Some(definition);
            let consumers = node.consumers.clone();
            self.touched.extend(consumers);
        }
    }

    /// Moves a vertex on as far as it goes without an answer.
    fn advance(&mut self, vertex: VertexId) {
        let node = &self.nodes[&vertex];
        if node.state == State::Idle && node.wanted {
            let Some(definition) = &node.definition else {
                return;
            };
            if node.tainted {
                self.descend(vertex);
            } else {
                let key = definition.key();
                self.node(vertex).state = State::LookingUpDefinition;
                self.ask(Work::Lookup { vertex, key });
            }
        }
        if self.state(vertex) == State::Descended {
            self.advance_descended(vertex);
        }
    }

    fn descend(&mut self, vertex: VertexId) {
        self.node(vertex).state = State::Descended;
        let graph = self.graph;
        for input in &graph.vertex(vertex).inputs {
            self.node(input.vertex).wanted = true;
            self.touched.push_back(input.vertex);
        }
    }

    /// Looks a vertex up by content, or queues it, once all its inputs are there.
    fn advance_descended(&mut self, vertex: VertexId) {
        let graph = self.graph;
        let inputs = &graph.vertex(vertex).inputs;
        if inputs
            .iter()
            .any(|input| matches!(self.state(input.vertex), State::Failed | State::Cancelled))
        {
            return self.give_up(vertex);
        }
        if inputs
            .iter()
            .any(|input| self.result(input.vertex).is_none())
        {
            return;
        }
        let keys: Vec<Option<InputKey>> = (0..inputs.len())
            .map(
                |position| match self.nodes[&vertex].dependencies[position] {
                    Dependency::Content(_) => self.content_of(vertex, position),
                    Dependency::Definition => self.definition_of(vertex, position),
                },
            )
            .collect();
        let Some(keys) = keys.into_iter().collect() else {
            return;
        };
        let step = Step::new(self.op(vertex), keys);
        let key = step.key();
        let node = self.node(vertex);
        node.content = Some(step);
        let looked_up = node
            .definition
            .as_ref()
            .is_some_and(|definition| definition.key() == key);
        if looked_up || graph.vertex(vertex).metadata.ignore_cache {
            self.queue(vertex);
        } else {
            self.node(vertex).state = State::LookingUpContent;
            self.ask(Work::Lookup { vertex, key });
        }
    }

    /// The definition of an input; its content where it is a local source, which has no definition.
    fn definition_of(&mut self, vertex: VertexId, position: usize) -> Option<InputKey> {
        let Input {
            vertex: input,
            output,
        } = self.graph.vertex(vertex).inputs[position];
        if is_local(self.graph, input) {
            return self.content_of(vertex, position);
        }
        let key = self.nodes[&input].definition.as_ref()?.key();
        Some(InputKey::Definition { key, output })
    }

    /// The content of an input as far as it counts, if it is known; asks for it if it can be.
    fn content_of(&mut self, vertex: VertexId, position: usize) -> Option<InputKey> {
        let input = self.graph.vertex(vertex).inputs[position];
        let selectors = match &self.nodes[&vertex].dependencies[position] {
            Dependency::Content(selectors) => selectors.clone(),
            Dependency::Definition => vec![Selector::Tree],
        };
        let result = self.result(input.vertex)?;
        let parts: Vec<Option<(Selector, Key)>> = selectors
            .into_iter()
            .map(|selector| {
                let of = OutputOf {
                    result,
                    output: input.output,
                };
                self.checksum(vertex, input, of, &selector)
                    .map(|key| (selector, key))
            })
            .collect();
        Some(InputKey::Content(parts.into_iter().collect::<Option<_>>()?))
    }

    fn checksum(
        &mut self,
        vertex: VertexId,
        input: Input,
        of: OutputOf,
        selector: &Selector,
    ) -> Option<Key> {
        let Some(&id) = self.checksum_of.get(&(input, selector.clone())) else {
            let id = ChecksumId(self.checksums.len());
            self.checksums.push(Checksum {
                waiting: vec![vertex],
                answer: Answer::Pending,
            });
            self.checksum_of.insert((input, selector.clone()), id);
            self.ask(Work::Checksum {
                id,
                vertex,
                of,
                selector: selector.clone(),
            });
            return None;
        };
        let checksum = &mut self.checksums[id.0];
        match checksum.answer {
            Answer::Known(key) => return Some(key),
            Answer::Pending if checksum.waiting.contains(&vertex) => {}
            Answer::Pending => checksum.waiting.push(vertex),
            Answer::Failed => self.fail(vertex),
        }
        None
    }

    fn resolved(&mut self, vertex: VertexId, source: Source) {
        let op = Box::new(Op::Source(source));
        self.node(vertex).resolution = Resolution::Pinned(op);
        self.touched.push_back(vertex);
    }

    fn looked_up(&mut self, vertex: VertexId, found: Option<ResultId>) {
        match (self.state(vertex), found) {
            (State::LookingUpDefinition, Some(result)) => self.done(vertex, result),
            (State::LookingUpDefinition, None) => {
                self.descend(vertex);
                self.touched.push_back(vertex);
            }
            (State::LookingUpContent, Some(result)) => self.found_elsewhere(vertex, result),
            (State::LookingUpContent, None) => self.queue(vertex),
            // It was given up while the question was under way.
            (State::Cancelled, _) => {}
            (state, _) => panic!("no look-up is under way for a vertex that is {state:?}"),
        }
    }

    /// A result that is on record under the content of a vertex, or will be, but not under its definition.
    fn found_elsewhere(&mut self, vertex: VertexId, result: ResultId) {
        if let Some(definition) = self.nodes[&vertex].definition.clone() {
            self.work.push(Work::Record {
                vertex,
                result,
                step: Box::new(definition),
            });
        }
        self.done(vertex, result);
    }

    fn queue(&mut self, vertex: VertexId) {
        if self.halted {
            return self.give_up(vertex);
        }
        let key = self.nodes[&vertex]
            .content
            .as_ref()
            .expect("a vertex is queued once it has a content key")
            .key();
        match self.producers.get(&key) {
            Some(&producer) => {
                self.node(vertex).state = State::Following;
                self.node(producer).followers.push(vertex);
            }
            None => {
                self.producers.insert(key, vertex);
                self.node(vertex).state = State::Queued;
                self.ready.insert(vertex);
            }
        }
    }

    fn execute(&mut self, vertex: VertexId) {
        let inputs = self
            .graph
            .vertex(vertex)
            .inputs
            .iter()
            .map(|input| OutputOf {
                result: self
                    .result(input.vertex)
                    .expect("a vertex is queued once its inputs have results"),
                output: input.output,
            });
        let inputs = inputs.collect();
        let node = self.node(vertex);
        node.state = State::Running;
        let mut records: Vec<Step> = node
            .definition
            .iter()
            .chain(&node.content)
            .cloned()
            .collect();
        records.dedup_by_key(|step| step.key());
        self.running += 1;
        self.ask(Work::Execute {
            vertex,
            inputs,
            records,
        });
    }

    fn executed(&mut self, vertex: VertexId, result: ResultId) {
        self.ended(vertex);
        self.done(vertex, result);
        for follower in std::mem::take(&mut self.node(vertex).followers) {
            if self.state(follower) == State::Following {
                self.found_elsewhere(follower, result);
            }
        }
    }

    /// A vertex does not run any more, whatever came of it.
    fn ended(&mut self, vertex: VertexId) {
        self.running -= 1;
        if let Some(content) = &self.nodes[&vertex].content {
            let key = content.key();
            self.producers.remove(&key);
        }
    }

    fn done(&mut self, vertex: VertexId, result: ResultId) {
        let node = self.node(vertex);
        node.state = State::Done(result);
        let consumers = node.consumers.clone();
        self.touched.extend(consumers);
    }

    fn fail(&mut self, vertex: VertexId) {
        if self.is_over(vertex) {
            return;
        }
        self.node(vertex).state = State::Failed;
        self.after_loss(vertex);
        if self.options.on_failure == OnFailure::Stop {
            self.halt();
        }
    }

    fn give_up(&mut self, vertex: VertexId) {
        if !self.is_over(vertex) {
            self.node(vertex).state = State::Cancelled;
            self.after_loss(vertex);
        }
    }

    /// Cancels what depends on a vertex that has no result; what only waited to share its run, runs itself.
    fn after_loss(&mut self, vertex: VertexId) {
        for follower in std::mem::take(&mut self.node(vertex).followers) {
            if self.state(follower) == State::Following {
                self.queue(follower);
            }
        }
        let mut lost = vec![vertex];
        while let Some(vertex) = lost.pop() {
            let undefined = self.nodes[&vertex].definition.is_none();
            for consumer in self.nodes[&vertex].consumers.clone() {
                // One that is not even looked up yet may still turn out not to need its inputs.
                if !self.is_over(consumer)
                    && (undefined || self.state(consumer) == State::Descended)
                {
                    self.node(consumer).state = State::Cancelled;
                    lost.push(consumer);
                }
            }
        }
    }

    fn is_over(&self, vertex: VertexId) -> bool {
        matches!(
            self.state(vertex),
            State::Done(_) | State::Failed | State::Cancelled
        )
    }

    /// Starts nothing more and asks what runs to stop.
    fn halt(&mut self) {
        if self.halted {
            return;
        }
        self.halted = true;
        self.ready.clear();
        let mut stopping = Vec::new();
        for (vertex, node) in &mut self.nodes {
            if node.resolution == Resolution::Pending && node.state == State::Idle {
                stopping.push(Work::Cancel { vertex: *vertex });
            }
            match node.state {
                State::Running => stopping.push(Work::Cancel { vertex: *vertex }),
                State::Done(_) | State::Failed => {}
                _ => node.state = State::Cancelled,
            }
        }
        self.work.extend(stopping);
    }
}

/// The vertices that `targets` need.
fn needed(graph: &Graph, targets: &[VertexId]) -> BTreeMap<VertexId, Node> {
    let mut reached = BTreeSet::new();
    let mut open = targets.to_vec();
    while let Some(vertex) = open.pop() {
        if reached.insert(vertex) {
            open.extend(graph.vertex(vertex).inputs.iter().map(|input| input.vertex));
        }
    }
    let mut nodes: BTreeMap<VertexId, Node> = BTreeMap::new();
    for &id in &reached {
        let vertex = graph.vertex(id);
        let tainted = vertex.metadata.ignore_cache
            || vertex
                .inputs
                .iter()
                .any(|input| nodes[&input.vertex].tainted);
        let mut consumers: Vec<VertexId> = graph
            .consumers(id)
            .filter(|consumer| reached.contains(consumer))
            .collect();
        consumers.sort_unstable();
        consumers.dedup();
        nodes.insert(
            id,
            Node {
                dependencies: (0..vertex.inputs.len())
                    .map(|position| dependency(&vertex.op, position))
                    .collect(),
                consumers,
                tainted: tainted && !is_local(graph, id),
                wanted: false,
                resolution: match &vertex.op {
                    Op::Source(source) if source.is_remote() => Resolution::Pending,
                    _ => Resolution::Plain,
                },
                definition: None,
                content: None,
                followers: Vec::new(),
                state: State::Idle,
            },
        );
    }
    nodes
}

/// Whether a vertex is known by nothing but its content.
fn is_local(graph: &Graph, vertex: VertexId) -> bool {
    matches!(graph.vertex(vertex).op, Op::Source(Source::Local(_)))
}
