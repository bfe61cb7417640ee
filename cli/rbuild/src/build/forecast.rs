//! `--dry-run`: what a build would run and what it would find, as text or JSON.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use engine::{Engine, Forecast, Foreseen, Verdict};
use serde_json::{Value, json};

use super::in_words;
use super::request::Meant;
use crate::args::ForecastFormat;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::{clean, fit};

/// Where the names of the steps begin.
const INDENT: &str = "                ";

/// Prints what a build would do.
pub(super) fn forecast(
    engine: &Engine,
    meant: &Meant,
    format: ForecastFormat,
) -> Result<(), Fault> {
    let forecast = engine
        .forecast(&meant.request, &|_| {})
        .map_err(|error| in_words(error, None))?;
    let text = match format {
        ForecastFormat::Text => text(&forecast, terminal_width()),
        ForecastFormat::Json => format!("{}\n", value(&forecast)),
    };
    Ok(print(&text)?)
}

/// The columns of the terminal behind standard output, if there is one.
fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout())
        .map(|(terminal_size::Width(width), _)| width.into())
}

/// A line a step and one below it that says why; lines are cut to `width`.
fn text(forecast: &Forecast, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        let line = clean(line.as_bytes());
        let line = width.map_or_else(|| line.clone(), |width| fit(&line, width));
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for step in &forecast.steps {
        line(&format!(
            "{:<6} {:>7}  {}",
            word(step.verdict),
            time(step),
            step.step
        ));
        if let Some(reason) = reason(step) {
            line(&format!("{INDENT}{reason}"));
        }
    }
    line("");
    for summed in summary(forecast) {
        line(&summed);
    }
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Cached => "cached",
        Verdict::Run => "run",
        Verdict::May => "may",
        Verdict::Ask => "ask",
    }
}

fn time(step: &Foreseen) -> String {
    match (step.verdict, step.time) {
        (Verdict::Cached | Verdict::Ask, _) => String::new(),
        (_, None) => "?".to_owned(),
        (_, Some(time)) => seconds(time),
    }
}

/// `0.3s`, `12.0s`, `3m05s`
fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    let whole = time.as_secs();
    format!("{}m{:02}s", whole / 60, whole % 60)
}

fn reason(step: &Foreseen) -> Option<String> {
    let steps = step
        .depends
        .iter()
        .map(|it| place(it))
        .collect::<Vec<_>>()
        .join(" or ");
    match step.verdict {
        Verdict::Cached => None,
        Verdict::Ask => Some("whether it changed is asked when it is built".to_owned()),
        Verdict::May => Some(format!("if {steps} comes out different")),
        Verdict::Run => match &step.why {
            Some(why) => Some(why.sentence()),
            None if step.depends.is_empty() => Some("its layers are pulled".to_owned()),
            None => Some(format!("never ran as it is, whatever becomes of {steps}")),
        },
    }
}

/// Of `[build 3/5] RUN make`, what is enough to find it above: `[build 3/5]`.
fn place(step: &str) -> &str {
    let end = step.find("] ").filter(|_| step.starts_with('['));
    end.map_or(step, |end| &step[..=end])
}

fn summary(forecast: &Forecast) -> Vec<String> {
    let count = |verdict| {
        forecast
            .steps
            .iter()
            .filter(|it| it.verdict == verdict)
            .count()
    };
    let (cached, run) = (count(Verdict::Cached), count(Verdict::Run));
    let (may, ask) = (count(Verdict::May), count(Verdict::Ask));
    let mut counts = format!("{cached} cached, {run} to run");
    if may > 0 {
        let _ = write!(counts, ", {may} that may run");
    }
    if ask > 0 {
        let _ = write!(counts, ", {ask} to ask for");
    }
    if run + may == 0 {
        return vec![counts];
    }
    if untimed(forecast) == run + may {
        return vec![
            counts,
            "expected time: not known, none of them ran before".to_owned(),
        ];
    }
    let (least, most) = (seconds(forecast.least), seconds(forecast.most));
    let mut times = if least == most {
        format!("expected time: {most}")
    } else {
        format!("expected time: {least} to {most}")
    };
    match untimed(forecast) {
        0 => {}
        1 => times.push_str(", and one step whose time is not known"),
        many => {
            let _ = write!(times, ", and {many} steps whose time is not known");
        }
    }
    vec![counts, times]
}

/// How many steps run or may run whose time is not known.
fn untimed(forecast: &Forecast) -> usize {
    let steps = forecast.steps.iter();
    steps
        .filter(|it| matches!(it.verdict, Verdict::Run | Verdict::May) && it.time.is_none())
        .count()
}

fn value(forecast: &Forecast) -> Value {
    let steps = forecast.steps.iter().map(|step| {
        let mut value = step
            .why
            .as_ref()
            .and_then(|why| serde_json::to_value(why).ok())
            .unwrap_or_else(|| json!({ "step": step.step, "line": step.line }));
        value["verdict"] = json!(step.verdict);
        value["seconds"] = json!(step.time.map(|it| it.as_secs_f64()));
        if !step.depends.is_empty() {
            value["depends"] = json!(step.depends);
        }
        if let Some(reason) = reason(step) {
            value["sentence"] = reason.into();
        }
        value
    });
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "seconds": {
            "least": forecast.least.as_secs_f64(),
            "most": forecast.most.as_secs_f64(),
            "untimed": untimed(forecast),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreseen(step: &str, verdict: Verdict, time: Option<u64>, depends: &[&str]) -> Foreseen {
        Foreseen {
            step: step.to_owned(),
            line: None,
            verdict,
            time: time.map(Duration::from_millis),
            why: None,
            depends: depends.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn example() -> Forecast {
        Forecast {
            steps: vec![
                foreseen("[1/4] FROM busybox", Verdict::Cached, None, &[]),
                foreseen("[2/4] ADD https://example.org/a /", Verdict::Ask, None, &[]),
                foreseen(
                    "[3/4] RUN make",
                    Verdict::Run,
                    Some(185_000),
                    &["[2/4] ADD a /"],
                ),
                foreseen(
                    "[4/4] RUN make test",
                    Verdict::May,
                    None,
                    &["[3/4] RUN make"],
                ),
            ],
            least: Duration::from_secs(185),
            most: Duration::from_secs(185),
        }
    }

    #[test]
    fn a_forecast_is_a_line_a_step_and_a_sum() {
        let expected = "\
cached          [1/4] FROM busybox
ask             [2/4] ADD https://example.org/a /
                whether it changed is asked when it is built
run      3m05s  [3/4] RUN make
                never ran as it is, whatever becomes of [2/4]
may          ?  [4/4] RUN make test
                if [3/4] comes out different

1 cached, 1 to run, 1 that may run, 1 to ask for
expected time: 3m05s, and one step whose time is not known
";
        assert_eq!(text(&example(), None), expected);
    }

    #[test]
    fn on_a_terminal_no_line_is_wider_than_it() {
        let narrow = text(&example(), Some(24));
        assert!(
            narrow.lines().all(|line| line.chars().count() <= 24),
            "{narrow}"
        );
        assert!(narrow.contains("run      3m05s  [3/4] R"), "{narrow}");
    }

    #[test]
    fn as_json_every_step_says_its_verdict_and_its_time() {
        let value = value(&example());
        assert_eq!(value["steps"][2]["verdict"], "run");
        assert_eq!(value["steps"][2]["seconds"], 185.0);
        assert_eq!(value["steps"][3]["seconds"], Value::Null);
        assert_eq!(
            value["seconds"],
            json!({ "least": 185.0, "most": 185.0, "untimed": 1 })
        );
    }
}
