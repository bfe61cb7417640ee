//! How long results are good: `RUN --cache-ttl`.
//!
//! A hit ends the walk down the graph, so the record of a step says when the oldest of the limited
//! steps below it ran. What is older than the least limit below is looked at from nearer by.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use llb::{Graph, Op, VertexId};
use store::Cached;

/// The limits of a graph's vertices. Empty where no step has one.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    /// The least limit of a vertex and all that it is made from.
    least: HashMap<VertexId, Duration>,
    own: HashMap<VertexId, Duration>,
}

impl Lifetimes {
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut lifetimes = Self::default();
        for (id, vertex) in graph.vertices() {
            let own = match &vertex.op {
                Op::Exec(exec) => exec.terms.time_to_live,
                _ => None,
            };
            lifetimes.own.extend(own.map(|own| (id, own)));
            let below = vertex
                .inputs
                .iter()
                .filter_map(|input| lifetimes.least.get(&input.vertex).copied());
            let least = below.chain(own).min();
            lifetimes.least.extend(least.map(|least| (id, least)));
        }
        lifetimes
    }

    /// The limit of the vertex itself.
    pub(crate) fn own(&self, vertex: VertexId) -> Option<Duration> {
        self.own.get(&vertex).copied()
    }

    /// When the oldest limited step that a found result was made from ran; itself, if it is limited.
    pub(crate) fn made(&self, vertex: VertexId, cached: &Cached) -> Option<Timestamp> {
        let own = self.own(vertex).map(|_| cached.started);
        cached.made.or(own)
    }

    /// Whether a result found under a vertex's definition is good: nothing below it is too old.
    pub(crate) fn is_good(&self, vertex: VertexId, cached: &Cached) -> bool {
        within(self.least.get(&vertex).copied(), self.made(vertex, cached))
    }

    /// Whether a result found under a vertex's content is good: what it is made from is known to be.
    pub(crate) fn is_good_itself(&self, vertex: VertexId, cached: &Cached) -> bool {
        within(self.own(vertex), Some(cached.started))
    }
}

fn within(limit: Option<Duration>, made: Option<Timestamp>) -> bool {
    let Some(limit) = limit else { return true };
    made.is_some_and(|made| {
        let age: Result<Duration, _> = Timestamp::now().duration_since(made).try_into();
        // A clock that went back makes nothing young.
        age.is_ok_and(|age| age < limit)
    })
}
