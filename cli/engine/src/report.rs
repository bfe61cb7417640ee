//! Tells people what a build does.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use llb::{Graph, Key, KeyHasher, VertexId};
use solve::progress::{Log, Progress, Stream, TransferStatus, VertexError, VertexStatus, Warning};

use crate::LogLine;

/// How many of the last lines of a step an error shows.
const LAST_LINES: usize = 10;

/// Tells people what a build does. Threads may use it at once.
pub(crate) struct Reporter<'a> {
    tell: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(tell: &'a (dyn Fn(Progress) + Sync)) -> Self {
        Self { tell }
    }

    /// Tells what somebody else has put together.
    pub(crate) fn tell(&self, progress: Progress) {
        (self.tell)(progress);
    }

    /// Tells the state of a vertex.
    pub(crate) fn vertex(&self, status: VertexStatus) {
        (self.tell)(Progress::Vertex(status));
    }

    /// Tells how far a vertex is with something it moves.
    pub(crate) fn transfer(&self, status: TransferStatus) {
        (self.tell)(Progress::Transfer(status));
    }

    pub(crate) fn warning(&self, warning: Warning) {
        (self.tell)(Progress::Warning(warning));
    }

    /// Does one of the engine's own errands, told as a vertex.
    pub(crate) fn errand<T, E: std::error::Error>(
        &self,
        name: &str,
        errand: impl FnOnce(&Errand<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut status = waiting(errand_key(name), Vec::new(), name);
        status.started = Some(SystemTime::now());
        self.vertex(status.clone());
        let result = errand(&Errand {
            reporter: self,
            vertex: status.digest,
        });
        status.completed = Some(SystemTime::now());
        status.error = result
            .as_ref()
            .err()
            .map(|error| VertexError::Failed(crate::error::chain(error)));
        self.vertex(status);
        result
    }
}

/// One of the engine's own errands that goes on beside everything else. It is told of from its first
/// part on.
pub(crate) struct Aside<'a> {
    reporter: &'a Reporter<'a>,
    status: Mutex<VertexStatus>,
}

impl<'a> Aside<'a> {
    /// The errand `name`, of which there may be several, told from each other by `number`.
    pub(crate) fn new(reporter: &'a Reporter<'a>, name: &str, number: usize) -> Self {
        let digest = errand_key(&format!("{name} {number}"));
        Self {
            reporter,
            status: Mutex::new(waiting(digest, Vec::new(), name)),
        }
    }

    /// What its parts are told as parts of.
    pub(crate) fn vertex(&self) -> Key {
        self.status().digest
    }

    /// Tells that it began, unless that is known.
    pub(crate) fn begin(&self) {
        let mut status = self.status();
        if status.started.is_none() {
            status.started = Some(SystemTime::now());
            self.reporter.vertex(status.clone());
        }
    }

    /// Tells that it was given up, if it had begun.
    pub(crate) fn cancel(&self) {
        let mut status = self.status();
        if status.started.is_some() {
            status.completed = Some(SystemTime::now());
            status.error = Some(VertexError::Canceled);
            self.reporter.vertex(status.clone());
        }
    }

    /// Tells that it is over, if it had begun.
    pub(crate) fn finish(&self) {
        let has_begun = self.status().started.is_some();
        if has_begun {
            self.end(None);
        }
    }

    /// Tells that it is over, and what went wrong.
    pub(crate) fn end(&self, error: Option<String>) {
        self.begin();
        let mut status = self.status();
        status.completed = Some(SystemTime::now());
        status.error = error.map(VertexError::Failed);
        self.reporter.vertex(status.clone());
    }

    fn status(&self) -> std::sync::MutexGuard<'_, VertexStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the engine's own errands, under way.
pub(crate) struct Errand<'a> {
    reporter: &'a Reporter<'a>,
    vertex: Key,
}

impl<'a> Errand<'a> {
    /// What it is told as.
    pub(crate) fn vertex(&self) -> Key {
        self.vertex
    }

    /// Takes what a process of the errand writes.
    pub(crate) fn tail(&self) -> Tail<'a> {
        Tail::new(self.reporter, self.vertex)
    }

    /// Does a part of it, told as something that moves `bytes`; 0 where nothing is counted.
    pub(crate) fn part<T>(
        &self,
        name: &str,
        part: impl FnOnce() -> T,
        bytes: impl FnOnce(&T) -> u64,
    ) -> T {
        let mut status = TransferStatus {
            vertex: self.vertex,
            name: name.to_owned(),
            current: 0,
            total: 0,
            started: SystemTime::now(),
            completed: None,
        };
        (self.reporter.tell)(Progress::Transfer(status.clone()));
        let done = part();
        status.current = bytes(&done);
        status.completed = Some(SystemTime::now());
        (self.reporter.tell)(Progress::Transfer(status));
        done
    }
}

/// The state of a vertex of the graph that nothing has happened to.
pub(crate) fn waiting_vertex(graph: &Graph, id: VertexId) -> VertexStatus {
    let vertex = graph.vertex(id);
    let inputs = vertex
        .inputs
        .iter()
        .map(|input| *graph.vertex(input.vertex).digest())
        .collect();
    waiting(*vertex.digest(), inputs, &vertex.metadata.name)
}

fn waiting(digest: Key, inputs: Vec<Key>, name: &str) -> VertexStatus {
    VertexStatus {
        digest,
        inputs,
        name: name.to_owned(),
        started: None,
        completed: None,
        cached: false,
        error: None,
    }
}

fn errand_key(name: &str) -> Key {
    KeyHasher::new("errand").text(name).finish()
}

/// Passes on what a process writes, and keeps the last lines of it.
pub(crate) struct Tail<'a> {
    reporter: &'a Reporter<'a>,
    vertex: Key,
    since: Instant,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    last: VecDeque<LogLine>,
    /// The beginning of a line whose end has not come.
    open: Option<(Instant, Vec<u8>)>,
}

impl<'a> Tail<'a> {
    pub(crate) fn new(reporter: &'a Reporter<'a>, vertex: Key) -> Self {
        Self {
            reporter,
            vertex,
            since: Instant::now(),
            lines: Mutex::default(),
        }
    }

    pub(crate) fn write(&self, stream: Stream, data: &[u8]) {
        let log = Log {
            vertex: self.vertex,
            stream,
            data: data.to_vec(),
            timestamp: SystemTime::now(),
        };
        (self.reporter.tell)(Progress::Log(log));
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(data, self.since);
    }

    /// The last lines.
    pub(crate) fn into_lines(self) -> Vec<LogLine> {
        let mut lines = self
            .lines
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        lines.close(self.since);
        lines.last.into()
    }
}

impl Lines {
    fn add(&mut self, data: &[u8], since: Instant) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece
                .strip_suffix(b"\n")
                .map_or((piece, false), |text| (text, true));
            self.open
                .get_or_insert_with(|| (Instant::now(), Vec::new()))
                .1
                .extend_from_slice(text);
            if ends {
                self.close(since);
            }
        }
    }

    fn close(&mut self, since: Instant) {
        let Some((begun, text)) = self.open.take() else {
            return;
        };
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        let text = String::from_utf8_lossy(&text)
            .trim_end_matches('\r')
            .to_owned();
        self.last.push_back(LogLine {
            at: begun.duration_since(since),
            text,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_lines_are_kept_however_they_come() {
        let nobody = |_: Progress| {};
        let reporter = Reporter::new(&nobody);
        let tail = Tail::new(&reporter, errand_key("test"));
        for n in 0..11 {
            tail.write(Stream::Stdout, format!("line {n}\r\nli").as_bytes());
            tail.write(Stream::Stderr, b"ne");
            tail.write(Stream::Stdout, b" ends\n");
        }
        tail.write(Stream::Stdout, b"open");
        let lines: Vec<String> = tail
            .into_lines()
            .into_iter()
            .map(|line| line.text)
            .collect();
        let expected: Vec<String> = (7..11)
            .flat_map(|n| ["line ends".to_owned(), format!("line {n}")])
            .collect();
        assert_eq!(lines[..8], expected);
        assert_eq!(lines[8..], ["line ends", "open"]);
    }

    #[test]
    fn an_errand_is_told_with_its_parts_and_its_end() {
        let told = Mutex::new(Vec::new());
        let tell = |progress: Progress| {
            told.lock().unwrap().push(match progress {
                Progress::Vertex(vertex) => format!(
                    "{} {:?} {:?}",
                    vertex.name,
                    vertex.completed.is_some(),
                    vertex.error
                ),
                Progress::Transfer(part) => format!(
                    "{} {} {:?}",
                    part.name,
                    part.current,
                    part.completed.is_some()
                ),
                other => format!("{other:?}"),
            });
        };
        let reporter = Reporter::new(&tell);
        let result = reporter.errand("load", |errand| {
            let moved = errand.part("moving", || 7, |it| *it);
            Err::<u64, _>(std::fmt::Error).map(|it| it + moved)
        });
        assert!(result.is_err());
        let why = "Some(Failed(\"an error occurred when formatting an argument\"))";
        let expected = [
            "load false None",
            "moving 0 false",
            "moving 7 true",
            &format!("load true {why}"),
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
