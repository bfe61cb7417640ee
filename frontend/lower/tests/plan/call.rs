//! Dockerfiles beside what they say of themselves: `testdata/dockerfile/call/NAME.Dockerfile` and
//! `NAME.call`. The first word of the name is the question.

use std::fmt::Write as _;

use lower::{Given, Lent, Outline, PlanError, Target, Warning};

use crate::images::Shelf;

#[test]
fn every_question_has_its_answer() {
    crate::check_cases("call", "call", 15, |name, text| {
        match name.split('-').next() {
            Some("outline") => outline(text),
            Some("targets") => targets(text),
            _ => check(text),
        }
    });
}

fn check(text: &str) -> String {
    let parse = dockerfile_parser::parse(text.as_bytes());
    let options = crate::options_for(text, &parse);
    let checked = lower::check(&parse.dockerfile, &options, &Shelf::new());
    let mut drawn: String = checked.warnings.iter().map(warning).collect();
    if let Some(error) = checked.error {
        drawn.push_str(&crate::draw::error(&error));
    }
    drawn
}

fn warning(it: &Warning) -> String {
    let line = it.lines.map_or(0, |it| it.first_line);
    format!("line {line} {}: {}\n", it.rule, it.message)
}

fn targets(text: &str) -> String {
    let parse = dockerfile_parser::parse(text.as_bytes());
    let target = |it: &Target| {
        let default = if it.is_default { " (default)" } else { "" };
        format!(
            "line {} {:?}{default}: {:?} from {:?} on {:?}\n",
            it.lines.first_line, it.name, it.description, it.base, it.platform
        )
    };
    match lower::targets(&parse.dockerfile) {
        Ok(targets) => targets.iter().map(target).collect(),
        Err(error) => crate::draw::error(&error),
    }
}

fn outline(text: &str) -> String {
    let parse = dockerfile_parser::parse(text.as_bytes());
    let options = crate::options_for(text, &parse);
    drawn(lower::outline(&parse.dockerfile, &options, &Shelf::new()))
}

fn drawn(outline: Result<Outline, PlanError>) -> String {
    let outline = match outline {
        Ok(outline) => outline,
        Err(error) => return crate::draw::error(&error),
    };
    let mut text = format!("target {:?}: {:?}\n", outline.name, outline.description);
    for Given {
        name,
        value,
        description,
        lines,
    } in &outline.args
    {
        let line = lines.first_line;
        let _ = writeln!(text, "line {line} arg {name} = {value:?}: {description:?}");
    }
    let kinds = [
        ("secret", &outline.secrets),
        ("agent", &outline.agents),
        ("cache", &outline.caches),
    ];
    for (kind, lent) in kinds {
        for Lent {
            id,
            required,
            lines,
        } in lent
        {
            let required = if *required { " required" } else { "" };
            let _ = writeln!(text, "line {} {kind} {id}{required}", lines.first_line);
        }
    }
    text
}
