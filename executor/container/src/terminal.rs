//! The person's own terminal.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios};
use sandbox::Terminal;

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    rustix::termios::isatty(io::stdin())
}

/// How large it is; a usual size where there is none.
pub(crate) fn size() -> Terminal {
    let sizes = [
        io::stdout().as_fd(),
        io::stdin().as_fd(),
        io::stderr().as_fd(),
    ]
    .map(rustix::termios::tcgetwinsize);
    let known = sizes
        .into_iter()
        .flatten()
        .find(|it| it.ws_row > 0 && it.ws_col > 0);
    known.map_or(
        Terminal {
            rows: 24,
            columns: 80,
        },
        |it| Terminal {
            rows: it.ws_row,
            columns: it.ws_col,
        },
    )
}

/// Standard input while every key goes through as it is, and what it was before.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Makes the terminal pass everything on; `None` where standard input is none.
    pub(crate) fn enter() -> io::Result<Option<Raw>> {
        if !is_input() {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Raw(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to do about a terminal that is gone.
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
