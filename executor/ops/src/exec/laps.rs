//! Where the time of a step goes, for the log.

use std::time::Instant;

/// The parts of a step in the order in which they are over.
#[derive(Debug)]
pub(super) struct Laps {
    last: Instant,
    /// The names of the parts, and their microseconds.
    over: Vec<(&'static str, u128)>,
}

impl Laps {
    pub(super) fn start() -> Self {
        Self {
            last: Instant::now(),
            over: Vec::with_capacity(8),
        }
    }

    /// What was done since the last part was over is a part of this name.
    pub(super) fn over(&mut self, name: &'static str) {
        let now = Instant::now();
        self.over.push((name, (now - self.last).as_micros()));
        self.last = now;
    }

    /// Tells the log: `mounts=310 sandbox=840`.
    pub(super) fn tell(&self) {
        let part = |(name, micros): &(&str, u128)| format!("{name}={micros}");
        if tracing::enabled!(tracing::Level::DEBUG) {
            let parts: Vec<String> = self.over.iter().map(part).collect();
            tracing::debug!("microseconds of a step: {}", parts.join(" "));
        }
    }
}
