//! From a [`Spec`] to a [`Running`] process.

use std::io;
use std::path::PathBuf;

use crate::{Running, Spec};

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such command; shells and docker answer 127.
    #[error("exec: `{program}`: {}", if program.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" })]
    NotFound {
        /// The command.
        program: String,
    },
    /// The command is there and cannot be run; shells and docker answer 126.
    #[error("exec: `{program}`: {}", errno_text(source))]
    NotExecutable {
        /// The command.
        program: String,
        /// `EACCES`, `ENOEXEC`, `EISDIR` and their like.
        source: io::Error,
    },
    /// The directory to start in cannot be entered.
    #[error("cannot start in `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A mount target cannot be: reserved, a link that should be none, of the wrong kind.
    #[error("cannot mount at `{path}`: {reason}")]
    Target {
        /// The target as it was asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The spec holds something that cannot be passed on: an empty command, a zero byte.
    #[error("{0}")]
    Invalid(String),
    /// Something on the owner's side, before there was a process.
    #[error("cannot prepare the sandbox: {what}")]
    Prepare {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A step between clone and exec, as `strace` would print it.
    #[error("cannot set up the sandbox: {step}")]
    Step {
        /// The call: `mount(proc, /proc)`.
        step: String,
        /// Its answer.
        source: io::Error,
    },
}

fn errno_text(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => "permission denied",
        Some(libc::ENOEXEC) => "exec format error",
        Some(libc::EISDIR) => "is a directory",
        _ => "cannot be executed",
    }
}

/// Starts the process of a spec.
///
/// Returns when the process runs its own program, or with the reason why it never will. May be
/// called from any thread, which may end before the process does.
pub fn spawn(spec: Spec) -> Result<Running, SpawnError> {
    let _ = spec;
    Err(SpawnError::Invalid(
        "the sandbox is still being built".to_owned(),
    ))
}
