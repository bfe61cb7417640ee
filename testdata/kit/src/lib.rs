//! Test support: what several crates' tests share, and what end-to-end tests stand on.
//!
//! Nothing here is part of the product, and nothing here depends on a crate of it: the kit sees rbuild as a user does,
//! as a command with files around it.

pub mod busybox;
pub mod certificates;
pub mod docker_registry;
pub mod emulation;
pub mod engines;
pub mod expect;
pub mod filter;
pub mod labs;
pub mod leftovers;
mod loopback;
pub mod manifest;
pub mod programs;
pub mod proxy;
pub mod rbuild;
pub mod repository;
pub mod s3;
pub mod sshd;
pub mod tinyproxy;
pub mod tls;
pub mod transcript;
pub mod uplink;
pub mod user;
pub mod volume;
pub mod web;
pub mod words;
