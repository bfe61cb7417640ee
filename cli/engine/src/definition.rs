//! The Dockerfile and what stands beside it, read and planned.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dockerfile_parser::{Dockerfile, Parse, Problem, ignore};
use llb::SourceRange;
use lower::{Contexts, Plan, PlanError};
use oci::Platform;
use snapshot::Root;
use solve::progress::Warning;

use crate::call::{Answer, Answered, Call};
use crate::context::{self, Context, LARGEST_TEXT, Stdin};
use crate::images::Bases;
use crate::ledger::Ledger;
use crate::report::{Errand, Reporter};
use crate::targets::Targets;
use crate::{
    Allowed, BuildError, ContextFrom, DockerfileFrom, Engine, Place, PlanFailure, ReadError,
    Request,
};

/// The names that a Dockerfile may have in the context, the first that is there.
const USUAL_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];
const IGNORE: &str = ".dockerignore";
const IGNORE_ERRAND: &str = "[internal] load .dockerignore";

/// The Dockerfile, the context, and the ignore lines that go with them.
pub(crate) struct Definition {
    /// As the person knows it.
    name: String,
    text: Arc<[u8]>,
    context: Context,
    ignore: Ignore,
    contexts: Contexts,
    /// What `SOURCE_DATE_EPOCH=context` stands for, where somebody says that.
    epoch: Option<i64>,
    /// What the parser made of it, once somebody asks.
    dockerfile: OnceLock<Dockerfile>,
}

struct Text {
    name: String,
    found: Found,
    bytes: Vec<u8>,
}

/// Where a Dockerfile was found, which says where its ignore file is looked for.
enum Found {
    /// In the context, at this path.
    Within(PathBuf),
    /// Elsewhere on this machine.
    Outside(PathBuf),
    /// It came from elsewhere.
    Nowhere,
}

impl Definition {
    /// The ignore file that goes with a directory, if that is the context.
    pub(crate) fn ignore_of(&self, directory: &Path) -> Option<&Ignore> {
        self.context.is_at(directory).then_some(&self.ignore)
    }

    pub(crate) fn read(
        engine: &Engine,
        request: &Request,
        reporter: &Reporter<'_>,
        ledger: &Ledger,
    ) -> Result<Self, BuildError> {
        let context = Context::bring(engine, request, reporter, ledger)?;
        let search = Search {
            engine,
            request,
            context: &context,
        };
        let errand = format!(
            "[internal] load build definition from {}",
            shown_name(request)
        );
        let dockerfile = reporter.errand(&errand, |errand| {
            let read = || search.dockerfile(errand);
            errand.part("transferring dockerfile:", read, |text| {
                text.as_ref().map_or(0, Text::size)
            })
        })?;
        let ignore = match context.snapshot() {
            Some(Some(_)) => Ignore::default(),
            _ => reporter.errand(IGNORE_ERRAND, |errand| {
                search.ignore(&dockerfile.found, errand)
            })?,
        };
        let contexts = context::contexts(request, reporter)?;
        let epoch = match speaks_of_epoch(request, &dockerfile.bytes) {
            true => context.epoch(engine)?,
            false => None,
        };
        Ok(Self {
            epoch,
            name: dockerfile.name,
            dockerfile: OnceLock::new(),
            text: dockerfile.bytes.into(),
            context,
            ignore,
            contexts,
        })
    }

    /// The Dockerfile's name, as the person knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether a word stands anywhere in it.
    pub(crate) fn speaks_of(&self, word: &str) -> bool {
        has_word(&self.text, word)
    }

    /// Where its files are.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// What the parser made of it.
    pub(crate) fn dockerfile(&self) -> &Dockerfile {
        self.dockerfile
            .get_or_init(|| dockerfile_parser::parse(&self.text).dockerfile)
    }

    /// The graph and all else that the build of the request's target needs.
    pub(crate) fn plan(
        &self,
        request: &Request,
        bases: &Bases<'_>,
        reporter: &Reporter<'_>,
    ) -> Result<Targets, BuildError> {
        let (parse, options) = self.parse(request)?;
        let mut plans: Vec<Plan> = Vec::new();
        for platform in platforms(request) {
            let options = lower::Options {
                platform,
                name_platform: request.platforms.len() > 1,
                ..options.clone()
            };
            let plan = lower::plan(&parse.dockerfile, &options, bases);
            plans.push(plan.map_err(|error| self.refuse(error))?);
        }
        self.warn(&plans, reporter);
        warn_without_epoch(request, &plans, reporter);
        Ok(Targets::new(plans))
    }

    /// The tree, if all of it was understood.
    fn parse(&self, request: &Request) -> Result<(Parse, lower::Options), BuildError> {
        let parse = dockerfile_parser::parse(&self.text);
        let options = self.options(request, &parse);
        // Before the problems: to this parser, a file of another language is nothing else.
        lower::check_frontend(&parse.dockerfile, &options).map_err(|error| self.refuse(error))?;
        match parse.first_error() {
            Some(problem) => Err(BuildError::Parse {
                message: problem.to_string(),
                place: self.place(lines_of(problem)),
            }),
            None => Ok((parse, options)),
        }
    }

    fn refuse(&self, error: PlanError) -> BuildError {
        let place = self.place(error.lines);
        BuildError::Plan(Box::new(PlanFailure { error, place }))
    }

    /// What the file says about itself.
    pub(crate) fn answer(
        self,
        engine: &Engine,
        request: &Request,
        call: Call,
        reporter: &Reporter<'_>,
    ) -> Result<Answered, BuildError> {
        let images = Bases::new(engine, request, reporter);
        // Nothing is run, so nothing has to be allowed.
        let request = &Request {
            allowed: Allowed::ALL,
            ..request.clone()
        };
        let answer = match (call, self.parse(request)) {
            (Call::Check, Err(error)) => Answer::Check {
                warnings: Vec::new(),
                error: Some(error),
            },
            (_, Err(error)) => return Err(error),
            (Call::Check, Ok((parse, options))) => {
                let checked = lower::check(&parse.dockerfile, &options, &images);
                Answer::Check {
                    warnings: checked.warnings,
                    error: checked.error.map(|error| self.refuse(error)),
                }
            }
            (Call::Outline, Ok((parse, options))) => {
                let outline = lower::outline(&parse.dockerfile, &options, &images);
                Answer::Outline(outline.map_err(|error| self.refuse(error))?)
            }
            (Call::Graph, Ok(_)) => {
                Answer::Graph(self.plan(request, &images, reporter)?.whole.graph)
            }
            (Call::Targets, Ok((parse, _))) => {
                let targets = lower::targets(&parse.dockerfile);
                Answer::Targets(targets.map_err(|error| self.refuse(error))?)
            }
        };
        Ok(Answered {
            answer,
            file: self.name,
            text: self.text,
        })
    }

    /// The lines as a place in the Dockerfile.
    pub(crate) fn place(&self, lines: Option<SourceRange>) -> Option<Place> {
        lines.map(|lines| Place {
            file: self.name.clone(),
            text: Arc::clone(&self.text),
            lines,
        })
    }

    fn options(&self, request: &Request, parse: &Parse) -> lower::Options {
        let host = Platform::host();
        let platform = platforms(request).swap_remove(0);
        lower::Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            build_platform: host,
            no_cache: request.no_cache.clone(),
            network: request.network,
            extra_hosts: request.extra_hosts.clone(),
            shm_size: request.shm_size,
            ulimits: request.ulimits.clone(),
            cgroup_parent: request.cgroup_parent.clone(),
            resources: Arc::new(request.resources.clone()),
            allowed: request.allowed.clone(),
            ignore: self.ignore.lines(),
            contexts: self.contexts.clone(),
            context_epoch: self.epoch,
            strict_args: request.strict_args,
            findings: lower::findings(parse),
            ..lower::Options::new(platform)
        }
    }

    /// Tells what is odd, each thing once, however many platforms it is odd for.
    fn warn(&self, plans: &[Plan], reporter: &Reporter<'_>) {
        let mut told = Vec::new();
        for warning in plans.iter().flat_map(|plan| plan.warnings.iter().cloned()) {
            if told.contains(&warning) {
                continue;
            }
            told.push(warning.clone());
            reporter.warning(Warning {
                rule: warning.rule.to_owned(),
                url: warning.url(),
                place: warning.lines.map(|lines| (self.name.clone(), lines)),
                message: warning.message,
            });
        }
    }
}

/// Whether the time of the context may be of interest.
fn speaks_of_epoch(request: &Request, dockerfile: &[u8]) -> bool {
    let name = lower::SOURCE_DATE_EPOCH;
    request.build_args.contains_key(name) || has_word(dockerfile, name)
}

fn has_word(text: &[u8], word: &str) -> bool {
    let mut words = text.windows(word.len());
    words.any(|it| it == word.as_bytes())
}

/// Without a time, there is nothing that files could be dated back to.
fn warn_without_epoch(request: &Request, plans: &[Plan], reporter: &Reporter<'_>) {
    let has_none = |plan: &Plan| request.epoch.or(plan.source_date_epoch).is_none();
    if request.rewrite_timestamp && plans.iter().any(has_none) {
        reporter.warning(Warning {
            rule: String::new(),
            url: String::new(),
            place: None,
            message: "rewrite-timestamp is specified, but no SOURCE_DATE_EPOCH says which time that is: files keep theirs".to_owned(),
        });
    }
}

/// The context with what is left out of it; there need be no Dockerfile.
pub(crate) fn context(
    engine: &Engine,
    request: &Request,
    reporter: &Reporter<'_>,
    ledger: &Ledger,
) -> Result<(Context, Ignore), BuildError> {
    let context = Context::bring(engine, request, reporter, ledger)?;
    let search = Search {
        engine,
        request,
        context: &context,
    };
    let ignore = reporter.errand(IGNORE_ERRAND, |errand| {
        let found = match search.dockerfile(errand) {
            Ok(text) => text.found,
            Err(ReadError::Dockerfile { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Found::Nowhere
            }
            Err(error) => return Err(error),
        };
        search.ignore(&found, errand)
    })?;
    Ok((context, ignore))
}

impl Text {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn lines_of(problem: &Problem) -> Option<SourceRange> {
    let span = &problem.span;
    (span.start < span.end).then_some(SourceRange {
        first_line: span.first_line,
        last_line: span.last_line,
    })
}

/// What is built for: this machine, unless the person says something else.
fn platforms(request: &Request) -> Vec<Platform> {
    match &request.platforms[..] {
        [] => vec![Platform::host()],
        some => some.to_vec(),
    }
}

/// What the Dockerfile is called while nobody has looked for it.
fn shown_name(request: &Request) -> String {
    match &request.dockerfile {
        DockerfileFrom::File(path) => file_name(path),
        DockerfileFrom::Remote(address) => llb::without_credentials(address),
        DockerfileFrom::Context | DockerfileFrom::Stdin => USUAL_NAMES[0].to_owned(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> ReadError {
    let name = name.to_owned();
    |source| ReadError::Dockerfile { name, source }
}

/// Whose files are looked for, and where.
struct Search<'a> {
    engine: &'a Engine,
    request: &'a Request,
    context: &'a Context,
}

impl Search<'_> {
    fn dockerfile(&self, errand: &Errand<'_>) -> Result<Text, ReadError> {
        let usual = |bytes: Vec<u8>| Text {
            name: USUAL_NAMES[0].to_owned(),
            found: Found::Nowhere,
            bytes,
        };
        match (&self.request.dockerfile, self.context.dockerfile()) {
            (DockerfileFrom::Context, Some(text)) => Ok(usual(text.to_owned())),
            (_, Some(_)) => Err(ReadError::TwoDockerfiles {
                from: match self.request.context {
                    ContextFrom::Stdin => "stdin".to_owned(),
                    _ => self.request.context.shown(),
                },
            }),
            (DockerfileFrom::Context, None) => self.usual(),
            (DockerfileFrom::File(path), None) => self.named(path),
            (DockerfileFrom::Remote(address), None) => {
                let bytes = context::text_of(self.engine, self.request, address, errand)?;
                Ok(usual(bytes))
            }
            (DockerfileFrom::Stdin, None) => {
                let stdin = Stdin::open(&self.request.cancel).map_err(failed("-"))?;
                Ok(usual(read_limited(stdin).map_err(failed("-"))?))
            }
        }
    }

    /// The first of the usual names that is in the context; if none is, the first one's error.
    fn usual(&self) -> Result<Text, ReadError> {
        let root = self.context.root(self.engine);
        let root = root.map_err(failed(USUAL_NAMES[0]))?;
        let mut first_error = None;
        for name in USUAL_NAMES {
            match in_context(&root, Path::new(name)) {
                Ok(text) => return Ok(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    first_error = first_error.or(Some(error));
                }
                Err(error) => return Err(failed(name)(error)),
            }
        }
        let error = first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into());
        Err(failed(USUAL_NAMES[0])(error))
    }

    /// The file that somebody named: in a context that was fetched, else anywhere.
    fn named(&self, path: &Path) -> Result<Text, ReadError> {
        let shown = path.to_string_lossy();
        let within = match (self.context.is_directory(), self.context.snapshot()) {
            (false, Some(Some(_))) => Some(path.to_owned()),
            _ => self.path_within(path),
        };
        let is_fetched = !self.context.is_directory();
        if let Some(within) = within.filter(|_| is_fetched || may_lead_outside(path)) {
            let root = self.context.root(self.engine).map_err(failed(&shown))?;
            return in_context(&root, &within).map_err(failed(&shown));
        }
        let read = || read_limited(fs::File::open(path)?);
        Ok(Text {
            name: file_name(path),
            bytes: read().map_err(failed(&shown))?,
            found: Found::Outside(path.to_owned()),
        })
    }

    /// A path of this machine as one of the context: then it is whoever filled that who says what
    /// is there, and nothing it links to outside is read.
    fn path_within(&self, path: &Path) -> Option<PathBuf> {
        let ContextFrom::Directory(context) = &self.request.context else {
            return None;
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().ok()?;
        let below = parent.strip_prefix(context.canonicalize().ok()?).ok()?;
        Some(below.join(path.file_name()?))
    }

    /// The lines of the ignore file beside the Dockerfile, else of that of the context.
    fn ignore(&self, dockerfile: &Found, errand: &Errand<'_>) -> Result<Ignore, ReadError> {
        if !self.context.is_directory() {
            return Ok(Ignore::default());
        }
        let unreadable = |source| ReadError::Ignore {
            name: IGNORE.to_owned(),
            source,
        };
        let root = self.context.root(self.engine).map_err(unreadable)?;
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(IGNORE);
            PathBuf::from(name)
        };
        let first = match dockerfile {
            Found::Within(path) => read_ignore(&beside(path), errand, |path| found(&root, path))?,
            Found::Outside(path) => {
                read_ignore(&beside(path), errand, |path| {
                    match fs::metadata(path)?.is_file() {
                        true => read_limited(fs::File::open(path)?),
                        false => Err(not_a_file()),
                    }
                })?
            }
            Found::Nowhere => None,
        };
        let second = || read_ignore(Path::new(IGNORE), errand, |path| found(&root, path));
        Ok(match first {
            Some(first) => first,
            None => second()?.unwrap_or_default(),
        })
    }
}

/// Whether `path`, named by a person, is for whoever filled the context to say: a pipe or a device at
/// that very place is meant, and no link.
fn may_lead_outside(path: &Path) -> bool {
    let is_plain = |it: fs::FileType| it.is_file() || it.is_symlink();
    fs::symlink_metadata(path).map_or(true, |it| is_plain(it.file_type()))
}

/// The file `path` of a context.
fn in_context(root: &Root, path: &Path) -> io::Result<Text> {
    Ok(Text {
        name: file_name(path),
        bytes: found(root, path)?,
        found: Found::Within(path.to_owned()),
    })
}

/// Reads a file of a context, whoever filled that: nothing outside is read, a pipe is not waited
/// for in vain, and a device that never ends is not begun with.
fn found(root: &Root, path: &Path) -> io::Result<Vec<u8>> {
    let read = root.read_limited(path, LARGEST_TEXT);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => not_a_file(),
        _ => error,
    })
}

fn not_a_file() -> io::Error {
    io::Error::other("not a regular file")
}

fn read_limited(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST_TEXT {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has more than {LARGEST_TEXT} bytes"),
        )),
        false => Ok(bytes),
    }
}

/// The ignore file of the context `root` alone.
pub(crate) fn ignore_of(root: &Root, errand: &Errand<'_>) -> Result<Ignore, ReadError> {
    let read = read_ignore(Path::new(IGNORE), errand, |path| found(root, path))?;
    Ok(read.unwrap_or_default())
}

/// The rules of the ignore file at `path`, if it is there.
fn read_ignore(
    path: &Path,
    errand: &Errand<'_>,
    read: impl FnOnce(&Path) -> io::Result<Vec<u8>>,
) -> Result<Option<Ignore>, ReadError> {
    let name = file_name(path);
    let size = |bytes: &io::Result<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
    match errand.part("transferring context:", || read(path), size) {
        Ok(bytes) => Ok(Some(Ignore::read(name, &bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::Ignore { name, source }),
    }
}

/// What an ignore file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    /// Its name; empty where there is none.
    pub(crate) name: String,
    pub(crate) patterns: ignore::Patterns,
}

impl Ignore {
    fn read(name: String, bytes: &[u8]) -> Result<Self, ReadError> {
        match ignore::Patterns::parse(bytes) {
            Ok(patterns) => Ok(Self { name, patterns }),
            Err(error) => Err(ReadError::IgnoreLine {
                name,
                line: error.line,
                pattern: error.pattern,
                why: error.problem.to_string(),
            }),
        }
    }

    /// Its rules as lines, without comments and blanks.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |rule: &ignore::Rule| {
            let mark = if rule.reincludes() { "!" } else { "" };
            format!("{mark}{}", rule.pattern())
        };
        self.patterns.rules().iter().map(line).collect()
    }
}
