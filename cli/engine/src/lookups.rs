//! What the cache knows of a build's vertices, and how old that is.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use llb::op::Source;
use llb::{Key, Op, VertexId};
use store::{Cached, SnapshotId, StoreError};

use crate::Job;

/// The look-ups of one build, each vertex's by definition first and by content only once all its
/// inputs are there.
pub(crate) struct Lookups<'env> {
    job: &'env Job<'env>,
    /// The vertices that were looked up at least once.
    asked: HashSet<VertexId>,
    /// The vertices whose known results are too old.
    expired: HashSet<VertexId>,
    /// When the oldest limited step ran that a vertex's result is made from.
    made: HashMap<VertexId, Timestamp>,
}

impl<'env> Lookups<'env> {
    pub(crate) fn new(job: &'env Job<'env>) -> Self {
        Self {
            job,
            asked: HashSet::new(),
            expired: HashSet::new(),
            made: HashMap::new(),
        }
    }

    /// The outputs that are known of a vertex under a key.
    pub(crate) fn find(
        &mut self,
        vertex: VertexId,
        key: &Key,
    ) -> Result<Option<Vec<Option<SnapshotId>>>, StoreError> {
        let store = &self.job.engine.store;
        if let Op::Source(Source::Image(image)) = &self.job.plan.graph.vertex(vertex).op {
            // Whether an image is there, the image knows best. The record says when it was of use.
            return Ok(match store.result(key)? {
                Some(cached) => Some(cached.outputs),
                None => match oci::config::chain_ids(&image.diff_ids).last() {
                    None => Some(vec![None]),
                    Some(chain_id) => store
                        .snapshot_by_chain_id(chain_id)?
                        .map(|row| vec![Some(row.id)]),
                },
            });
        }
        Ok(match store.result(key)? {
            None => {
                self.asked.insert(vertex);
                None
            }
            Some(cached) if self.take(vertex, &cached) => Some(cached.outputs),
            Some(_) => None,
        })
    }

    /// Whether a result of the store may be used.
    fn take(&mut self, vertex: VertexId, cached: &Cached) -> bool {
        let by_definition = self.asked.insert(vertex);
        self.take_other(vertex, cached, by_definition)
    }

    /// Whether a result may be used, which depends on when it was made; it was found by definition
    /// or else by content.
    pub(crate) fn take_other(
        &mut self,
        vertex: VertexId,
        cached: &Cached,
        by_definition: bool,
    ) -> bool {
        let lifetimes = &self.job.lifetimes;
        let (good, made) = if by_definition {
            (
                lifetimes.is_good(vertex, cached),
                lifetimes.made(vertex, cached),
            )
        } else {
            let own = lifetimes.own(vertex).map(|_| cached.started);
            let below = self.made_below(vertex);
            (
                lifetimes.is_good_itself(vertex, cached),
                below.into_iter().chain(own).min(),
            )
        };
        if good {
            self.made(vertex, made);
        } else if lifetimes.own(vertex).is_some() {
            self.expired.insert(vertex);
        }
        good
    }

    /// Notes when the oldest limited step ran that a vertex's result is made from.
    pub(crate) fn made(&mut self, vertex: VertexId, made: Option<Timestamp>) {
        self.made.extend(made.map(|made| (vertex, made)));
    }

    /// When that was, as far as it is known.
    pub(crate) fn made_of(&self, vertex: VertexId) -> Option<Timestamp> {
        self.made.get(&vertex).copied()
    }

    /// When the oldest limited step that a vertex's inputs were made from ran.
    pub(crate) fn made_below(&self, vertex: VertexId) -> Option<Timestamp> {
        let inputs = &self.job.plan.graph.vertex(vertex).inputs;
        inputs
            .iter()
            .filter_map(|input| self.made_of(input.vertex))
            .min()
    }

    /// Whether a result of the vertex was found that is too old.
    pub(crate) fn is_expired(&self, vertex: VertexId) -> bool {
        self.expired.contains(&vertex)
    }
}
