//! Files that are wrong, and what is said of each: `testdata/dockerfile/malformed/cases.txt`.
//!
//! A case is `=== NAME`, the Dockerfile, `---`, and the words as a person sees them: the lines that
//! are to blame, then the message. `UPDATE_EXPECT=1` writes the words anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dockerfile_parser::excerpt;

use crate::images::Shelf;

#[test]
fn what_is_said_of_a_file_that_is_wrong_is_what_was_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let path = directory.join("malformed/cases.txt");
    let text = fs::read_to_string(&path).expect("the cases are there");
    let mut anew = String::new();
    let mut count = 0;
    for case in text.split("=== ").filter(|it| !it.is_empty()) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (file, _) = rest.split_once("---\n").expect("a Dockerfile, then `---`");
        // A file that does not end with a newline is written with a mark for that.
        let written = file.strip_suffix("<end>\n").unwrap_or(file);
        let _ = write!(anew, "=== {name}\n{file}---\n{}\n", words(written));
        count += 1;
    }
    assert!(count >= 60, "only {count} cases");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &anew).expect("the cases can be written");
    }
    similar(
        &fs::read_to_string(&path).expect("the cases are there"),
        &anew,
    );
}

fn similar(expected: &str, actual: &str) {
    let differs = |(expected, actual): &(&str, &str)| expected != actual;
    let first = expected.lines().zip(actual.lines()).find(differs);
    assert!(expected == actual, "the first line that differs: {first:?}");
}

/// The lines to blame and the message, as the command line prints them.
fn words(text: &str) -> String {
    let shown = |message: &str, lines: Option<(usize, usize)>| {
        let lines = lines.map_or(String::new(), |(first, last)| {
            excerpt("Dockerfile", text.as_bytes(), first, last)
        });
        let lines: String = lines
            .lines()
            .map(|it| format!("{}\n", it.trim_end()))
            .collect();
        format!("{lines}ERROR: failed to build: failed to solve: {message}\n")
    };
    let parse = dockerfile_parser::parse(text.as_bytes());
    let options = crate::options_for(text, &parse);
    let refused = |error: &lower::PlanError| {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let _ = write!(message, ": {cause}");
            source = cause.source();
        }
        shown(
            &message,
            error.lines.map(|it| (it.first_line, it.last_line)),
        )
    };
    if let Err(error) = lower::check_frontend(&parse.dockerfile, &options) {
        return refused(&error);
    }
    if let Some(problem) = parse.first_error() {
        let span = problem.span;
        let lines = (span.start < span.end).then_some((span.first_line, span.last_line));
        return shown(&problem.to_string(), lines);
    }
    match lower::plan(&parse.dockerfile, &options, &Shelf::new()) {
        Ok(_) => "nothing is wrong\n".to_owned(),
        Err(error) => refused(&error),
    }
}

#[test]
fn nothing_that_is_called_malformed_is_well_formed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let text = fs::read_to_string(directory.join("malformed/cases.txt")).expect("the cases");
    assert!(!text.contains("nothing is wrong"));
}
