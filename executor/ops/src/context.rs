//! What surrounds one run of an op.

use std::path::PathBuf;

use solve::progress::Stream;
use store::Spent;

use crate::{AgentFrom, Cancel};

/// How many bytes a step may write before the rest is left out, where nobody says otherwise: 2 MiB, as with BuildKit.
pub const LOG_LIMIT: u64 = 2 << 20;

/// What surrounds one run of an op.
pub struct Context<'a> {
    /// Whose build it is.
    pub session: &'a dyn Session,
    /// Takes what the process writes, piece by piece as it comes.
    pub log: &'a (dyn Fn(Stream, &[u8]) + Sync),
    /// How many bytes of that each process may write before the rest is left out; `None` is any number.
    pub log_limit: Option<u64>,
    /// Takes what each process used up, when it is over.
    pub spent: &'a (dyn Fn(Spent) + Sync),
    /// Whether to give up.
    pub cancel: &'a Cancel,
}

/// What the person who builds lends to the build.
pub trait Session: Send + Sync {
    /// The directory that goes by `name` (`context`), if there is one.
    fn local(&self, name: &str) -> Option<PathBuf>;

    /// The value of the secret `id`, if there is one.
    fn secret(&self, id: &str) -> Option<Vec<u8>>;

    /// What the ssh agent `id` is, if there is one.
    fn ssh(&self, id: &str) -> Option<AgentFrom>;
}
