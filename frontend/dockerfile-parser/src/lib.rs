//! Reads Dockerfiles: text to tree, never failing.
//!
//! [`parse`] gives a [`Dockerfile`] and the [`Problem`]s found on the way, each with its [`Span`].
//! [`words`] expands variables and strips quotes, [`ignore`] matches `.dockerignore` patterns,
//! [`glob`] the sources of a `COPY`, [`excerpt`] shows a place in a file to a person.
//! Any bytes are accepted; nothing here panics, does I/O or knows a value of a variable.

mod ast;
mod problem;

mod directive;
mod flag;
mod heredoc;
mod instruction;
mod line;
mod parse;
mod shape;

mod excerpt;
mod quote;
mod suggest;

pub mod duration;
pub mod glob;
pub mod ignore;
pub mod words;

mod pattern;

pub use ast::*;
pub use excerpt::excerpt;
pub use parse::{Parse, Trigger, parse, parse_trigger};
pub use problem::{Problem, Severity};
pub use quote::quote;
pub use suggest::{Case, suggest};
