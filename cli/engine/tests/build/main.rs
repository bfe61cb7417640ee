//! Builds by the engine, on real stores.

mod definition;
mod room;
mod steps;
