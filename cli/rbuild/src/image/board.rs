//! What happens to the layers of an image on their way, told as docker tells it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci::Digest;

use crate::human::transferred;
use crate::output::{OutputError, print};
use crate::progress::terminal::say;

/// How often the display is drawn again at most.
const REDRAW: Duration = Duration::from_millis(100);
/// How many signs the bar of a transfer has between its brackets.
const BAR: usize = 50;

/// Where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// On standard output: it is what the command was for.
    Output,
    /// On standard error: the command is for something else.
    Talk,
    /// Not at all.
    Nobody,
}

/// Shows what happens to the layers.
pub(crate) struct Board {
    audience: Audience,
    /// Whether lines are drawn again and again, rather than written when a layer has got somewhere.
    drawn: bool,
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What a layer is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// `Downloading`
    pub(crate) word: String,
    /// Bytes so far and in all, where they are counted.
    pub(crate) bar: Option<(u64, u64)>,
}

#[derive(Default)]
struct State {
    layers: Vec<(Digest, Status)>,
    /// How many lines are on the screen, and since when.
    drawn: usize,
    last: Option<Instant>,
}

impl Board {
    pub(crate) fn new(audience: Audience, cancelled: Arc<AtomicBool>) -> Self {
        let drawn = match audience {
            Audience::Output => std::io::stdout().is_terminal(),
            Audience::Talk => std::io::stderr().is_terminal(),
            Audience::Nobody => false,
        };
        Self {
            audience,
            drawn,
            cancelled,
            state: Mutex::default(),
        }
    }

    /// Writes a line of its own.
    pub(crate) fn line(&self, text: &str) -> Result<(), OutputError> {
        self.write(&format!("{text}\n"))
    }

    /// The layer with this digest is at something now.
    pub(crate) fn show(&self, digest: &Digest, status: Status) {
        let mut shown = self.state();
        let known = shown.layers.iter_mut().find(|(known, _)| known == digest);
        let is_news = known.as_ref().is_none_or(|it| it.1.word != status.word);
        let line = format!("{}: {}\n", digest.short(), status.word);
        match known {
            Some(known) => known.1 = status,
            None => shown.layers.push((*digest, status)),
        }
        // Nobody reads: that is found out, and said, when the result is printed.
        let _ = match self.drawn {
            false if is_news => self.write(&line),
            true if shown.last.is_none_or(|last| last.elapsed() >= REDRAW) => {
                self.write(&shown.draw())
            }
            _ => Ok(()),
        };
    }

    /// Draws the last state.
    pub(crate) fn finish(&self) -> Result<(), OutputError> {
        match self.drawn {
            true => self.write(&self.state().draw()),
            false => Ok(()),
        }
    }

    /// Whether the person has given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn write(&self, text: &str) -> Result<(), OutputError> {
        match self.audience {
            Audience::Output => print(text),
            Audience::Talk => {
                say(text);
                Ok(())
            }
            Audience::Nobody => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// One that counts nothing.
    pub(crate) fn word(word: impl Into<String>) -> Self {
        Self {
            word: word.into(),
            bar: None,
        }
    }

    /// With its bar, at most 80 columns with the id before it.
    fn text(&self) -> String {
        let Some((current, total)) = self.bar else {
            return self.word.clone();
        };
        let share = current.min(total) as f64 / total.max(1) as f64;
        let done = (share * BAR as f64) as usize;
        let bar = format!("{}>", "=".repeat(done.min(BAR - 1)));
        let sizes = format!("{}/{}", transferred(current), transferred(total));
        // The bar gives way to the sizes.
        let width = BAR.min(64 - self.word.len().min(20) - " []  ".len() - sizes.len().min(30));
        let bar: String = bar.chars().take(width).collect();
        format!("{} [{bar:<width$}] {sizes}", self.word)
    }
}

impl State {
    /// Goes up to the first line and writes all of them again.
    fn draw(&mut self) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for (digest, status) in &self.layers {
            let _ = writeln!(text, "\r{}: {}\x1b[K", digest.short(), status.text());
        }
        self.drawn = self.layers.len();
        self.last = Some(Instant::now());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_into_eighty_columns() {
        for (current, total) in [
            (0, 0),
            (1, 3),
            (5, 3),
            (12_345_678, 987_654_321),
            (u64::MAX, u64::MAX),
        ] {
            let status = Status {
                word: "Downloading".to_owned(),
                bar: Some((current, total)),
            };
            let line = status.text();
            assert!("0123456789ab: ".len() + line.len() < 80, "{line}");
        }
        assert_eq!(Status::word("Pull complete").text(), "Pull complete");
    }

    #[test]
    fn layers_are_drawn_over_themselves() {
        let mut state = State::default();
        let status = Status::word("Pulling fs layer");
        state.layers.push((Digest::of(b""), status));
        assert_eq!(state.draw(), "\re3b0c44298fc: Pulling fs layer\x1b[K\n");
        state.layers[0].1 = Status::word("Pull complete");
        assert_eq!(state.draw(), "\x1b[1A\re3b0c44298fc: Pull complete\x1b[K\n");
    }
}
