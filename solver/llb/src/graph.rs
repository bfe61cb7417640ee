//! The graph: vertices, each once, and what they take from each other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use petgraph::stable_graph::{NodeIndex, StableDiGraph};

use crate::op::{Source, Terms};
use crate::{Key, KeyHasher, Op};

/// Where a vertex is in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub(crate) NodeIndex);

impl VertexId {
    /// A number that is unique within the graph and small.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// One output of a vertex, as another takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Input {
    /// Whose output.
    pub vertex: VertexId,
    /// Which of its outputs.
    pub output: usize,
}

/// An op with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// What it takes, numbered as the op refers to them.
    pub inputs: Vec<Input>,
    /// What people are told of it.
    pub metadata: Metadata,
    digest: Key,
}

impl Vertex {
    /// The identity of the op on its inputs' identities.
    pub fn digest(&self) -> &Key {
        &self.digest
    }
}

/// What people are told of a vertex, and how the cache treats it. Never part of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `[build 2/5] RUN make`
    pub name: String,
    /// Where it was written.
    pub source: Option<SourceRange>,
    /// Whether it runs even if the cache knows its result (`--no-cache`). It still records what it made.
    pub ignore_cache: bool,
}

/// Lines of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceRange {
    /// First line, from one.
    pub first_line: usize,
    /// Last line, included.
    pub last_line: usize,
}

/// The vertices of a build. Acyclic, because a vertex is added after what it takes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: StableDiGraph<Vertex, usize>,
    by_digest: HashMap<Key, VertexId>,
    /// Where an op is written down to be hashed.
    scratch: Vec<u8>,
}

impl Graph {
    /// Adds a vertex, or finds the one that is equal. Equal vertices share the first one's name;
    /// one that ignores the cache makes both ignore it.
    ///
    /// # Panics
    /// If an input is of another graph.
    pub fn add(&mut self, op: Op, inputs: Vec<Input>, metadata: Metadata) -> VertexId {
        let digest = self.digest(&op, &inputs);
        if let Some(&known) = self.by_digest.get(&digest) {
            self.vertices[known.0].metadata.ignore_cache |= metadata.ignore_cache;
            return known;
        }
        let id = VertexId(self.vertices.add_node(Vertex {
            op,
            inputs,
            metadata,
            digest,
        }));
        for position in 0..self.vertices[id.0].inputs.len() {
            let source = self.vertices[id.0].inputs[position].vertex;
            self.vertices.add_edge(source.0, id.0, position);
        }
        self.by_digest.insert(digest, id);
        id
    }

    /// The vertex at `id`.
    ///
    /// # Panics
    /// If `id` is of another graph.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// All vertices, each after what it takes.
    pub fn vertices(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices
            .node_indices()
            .map(|index| (VertexId(index), &self.vertices[index]))
    }

    /// The vertices that take something from `id`.
    pub fn consumers(&self, id: VertexId) -> impl Iterator<Item = VertexId> {
        self.vertices.neighbors(id.0).map(VertexId)
    }

    /// How many vertices there are.
    pub fn len(&self) -> usize {
        self.vertices.node_count()
    }

    /// Whether there is no vertex.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn digest(&mut self, op: &Op, inputs: &[Input]) -> Key {
        let mut hasher = KeyHasher::new("vertex");
        hasher.key(&op.digest_through(&mut self.scratch));
        hasher.number(inputs.len() as u64);
        for input in inputs {
            hasher
                .key(self.vertex(input.vertex).digest())
                .number(input.output as u64);
        }
        hasher.finish()
    }
}

impl Op {
    /// The identity of the op alone: that of [`Op::keyed`].
    pub fn digest(&self) -> Key {
        self.digest_through(&mut Vec::new())
    }

    /// [`Self::digest`], with a buffer that can be used again.
    fn digest_through(&self, buffer: &mut Vec<u8>) -> Key {
        buffer.clear();
        serde_json::to_writer(&mut *buffer, &self.keyed())
            .expect("an op holds nothing that JSON cannot");
        KeyHasher::new("op").bytes(buffer).finish()
    }

    /// The op without what the spec keeps out of its identity (D.2): the name an image was found by,
    /// the address and the reference that a pin stands for, addresses of extra hosts, proxies.
    pub fn keyed(&self) -> Cow<'_, Self> {
        if self.is_keyed() {
            return Cow::Borrowed(self);
        }
        let mut keyed = self.clone();
        match &mut keyed {
            Self::Source(Source::Image(image)) => image.reference.clear(),
            Self::Source(Source::Http(http)) if http.pin.is_some() => {
                http.url.clear();
                http.checksum = None;
            }
            Self::Source(Source::Git(git)) if git.pin.is_some() => {
                git.remote = without_credentials(&git.remote);
                git.reference.clear();
                git.checksum = None;
                git.fetch_by_commit = false;
            }
            Self::Exec(exec) => {
                exec.unkeyed_env.clear();
                exec.terms = Terms::default();
                exec.resources = Arc::default();
                exec.extra_hosts.values_mut().for_each(String::clear);
            }
            Self::Source(_) | Self::File(_) | Self::Merge | Self::Diff => {}
        }
        Cow::Owned(keyed)
    }

    /// Whether [`Self::keyed`] surely leaves out nothing.
    fn is_keyed(&self) -> bool {
        match self {
            Self::Source(Source::Local(_)) | Self::File(_) | Self::Merge | Self::Diff => true,
            Self::Source(_) => false,
            Self::Exec(exec) => {
                exec.unkeyed_env.is_empty()
                    && exec.terms == Terms::default()
                    && exec.resources.is_empty()
                    && exec.extra_hosts.values().all(String::is_empty)
            }
        }
    }
}

/// An address without the user and the password in it, for people and for records. Others' words,
/// `git@host:path` too, are left as they are: a user without a password is no secret there.
pub fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if scheme == "ssh" && !user.contains(':') => {
            format!("{scheme}://{user}@{host}{path}")
        }
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => address.to_owned(),
    }
}
