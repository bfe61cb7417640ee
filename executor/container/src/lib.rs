//! Containers: a process on an image, in the foreground.
//!
//! Vocabulary: a *container* is an image with a layer of its own on top, a name and an id; a
//! [`Request`] says what to run in it; a [`Record`] is what the store remembers of it. Where a
//! terminal is asked for, the container gets one of its own, and the person's terminal is only
//! passed through.

mod attach;
mod environment;
mod name;
mod record;
mod run;
mod terminal;

pub use record::{Ended, Record, RecordError, State, list, remove};
pub use run::{Network, Request, RunError, Volume, run};
