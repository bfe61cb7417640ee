//! `run`: a command in a new container, in the foreground.

mod environment;
mod volume;
