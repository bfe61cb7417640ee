//! Dockerfiles beside the trees they are read into, in `testdata/dockerfile/parse`.
//!
//! `NAME.Dockerfile` stands beside `NAME.tree`; `UPDATE_EXPECT=1` rewrites the trees.
//!
//! The catalogue of Dockerfile gotchas is covered by these: G1 `from_*`, G2 `inline_hash_*`, G3
//! `comments_in_*`, G4 `escaped_escape_*` and `backtick_escape`, G5 `blanks_after_continuation`, G6
//! `continuation_at_end_*`, G7 `unknown_directive_*`, G8 and G9 `flags_*`, G10 `double_dash_*`, G11
//! `json_*`, G12 `copy_*`, G13 and G14 `env_*` and `label_forms`, G15 `expose`, G16 `volume`, G17
//! `healthcheck*`, G18 `several_cmds_*`, G19 `onbuild*`, G20 `heredoc_chomp_*` and `heredoc_quoting`,
//! G21 `heredoc_not_in_json_*`, G22 `heredoc_run_*`, G24 `*crlf`, G25 `byte_order_mark`. G23 and the
//! expansion half of G13 and G14 are in the table of `words`, G58 in that of `glob`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use dockerfile_parser::{
    Command, Directives, Flag, Healthcheck, Heredoc, Instruction, InstructionKind, KeyValues,
    Parse, Problem, Severity, Span, Transfer, TransferSource, parse,
};

#[test]
fn dockerfiles_are_read_into_their_trees() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile/parse");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let cases = cases(&directory);
    assert!(
        cases.len() >= 60,
        "only {} cases in {}",
        cases.len(),
        directory.display()
    );
    let mut wrong = Vec::new();
    for case in cases {
        let text = std::fs::read(&case).unwrap();
        let drawn = draw(&text, &parse(&text));
        let expected = case.with_extension("tree");
        if update {
            std::fs::write(&expected, drawn).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != drawn {
            wrong.push(format!("{}\n{drawn}", expected.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "these differ, here as they are now:\n{}",
        wrong.join("\n")
    );
}

fn cases(directory: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the cases are there")
        .map(|entry| entry.expect("the cases can be listed").path())
        .filter(|path| path.extension().is_some_and(|it| it == "Dockerfile"))
        .collect();
    cases.sort();
    cases
}

/// The whole of a [`Parse`] as text, one thing a line.
fn draw(text: &[u8], parse: &Parse) -> String {
    let mut lines = directives(&parse.dockerfile.directives);
    for it in &parse.dockerfile.instructions {
        lines.extend(instruction(text, it));
    }
    lines.extend(parse.problems.iter().map(|it| problem(text, it)));
    lines.into_iter().fold(String::new(), |mut all, line| {
        writeln!(all, "{line}").expect("a string takes all");
        all
    })
}

fn directives(directives: &Directives) -> Vec<String> {
    let at = |name: &str, it: &Option<(String, Span)>| {
        it.as_ref()
            .map(|(value, span)| format!("{name} {value:?} on line {}", span.first_line))
    };
    let escape = (directives.escape != '\\').then(|| format!("escape {:?}", directives.escape));
    [
        at("syntax", &directives.syntax),
        escape,
        at("check", &directives.check),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn instruction(text: &[u8], it: &Instruction) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} | {}",
        lines_of(it.span),
        it.keyword(),
        it.original
    )];
    lines.extend(
        it.comments
            .iter()
            .map(|comment| format!("    comment {comment:?}")),
    );
    lines.extend(
        kind(text, &it.kind)
            .into_iter()
            .map(|line| format!("    {line}")),
    );
    lines
}

fn lines_of(span: Span) -> String {
    if span.first_line == span.last_line {
        span.first_line.to_string()
    } else {
        format!("{}-{}", span.first_line, span.last_line)
    }
}

fn kind(text: &[u8], kind: &InstructionKind) -> Vec<String> {
    match kind {
        InstructionKind::From {
            platform,
            image,
            name,
            as_keyword,
        } => {
            vec![format!(
                "image {image:?} name {name:?} as {as_keyword:?} platform {platform:?}"
            )]
        }
        InstructionKind::Arg(declared) => declared
            .iter()
            .map(|(name, value)| format!("{name} = {value:?}"))
            .collect(),
        InstructionKind::Env(it) | InstructionKind::Label(it) => key_values(it),
        InstructionKind::Run {
            flags,
            command: run,
            heredocs,
        } => flags
            .iter()
            .map(|it| flag(text, it))
            .chain([command(run)])
            .chain(heredocs.iter().map(heredoc))
            .collect(),
        InstructionKind::Cmd(it) | InstructionKind::Entrypoint(it) => vec![command(it)],
        InstructionKind::Shell(words)
        | InstructionKind::Expose(words)
        | InstructionKind::Volume(words) => {
            vec![format!("{words:?}")]
        }
        InstructionKind::Copy(it) | InstructionKind::Add(it) => transfer(text, it),
        InstructionKind::Workdir(it)
        | InstructionKind::User(it)
        | InstructionKind::StopSignal(it)
        | InstructionKind::Maintainer(it) => vec![format!("{it:?}")],
        InstructionKind::Healthcheck(Healthcheck::None) => vec!["none".to_owned()],
        InstructionKind::Healthcheck(Healthcheck::Cmd {
            flags,
            command: check,
        }) => flags
            .iter()
            .map(|it| flag(text, it))
            .chain([command(check)])
            .collect(),
        InstructionKind::OnBuild {
            text: trigger_text,
            trigger,
        } => {
            let mut lines = vec![format!("text {trigger_text:?}")];
            lines.extend(instruction(text, trigger));
            lines
        }
    }
}

fn key_values(it: &KeyValues) -> Vec<String> {
    let legacy = if it.legacy { " (legacy)" } else { "" };
    it.pairs
        .iter()
        .map(|(key, value)| format!("{key:?} = {value:?}{legacy}"))
        .collect()
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(text) => format!("shell {text:?}"),
        Command::Exec(words) => format!("exec {words:?}"),
    }
}

fn transfer(text: &[u8], it: &Transfer) -> Vec<String> {
    let sources = it.sources.iter().map(|source| match source {
        TransferSource::Path(path) => format!("source {path:?}"),
        TransferSource::Heredoc(it) => format!("source {}", heredoc(it)),
    });
    let destination = format!("destination {:?}", it.destination);
    it.flags
        .iter()
        .map(|it| flag(text, it))
        .chain(sources)
        .chain([destination])
        .collect()
}

fn flag(text: &[u8], it: &Flag) -> String {
    let written = String::from_utf8_lossy(&text[it.span.start..it.span.end]);
    format!(
        "flag {} = {:?}, written {written:?} on line {}",
        it.name,
        it.value,
        lines_of(it.span)
    )
}

fn heredoc(it: &Heredoc) -> String {
    let expand = if it.expand { "expanded" } else { "verbatim" };
    let chomp = if it.chomp { " chomped" } else { "" };
    format!(
        "heredoc {:?} fd {} {expand}{chomp} {:?}",
        it.name, it.file_descriptor, it.content
    )
}

fn problem(text: &[u8], it: &Problem) -> String {
    let place = String::from_utf8_lossy(&text[it.span.start..it.span.end]);
    let severity = match it.severity {
        Severity::Error => "error".to_owned(),
        Severity::Warning { rule } => format!("warning {rule}"),
    };
    let suggestion = it
        .suggestion
        .as_ref()
        .map(|it| format!(" [{it}]"))
        .unwrap_or_default();
    format!(
        "{severity} on {}: {it}{suggestion} at {place:?}",
        lines_of(it.span)
    )
}
