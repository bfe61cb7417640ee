//! `image pull`: images from registries, told as docker tells it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use export::{LayerState, PullError, PullWatch};
use oci::{Digest, Platform, Reference};
use registry::{Client, DockerConfig};
use snapshot::Snapshots;
use store::Store;

use crate::args::PullArgs;
use crate::build::SYNC_LIMIT;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::human::transferred;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::registries;

/// How often the display is drawn again at most.
const REDRAW: Duration = Duration::from_millis(100);
/// How many signs the bar of a download has between its brackets.
const BAR: usize = 50;

/// Brings an image in from its registry.
pub(crate) fn pull(store: Store, args: &PullArgs) -> Result<Exit, Fault> {
    let usage = |error: anyhow::Error| Fault::from(error).exit(Exit::Usage);
    let reference: Reference = args
        .name
        .parse()
        .map_err(|error| usage(anyhow::Error::new(error)))?;
    let platform = match &args.platform {
        Some(platform) => platform
            .parse()
            .map_err(|error| usage(anyhow::Error::new(error)))?,
        None => Platform::host(),
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    let give_up = Arc::clone(&cancelled);
    let interrupt = Interrupt::watch(move || give_up.store(true, Ordering::SeqCst))
        .map_err(anyhow::Error::new)?;
    let mode = match (args.quiet, std::io::stdout().is_terminal()) {
        (true, _) => Mode::Quiet,
        (false, true) => Mode::Drawn,
        (false, false) => Mode::Lines,
    };
    if mode != Mode::Quiet
        && let Some(tag) = reference.tag()
    {
        print(&format!("{tag}: Pulling from {}\n", repository(&reference)))?;
    }
    let mut settings = registries::settings()?;
    for registry in &args.insecure {
        settings.allow_insecure(registry);
    }
    let client = Client::new(settings, Box::new(DockerConfig));
    let snapshots = Snapshots::new(store);
    let watch = Watch {
        mode,
        cancelled,
        state: Mutex::default(),
    };
    let pulled = match export::pull(&snapshots, &client, &reference, &platform, &watch) {
        Err(PullError::Cancelled) => return Ok(interrupt.exit().unwrap_or(Exit::Failure)),
        pulled => pulled?,
    };
    watch.finish()?;
    let mut text = String::new();
    if mode != Mode::Quiet {
        let status = if pulled.up_to_date {
            "Image is up to date"
        } else {
            "Downloaded newer image"
        };
        let _ = writeln!(
            text,
            "Digest: {}\nStatus: {status} for {}",
            pulled.digest,
            reference.familiar()
        );
    }
    let _ = writeln!(text, "{reference}");
    print(&text)?;
    snapshots.store().mark_synced(SYNC_LIMIT)?;
    Ok(Exit::Success)
}

/// The repository as docker says it here: Docker Hub's without its registry.
fn repository(reference: &Reference) -> String {
    match reference.registry() {
        "docker.io" => reference.repository().to_owned(),
        _ => reference.name(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Says what was pulled, at the end.
    Quiet,
    /// A line whenever a layer has got somewhere.
    Lines,
    /// A line a layer, drawn again and again.
    Drawn,
}

/// Shows what happens to the layers.
struct Watch {
    mode: Mode,
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: Vec<(Digest, LayerState)>,
    /// How many lines are on the screen, and since when.
    drawn: usize,
    last: Option<Instant>,
}

impl PullWatch for Watch {
    fn layer(&self, digest: &Digest, state: LayerState) {
        let mut shown = self.state();
        let known = shown.layers.iter_mut().find(|(known, _)| known == digest);
        let before = known.as_ref().map(|(_, before)| *before);
        match known {
            Some(known) => known.1 = state,
            None => shown.layers.push((*digest, state)),
        }
        // Nobody reads: that is found out, and said, when the result is printed.
        let _ = match self.mode {
            Mode::Quiet => Ok(()),
            Mode::Lines if before.is_some_and(|before| word(before) == word(state)) => Ok(()),
            Mode::Lines => print(&format!("{}: {}\n", digest.short(), word(state))),
            Mode::Drawn if shown.last.is_some_and(|last| last.elapsed() < REDRAW) => Ok(()),
            Mode::Drawn => print(&shown.draw()),
        };
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl Watch {
    fn finish(&self) -> Result<(), Fault> {
        if self.mode == Mode::Drawn {
            print(&self.state().draw())?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Goes up to the first line and writes all of them again.
    fn draw(&mut self) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for (digest, state) in &self.layers {
            let _ = writeln!(text, "\r{}: {}\x1b[K", digest.short(), line(*state));
        }
        self.drawn = self.layers.len();
        self.last = Some(Instant::now());
        text
    }
}

/// What docker calls the state.
fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Waiting => "Pulling fs layer",
        LayerState::Downloading(..) => "Downloading",
        LayerState::Downloaded => "Download complete",
        LayerState::Extracting => "Extracting",
        LayerState::Complete => "Pull complete",
        LayerState::Exists => "Already exists",
    }
}

/// The state with its bar, at most 80 columns with the id before it.
fn line(state: LayerState) -> String {
    let LayerState::Downloading(current, total) = state else {
        return word(state).to_owned();
    };
    let share = current.min(total) as f64 / total.max(1) as f64;
    let done = (share * BAR as f64) as usize;
    let bar = format!("{}>", "=".repeat(done.min(BAR - 1)));
    let sizes = format!("{}/{}", transferred(current), transferred(total));
    // The bar gives way to the sizes.
    let width = BAR.min(64 - "Downloading []  ".len() - sizes.len().min(30));
    let bar: String = bar.chars().take(width).collect();
    format!("Downloading [{bar:<width$}] {sizes}")
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
            let line = line(LayerState::Downloading(current, total));
            assert!("0123456789ab: ".len() + line.len() < 80, "{line}");
        }
        assert_eq!(line(LayerState::Complete), "Pull complete");
    }

    #[test]
    fn layers_are_drawn_over_themselves() {
        let mut state = State::default();
        state.layers.push((Digest::of(b""), LayerState::Waiting));
        assert_eq!(state.draw(), "\re3b0c44298fc: Pulling fs layer\x1b[K\n");
        state.layers[0].1 = LayerState::Complete;
        assert_eq!(state.draw(), "\x1b[1A\re3b0c44298fc: Pull complete\x1b[K\n");
    }
}
