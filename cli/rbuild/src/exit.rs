//! How the program ends, as numbers.

use std::process::ExitCode;

/// What the exit status says. `run` passes the container's own status on where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// What was asked for failed.
    Failure,
    /// What was asked for makes no sense, or the engine could not even try: docker's 125.
    Usage,
    /// The container's command cannot be executed.
    NotExecutable,
    /// The container's command is not there.
    NotFound,
    /// Ended by a signal's wish.
    Signal(i32),
    /// Nobody reads what is written: as if `SIGPIPE` had come, which the runtime ignores.
    BrokenPipe,
    /// The status of a container's process.
    Status(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Signal(number) => {
                u8::try_from(number).map_or(1, |number| number.saturating_add(128))
            }
            Self::BrokenPipe => 141,
            Self::Status(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
