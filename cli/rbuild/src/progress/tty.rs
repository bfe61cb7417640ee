//! The picture of a build on a terminal, as lines. Pure: who draws them is [`super::terminal`].

use std::time::{Duration, SystemTime};

use solve::progress::{TransferStatus, VertexError};

use super::colour::Tone;
use super::state::{State, Vertex, since};
use super::text::{fit, width};
use crate::human;

/// A line of the picture: text without any escape sequence, never wider than the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What it is about.
    pub(crate) tone: Tone,
    /// What it says.
    pub(crate) text: String,
}

/// The room there is for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Columns of the terminal.
    pub(crate) columns: usize,
    /// Rows of the terminal.
    pub(crate) rows: usize,
    /// Lines of output shown of one running vertex.
    pub(crate) log_lines: usize,
}

/// Beyond this the eye no longer finds the timer that belongs to a name.
const WIDEST: usize = 200;

/// With fewer columns for a name than this, a line says nothing and is left out.
const NARROWEST_NAME: usize = 12;

/// The picture of a build that is under way. As high as the terminal at most; what is running stays
/// visible, what has ended goes first.
pub(crate) fn draw(state: &State, now: SystemTime, room: Room) -> Vec<Line> {
    let jobs: Vec<Job<'_>> = jobs(state, now);
    // The cursor stands below the last line.
    let free = room.rows.saturating_sub(2);
    // What a step writes is worth more than old steps, but not more than half of the picture.
    let log_rows = free
        .saturating_sub(jobs.len())
        .max(room.log_lines.min(free / 2));
    let mut logs = logs(state, room.log_lines, log_rows);
    let taken: usize = logs.iter().map(|(_, lines)| lines.len()).sum();
    let talks = |job: &Job<'_>| {
        logs.iter()
            .any(|(vertex, _)| std::ptr::eq(*vertex, job.vertex))
    };
    let jobs = squeeze(jobs, free.saturating_sub(taken), talks);
    let mut lines = vec![header(state, now, room, "")];
    for job in jobs {
        lines.extend(job.line(room));
        // A vertex's own line comes before those of what it moves; its output goes below them all.
        if job.ends_vertex {
            let position = logs
                .iter()
                .position(|(vertex, _)| std::ptr::eq(*vertex, job.vertex));
            let shown = position.map(|position| logs.swap_remove(position).1);
            lines.extend(
                shown
                    .into_iter()
                    .flatten()
                    .map(|text| log_line(&text, room)),
            );
        }
    }
    lines
}

/// The last picture: everything that happened, however high.
pub(crate) fn draw_finished(state: &State, now: SystemTime, room: Room) -> Vec<Line> {
    let finished = state.completed() == state.vertices().len() && state.completed() > 0;
    let mut lines = vec![header(
        state,
        now,
        room,
        if finished { " FINISHED" } else { "" },
    )];
    lines.extend(jobs(state, now).iter().filter_map(|job| job.line(room)));
    lines
}

fn header(state: &State, now: SystemTime, room: Room, ending: &str) -> Line {
    let elapsed = state
        .beginning()
        .map_or(Duration::ZERO, |beginning| since(beginning, now));
    let (completed, total) = (state.completed(), state.vertices().len());
    let text = format!(
        "[+] Building {:.1}s ({completed}/{total}){ending}",
        elapsed.as_secs_f64()
    );
    Line {
        tone: Tone::Plain,
        text: fit(&text, columns(room)),
    }
}

/// The last column stays free: some terminals wrap when it is written.
fn columns(room: Room) -> usize {
    room.columns.min(WIDEST).saturating_sub(1)
}

/// A line with a timer.
struct Job<'a> {
    vertex: &'a Vertex,
    ends_vertex: bool,
    running: bool,
    tone: Tone,
    name: String,
    status: String,
    elapsed: Duration,
}

fn jobs(state: &State, now: SystemTime) -> Vec<Job<'_>> {
    state
        .started()
        .flat_map(|vertex| jobs_of(vertex, now))
        .collect()
}

fn jobs_of(vertex: &Vertex, now: SystemTime) -> Vec<Job<'_>> {
    let (prefix, tone) = match (&vertex.error, vertex.completed) {
        (Some(VertexError::Canceled), _) => ("CANCELED ", Tone::Canceled),
        (Some(VertexError::Failed(_)), _) => ("ERROR ", Tone::Failed),
        (None, Some(_)) if vertex.cached => ("CACHED ", Tone::Done),
        (None, Some(_)) => ("", Tone::Done),
        (None, None) => ("", Tone::Plain),
    };
    let own = Job {
        vertex,
        ends_vertex: false,
        running: vertex.is_running(),
        tone,
        name: format!("{prefix}{}", vertex.name),
        status: String::new(),
        elapsed: vertex.elapsed(now),
    };
    let moved = vertex
        .transfers
        .iter()
        .map(|transfer| transfer_job(vertex, transfer, now));
    let mut jobs: Vec<Job<'_>> = std::iter::once(own).chain(moved).collect();
    if let Some(last) = jobs.last_mut() {
        last.ends_vertex = true;
    }
    jobs
}

fn transfer_job<'a>(vertex: &'a Vertex, transfer: &TransferStatus, now: SystemTime) -> Job<'a> {
    // A vertex that ended has no transfer under way, even if nobody said so.
    let ended = transfer.completed.or(vertex.completed);
    Job {
        vertex,
        ends_vertex: false,
        running: ended.is_none(),
        tone: if ended.is_some() {
            Tone::Done
        } else {
            Tone::Plain
        },
        name: format!("=> {}", super::text::clean(transfer.name.as_bytes())),
        status: moved(transfer),
        elapsed: since(transfer.started, ended.unwrap_or(now)),
    }
}

/// `3.40MB / 29.15MB`, or what of it is known.
pub(crate) fn moved(transfer: &TransferStatus) -> String {
    let current = human::transferred(transfer.current);
    match (transfer.current, transfer.total) {
        (0, 0) => String::new(),
        (_, 0) => current,
        (_, total) => format!("{current} / {}", human::transferred(total)),
    }
}

impl Job<'_> {
    fn line(&self, room: Room) -> Option<Line> {
        const PREFIX: &str = " => ";
        let seconds = self.elapsed.as_secs_f64();
        let timer = format!(" {:.1}s", if seconds < 0.05 { 0.0 } else { seconds });
        let mut left = columns(room).saturating_sub(PREFIX.len() + timer.len());
        let status_fits = !self.status.is_empty() && left > 20 + self.status.len();
        if status_fits {
            left -= self.status.len() + 1;
        }
        if left < NARROWEST_NAME {
            return None;
        }
        let mut text = format!("{PREFIX}{}", fit(&self.name, left));
        if status_fits {
            text.push(' ');
            text.push_str(&self.status);
        }
        let gap = columns(room).saturating_sub(width(&text) + timer.len());
        text.extend(std::iter::repeat_n(' ', gap));
        text.push_str(&timer);
        Some(Line {
            tone: self.tone,
            text,
        })
    }
}

fn log_line(text: &str, room: Room) -> Line {
    const PREFIX: &str = " => => # ";
    Line {
        tone: Tone::Faint,
        text: fit(&format!("{PREFIX}{text}"), columns(room)),
    }
}

/// The last lines of those running vertices that wrote most, as far as `rows` go.
fn logs(state: &State, log_lines: usize, mut rows: usize) -> Vec<(&Vertex, Vec<String>)> {
    let mut busy: Vec<&Vertex> = state
        .started()
        .filter(|it| it.is_running() && it.written > 0)
        .collect();
    busy.sort_by_key(|vertex| std::cmp::Reverse(vertex.written));
    let mut logs = Vec::new();
    for vertex in busy {
        let lines = last_lines(vertex, log_lines.min(rows));
        if lines.is_empty() {
            continue;
        }
        rows -= lines.len();
        logs.push((vertex, lines));
    }
    logs
}

fn last_lines(vertex: &Vertex, count: usize) -> Vec<String> {
    let finished = vertex.tail.iter().map(|line| line.text.clone());
    let mut lines: Vec<String> = finished
        .chain(vertex.unfinished_line())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(count));
    lines
}

/// As many jobs as there are rows. The oldest that ended go first, then the oldest that run without
/// being among those whose output is shown.
fn squeeze<'a>(
    mut jobs: Vec<Job<'a>>,
    rows: usize,
    talks: impl Fn(&Job<'a>) -> bool,
) -> Vec<Job<'a>> {
    let mut surplus = jobs.len().saturating_sub(rows);
    let mut drop_those = |wanted: &dyn Fn(&Job<'a>) -> bool| {
        jobs.retain(|job| {
            let goes = surplus > 0 && wanted(job);
            surplus -= usize::from(goes);
            !goes
        });
    };
    drop_those(&|job| !job.running);
    drop_those(&|job| !talks(job));
    drop_those(&|_| true);
    jobs
}
