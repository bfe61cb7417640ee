//! `build`: what was typed into what is meant, the build itself, and what is said of it.

mod arguments;
mod output;
mod session;
