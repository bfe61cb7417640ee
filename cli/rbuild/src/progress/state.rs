//! What is known of a build: the sum of its events.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use oci::Key;
use solve::progress::{Log, Progress, TransferStatus, VertexError, VertexStatus, Warning};

use super::text::{Lines, clean, without_numbers};

/// Lines of a vertex that are kept for the error block.
pub(crate) const TAIL: usize = 10;

/// What is known of a build.
#[derive(Debug, Default)]
pub(crate) struct State {
    vertices: Vec<Vertex>,
    positions: HashMap<Key, usize>,
    started: Vec<usize>,
    warnings: Vec<Warning>,
}

/// What is known of a vertex.
#[derive(Debug)]
pub(crate) struct Vertex {
    /// One line, nothing in it that acts on a terminal.
    pub(crate) name: String,
    /// When it started.
    pub(crate) started: Option<SystemTime>,
    /// When it ended.
    pub(crate) completed: Option<SystemTime>,
    /// Whether its result was known.
    pub(crate) cached: bool,
    /// Why it failed.
    pub(crate) error: Option<VertexError>,
    /// What it moves, in order of first mention.
    pub(crate) transfers: Vec<TransferStatus>,
    /// Its last lines.
    pub(crate) tail: VecDeque<LogLine>,
    /// How many bytes it wrote.
    pub(crate) written: u64,
    lines: Lines,
    line_began: Option<SystemTime>,
}

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Time since the vertex started.
    pub(crate) at: Duration,
    /// Cleaned.
    pub(crate) text: String,
}

impl LogLine {
    /// `0.312 text`: three decimals below ten seconds, two below a hundred, then one.
    pub(crate) fn stamped(&self) -> String {
        let seconds = self.at.as_secs_f64();
        let decimals = match seconds {
            ..10.0 => 3,
            ..100.0 => 2,
            _ => 1,
        };
        format!("{seconds:.decimals$} {}", self.text)
    }
}

/// What an event touched.
#[derive(Debug)]
pub(crate) struct Touched {
    /// The vertex, by its position.
    pub(crate) vertex: usize,
    /// The lines that ended with the event.
    pub(crate) lines: Vec<LogLine>,
}

impl State {
    /// Takes an event in; `None` where it concerns no vertex.
    pub(crate) fn apply(&mut self, event: Progress) -> Option<Touched> {
        match event {
            Progress::Vertex(status) => Some(self.update(status)),
            Progress::Transfer(transfer) => {
                let vertex = *self.positions.get(&transfer.vertex)?;
                self.vertices[vertex].transfer(transfer);
                Some(Touched {
                    vertex,
                    lines: Vec::new(),
                })
            }
            Progress::Log(log) => {
                let vertex = *self.positions.get(&log.vertex)?;
                let lines = self.vertices[vertex].log(&log);
                Some(Touched { vertex, lines })
            }
            Progress::Warning(warning) => {
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
                None
            }
        }
    }

    /// All vertices, in order of first mention.
    pub(crate) fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertices that started, in that order.
    pub(crate) fn started(&self) -> impl Iterator<Item = &Vertex> {
        self.started
            .iter()
            .map(|&position| &self.vertices[position])
    }

    /// When the first vertex started.
    pub(crate) fn beginning(&self) -> Option<SystemTime> {
        self.vertices
            .iter()
            .filter_map(|vertex| vertex.started)
            .min()
    }

    /// How many vertices have ended.
    pub(crate) fn completed(&self) -> usize {
        self.vertices
            .iter()
            .filter(|vertex| vertex.completed.is_some())
            .count()
    }

    /// What the author of the Dockerfile should know.
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn update(&mut self, status: VertexStatus) -> Touched {
        let position = *self.positions.entry(status.digest).or_insert_with(|| {
            self.vertices.push(Vertex::new());
            self.vertices.len() - 1
        });
        let vertex = &mut self.vertices[position];
        if vertex.started.is_none() && status.started.is_some() {
            self.started.push(position);
        }
        vertex.name = clean(status.name.as_bytes());
        vertex.started = status.started;
        vertex.completed = status.completed;
        vertex.cached = status.cached;
        vertex.error = status.error.map(|error| match error {
            VertexError::Failed(words) => VertexError::Failed(without_numbers(&words)),
            VertexError::Canceled => VertexError::Canceled,
        });
        let lines = if vertex.completed.is_some() {
            vertex.end_line()
        } else {
            Vec::new()
        };
        Touched {
            vertex: position,
            lines,
        }
    }
}

impl Vertex {
    fn new() -> Self {
        Self {
            name: String::new(),
            started: None,
            completed: None,
            cached: false,
            error: None,
            transfers: Vec::new(),
            tail: VecDeque::new(),
            written: 0,
            lines: Lines::default(),
            line_began: None,
        }
    }

    /// How long it has run, or ran.
    pub(crate) fn elapsed(&self, now: SystemTime) -> Duration {
        self.started.map_or(Duration::ZERO, |started| {
            since(started, self.completed.unwrap_or(now))
        })
    }

    /// Whether it has started and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.started.is_some() && self.completed.is_none()
    }

    /// The line that it has begun to write.
    pub(crate) fn unfinished_line(&self) -> Option<String> {
        self.lines.unfinished()
    }

    fn transfer(&mut self, transfer: TransferStatus) {
        match self
            .transfers
            .iter_mut()
            .find(|known| known.name == transfer.name)
        {
            Some(known) => *known = transfer,
            None => self.transfers.push(transfer),
        }
    }

    fn log(&mut self, log: &Log) -> Vec<LogLine> {
        self.written += log.data.len() as u64;
        let began = *self.line_began.get_or_insert(log.timestamp);
        let texts = self.lines.push(&log.data);
        if !texts.is_empty() {
            self.line_began = self.lines.unfinished().is_some().then_some(log.timestamp);
        }
        // Only the first line may have begun earlier than these bytes came.
        let times = std::iter::once(began).chain(std::iter::repeat(log.timestamp));
        let lines = texts
            .into_iter()
            .zip(times)
            .map(|(text, time)| self.line(text, time))
            .collect();
        self.keep(lines)
    }

    fn end_line(&mut self) -> Vec<LogLine> {
        let began = self
            .line_began
            .take()
            .or(self.completed)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let lines = self
            .lines
            .finish()
            .into_iter()
            .map(|text| self.line(text, began))
            .collect();
        self.keep(lines)
    }

    fn line(&self, text: String, time: SystemTime) -> LogLine {
        LogLine {
            at: self
                .started
                .map_or(Duration::ZERO, |started| since(started, time)),
            text,
        }
    }

    fn keep(&mut self, lines: Vec<LogLine>) -> Vec<LogLine> {
        self.tail.extend(lines.iter().cloned());
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        lines
    }
}

/// The time from `start` to `end`; zero if the clock was set back in between.
pub(crate) fn since(start: SystemTime, end: SystemTime) -> Duration {
    end.duration_since(start).unwrap_or_default()
}
