//! What must hold for any bytes, one function a target. The fuzzer calls them with what it makes up,
//! `frontend/lower/tests/fuzz.rs` with what was saved.

use std::collections::BTreeMap;

use dockerfile_parser::glob::Glob;
use dockerfile_parser::ignore::Patterns;
use dockerfile_parser::{
    Command, Directives, Dockerfile, Flag, Healthcheck, Instruction, InstructionKind, Parse, Span,
    Transfer, TransferSource, duration, excerpt, parse, parse_trigger, words,
};
use lower::{BaseImage, Images, Options, ResolveError};
use oci::{Platform, Reference};

/// A Dockerfile: read, its places shown, and planned on top of nothing.
pub(crate) fn parser(data: &[u8]) {
    let parse = parse(data);
    for problem in &parse.problems {
        check_span(data, problem.span);
        let (first, last) = (problem.span.first_line, problem.span.last_line);
        let shown = excerpt("Dockerfile", data, first, last);
        assert!(shown.len() <= data.len() * 3 + 64 * (last - first + 8));
    }
    for instruction in &parse.dockerfile.instructions {
        check_span(data, instruction.span);
    }
    let _ = parse_trigger(&String::from_utf8_lossy(data));
    plan(&parse);
}

/// A word; its first byte says which variables there are and what escapes.
pub(crate) fn words(data: &[u8]) {
    let Some((&choice, word)) = data.split_first() else {
        return;
    };
    let word = String::from_utf8_lossy(word);
    let escape = if choice & 1 == 0 { '\\' } else { '`' };
    let value = match choice >> 1 & 3 {
        0 => None,
        1 => Some(""),
        2 => Some("a b*?\\"),
        _ => Some("$x'\"/"),
    };
    let lookup = |name: &str| value.filter(|_| name != "unset").map(str::to_owned);
    let text = words::expand(&word, &lookup, escape);
    let parts = words::expand_words(&word, &lookup, escape);
    assert_eq!(text.is_ok(), parts.is_ok());
    if let Ok(parts) = parts {
        assert!(parts.words.iter().all(|it| !it.is_empty()));
    }
    let _ = words::expand_set(&word, &lookup, escape);
    let _ = words::expand_keeping_quotes(&word, &lookup, escape);
    let _ = words::expand_for_display(&word, &lookup, escape);
    if let Ok(body) = words::expand_heredoc(&word, &lookup) {
        assert!(word.contains(['$', '\\']) || body.text == word);
    }
}

/// What stands behind `RUN` and `COPY`: here-documents are part of what was written.
pub(crate) fn heredoc(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace('\r', "");
    for keyword in ["RUN", "COPY", "ADD", "ONBUILD COPY"] {
        let file = format!("FROM scratch\n{keyword} {text}");
        let parse = parse(file.as_bytes());
        for instruction in &parse.dockerfile.instructions {
            for body in heredocs(instruction) {
                assert!(body.chomp || file.contains(&body.content), "{body:?}");
                assert!(!body.name.is_empty());
            }
        }
        plan(&parse);
    }
}

/// An ignore file, and behind the first NUL a path: a walk finds what asking finds.
pub(crate) fn ignore(data: &[u8]) {
    let end = data.iter().position(|&it| it == 0).unwrap_or(data.len());
    let (file, path) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    for line in String::from_utf8_lossy(file).lines() {
        if let Ok(glob) = Glob::new(line) {
            glob.is_match(path);
        }
    }
    let Ok(patterns) = Patterns::parse(file) else {
        return;
    };
    patterns.is_excluded(path);
    patterns.may_reinclude_below(path);
    let is_plain = |it: &[u8]| !matches!(it, b"" | b"." | b"..");
    let mut visit = patterns.root();
    let mut end = 0;
    for part in path.split(|&it| it == b'/') {
        if !is_plain(part) {
            return;
        }
        end += part.len();
        visit = patterns.visit(&path[..end], &visit);
        assert_eq!(
            patterns.excludes(&visit),
            patterns.is_excluded(&path[..end])
        );
        end += 1;
    }
}

/// An image's name: its full form and its short one mean the same. A platform likewise.
pub(crate) fn reference(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(reference) = text.parse::<Reference>() {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(form.parse().as_ref(), Ok(&reference), "{form}");
        }
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse().as_ref(), Ok(&platform));
    }
}

/// The value of a `RUN --mount`.
pub(crate) fn mount(data: &[u8]) {
    let mount = flag("mount", &String::from_utf8_lossy(data));
    let run = InstructionKind::Run {
        flags: vec![mount.clone(), mount],
        command: Command::Shell("true".to_owned()),
        heredocs: Vec::new(),
    };
    plan_of(vec![run]);
}

/// The values of the other flags and of what has a grammar of its own.
pub(crate) fn flags(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let _ = duration::parse(&text);
    for name in ["chown", "chmod", "exclude", "from", "link", "parents"] {
        plan_of(vec![InstructionKind::Copy(transfer(name, &text))]);
    }
    for name in ["checksum", "keep-git-dir", "unpack"] {
        plan_of(vec![InstructionKind::Add(transfer(name, &text))]);
    }
    for name in ["interval", "retries"] {
        plan_of(vec![InstructionKind::Healthcheck(Healthcheck::Cmd {
            flags: vec![flag(name, &text)],
            command: Command::Exec(vec!["x".to_owned()]),
        })]);
    }
    plan_of(vec![InstructionKind::Expose(vec![text.clone()])]);
    plan_of(vec![InstructionKind::StopSignal(text.clone())]);
    plan_of(vec![InstructionKind::Workdir(text.clone())]);
    plan_of(vec![InstructionKind::Add(Transfer {
        flags: Vec::new(),
        sources: vec![TransferSource::Path(text.clone())],
        destination: text,
    })]);
}

fn check_span(data: &[u8], span: Span) {
    assert!(span.start <= span.end && span.end <= data.len(), "{span:?}");
    assert!(span.first_line <= span.last_line, "{span:?}");
}

fn heredocs(instruction: &Instruction) -> Vec<&dockerfile_parser::Heredoc> {
    match &instruction.kind {
        InstructionKind::Run { heredocs, .. } => heredocs.iter().collect(),
        InstructionKind::Copy(it) | InstructionKind::Add(it) => it
            .sources
            .iter()
            .filter_map(|it| match it {
                TransferSource::Heredoc(body) => Some(body),
                TransferSource::Path(_) => None,
            })
            .collect(),
        InstructionKind::OnBuild { trigger, .. } => heredocs(trigger),
        _ => Vec::new(),
    }
}

fn flag(name: &'static str, value: &str) -> Flag {
    Flag {
        name,
        value: Some(value.to_owned()),
        span: Span::default(),
    }
}

fn transfer(name: &'static str, value: &str) -> Transfer {
    Transfer {
        flags: vec![flag(name, value)],
        sources: vec![TransferSource::Path("a".to_owned())],
        destination: "/b/".to_owned(),
    }
}

/// Plans `kinds` behind a `FROM scratch`, without a text that they would have come from.
fn plan_of(kinds: Vec<InstructionKind>) {
    let from = InstructionKind::From {
        platform: None,
        image: "scratch".to_owned(),
        name: Some("base".to_owned()),
        as_keyword: Some("AS".to_owned()),
    };
    let instruction = |kind| Instruction {
        span: Span::default(),
        original: "X".to_owned(),
        comments: Vec::new(),
        kind,
    };
    let dockerfile = Dockerfile {
        directives: Directives::default(),
        instructions: [from].into_iter().chain(kinds).map(instruction).collect(),
    };
    plan(&Parse {
        dockerfile,
        problems: Vec::new(),
    });
}

/// Plans what was read, as if there had been no problems: each stage on its own.
fn plan(parse: &Parse) {
    let mut options = Options::new(Platform::new("linux", "amd64", None));
    options.build_args = BTreeMap::from([("X".to_owned(), "x y".to_owned())]);
    options.ignore = vec!["b*".to_owned()];
    match lower::plan(&parse.dockerfile, &options, &NoImages) {
        Ok(plan) => {
            let entries = &plan.config.history;
            assert_eq!(
                entries.iter().filter(|it| !it.empty_layer).count(),
                plan.layers.len()
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A world without images: `scratch` is all there is.
struct NoImages;

impl Images for NoImages {
    fn resolve(&self, reference: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
        Err(format!("no such image: {reference}").into())
    }
}
