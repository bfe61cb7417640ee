//! The scheduler against a model of the world, small enough that a recursive interpreter is obviously right.

mod model;
mod properties;
mod tables;
