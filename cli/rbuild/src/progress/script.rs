//! Tests of what is drawn: scripts of events under `testdata/progress/`, beside what comes of them.
//!
//! `NAME.events` holds one event a line, `SECONDS VERB …`:
//!
//! ```text
//! 0.0 add 1 [1/2] FROM alpine      a vertex is known
//! 0.0 start 1 [name]               it starts (and is known from now on)
//! 0.1 log 1 text\n                 it writes; \n \r \t \e and \\ as in C
//! 0.1 move 1 10/100 sha256:12      it has moved 10 of 100 bytes; total 0 is unknown
//! 0.1 moved 1 100/100 sha256:12    and that was all
//! 0.2 done 1 | cached 1 | cancel 1 | error 1 message
//! 0.3 warn Rule 4 message          a warning about line 4
//! 0.3 draw                         a picture is drawn, or appended lines are written
//! ```
//! `rows 12` at the top makes the terminal 12 high; else it has 24 rows.
//!
//! Beside it stand the pictures at 80 and 200 columns (`.tty80`, `.tty200`), each line behind a letter for
//! its colour, the appended text (`.plain`), the JSON lines (`.rawjson`), and the failure block (`.failed`) if there
//! is one. `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::{Key, KeyHasher};
use solve::progress::{Log, Progress, Stream, TransferStatus, VertexError, VertexStatus, Warning};

use super::colour::Tone;
use super::plain::Plain;
use super::state::State;
use super::text::width;
use super::tty::{self, Line, Room};
use super::{rawjson, report};

#[derive(Debug)]
enum Step {
    Event(Progress),
    Draw(SystemTime),
}

struct Script {
    rows: usize,
    steps: Vec<Step>,
    end: SystemTime,
}

#[derive(Default)]
struct Reader {
    vertices: BTreeMap<String, VertexStatus>,
    transfers: BTreeMap<(String, String), TransferStatus>,
}

fn read(text: &str) -> Script {
    let mut reader = Reader::default();
    let mut script = Script {
        rows: 24,
        steps: Vec::new(),
        end: time("0"),
    };
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(rows) = line.strip_prefix("rows ") {
            script.rows = rows.parse().expect("a number of rows");
            continue;
        }
        let (seconds, rest) = line.split_once(' ').expect("a time and a verb");
        script.end = time(seconds);
        script.steps.push(match rest {
            "draw" => Step::Draw(script.end),
            _ => Step::Event(reader.event(script.end, rest)),
        });
    }
    script
}

fn time(seconds: &str) -> SystemTime {
    let seconds = seconds
        .parse()
        .unwrap_or_else(|_| panic!("`{seconds}` is no time"));
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_secs_f64(seconds)
}

fn key(name: &str) -> Key {
    KeyHasher::new("script").text(name).finish()
}

impl Reader {
    fn event(&mut self, now: SystemTime, text: &str) -> Progress {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (verb, name, rest) = (word(), word(), word());
        match verb.as_str() {
            "log" => Progress::Log(Log {
                vertex: key(&name),
                stream: Stream::Stdout,
                data: unescape(&rest),
                timestamp: now,
            }),
            "move" | "moved" => Progress::Transfer(self.transfer(now, &verb, &name, &rest)),
            "warn" => Progress::Warning(warning(name, &rest)),
            _ => Progress::Vertex(self.vertex(now, &verb, &name, unescaped(&rest))),
        }
    }

    fn vertex(&mut self, now: SystemTime, verb: &str, name: &str, rest: String) -> VertexStatus {
        let vertex = self
            .vertices
            .entry(name.to_owned())
            .or_insert_with(|| VertexStatus {
                digest: key(name),
                inputs: Vec::new(),
                name: rest.clone(),
                started: None,
                completed: None,
                cached: false,
                error: None,
            });
        match verb {
            "add" => return vertex.clone(),
            "start" => {
                vertex.started = Some(now);
                return vertex.clone();
            }
            "done" => {}
            "cached" => vertex.cached = true,
            "cancel" => vertex.error = Some(VertexError::Canceled),
            "error" => vertex.error = Some(VertexError::Failed(rest)),
            other => panic!("`{other}` is no verb"),
        }
        vertex.started = vertex.started.or(Some(now));
        vertex.completed = Some(now);
        vertex.clone()
    }

    fn transfer(&mut self, now: SystemTime, verb: &str, name: &str, rest: &str) -> TransferStatus {
        let (bytes, id) = rest.split_once(' ').expect("bytes and a name");
        let (current, total) = bytes.split_once('/').expect("current/total");
        let transfer = self
            .transfers
            .entry((name.to_owned(), id.to_owned()))
            .or_insert_with(|| TransferStatus {
                vertex: key(name),
                name: unescaped(id),
                current: 0,
                total: 0,
                started: now,
                completed: None,
            });
        transfer.current = current.parse().expect("bytes");
        transfer.total = total.parse().expect("bytes");
        transfer.completed = (verb == "moved").then_some(now);
        transfer.clone()
    }
}

fn warning(rule: String, rest: &str) -> Warning {
    let (line, message) = rest.split_once(' ').expect("a line and a message");
    let line = line.parse().expect("a line");
    let range = llb::SourceRange {
        first_line: line,
        last_line: line,
    };
    Warning {
        rule,
        message: message.to_owned(),
        url: String::new(),
        place: Some(("Dockerfile".to_owned(), range)),
    }
}

fn unescaped(text: &str) -> String {
    String::from_utf8(unescape(text)).expect("only ASCII has escapes")
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'e') => 0x1b,
                Some(b'\\') => b'\\',
                other => panic!("`\\{other:?}` is no escape"),
            },
            other => other,
        });
    }
    bytes
}

fn pictures(script: Script, columns: usize) -> String {
    let room = Room {
        columns,
        rows: script.rows,
        log_lines: 6,
    };
    let mut state = State::default();
    let mut text = String::new();
    for step in script.steps {
        match step {
            Step::Event(event) => drop(state.apply(event)),
            Step::Draw(now) => {
                let lines = tty::draw(&state, now, room);
                assert!(
                    lines.len() < room.rows,
                    "a picture is higher than the terminal"
                );
                show(&mut text, &lines, columns);
            }
        }
    }
    show(
        &mut text,
        &tty::draw_finished(&state, script.end, room),
        columns,
    );
    text.push_str(&report::warnings(
        state.warnings(),
        report::Detail::Summary,
        |_| None,
    ));
    text
}

fn show(text: &mut String, lines: &[Line], columns: usize) {
    for line in lines {
        assert!(width(&line.text) < columns, "`{}` is too wide", line.text);
        assert!(
            !line.text.contains(char::is_control),
            "`{:?}` could act on a terminal",
            line.text
        );
        let letter = match line.tone {
            Tone::Plain => ' ',
            Tone::Done => 'd',
            Tone::Canceled => 'c',
            Tone::Failed => 'e',
            Tone::Warning => 'w',
            Tone::Faint => 'f',
        };
        let _ = writeln!(text, "{letter}|{}", line.text);
    }
    text.push_str("==\n");
}

fn plain(script: Script) -> String {
    let mut plain = Plain::new(false);
    let mut text = String::new();
    for step in script.steps {
        match step {
            Step::Event(event) => {
                plain.apply(event);
            }
            Step::Draw(now) => text.push_str(&plain.flush(now)),
        }
    }
    text.push_str(&plain.finish(script.end));
    text
}

#[expect(clippy::needless_pass_by_value, reason = "all outcomes have one shape")]
fn json_lines(script: Script) -> String {
    let events = script.steps.iter().filter_map(|step| match step {
        Step::Event(event) => Some(rawjson::line(event)),
        Step::Draw(_) => None,
    });
    events.collect()
}

fn failed(script: Script) -> String {
    let mut state = State::default();
    for step in script.steps {
        if let Step::Event(event) = step {
            state.apply(event);
        }
    }
    report::failures(&state)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/progress");
    let entries = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|it| it == "events"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Compares what `outcome` makes of every case with the file beside it; no file means no outcome.
fn check(extension: &str, outcome: impl Fn(Script) -> String) {
    for case in cases() {
        let actual = outcome(read(&fs::read_to_string(&case).unwrap()));
        let path = case.with_extension(extension);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &actual).unwrap();
            continue;
        }
        panic!(
            "{} differs; UPDATE_EXPECT=1 writes it anew. It is now:\n{actual}",
            path.display()
        );
    }
}

#[test]
fn pictures_on_80_columns() {
    check("tty80", |script| pictures(script, 80));
}

#[test]
fn pictures_on_200_columns() {
    check("tty200", |script| pictures(script, 200));
}

#[test]
fn appended_lines() {
    check("plain", plain);
}

#[test]
fn json_objects() {
    check("rawjson", json_lines);
}

#[test]
fn failure_blocks() {
    check("failed", failed);
}

#[test]
fn every_picture_fits_every_terminal() {
    for case in cases() {
        let text = fs::read_to_string(&case).unwrap();
        for columns in [1, 10, 20, 33, 40, 81, 137, 300] {
            pictures(read(&text), columns.max(2));
        }
    }
}
