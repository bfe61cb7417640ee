//! `--check` and `--call`: what a Dockerfile says about itself, as text or JSON.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Answer, Answered, Call, Engine, Given, Lent, Outline, Target, Warning};
use llb::SourceRange;
use serde_json::{Map, Value, json};

use super::in_words;
use super::request::Meant;
use super::subrequests;
use crate::args::BuildArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::report::clean_lines;

/// What `--call` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is asked of the Dockerfile; `None` asks what can be asked.
    call: Option<Call>,
    format: Format,
    /// Whether warnings leave the exit status alone.
    ignores_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Asked {
    const CHECK: Self = Self {
        call: Some(Call::Check),
        format: Format::Text,
        ignores_status: false,
    };

    /// Reads `check,format=json,ignorestatus`. `None` is the question that is no question: `build`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let mut fields = text.split(',').map(str::trim);
        let call = match fields.next().unwrap_or_default() {
            "build" => return Ok(None),
            "check" | "lint" => Some(Call::Check),
            "outline" => Some(Call::Outline),
            "targets" => Some(Call::Targets),
            "convertllb" => Some(Call::Graph),
            "subrequests.describe" => None,
            other => {
                return Err(format!(
                    "there is no question `{other}`: ask for check, outline, targets, convertllb or subrequests.describe"
                ));
            }
        };
        let mut asked = Self {
            call,
            ..Self::CHECK
        };
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match (key, value) {
                ("format", "json") => asked.format = Format::Json,
                ("format", "text" | "") => asked.format = Format::Text,
                ("ignorestatus", "" | "true") => asked.ignores_status = true,
                ("ignorestatus", "false") => asked.ignores_status = false,
                _ => {
                    return Err(format!(
                        "`{field}` means nothing here: it is format=json, format=text or ignorestatus"
                    ));
                }
            }
        }
        Ok(Some(asked))
    }

    /// What is asked by `--check` and `--call` together.
    pub(super) fn by(args: &BuildArgs) -> Option<Self> {
        args.call.flatten().or(args.check.then_some(Self::CHECK))
    }
}

/// Asks, prints the answer, and says by the exit status whether all is well.
pub(super) fn ask(engine: &Engine, meant: &Meant, asked: Asked) -> Result<(), Fault> {
    let Some(call) = asked.call else {
        return Ok(print(&match asked.format {
            Format::Text => subrequests::description_text(),
            Format::Json => pretty(&subrequests::description()),
        })?);
    };
    let answered = engine.call(&meant.request, call, &|_| {});
    let answered = answered.map_err(|error| in_words(error, None))?;
    print(&text(&answered, asked.format))?;
    let Answer::Check { warnings, error } = answered.answer else {
        return Ok(());
    };
    match error {
        Some(_) if asked.format == Format::Json && asked.ignores_status => Ok(()),
        Some(_) if asked.format == Format::Json => Err(Fault::silent(Exit::Failure)),
        Some(error) => Err(in_words(error, None)),
        None if warnings.is_empty() || asked.ignores_status => Ok(()),
        None => Err(Fault::silent(Exit::Failure)),
    }
}

fn text(answered: &Answered, format: Format) -> String {
    match (&answered.answer, format) {
        (Answer::Check { warnings, error }, Format::Text) => {
            check(answered, warnings, error.is_some())
        }
        (Answer::Outline(outline), Format::Text) => outline_text(outline),
        (Answer::Targets(targets), Format::Text) => targets_text(targets),
        (Answer::Graph(_), Format::Text) | (_, Format::Json) => pretty(&value(answered)),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Each warning as a block; that there is none, unless an error says enough.
fn check(answered: &Answered, warnings: &[Warning], failed: bool) -> String {
    let mut text = match warnings.len() {
        0 if failed => return String::new(),
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        text.push_str("\nWARNING: ");
        let url = warning.url();
        let link = if url.is_empty() {
            String::new()
        } else {
            format!(" - {url}")
        };
        if warning.rule.is_empty() {
            let _ = writeln!(text, "{}", warning.message);
        } else {
            let _ = writeln!(text, "{}{link}\n{}", warning.rule, warning.message);
        }
        if let Some(lines) = warning.lines {
            text.push_str(&dockerfile_parser::excerpt(
                &answered.file,
                &answered.text,
                lines.first_line,
                lines.last_line,
            ));
        }
    }
    if failed {
        text.push('\n');
    }
    clean_lines(&text)
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        let mut rows = vec![vec!["TARGET:", name]];
        rows.extend(
            outline
                .description
                .iter()
                .map(|it| vec!["DESCRIPTION:", it.as_str()]),
        );
        text.push_str(&columns(&rows));
        text.push('\n');
    }
    if !outline.args.is_empty() {
        let row = |it: &'_ Given| {
            let value = it.value.clone().unwrap_or_default();
            [
                it.name.clone(),
                value,
                it.description.clone().unwrap_or_default(),
            ]
        };
        let args: Vec<[String; 3]> = outline.args.iter().map(row).collect();
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        rows.extend(
            args.iter()
                .map(|it| it.iter().map(String::as_str).collect::<Vec<_>>()),
        );
        text.push_str(&columns(&rows));
        text.push('\n');
    }
    for (heading, lent) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if lent.is_empty() {
            continue;
        }
        let required = |it: &Lent| if it.required { "true" } else { "" };
        let mut rows = vec![vec![heading, "REQUIRED"]];
        rows.extend(lent.iter().map(|it| vec![it.id.as_str(), required(it)]));
        text.push_str(&columns(&rows));
        text.push('\n');
    }
    text
}

fn targets_text(targets: &[Target]) -> String {
    let name = |target: &Target| match (&target.name, target.is_default) {
        (None, true) => "(default)".to_owned(),
        (None, false) => String::new(),
        (Some(name), true) => format!("{name} (default)"),
        (Some(name), false) => name.clone(),
    };
    let named: Vec<String> = targets.iter().map(name).collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    for (name, target) in named.iter().zip(targets) {
        rows.push(vec![
            name,
            target.description.as_deref().unwrap_or_default(),
        ]);
    }
    columns(&rows)
}

/// Rows as columns with three blanks between them, and none at the ends of lines.
fn columns(rows: &[Vec<&str>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|it| it.chars().count()).max().unwrap_or(0) + 3
    };
    let line = |row: &Vec<&str>| {
        let cells = row.iter().enumerate();
        let line: String = cells
            .map(|(at, cell)| format!("{cell:<0$}", width(at)))
            .collect();
        format!("{}\n", line.trim_end())
    };
    clean_lines(&rows.iter().map(line).collect::<String>())
}

/// The answer in the shape of BuildKit's subrequests, without what they leave out when it is empty.
fn value(answered: &Answered) -> Value {
    let data = STANDARD.encode(&answered.text);
    match &answered.answer {
        Answer::Check { warnings, error } => {
            let warning = |it: &Warning| {
                object([
                    ("ruleName", some(it.rule)),
                    ("url", some(&it.url())),
                    ("detail", some(&it.message)),
                    ("location", it.lines.map(location)),
                ])
            };
            object([
                ("warnings", Some(warnings.iter().map(warning).collect())),
                (
                    "sources",
                    Some(
                        json!([{"filename": answered.file, "data": data, "language": "Dockerfile"}]),
                    ),
                ),
                (
                    "buildError",
                    error.as_ref().map(|error| {
                        let lines = error.place().map(|it| location(it.lines));
                        object([("message", some(&error.to_string())), ("location", lines)])
                    }),
                ),
            ])
        }
        Answer::Outline(outline) => {
            let given = |it: &Given| {
                object([
                    ("name", some(&it.name)),
                    ("description", it.description.as_deref().and_then(some)),
                    ("value", it.value.as_deref().and_then(some)),
                    ("location", Some(location(it.lines))),
                ])
            };
            let lent = |it: &Lent| {
                object([
                    ("name", some(&it.id)),
                    ("required", it.required.then_some(Value::Bool(true))),
                    ("location", Some(location(it.lines))),
                ])
            };
            let cache =
                |it: &Lent| object([("ID", some(&it.id)), ("location", Some(location(it.lines)))]);
            object([
                ("name", outline.name.as_deref().and_then(some)),
                ("description", outline.description.as_deref().and_then(some)),
                ("args", list(outline.args.iter().map(given))),
                ("secrets", list(outline.secrets.iter().map(lent))),
                ("ssh", list(outline.agents.iter().map(lent))),
                ("cache", list(outline.caches.iter().map(cache))),
                ("sources", Some(json!([data]))),
            ])
        }
        Answer::Graph(graph) => subrequests::llb(graph, &answered.file, &answered.text),
        Answer::Targets(targets) => {
            let target = |it: &Target| {
                object([
                    ("name", it.name.as_deref().and_then(some)),
                    ("default", it.is_default.then_some(Value::Bool(true))),
                    ("description", it.description.as_deref().and_then(some)),
                    ("base", some(&it.base)),
                    ("platform", it.platform.as_deref().and_then(some)),
                    ("location", Some(location(it.lines))),
                ])
            };
            object([
                ("targets", Some(targets.iter().map(target).collect())),
                ("sources", Some(json!([data]))),
            ])
        }
    }
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn some(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| Value::String(text.to_owned()))
}

fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then_some(Value::Array(values))
}

fn location(lines: SourceRange) -> Value {
    json!({"ranges": [{"start": {"line": lines.first_line}, "end": {"line": lines.last_line}}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "FROM alpine AS Base\n\nFROM base\n";

    fn answered(answer: Answer) -> Answered {
        Answered {
            answer,
            file: "Dockerfile".to_owned(),
            text: FILE.as_bytes().into(),
        }
    }

    fn lines(line: usize) -> SourceRange {
        SourceRange {
            first_line: line,
            last_line: line,
        }
    }

    fn casing() -> Warning {
        Warning {
            rule: "StageNameCasing",
            message: "Stage name 'Base' should be lowercase".to_owned(),
            lines: Some(lines(1)),
        }
    }

    fn unnamed() -> Warning {
        Warning {
            rule: "",
            message: "One or more build-args [X] were not consumed".to_owned(),
            lines: None,
        }
    }

    fn checked(warnings: Vec<Warning>) -> Answered {
        answered(Answer::Check {
            warnings,
            error: None,
        })
    }

    #[test]
    fn questions_are_read_or_refused() {
        let json = |call| Asked {
            call: Some(call),
            format: Format::Json,
            ignores_status: false,
        };
        assert_eq!(Asked::parse("check"), Ok(Some(Asked::CHECK)));
        assert_eq!(
            Asked::parse("outline,format=json"),
            Ok(Some(json(Call::Outline)))
        );
        assert_eq!(Asked::parse("build"), Ok(None));
        let asked = Asked::parse("check,ignorestatus").unwrap().unwrap();
        assert!(asked.ignores_status);
        assert!(Asked::parse("chekc").unwrap_err().contains("ask for check"));
        assert!(
            Asked::parse("check,format=xml")
                .unwrap_err()
                .contains("format=json")
        );
    }

    #[test]
    fn warnings_are_shown_with_their_lines() {
        assert_eq!(
            text(&checked(Vec::new()), Format::Text),
            "Check complete, no warnings found.\n"
        );
        let expected = "Check complete, 1 warning has been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Base' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM alpine AS Base
   2 |
   3 |     FROM base
--------------------
";
        assert_eq!(text(&checked(vec![casing()]), Format::Text), expected);
        let both = text(&checked(vec![casing(), unnamed()]), Format::Text);
        assert!(
            both.starts_with("Check complete, 2 warnings have been found!\n\nWARNING: StageName")
        );
        assert!(both.ends_with("\nWARNING: One or more build-args [X] were not consumed\n"));
    }

    #[test]
    fn a_check_as_json_has_buildkits_shape() {
        let expected = json!({
            "warnings": [{
                "ruleName": "StageNameCasing",
                "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
                "detail": "Stage name 'Base' should be lowercase",
                "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
            }],
            "sources": [{"filename": "Dockerfile", "data": STANDARD.encode(FILE), "language": "Dockerfile"}],
        });
        assert_eq!(value(&checked(vec![casing()])), expected);
        assert_eq!(value(&checked(Vec::new()))["warnings"], json!([]));
    }

    #[test]
    fn an_outline_is_tables_with_blank_lines_between() {
        let given = |name: &str, value: Option<&str>, description: Option<&str>| Given {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            description: description.map(str::to_owned),
            lines: lines(1),
        };
        let lent = |id: &str, required| Lent {
            id: id.to_owned(),
            required,
            lines: lines(1),
        };
        let outline = Outline {
            name: Some("app".to_owned()),
            description: Some("serves".to_owned()),
            args: vec![
                given("VERSION", Some("1.2"), Some("what to build")),
                given("X", None, None),
            ],
            secrets: vec![lent("token", true), lent("key", false)],
            agents: vec![lent("default", false)],
            caches: vec![lent("/root/.cache", false)],
        };
        let expected = "\
TARGET:        app
DESCRIPTION:   serves

BUILD ARG   VALUE   DESCRIPTION
VERSION     1.2     what to build
X

SECRET   REQUIRED
token    true
key

SSH       REQUIRED
default

";
        assert_eq!(outline_text(&outline), expected);
        let json = value(&answered(Answer::Outline(outline)));
        assert_eq!(json["secrets"][0]["required"], json!(true));
        assert_eq!(json["args"][1].get("value"), None);
        assert_eq!(json["cache"][0]["ID"], json!("/root/.cache"));
        assert_eq!(outline_text(&Outline::default()), "");
    }

    #[test]
    fn targets_are_a_table_that_marks_the_default() {
        let target = |name: Option<&str>, is_default, description: Option<&str>| Target {
            name: name.map(str::to_owned),
            is_default,
            description: description.map(str::to_owned),
            base: "alpine".to_owned(),
            platform: None,
            lines: lines(1),
        };
        let targets = [
            target(Some("build"), false, Some("compiles")),
            target(None, false, None),
            target(Some("app"), true, None),
        ];
        let expected = "TARGET          DESCRIPTION\nbuild           compiles\n\napp (default)\n";
        assert_eq!(targets_text(&targets), expected);
        let alone = [target(None, true, None)];
        assert_eq!(targets_text(&alone), "TARGET      DESCRIPTION\n(default)\n");
        let json = value(&answered(Answer::Targets(alone.to_vec())));
        assert_eq!(json["targets"][0]["default"], json!(true));
        assert_eq!(json["targets"][0].get("name"), None);
    }
}
