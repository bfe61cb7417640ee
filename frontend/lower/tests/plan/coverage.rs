//! The whole language, part by part, beside the cases that have that part in them:
//! `testdata/dockerfile/coverage.md`, which is made from the cases and never written by hand. New
//! cases need no new table; what the table says must be true.
//!
//! A part counts as covered where a case with it comes to a plan. Flags, keys of mounts and the
//! rest are read off the cases' trees, so that a part that stands here and in no case is found, and
//! also one that a case has and that does not stand here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dockerfile_parser::{
    Command, Dockerfile, Flag, Healthcheck, Instruction, InstructionKind, KeyValues, Transfer,
    TransferSource,
};

/// What can be written, by instruction.
const LANGUAGE: &[(&str, &[&str])] = &[
    (
        "directives",
        &[
            "syntax",
            "escape",
            "check=skip",
            "check=error",
            "check=experimental",
            "check above an instruction",
        ],
    ),
    (
        "FROM",
        &[
            "an image",
            "a stage",
            "scratch",
            "a variable",
            "AS",
            "--platform",
        ],
    ),
    (
        "ARG",
        &["before FROM", "without default", "with default", "several"],
    ),
    ("ENV", &["KEY=VALUE", "several", "KEY VALUE"]),
    ("LABEL", &["KEY=VALUE", "several", "KEY VALUE"]),
    (
        "RUN",
        &[
            "shell form",
            "JSON form",
            "a heredoc alone",
            "a heredoc with its interpreter",
            "heredocs of a command",
            "--network=default",
            "--network=none",
            "--network=host",
            "--security=sandbox",
            "--security=insecure",
            "--device",
            "--retry",
            "--timeout",
            "--cache-ttl",
        ],
    ),
    (
        "RUN --mount=type=bind",
        &[
            "without type",
            "type",
            "target",
            "dst",
            "destination",
            "source",
            "src",
            "from",
            "rw",
            "readwrite",
            "ro",
            "readonly",
        ],
    ),
    (
        "RUN --mount=type=cache",
        &[
            "type",
            "target",
            "id",
            "from",
            "source",
            "sharing=shared",
            "sharing=private",
            "sharing=locked",
            "ro",
            "mode",
            "uid",
            "gid",
        ],
    ),
    ("RUN --mount=type=tmpfs", &["type", "target", "size"]),
    (
        "RUN --mount=type=secret",
        &[
            "type", "target", "id", "source", "required", "mode", "uid", "gid", "env",
        ],
    ),
    (
        "RUN --mount=type=ssh",
        &["type", "target", "id", "required", "mode", "uid", "gid"],
    ),
    ("CMD", &["shell form", "JSON form"]),
    ("ENTRYPOINT", &["shell form", "JSON form"]),
    ("SHELL", &["JSON form"]),
    (
        "COPY",
        &[
            "words",
            "JSON form",
            "a heredoc",
            "several sources",
            "--from",
            "--chown",
            "--chmod",
            "--link",
            "--link=false",
            "--parents",
            "--exclude",
        ],
    ),
    (
        "ADD",
        &[
            "words",
            "JSON form",
            "a heredoc",
            "several sources",
            "--chown",
            "--chmod",
            "--link",
            "--link=false",
            "--exclude",
            "--checksum",
            "--keep-git-dir",
            "--unpack",
            "--unpack=false",
            "an address",
            "a repository",
        ],
    ),
    (
        "WORKDIR",
        &["a path from the root", "a path from where it is"],
    ),
    ("USER", &["a user", "a user and a group"]),
    ("EXPOSE", &["a port", "a port and its protocol", "a range"]),
    ("VOLUME", &["words", "JSON form"]),
    ("STOPSIGNAL", &["a name", "a number"]),
    (
        "HEALTHCHECK",
        &[
            "shell form",
            "JSON form",
            "NONE",
            "--interval",
            "--timeout",
            "--start-period",
            "--start-interval",
            "--retries",
        ],
    ),
    (
        "ONBUILD",
        &[
            "ADD",
            "ARG",
            "CMD",
            "COPY",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "HEALTHCHECK",
            "LABEL",
            "RUN",
            "SHELL",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
            "COPY --from",
            "RUN --mount=from",
            "a heredoc",
        ],
    ),
    ("MAINTAINER", &["words"]),
    (
        "${}",
        &[
            "NAME",
            ":-",
            "-",
            ":+",
            "+",
            ":?",
            "?",
            "#",
            "##",
            "%",
            "%%",
            "/",
            "//",
            "one inside another",
        ],
    ),
    (
        "arguments that need no value from anybody",
        &[
            "TARGETPLATFORM",
            "TARGETOS",
            "TARGETOSVERSION",
            "TARGETARCH",
            "TARGETVARIANT",
            "TARGETSTAGE",
            "BUILDPLATFORM",
            "BUILDOS",
            "BUILDOSVERSION",
            "BUILDARCH",
            "BUILDVARIANT",
        ],
    ),
    (
        "--build-arg",
        &[
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "FTP_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
            "BUILDKIT_CACHE_MOUNT_NS",
            "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
            "BUILDKIT_DOCKERFILE_CHECK",
            "BUILDKIT_INLINE_CACHE",
            "BUILDKIT_MULTI_PLATFORM",
            "BUILDKIT_SANDBOX_HOSTNAME",
            "BUILDKIT_SYNTAX",
            "SOURCE_DATE_EPOCH",
        ],
    ),
];

/// Parts that no plan can have in it, and why.
const REASONS: &[(&str, &str, &str)] = &[];

/// A part of the language: what it belongs to, and which.
type Part = (String, String);

/// Where parts were found.
#[derive(Debug, Default)]
struct Found {
    planned: BTreeMap<Part, BTreeSet<String>>,
    refused: BTreeMap<Part, BTreeSet<String>>,
}

#[test]
fn every_part_of_the_language_is_in_a_case_that_comes_to_a_plan() {
    let mut found = Found::default();
    for folder in ["plan", "parse", "call"] {
        for case in crate::cases(folder) {
            let bytes = fs::read(&case).expect("a case can be read");
            let text = String::from_utf8_lossy(&bytes);
            let stem = case.file_stem().expect("a name").to_string_lossy();
            // `#=` lines set options of plans only, and other cases are there to be read.
            let planned = folder == "plan" && !is_refusal(&case.with_extension("plan"));
            let name = format!("{folder}/{stem}");
            found.take(&name, &text, planned);
            if folder == "plan" {
                found.take_warnings(&name, &case.with_extension("plan"));
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile/coverage.md");
    let table = table(&found);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &table).expect("the table can be written");
    }
    let missing: Vec<String> = language()
        .filter(|part| !found.planned.contains_key(part) && reason(part).is_none())
        .map(|(of, part)| format!("{of}: {part}"))
        .collect();
    assert!(
        missing.is_empty(),
        "no case comes to a plan with: {missing:#?}"
    );
    let known_in_order: Vec<Part> = language().collect();
    let known: BTreeSet<Part> = known_in_order.iter().cloned().collect();
    let unknown: Vec<&Part> = found
        .planned
        .keys()
        .filter(|it| !known.contains(*it))
        .collect();
    assert!(
        unknown.is_empty(),
        "cases have what LANGUAGE does not: {unknown:#?}"
    );
    let written = fs::read_to_string(&path).expect("the table is there");
    let rows: Vec<Row> = written.lines().filter_map(Row::read).collect();
    assert_eq!(
        rows.iter().map(|it| &it.part).collect::<Vec<_>>(),
        known_in_order.iter().collect::<Vec<_>>(),
        "coverage.md has other rows than LANGUAGE: run with UPDATE_EXPECT=1"
    );
    for row in rows {
        row.check(&found);
    }
}

/// A row of the table as it was written.
struct Row {
    part: Part,
    planned: Vec<String>,
    refused: Vec<String>,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [of, part, planned, refused] = cells[..] else {
            return None;
        };
        let quoted = |cell: &str| -> Vec<String> {
            let pieces = cell.split('`').skip(1).step_by(2);
            pieces.map(str::to_owned).collect()
        };
        Some(Self {
            part: (quoted(of).pop()?, quoted(part).pop()?),
            planned: quoted(planned),
            refused: quoted(refused),
        })
    }

    fn check(&self, found: &Found) {
        let part = &self.part;
        assert!(
            !self.planned.is_empty() || reason(part).is_some(),
            "{part:?} has no case in coverage.md: run with UPDATE_EXPECT=1"
        );
        for (cases, found) in [
            (&self.planned, &found.planned),
            (&self.refused, &found.refused),
        ] {
            for case in cases {
                assert!(
                    found.get(part).is_some_and(|it| it.contains(case)),
                    "coverage.md says that {case} has {part:?}: run with UPDATE_EXPECT=1"
                );
            }
        }
    }
}

/// All parts in the order of the table.
fn language() -> impl Iterator<Item = Part> {
    let parts = LANGUAGE.iter().flat_map(|(of, parts)| {
        parts
            .iter()
            .map(|part| ((*of).to_owned(), (*part).to_owned()))
    });
    parts.chain(rules().into_iter().map(|it| (LINT.to_owned(), it)))
}

const LINT: &str = "lint";

/// The rules, by their pages: `stage_name_casing.md` is `StageNameCasing`.
fn rules() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lint");
    let entries = fs::read_dir(folder).expect("the rules are there");
    let paths = entries.map(|it| it.expect("an entry of a directory").path());
    let pages = paths.filter(|it| it.extension().is_some_and(|it| it == "md"));
    let name = |page: PathBuf| -> String {
        let stem = page.file_stem().expect("a name").to_string_lossy();
        stem.split('_').map(title).collect()
    };
    pages.map(name).collect()
}

fn title(word: &str) -> String {
    match word {
        // The one abbreviation among them.
        "json" => "JSON".to_owned(),
        word => format!("{}{}", word[..1].to_uppercase(), &word[1..]),
    }
}

fn reason((of, part): &Part) -> Option<&'static str> {
    let found = REASONS.iter().find(|it| it.0 == of && it.1 == part);
    found.map(|it| it.2)
}

fn is_refusal(plan: &Path) -> bool {
    let plan = fs::read_to_string(plan).unwrap_or_default();
    plan.starts_with("error") || plan.starts_with("not parsed")
}

/// At most so many cases a cell: the table is there to be read.
const SHOWN: usize = 3;

fn table(found: &Found) -> String {
    let mut table = String::from(
        "# Every part of the language, and its cases\n\n\
         Made from the cases by `frontend/lower/tests/plan/coverage.rs`, which fails where a part is in none or what is said\n\
         here is not so. Do not write here by hand, `UPDATE_EXPECT=1 cargo test -p lower` does. A case is\n\
         `FOLDER/NAME.Dockerfile` in this folder; of many, three are named.\n\n\
         | instruction | part | it works in | it is only read, or refused, in |\n|---|---|---|---|\n",
    );
    for part in language() {
        let planned = match reason(&part) {
            Some(reason) => reason.to_owned(),
            None => cell(found.planned.get(&part)),
        };
        let refused = cell(found.refused.get(&part));
        let (of, part) = part;
        let _ = writeln!(table, "| `{of}` | `{part}` | {planned} | {refused} |");
    }
    table
}

fn cell(cases: Option<&BTreeSet<String>>) -> String {
    let Some(cases) = cases else {
        return String::new();
    };
    let shown: Vec<String> = cases
        .iter()
        .take(SHOWN)
        .map(|it| format!("`{it}`"))
        .collect();
    shown.join(", ")
}

impl Found {
    fn take(&mut self, case: &str, text: &str, planned: bool) {
        let parse = dockerfile_parser::parse(text.as_bytes());
        let mut parts = BTreeSet::new();
        directives(&parse.dockerfile, &mut parts);
        let mut stages = BTreeSet::new();
        for instruction in &parse.dockerfile.instructions {
            self::instruction(instruction, &mut stages, &mut parts);
        }
        substitutions(text, &mut parts);
        build_args(text, &mut parts);
        let into = if planned {
            &mut self.planned
        } else {
            &mut self.refused
        };
        for (of, part) in parts {
            into.entry((of.to_owned(), part))
                .or_default()
                .insert(case.to_owned());
        }
    }
}

impl Found {
    fn take_warnings(&mut self, case: &str, plan: &Path) {
        let plan = fs::read_to_string(plan).unwrap_or_default();
        let warnings = plan.lines().filter_map(|it| it.strip_prefix("warning "));
        for (rule, _) in warnings.filter_map(|it| it.split_once(": ")) {
            // What is warned of without a rule has a dash there.
            if rule != "-" {
                let cases = self.planned.entry((LINT.to_owned(), rule.to_owned()));
                cases.or_default().insert(case.to_owned());
            }
        }
    }
}

type Parts = BTreeSet<(&'static str, String)>;

fn directives(dockerfile: &Dockerfile, parts: &mut Parts) {
    let directives = &dockerfile.directives;
    let mut add = |part: &str| parts.insert(("directives", part.to_owned()));
    if directives.syntax.is_some() {
        add("syntax");
    }
    if directives.escape == '`' {
        add("escape");
    }
    if let Some((check, _)) = &directives.check {
        for option in ["skip", "error", "experimental"] {
            if check.contains(&format!("{option}=")) {
                add(&format!("check={option}"));
            }
        }
    }
    let above = |it: &Instruction| it.comments.iter().any(|it| it.starts_with("check=skip="));
    if dockerfile.instructions.iter().any(above) {
        add("check above an instruction");
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm an instruction, as the language has them"
)]
fn instruction(it: &Instruction, stages: &mut BTreeSet<String>, parts: &mut Parts) {
    let mut add = |of: &'static str, part: &str| {
        parts.insert((of, part.to_owned()));
    };
    match &it.kind {
        InstructionKind::From {
            platform,
            image,
            name,
            ..
        } => {
            add(
                "FROM",
                match image.as_str() {
                    "scratch" => "scratch",
                    image if image.contains('$') => "a variable",
                    image if stages.contains(&image.to_lowercase()) => "a stage",
                    _ => "an image",
                },
            );
            if let Some(name) = name {
                stages.insert(name.to_lowercase());
                add("FROM", "AS");
            }
            // So that what stands before the first one is known.
            stages.insert(String::new());
            if platform.is_some() {
                add("FROM", "--platform");
            }
        }
        InstructionKind::Arg(args) => {
            if stages.is_empty() {
                add("ARG", "before FROM");
            }
            if args.len() > 1 {
                add("ARG", "several");
            }
            for (name, default) in args {
                add(
                    "ARG",
                    if default.is_some() {
                        "with default"
                    } else {
                        "without default"
                    },
                );
                if name.starts_with("TARGET") || name.starts_with("BUILD") && !name.contains('_') {
                    let of = "arguments that need no value from anybody";
                    if language().any(|it| it == (of.to_owned(), name.clone())) {
                        add(of, name);
                    }
                }
            }
        }
        InstructionKind::Env(pairs) => pairs_of("ENV", pairs, add),
        InstructionKind::Label(pairs) => pairs_of("LABEL", pairs, add),
        InstructionKind::Run {
            flags,
            command,
            heredocs,
        } => {
            command_of("RUN", command, heredocs.is_empty(), &mut add);
            if let Some(first) = heredocs.first() {
                let words = it
                    .original
                    .split_whitespace()
                    .filter(|it| !it.starts_with("--"));
                add(
                    "RUN",
                    match words.count() {
                        2 if first.content.starts_with("#!") => "a heredoc with its interpreter",
                        2 => "a heredoc alone",
                        _ => "heredocs of a command",
                    },
                );
            }
            for flag in flags {
                match flag.name {
                    "mount" => mount(value(flag), &mut add),
                    "network" | "security" => {
                        add("RUN", &format!("--{}={}", flag.name, value(flag)));
                    }
                    name => add("RUN", &format!("--{name}")),
                }
            }
        }
        InstructionKind::Cmd(command) => command_of("CMD", command, true, &mut add),
        InstructionKind::Entrypoint(command) => command_of("ENTRYPOINT", command, true, &mut add),
        InstructionKind::Shell(_) => add("SHELL", "JSON form"),
        InstructionKind::Copy(it_) => transfer("COPY", it_, &it.original, add),
        InstructionKind::Add(it_) => transfer("ADD", it_, &it.original, add),
        InstructionKind::Workdir(path) => add(
            "WORKDIR",
            match path.starts_with(['/', '$']) {
                true => "a path from the root",
                false => "a path from where it is",
            },
        ),
        InstructionKind::User(user) => add(
            "USER",
            match user.contains(':') {
                true => "a user and a group",
                false => "a user",
            },
        ),
        InstructionKind::Expose(ports) => {
            for port in ports {
                add(
                    "EXPOSE",
                    match port {
                        it if it.contains('-') => "a range",
                        it if it.contains('/') => "a port and its protocol",
                        _ => "a port",
                    },
                );
            }
        }
        InstructionKind::Volume(_) => add("VOLUME", list_form(&it.original)),
        InstructionKind::StopSignal(signal) => add(
            "STOPSIGNAL",
            match signal.parse::<u8>() {
                Ok(_) => "a number",
                Err(_) => "a name",
            },
        ),
        InstructionKind::Healthcheck(Healthcheck::None) => add("HEALTHCHECK", "NONE"),
        InstructionKind::Healthcheck(Healthcheck::Cmd { flags, command }) => {
            command_of("HEALTHCHECK", command, true, &mut add);
            flags
                .iter()
                .for_each(|it| add("HEALTHCHECK", &format!("--{}", it.name)));
        }
        InstructionKind::OnBuild { trigger, .. } => {
            trigger_of(trigger, &mut add);
            instruction(trigger, stages, parts);
        }
        InstructionKind::Maintainer(_) => add("MAINTAINER", "words"),
    }
}

fn value(flag: &Flag) -> &str {
    flag.value.as_deref().unwrap_or_default()
}

fn pairs_of(of: &'static str, pairs: &KeyValues, mut add: impl FnMut(&'static str, &str)) {
    match pairs.legacy {
        true => add(of, "KEY VALUE"),
        false if pairs.pairs.len() > 1 => add(of, "several"),
        false => add(of, "KEY=VALUE"),
    }
}

fn command_of(
    of: &'static str,
    command: &Command,
    bare: bool,
    add: &mut impl FnMut(&'static str, &str),
) {
    match command {
        Command::Exec(_) => add(of, "JSON form"),
        Command::Shell(_) if bare => add(of, "shell form"),
        Command::Shell(_) => {}
    }
}

fn list_form(original: &str) -> &'static str {
    if original.contains('[') {
        "JSON form"
    } else {
        "words"
    }
}

fn transfer(
    of: &'static str,
    it: &Transfer,
    original: &str,
    mut add: impl FnMut(&'static str, &str),
) {
    for flag in &it.flags {
        match value(flag) {
            "false" => add(of, &format!("--{}=false", flag.name)),
            _ => add(of, &format!("--{}", flag.name)),
        }
    }
    add(of, list_form(original));
    if it.sources.len() > 1 {
        add(of, "several sources");
    }
    for source in &it.sources {
        match source {
            TransferSource::Heredoc(_) => add(of, "a heredoc"),
            TransferSource::Path(it) if of == "COPY" || !it.contains(['@', ':']) => {}
            TransferSource::Path(it) if it.starts_with("http") && !it.contains(".git") => {
                add(of, "an address");
            }
            TransferSource::Path(_) => add(of, "a repository"),
        }
    }
}

fn mount(spec: &str, add: &mut impl FnMut(&'static str, &str)) {
    let fields: Vec<(&str, &str)> = spec
        .split(',')
        .map(|it| it.split_once('=').unwrap_or((it, "")))
        .collect();
    let kind = fields.iter().rfind(|it| it.0 == "type").map(|it| it.1);
    let Some((of, _)) = LANGUAGE
        .iter()
        .find(|it| it.0.strip_prefix("RUN --mount=type=") == Some(kind.unwrap_or("bind")))
    else {
        return;
    };
    if kind.is_none() {
        add(of, "without type");
    }
    for (key, value) in &fields {
        // The short names mean the same everywhere, and are tried where they are the most used.
        let key = match *key {
            "dst" | "destination" if *of != "RUN --mount=type=bind" => "target",
            "src" if *of != "RUN --mount=type=bind" => "source",
            "readonly" if *of != "RUN --mount=type=bind" => "ro",
            "sharing" => &format!("sharing={value}"),
            key => key,
        };
        add(of, key);
    }
}

fn trigger_of(trigger: &Instruction, add: &mut impl FnMut(&'static str, &str)) {
    add("ONBUILD", &trigger.keyword().to_uppercase());
    match &trigger.kind {
        InstructionKind::Copy(it) if it.flags.iter().any(|it| it.name == "from") => {
            add("ONBUILD", "COPY --from");
        }
        InstructionKind::Run { flags, .. }
            if flags.iter().any(|it| value(it).contains("from=")) =>
        {
            add("ONBUILD", "RUN --mount=from");
        }
        _ => {}
    }
    if trigger.has_heredocs() {
        add("ONBUILD", "a heredoc");
    }
}

/// What stands behind the names in `${NAME…}`, longest first.
const MODIFIERS: &[&str] = &[
    ":-", ":+", ":?", "##", "%%", "//", "-", "+", "?", "#", "%", "/",
];

fn substitutions(text: &str, parts: &mut Parts) {
    for (at, _) in text.match_indices("${") {
        let rest = &text[at + 2..];
        let name = rest
            .find(|it: char| !it.is_ascii_alphanumeric() && it != '_')
            .unwrap_or(0);
        if name == 0 {
            continue;
        }
        let behind = &rest[name..];
        if behind.starts_with('}') {
            parts.insert(("${}", "NAME".to_owned()));
        }
        if let Some(modifier) = MODIFIERS.iter().find(|it| behind.starts_with(**it)) {
            parts.insert(("${}", (*modifier).to_owned()));
            let word = &behind[..behind.find('}').unwrap_or(behind.len())];
            if word.contains('$') {
                parts.insert(("${}", "one inside another".to_owned()));
            }
        }
    }
}

fn build_args(text: &str, parts: &mut Parts) {
    let options = text.lines().filter_map(|it| it.strip_prefix("#= "));
    for words in options.map(|it| it.split_whitespace().collect::<Vec<_>>()) {
        for pair in words.windows(2).filter(|it| it[0] == "--build-arg") {
            let name = pair[1].split('=').next().unwrap_or_default().to_uppercase();
            if language().any(|it| it == ("--build-arg".to_owned(), name.clone())) {
                parts.insert(("--build-arg", name));
            }
        }
    }
}
