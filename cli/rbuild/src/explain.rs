//! `explain`: why the steps of the latest build ran.

use engine::{Engine, Explanation};
use store::Store;

use crate::args::ExplainArgs;
use crate::fault::Fault;
use crate::output::print;

/// Prints a sentence for each step that ran.
pub(crate) fn explain(store: Store, args: &ExplainArgs) -> Result<(), Fault> {
    let Some(steps) = Engine::new(store).explain(None)? else {
        return Err(Fault::from(anyhow::anyhow!("there was no build yet")));
    };
    let asked = |it: &&Explanation| args.step.as_ref().is_none_or(|step| is_meant(it, step));
    let asked: Vec<&Explanation> = steps.iter().filter(asked).collect();
    if steps.is_empty() && !args.json {
        return Ok(print("nothing ran: everything was in the cache\n")?);
    }
    if asked.is_empty()
        && let Some(step) = &args.step
    {
        return Err(Fault::from(anyhow::anyhow!("no step that ran is `{step}`"))
            .hint("`rbuild explain` lists those that did"));
    }
    let line = |it: &&Explanation| {
        if !args.json {
            let failed = it.failed.as_ref();
            let failed = failed.map_or(String::new(), |why| format!("; it failed: {why}"));
            return format!("{}: {}{failed}\n", it.step, it.sentence());
        }
        let mut value = serde_json::to_value(it).unwrap_or_default();
        value["sentence"] = it.sentence().into();
        format!("{value}\n")
    };
    Ok(print(&asked.iter().map(line).collect::<String>())?)
}

/// Whether a person means this step: by its line in the Dockerfile or its number in its stage (`3`,
/// `3/5`, `build 3/5`), by the name of the stage, or by words of its instruction, in any case.
fn is_meant(step: &Explanation, asked: &str) -> bool {
    let asked = asked.trim();
    let (place, instruction) = match step
        .step
        .strip_prefix('[')
        .and_then(|it| it.split_once("] "))
    {
        Some((place, instruction)) => (place, instruction),
        None => ("", step.step.as_str()),
    };
    let (stage, number) = place.rsplit_once(' ').unwrap_or(("", place));
    let asked = match asked.strip_prefix('[') {
        // As it stands in the progress.
        Some(_) if step.step.starts_with(asked) => return true,
        Some(rest) => rest.trim_end_matches(']'),
        None => asked,
    };
    if asked.bytes().all(|it| it.is_ascii_digit()) {
        let line = step.line.map(|line| line.to_string());
        let position = number.split('/').next();
        return line.as_deref() == Some(asked) || position == Some(asked);
    }
    asked == place
        || asked == number
        || asked == stage
        || instruction.to_lowercase().contains(&asked.to_lowercase())
}

#[cfg(test)]
mod tests {
    use engine::{Cause, Plain};

    use super::*;

    #[test]
    fn a_step_is_meant_by_number_line_stage_or_words() {
        let step = Explanation {
            step: "[build 3/5] RUN make all".to_owned(),
            line: Some(7),
            cause: Cause::Plain(Plain::First),
            failed: None,
        };
        for asked in [
            "3",
            "7",
            "3/5",
            "build 3/5",
            "[build 3/5]",
            "[build 3/5] RUN",
            "build",
            "run",
            "make",
            "RUN make all",
        ] {
            assert!(is_meant(&step, asked), "{asked}");
        }
        for asked in ["5", "4", "3/4", "[test 3/5]", "COPY", "bui"] {
            assert!(!is_meant(&step, asked), "{asked}");
        }
    }
}
