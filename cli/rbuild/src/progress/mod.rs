//! What a person sees of a build: events -> [`state::State`] -> lines -> terminal.
//!
//! Everything up to the lines is pure and tested by scripts of events under `testdata/progress/`.
//! [`Display`] is the rim: a thread that takes events, reads the clock and writes to standard error.

pub(crate) mod colour;
mod plain;
pub(crate) mod rawjson;
pub(crate) mod report;
mod state;
pub(crate) mod terminal;
mod text;
mod tty;

#[cfg(test)]
mod script;

use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use solve::progress::Progress;

use colour::Colours;
use plain::Plain;
pub(crate) use state::State;
use terminal::{Canvas, say};
pub(crate) use text::{clean, fit, width, without_numbers};

/// Time between two pictures.
const INTERVAL: Duration = Duration::from_millis(150);

/// Events that may wait to be shown. Whoever writes faster than the terminal takes it has to wait,
/// as always on a terminal, and does not fill the memory.
const BACKLOG: usize = 256;

/// Lines of output after which they are written at once: a line of one letter takes forty times its memory.
const MANY_LINES: usize = 8192;

/// Lines of output shown of one running step.
const LOG_LINES: usize = 6;

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// Redraw in place
    Tty,
    /// Append lines
    Plain,
    /// Only the image id
    Quiet,
    /// One JSON object an event
    Rawjson,
    /// Nothing
    None,
}

/// The display of one build. Takes events from any thread through [`Display::sink`].
pub(crate) struct Display {
    events: SyncSender<Progress>,
    thread: JoinHandle<State>,
}

impl Display {
    /// Begins to show a build.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(mode: Mode, colours: Colours) -> std::io::Result<Self> {
        let (events, received) = mpsc::sync_channel(BACKLOG);
        let show = move || match mode {
            Mode::Auto if terminal::can_draw() => show_tty(&received, &colours),
            Mode::Tty => show_tty(&received, &colours),
            Mode::Auto | Mode::Plain => show_plain(&received),
            Mode::Rawjson => show_rawjson(&received),
            Mode::Quiet | Mode::None => collect(&received),
        };
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(show)?;
        Ok(Self { events, thread })
    }

    /// Takes an event. Never fails; blocks while the display is [`BACKLOG`] events behind.
    pub(crate) fn sink(&self, event: Progress) {
        // The display only ends early if it panicked; the build is worth more than its picture.
        let _ = self.events.send(event);
    }

    /// Shows what is left and gives what is known of the build.
    pub(crate) fn finish(self) -> State {
        drop(self.events);
        self.thread.join().unwrap_or_default()
    }
}

fn show_tty(events: &Receiver<Progress>, colours: &Colours) -> State {
    let log_lines = number("BUILDKIT_TTY_LOG_LINES").unwrap_or(LOG_LINES);
    let interval = number("TTY_DISPLAY_RATE").map_or(INTERVAL, between_pictures);
    let mut state = State::default();
    let mut canvas = Canvas::default();
    let mut draw = |state: &State, picture: fn(&State, SystemTime, tty::Room) -> Vec<tty::Line>| {
        let room = terminal::room(log_lines);
        say(&canvas.replace(
            &picture(state, SystemTime::now(), room),
            room.columns,
            colours,
        ));
    };
    while receive(events, interval, |event| {
        state.apply(event);
        ControlFlow::Continue(())
    }) {
        draw(&state, tty::draw);
    }
    if !state.vertices().is_empty() {
        draw(&state, tty::draw_finished);
    }
    state
}

/// A variable of the environment that is a number. What is none says nothing, as with BuildKit.
fn number<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}

/// The time between two pictures, from `TTY_DISPLAY_RATE`: what nobody could see is not drawn.
fn between_pictures(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).clamp(Duration::from_millis(10), Duration::from_secs(60))
}

fn show_plain(events: &Receiver<Progress>) -> State {
    let short_names = std::env::var_os("PROGRESS_NO_TRUNC").is_some_and(|value| value == "0");
    let mut plain = Plain::new(short_names);
    let mut lines = 0;
    while receive(events, INTERVAL, |event| {
        lines += plain.apply(event);
        match lines {
            0..MANY_LINES => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }) {
        say(&plain.flush(SystemTime::now()));
        lines = 0;
    }
    say(&plain.finish(SystemTime::now()));
    plain.into_state()
}

fn show_rawjson(events: &Receiver<Progress>) -> State {
    let mut state = State::default();
    for event in events {
        say(&rawjson::line(&event));
        state.apply(event);
    }
    state
}

fn collect(events: &Receiver<Progress>) -> State {
    let mut state = State::default();
    for event in events {
        state.apply(event);
    }
    state
}

/// Takes events until it is time for the next picture, or `take` has enough. False once no more will come.
fn receive(
    events: &Receiver<Progress>,
    interval: Duration,
    mut take: impl FnMut(Progress) -> ControlFlow<()>,
) -> bool {
    let end = Instant::now() + interval;
    loop {
        match events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(event) => match take(event) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => return true,
            },
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}
