//! A build as lines that are only ever appended: for logs and pipes.
//!
//! One vertex at a time has the word. It keeps it while it has something to say and until others
//! have waited too long; `#7 ...` marks where it was interrupted.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use solve::progress::{Progress, TransferStatus, VertexError, Warning};

use super::state::{LogLine, State, Vertex, since};
use super::text::fit;
use super::tty::moved;

/// A vertex is not interrupted before it had the word this long.
const TURN: Duration = Duration::from_secs(5);
/// Nobody waits for the word longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// A transfer is told again when it has come this much further, or after [`REPEAT`].
const STEP_PERCENT: f64 = 5.0;
const REPEAT: Duration = Duration::from_secs(5);
/// Columns that a name is cut to where that is asked for.
const SHORT_NAME: usize = 72;

/// Turns events into text.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    state: State,
    speakers: HashMap<usize, Speaker>,
    current: Option<usize>,
    numbers: usize,
    short_names: bool,
    written: String,
}

/// What a vertex has to say.
#[derive(Debug, Default)]
struct Speaker {
    number: Option<usize>,
    lines: Vec<LogLine>,
    transfers: Vec<Transfer>,
    warnings: Vec<String>,
    /// Whether its end was told.
    done: bool,
    /// Whether anything is untold.
    waiting: bool,
    /// When it last got or lost the word, or started.
    turned: Option<SystemTime>,
    /// What it has said or wanted to say since.
    count: usize,
}

#[derive(Debug)]
struct Transfer {
    name: String,
    waiting: bool,
    told: Option<(f64, SystemTime)>,
}

impl Plain {
    /// With names in full, or cut to 72 columns as `PROGRESS_NO_TRUNC=0` asks for.
    pub(crate) fn new(short_names: bool) -> Self {
        Self {
            short_names,
            ..Self::default()
        }
    }

    /// Takes an event in: how many lines of output it brought. Nothing is said before [`Plain::flush`].
    pub(crate) fn apply(&mut self, event: Progress) -> usize {
        let transfer = match &event {
            Progress::Transfer(transfer) => Some(transfer.name.clone()),
            Progress::Warning(warning) => {
                self.warn(warning.clone());
                return 0;
            }
            _ => None,
        };
        let Some(touched) = self.state.apply(event) else {
            return 0;
        };
        let vertex = &self.state.vertices()[touched.vertex];
        if vertex.started.is_none() {
            return 0;
        }
        let speaker = self.speakers.entry(touched.vertex).or_default();
        speaker.turned = speaker.turned.or(vertex.started);
        speaker.waiting = true;
        let lines = touched.lines.len();
        speaker.count += lines;
        speaker.lines.extend(touched.lines);
        if let Some(name) = transfer {
            speaker.count += 1;
            match speaker
                .transfers
                .iter_mut()
                .find(|known| known.name == name)
            {
                Some(known) => known.waiting = true,
                None => speaker.transfers.push(Transfer {
                    name,
                    waiting: true,
                    told: None,
                }),
            }
        }
        lines
    }

    /// What can be said now.
    pub(crate) fn flush(&mut self, now: SystemTime) -> String {
        for vertex in self.finished_first() {
            self.speak(vertex, now);
        }
        if let Some(vertex) = self.next_speaker(now) {
            self.speak(vertex, now);
        }
        std::mem::take(&mut self.written)
    }

    /// Everything that is left to say.
    pub(crate) fn finish(&mut self, now: SystemTime) -> String {
        let mut rest: Vec<usize> = self.waiting(|_| true).collect();
        rest.sort_by_key(|&vertex| (Some(vertex) != self.current, vertex));
        for vertex in rest {
            self.speak(vertex, now);
        }
        std::mem::take(&mut self.written)
    }

    /// What is known of the build.
    pub(crate) fn into_state(self) -> State {
        self.state
    }

    /// A warning is told with the vertex that has the word when it comes; most come while the
    /// Dockerfile is read. All of them are listed after the build.
    fn warn(&mut self, warning: Warning) {
        if self.state.warnings().contains(&warning) {
            return;
        }
        let text = super::text::clean(warning.message.as_bytes());
        self.state.apply(Progress::Warning(warning));
        let running = self.state.vertices().iter().rposition(Vertex::is_running);
        if let Some(vertex) = running {
            let speaker = self.speakers.entry(vertex).or_default();
            speaker.warnings.push(text);
            speaker.waiting = true;
        }
    }

    fn waiting(&self, wanted: impl Fn(&Vertex) -> bool) -> impl Iterator<Item = usize> {
        let waiting = self.speakers.iter().filter(move |(position, speaker)| {
            speaker.waiting && !speaker.done && wanted(&self.state.vertices()[**position])
        });
        waiting.map(|(position, _)| *position)
    }

    /// Those that have ended: the one with the word, then the others in the order of their ends.
    fn finished_first(&self) -> Vec<usize> {
        let mut finished: Vec<usize> = self.waiting(|vertex| vertex.completed.is_some()).collect();
        let ended = |vertex: usize| self.state.vertices()[vertex].completed;
        finished.sort_by_key(|&vertex| (Some(vertex) != self.current, ended(vertex), vertex));
        finished
    }

    /// Who of those that run has the word.
    fn next_speaker(&self, now: SystemTime) -> Option<usize> {
        let mut candidates: Vec<usize> = self.waiting(Vertex::is_running).collect();
        candidates.sort_unstable();
        let waited = |vertex: usize| {
            self.speakers[&vertex]
                .turned
                .map_or(Duration::ZERO, |turned| since(turned, now))
        };
        let speed = |vertex: usize| {
            self.speakers[&vertex].count as f64 / waited(vertex).as_secs_f64().max(0.001)
        };
        let fastest = candidates
            .iter()
            .copied()
            .reduce(|a, b| if speed(b) > speed(a) { b } else { a });
        let Some(current) = self.current else {
            return fastest;
        };
        let overdue = candidates
            .iter()
            .copied()
            .filter(|&it| it != current && waited(it) > PATIENCE);
        if let Some(vertex) = overdue.max_by_key(|&it| waited(it))
            && waited(current) >= TURN
        {
            return Some(vertex);
        }
        // The more of all talk is the current one's, the longer its turn.
        let sum: f64 = candidates.iter().map(|&it| speed(it)).sum();
        let others = if sum > 0.0 {
            1.0 - speed(current) / sum
        } else {
            0.0
        };
        let turn = TURN.as_secs_f64() / others.clamp(0.001, 1.0);
        match candidates.iter().copied().find(|&it| it != current) {
            Some(_) if waited(current).as_secs_f64() > turn => fastest,
            _ => Some(current),
        }
    }

    fn speak(&mut self, position: usize, now: SystemTime) {
        self.take_the_word(position, now);
        let vertex = &self.state.vertices()[position];
        let Some(speaker) = self.speakers.get_mut(&position) else {
            return;
        };
        let number = speaker.number.unwrap_or_default();
        let mut line = |text: &str| {
            let _ = writeln!(self.written, "#{number} {text}");
        };
        speaker.waiting = false;
        for transfer in &mut speaker.transfers {
            let status = vertex
                .transfers
                .iter()
                .find(|status| status.name == transfer.name);
            if let Some(text) = status.and_then(|status| transfer.tell(status, vertex, now)) {
                line(&text);
            }
        }
        for warning in speaker.warnings.drain(..) {
            line(&format!("WARN: {warning}"));
        }
        for log in speaker.lines.drain(..) {
            line(&log.stamped());
        }
        if vertex.completed.is_some() {
            line(&ending(vertex, now));
            speaker.done = true;
            self.current = None;
        }
    }

    /// Prints the name of the vertex unless it has the word already.
    fn take_the_word(&mut self, position: usize, now: SystemTime) {
        if self.current == Some(position) {
            return;
        }
        if let Some(speaker) = self
            .current
            .and_then(|previous| self.speakers.get_mut(&previous))
        {
            let _ = writeln!(self.written, "#{} ...", speaker.number.unwrap_or_default());
            speaker.turned = Some(now);
            speaker.count = 0;
        }
        let first = self.numbers == 0;
        let speaker = self.speakers.entry(position).or_default();
        let number = *speaker.number.get_or_insert_with(|| {
            self.numbers += 1;
            self.numbers
        });
        speaker.turned = Some(now);
        speaker.count = 0;
        let name = &self.state.vertices()[position].name;
        let name = if self.short_names {
            fit(name, SHORT_NAME)
        } else {
            name.clone()
        };
        let gap = if first { "" } else { "\n" };
        let _ = writeln!(self.written, "{gap}#{number} {name}");
        self.current = Some(position);
    }
}

impl Transfer {
    /// The line that tells how far the transfer is, unless that was told a moment ago.
    fn tell(
        &mut self,
        status: &TransferStatus,
        vertex: &Vertex,
        now: SystemTime,
    ) -> Option<String> {
        let ended = status.completed.or(vertex.completed);
        let percent = match status.total {
            0 => 0.0,
            total => status.current as f64 * 100.0 / total as f64,
        };
        let news = match self.told {
            None => true,
            Some((told, at)) => percent - told >= STEP_PERCENT || since(at, now) >= REPEAT,
        };
        if !self.waiting || !(news || ended.is_some()) {
            return None;
        }
        self.waiting = ended.is_none() && status.completed.is_none();
        self.told = Some((percent, now));
        let mut text = super::text::clean(status.name.as_bytes());
        let bytes = moved(status);
        if !bytes.is_empty() {
            let _ = write!(text, " {bytes}");
        }
        let elapsed = since(status.started, ended.unwrap_or(now)).as_secs_f64();
        if elapsed > 0.01 {
            let _ = write!(text, " {elapsed:.1}s");
        }
        if ended.is_some() {
            text.push_str(" done");
        }
        Some(text)
    }
}

fn ending(vertex: &Vertex, now: SystemTime) -> String {
    match &vertex.error {
        Some(VertexError::Canceled) => "CANCELED".to_owned(),
        Some(VertexError::Failed(message)) => {
            format!("ERROR: {}", super::text::clean(message.as_bytes()))
        }
        None if vertex.cached => "CACHED".to_owned(),
        None => format!("DONE {:.1}s", vertex.elapsed(now).as_secs_f64()),
    }
}
