//! Builds by the engine, on real stores.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its room up has nothing to say"
)]

mod damage;
mod definition;
mod explain;
mod forecast;
mod keys;
mod room;
mod steps;
