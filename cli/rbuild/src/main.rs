//! The rbuild command line.

mod human;
mod progress;
mod table;
mod template;

fn main() {}
