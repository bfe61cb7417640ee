//! What surrounds one run of an op.

use std::path::PathBuf;

use solve::progress::Stream;
use store::Spent;

use crate::{AgentFrom, Cancel};

/// How much a process may write before the rest is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// How many bytes; `None` is any number.
    pub size: Option<u64>,
    /// How many bytes for each second that has begun; `None` is any number.
    pub speed: Option<u64>,
}

impl LogLimits {
    /// Everything is shown.
    pub const NONE: Self = Self {
        size: None,
        speed: None,
    };
}

impl Default for LogLimits {
    /// 2 MiB, as with BuildKit; and as fast as it comes.
    fn default() -> Self {
        Self {
            size: Some(2 << 20),
            speed: None,
        }
    }
}

/// What surrounds one run of an op.
pub struct Context<'a> {
    /// Whose build it is.
    pub session: &'a dyn Session,
    /// Takes what the process writes, piece by piece as it comes.
    pub log: &'a (dyn Fn(Stream, &[u8]) + Sync),
    /// How much of that is taken.
    pub log_limits: LogLimits,
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
