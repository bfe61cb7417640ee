//! `--call`: what a Dockerfile says about itself.

use std::sync::Arc;

use llb::Graph;
pub use lower::{Given, Lent, Outline, Target, Warning};

use crate::BuildError;

/// What is asked of a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// What is odd or wrong in it.
    Check,
    /// What the target takes from whoever builds it.
    Outline,
    /// What can be built from it.
    Targets,
    /// The graph that a build would solve.
    Graph,
}

/// The answer, and the file that it speaks of.
#[derive(Debug)]
pub struct Answered {
    /// What was asked for.
    pub answer: Answer,
    /// The file's name, as the person knows it.
    pub file: String,
    /// Its text.
    pub text: Arc<[u8]>,
}

/// What a Dockerfile says about itself.
#[derive(Debug)]
pub enum Answer {
    /// To [`Call::Check`].
    Check {
        /// What is odd, in the order of the file.
        warnings: Vec<Warning>,
        /// Why it cannot be built.
        error: Option<BuildError>,
    },
    /// To [`Call::Outline`].
    Outline(Outline),
    /// To [`Call::Targets`].
    Targets(Vec<Target>),
    /// To [`Call::Graph`].
    Graph(Graph),
}
