//! Ctrl-C: once to give up in order, twice to go at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// How long a command that only waits for others may go on waiting.
const MOMENT: Duration = Duration::from_secs(2);

/// Remembers which signal asked for the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicI32>,
    /// Whether the program ends a moment after the signal, whatever it is at.
    is_brief: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on, the first SIGINT, SIGTERM or SIGHUP runs `give_up` and the second ends the program.
    /// Whatever the build has started dies with it, and what it has not published is swept by the next.
    ///
    /// # Errors
    /// When the system refuses the handlers or the thread that waits for them.
    pub(crate) fn watch(give_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        Self::watch_until(give_up, Self::default())
    }

    /// The same, and whatever still runs a moment after the first signal ends with the program: for
    /// commands that only wait for others.
    ///
    /// # Errors
    /// As [`Interrupt::watch`].
    pub(crate) fn watch_briefly(give_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let interrupt = Self::default();
        interrupt.be_brief();
        Self::watch_until(give_up, interrupt)
    }

    /// From now on, a program that only waits for others ends a moment after the signal.
    pub(crate) fn be_brief(&self) {
        self.is_brief.store(true, Ordering::SeqCst);
    }

    fn watch_until(give_up: impl FnOnce() + Send + 'static, interrupt: Self) -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let heeded: Vec<i32> = [SIGINT, SIGTERM, SIGHUP]
            .into_iter()
            .filter(|it| !ignores(&status, *it))
            .collect();
        let mut signals = listen(&heeded)?;
        let seen = interrupt.clone();
        let wait = move || {
            let mut give_up = Some(give_up);
            for signal in signals.forever() {
                match give_up.take() {
                    Some(give_up) => {
                        seen.signal.store(signal, Ordering::SeqCst);
                        give_up();
                        if seen.is_brief.load(Ordering::SeqCst) {
                            end_after(MOMENT, signal);
                        }
                    }
                    None => std::process::exit(Exit::Signal(signal).code().into()),
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)?;
        Ok(interrupt)
    }

    /// How to end because of the signal, if one came.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(Exit::Signal(signal)),
        }
    }
}

/// The signals from now on. One that comes meanwhile waits: a handler that is there already, and that nobody has told
/// yet what to do, would swallow it.
fn listen(heeded: &[i32]) -> io::Result<Signals> {
    let held: SigSet = heeded
        .iter()
        .filter_map(|it| Signal::try_from(*it).ok())
        .collect();
    let before = held.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let signals = Signals::new(heeded);
    before.thread_set_mask()?;
    signals
}

/// Ends the program a while later, if it still runs then.
fn end_after(moment: Duration, signal: i32) {
    let end = move || {
        std::thread::sleep(moment);
        std::process::exit(Exit::Signal(signal).code().into());
    };
    // Without it, the second signal ends the program all the same.
    drop(
        std::thread::Builder::new()
            .name("end".to_owned())
            .spawn(end),
    );
}

/// Whether, as `/proc/self/status` tells it, whoever started us wants the signal to mean nothing, as
/// `nohup` does. What the system does not tell is not ignored.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_says_what_is_ignored() {
        let status = "Name:\trbuild\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
    }
}
