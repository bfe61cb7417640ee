//! Reads Dockerfiles: text to tree, never failing.
//!
//! [`parse`] gives a [`Dockerfile`] and the [`Problem`]s found on the way, each with its [`Span`].
//! [`words`] expands variables and strips quotes, [`ignore`] matches `.dockerignore` patterns.
//! Any bytes are accepted; nothing here panics, does I/O or knows a value of a variable.

mod ast;

pub use ast::*;
