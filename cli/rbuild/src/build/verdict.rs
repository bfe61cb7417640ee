//! `--verify-reproducible`: what differs when all of a build runs again, as text or JSON.

use std::fmt::Write as _;

use engine::{Differing, Unlike, Verified};
use serde_json::{Value, json};

use crate::args::ForecastFormat;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::clean;

/// How many files of a step are named to people.
const MOST_FILES: usize = 10;

/// Says how it came out; that something differs is a failure.
pub(super) fn say(verified: &Verified, format: ForecastFormat) -> Result<(), Fault> {
    match format {
        ForecastFormat::Json => print(&format!("{}\n", value(verified)))?,
        ForecastFormat::Text if verified.differing.is_empty() => print(&agreement(verified))?,
        ForecastFormat::Text => {}
    }
    match &verified.differing[..] {
        [] => Ok(()),
        [first, others @ ..] => Err(difference(first, others, verified)),
    }
}

/// What is said where nothing differs.
fn agreement(verified: &Verified) -> String {
    let steps = match verified.steps {
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    };
    let times = match verified.times {
        true => "to the byte of their layers",
        false => {
            "but for times of files, which SOURCE_DATE_EPOCH with rewrite-timestamp=true makes the same"
        }
    };
    format!("reproducible: {steps} ran again and came out the same, {times}\n")
}

/// The step where the difference begins, its lines of the Dockerfile, and the first file.
fn difference(first: &Differing, others: &[Differing], verified: &Verified) -> Fault {
    let mut preamble = String::new();
    for differing in [first].into_iter().chain(others) {
        preamble.push_str(&files(differing));
    }
    let place = first.place.as_ref().map(engine::Place::excerpt);
    preamble.push_str(&place.unwrap_or_default());
    let file = match &first.files[..] {
        [] => String::new(),
        [file, ..] => sentence(file),
    };
    let later = match verified.later {
        0 => String::new(),
        1 => ", and so may 1 step that stands on it".to_owned(),
        more => format!(", and so may {more} steps that stand on it"),
    };
    let message = format!("`{}` comes out different: {file}{later}", first.step);
    Fault::from(anyhow::Error::msg(clean(message.as_bytes())))
        .prefix("ERROR: not reproducible: ")
        .below(preamble)
}

/// A block as that of a failed step: the step, and what of it differs.
fn files(differing: &Differing) -> String {
    let mut text = format!("------\n > {}:\n", clean(differing.step.as_bytes()));
    for file in differing.files.iter().take(MOST_FILES) {
        let _ = writeln!(text, "{}", clean(sentence(file).as_bytes()));
    }
    let more = differing.files.len().saturating_sub(MOST_FILES);
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    text.push_str("------\n");
    text
}

fn sentence(file: &Unlike) -> String {
    format!("{}: {}", file.path, file.what)
}

fn value(verified: &Verified) -> Value {
    let file = |file: &Unlike| json!({ "path": file.path, "what": file.what });
    let step = |it: &Differing| {
        let line = it.place.as_ref().map(|place| place.lines.first_line);
        let files: Vec<Value> = it.files.iter().map(file).collect();
        json!({ "step": it.step, "line": line, "files": files })
    };
    json!({
        "reproducible": verified.differing.is_empty(),
        "steps": verified.steps,
        "times": verified.times,
        "different": verified.differing.iter().map(step).collect::<Vec<_>>(),
        "later": verified.later,
    })
}
