//! The Dockerfile and what stands beside it, read and planned.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dockerfile_parser::{Dockerfile, Parse, Problem, ignore};
use llb::SourceRange;
use lower::{Plan, PlanError};
use oci::Platform;
use solve::progress::Warning;

use crate::call::{Answer, Answered, Call};
use crate::images::Bases;
use crate::report::{Errand, Reporter};
use crate::targets::Targets;
use crate::{
    Allowed, BuildError, ContextFrom, DockerfileFrom, Engine, Place, PlanFailure, ReadError,
    Request,
};

/// The names that a Dockerfile may have in the context, the first that is there.
const USUAL_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];
const IGNORE: &str = ".dockerignore";

/// The Dockerfile and the ignore lines that go with it.
pub(crate) struct Definition {
    /// As the person knows it.
    name: String,
    text: Arc<[u8]>,
    ignore: Vec<String>,
    /// What the parser made of it, once somebody asks.
    dockerfile: OnceLock<Dockerfile>,
}

struct Text {
    name: String,
    /// Where it was found, if it is a file.
    path: Option<PathBuf>,
    bytes: Vec<u8>,
}

impl Definition {
    pub(crate) fn read(request: &Request, reporter: &Reporter<'_>) -> Result<Self, BuildError> {
        check_context(&request.context)?;
        let errand = format!(
            "[internal] load build definition from {}",
            shown_name(request)
        );
        let dockerfile = reporter.errand(&errand, |errand| {
            let read = || read_dockerfile(request);
            errand.part("transferring dockerfile:", read, |text| {
                text.as_ref().map_or(0, Text::size)
            })
        })?;
        let ignore = reporter.errand("[internal] load .dockerignore", |errand| {
            read_ignore(&request.context, dockerfile.path.as_deref(), errand)
        })?;
        Ok(Self {
            name: dockerfile.name,
            dockerfile: OnceLock::new(),
            text: dockerfile.bytes.into(),
            ignore,
        })
    }

    /// The Dockerfile's name, as the person knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
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
            resources: request.resources.clone(),
            allowed: request.allowed,
            ignore: self.ignore.clone(),
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

fn check_context(context: &ContextFrom) -> Result<(), ReadError> {
    let ContextFrom::Directory(path) = context else {
        return Ok(());
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(ReadError::NoDirectory { path: path.clone() }),
        Err(_) => Err(ReadError::NoContext { path: path.clone() }),
    }
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
        DockerfileFrom::Context | DockerfileFrom::Stdin => USUAL_NAMES[0].to_owned(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn read_dockerfile(request: &Request) -> Result<Text, ReadError> {
    let failed = |name: &str| {
        let name = name.to_owned();
        |source| ReadError::Dockerfile { name, source }
    };
    match (&request.dockerfile, &request.context) {
        (DockerfileFrom::Context, ContextFrom::Directory(context)) => {
            read_first(context, &USUAL_NAMES).map_err(failed(USUAL_NAMES[0]))
        }
        (DockerfileFrom::File(path), _) => {
            let name = file_name(path);
            let bytes = fs::read(path).map_err(failed(&path.to_string_lossy()))?;
            Ok(Text {
                name,
                path: Some(path.clone()),
                bytes,
            })
        }
        (DockerfileFrom::Stdin, _) | (DockerfileFrom::Context, ContextFrom::Empty) => {
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(failed("-"))?;
            Ok(Text {
                name: USUAL_NAMES[0].to_owned(),
                path: None,
                bytes,
            })
        }
    }
}

/// The first of `names` that is in `directory`; if none is, the first one's error.
fn read_first(directory: &Path, names: &[&str]) -> io::Result<Text> {
    let mut first_error = None;
    for name in names {
        let path = directory.join(name);
        match read_found(&path) {
            Ok(bytes) => {
                return Ok(Text {
                    name: (*name).to_owned(),
                    path: Some(path),
                    bytes,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                first_error = first_error.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Reads a file that nobody named: it lies in the context, whoever filled that. A pipe there would be
/// waited for in vain, a device might never end; whoever names one with `-f` means it.
fn read_found(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        fs::read(path)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// The lines of the ignore file beside the Dockerfile, else of that of the context.
fn read_ignore(
    context: &ContextFrom,
    dockerfile: Option<&Path>,
    errand: &Errand<'_>,
) -> Result<Vec<String>, ReadError> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(IGNORE);
        PathBuf::from(name)
    });
    let in_context = match context {
        ContextFrom::Directory(path) => Some(path.join(IGNORE)),
        ContextFrom::Empty => None,
    };
    for path in beside.into_iter().chain(in_context) {
        let name = file_name(&path);
        let size =
            |bytes: &io::Result<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match errand.part("transferring context:", || read_found(&path), size) {
            Ok(bytes) => return rules(&name, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ReadError::Ignore { name, source }),
        }
    }
    Ok(Vec::new())
}

fn rules(name: &str, bytes: &[u8]) -> Result<Vec<String>, ReadError> {
    let patterns = ignore::Patterns::parse(bytes).map_err(|error| ReadError::IgnoreLine {
        name: name.to_owned(),
        line: error.line,
        pattern: error.pattern,
        why: error.problem.to_string(),
    })?;
    let line = |rule: &ignore::Rule| {
        format!(
            "{}{}",
            if rule.reincludes() { "!" } else { "" },
            rule.pattern()
        )
    };
    Ok(patterns.rules().iter().map(line).collect())
}
