//! Decides what of a graph must run, and in which order; runs nothing itself.
//!
//! Vocabulary: a [`Step`] is what a vertex amounts to for the cache, an op on inputs that are each
//! known either by *definition* (the key of the step that makes them) or by *content* (checksums of
//! the parts that count, each named by a [`Selector`]). The key of a step whose inputs are known as
//! far as they can be without running anything is the vertex's definition key; the key of one whose
//! inputs are all known by content is its content key. A [`ResultId`] stands for the outputs of one
//! vertex, wherever the engine keeps them.
//!
//! The [`Scheduler`] takes one [`Event`] and returns the [`Work`] it made possible. It does no I/O,
//! starts no thread, reads no clock and no environment.

pub mod explain;
mod key;
pub mod progress;
mod scheduler;
mod selector;

pub use key::{InputKey, Step};
pub use scheduler::{
    ChecksumId, Event, OnFailure, Options, Outcome, OutputOf, ResultId, Scheduler, Work,
};
pub use selector::{Attributes, CopySelector, Dependency, Selector, dependency};
