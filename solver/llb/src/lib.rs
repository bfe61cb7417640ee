//! The graph that a build is: what to run, on what, and nothing about how or where.
//!
//! Vocabulary, after BuildKit's `ops.proto`: a [`Vertex`] is one [`Op`] with its [`Input`]s; an
//! input is one output of another vertex. A [`Graph`] holds vertices, each once: two vertices of
//! the same op on the same inputs are one. A [`Key`] is the identity of a vertex, and of
//! everything that the cache compares. What a vertex is *called* ([`Metadata`]) never enters its key.
//!
//! This crate is data: it does no I/O, reads no clock and no environment.

pub mod dot;
mod graph;
pub mod op;
mod told;

pub use graph::{Graph, Input, Metadata, SourceRange, Vertex, VertexId, without_credentials};
pub use oci::{Key, KeyHasher};
pub use op::Op;
pub use told::told;
