//! Errors into words: the chain on one line, then a hint.

use std::fmt::Write as _;
use std::io;

use store::{OpenError, StoreError};

use crate::exit::Exit;
use crate::output::OutputError;
use crate::progress::{clean, without_numbers};

/// Why a command ended badly.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What comes before the error itself: source excerpts, last lines of a step. Ends with a newline.
    preamble: String,
    /// How the line begins: `ERROR: failed to build: ` as docker has it, or `error: `.
    prefix: &'static str,
    error: anyhow::Error,
    hint: Option<String>,
    exit: Exit,
    silent: bool,
}

impl Fault {
    /// What the person asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            ..Self::from(anyhow::Error::msg(message.into()))
        }
    }

    /// Nothing is left to say.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            silent: true,
            ..Self::from(anyhow::Error::msg(""))
        }
    }

    /// The same with what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same with another exit status.
    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same behind another prefix.
    pub(crate) fn prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    /// The same below other text.
    pub(crate) fn below(self, preamble: String) -> Self {
        Self { preamble, ..self }
    }

    /// Everything that goes to standard error.
    pub(crate) fn words(&self) -> String {
        if self.silent {
            return String::new();
        }
        let mut text = self.preamble.clone();
        text.push_str(self.prefix);
        text.push_str(&chain(&self.error));
        text.push('\n');
        if let Some(hint) = self.hint.clone().or_else(|| usual_hint(&self.error)) {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// Why, on one line and without a prefix; with what helps, where that is known.
    pub(crate) fn reason(&self) -> String {
        let reason = chain(&self.error);
        match &self.hint {
            Some(hint) => format!("{reason} ({hint})"),
            None => reason,
        }
    }

    /// Whether the store's database contradicts itself.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.error.chain().any(|error| {
            let own = error.downcast_ref::<StoreError>();
            let opening = error.downcast_ref::<OpenError>();
            matches!(own, Some(StoreError::Corrupt { .. }))
                || matches!(opening, Some(OpenError::Store(StoreError::Corrupt { .. })))
        })
    }

    /// How the program ends with it.
    pub(crate) fn status(&self) -> Exit {
        self.exit
    }
}

impl<E: Into<anyhow::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        let error = error.into();
        let broken_pipe = error
            .downcast_ref()
            .is_some_and(OutputError::is_broken_pipe);
        Self {
            preamble: String::new(),
            prefix: "error: ",
            error,
            hint: None,
            exit: if broken_pipe {
                Exit::BrokenPipe
            } else {
                Exit::Failure
            },
            silent: broken_pipe,
        }
    }
}

/// The error and its causes. An error that repeats its cause's words does not get them twice.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for part in error.chain().map(|part| without_numbers(&part.to_string())) {
        if text.to_lowercase().ends_with(&part.to_lowercase()) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    // Newlines are part of some messages; the rest of what acts on a terminal is nobody's business.
    text.lines()
        .map(|line| clean(line.as_bytes()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What helps against what the environment refuses.
fn usual_hint(error: &anyhow::Error) -> Option<String> {
    if error.downcast_ref::<OutputError>().is_some() {
        return None;
    }
    error.chain().find_map(hint_at).map(str::to_owned)
}

fn hint_at(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return match error {
            StoreError::Full { .. } => Some(FULL),
            StoreError::ReadOnly { .. } => {
                Some("set RBUILD_ROOT to a directory that can be written")
            }
            StoreError::Corrupt { .. } => {
                Some("`rbuild store verify --repair` saves what can be read of it")
            }
            _ => None,
        };
    }
    if let Some(OpenError::Store(error)) = error.downcast_ref() {
        return hint_at(error);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(FULL),
        _ => None,
    }
}

const FULL: &str =
    "free some space, `rbuild image prune -a` removes images, or set RBUILD_ROOT to a larger disk";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `{0}`")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn the_chain_is_one_line_and_the_hint_another() {
        let error = Outer("x", io::ErrorKind::StorageFull.into());
        assert_eq!(
            Fault::from(error).words(),
            format!("error: cannot read `x`: no storage space\nhint: {FULL}\n")
        );
        let error = Outer("x", io::ErrorKind::NotFound.into());
        let fault = Fault::from(error).hint("look elsewhere").prefix("ERROR: ");
        assert_eq!(
            fault.words(),
            "ERROR: cannot read `x`: entity not found\nhint: look elsewhere\n"
        );
        assert_eq!(fault.status().code(), 1);
    }

    #[test]
    fn a_cause_that_was_named_already_is_not_repeated() {
        let error = anyhow::anyhow!("No such image: x").context("cannot run: No such image: x");
        assert_eq!(chain(&error), "cannot run: No such image: x");
        let error = anyhow::Error::from(io::Error::from_raw_os_error(13))
            .context("exec: permission denied");
        assert_eq!(chain(&error), "exec: permission denied");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_to_talk_about() {
        let fault = Fault::from(OutputError(io::ErrorKind::BrokenPipe.into()));
        assert_eq!((fault.words().as_str(), fault.status().code()), ("", 141));
        let fault = Fault::from(OutputError(io::ErrorKind::StorageFull.into()));
        assert_eq!(fault.status().code(), 1);
        assert_eq!(
            fault.words(),
            "error: cannot write to standard output: no storage space\n"
        );
    }

    #[test]
    fn errors_cannot_act_on_the_terminal() {
        let fault = Fault::from(anyhow::anyhow!("no file `\u{1b}[2Jx`"));
        assert_eq!(fault.words(), "error: no file `x`\n");
    }
}
