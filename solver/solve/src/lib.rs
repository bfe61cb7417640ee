//! Decides what of a graph must run, and in which order; runs nothing itself.

pub mod progress;
