//! Why a Dockerfile cannot be planned.

use dockerfile_parser::duration::DurationError;
use dockerfile_parser::words::ExpandError;
use dockerfile_parser::{Case, Span, suggest};
use llb::SourceRange;

use crate::{DeviceError, ResolveError};

/// Why a Dockerfile cannot be planned, and where.
#[derive(Debug, thiserror::Error)]
#[error("{kind}{}", suggestion.as_ref().map(|it| format!(" (did you mean {it}?)")).unwrap_or_default())]
pub struct PlanError {
    /// What went wrong outside, where something did.
    #[source]
    pub(crate) source: Option<ResolveError>,
    /// Why.
    pub kind: Box<PlanErrorKind>,
    /// Which lines of the Dockerfile are to blame; `None` where no line is.
    pub lines: Option<SourceRange>,
    /// The name that was probably meant, where one is close: `did you mean`.
    pub suggestion: Option<String>,
}

/// Why a Dockerfile cannot be planned. The texts are BuildKit's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanErrorKind {
    /// Another frontend than the built-in one is asked for.
    #[error(
        "frontend {0} is not supported: rbuild has one frontend, that of docker/dockerfile, built in (if the file is a Dockerfile, take the syntax line out)"
    )]
    Frontend(String),
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build: there is no FROM")]
    Empty,
    /// Something other than `ARG` stands before the first `FROM`.
    #[error("no build stage in current context: only ARG may stand before the first FROM")]
    NoStage,
    /// No stage has the target's name or number.
    #[error("target stage {0:?} could not be found")]
    UnknownTarget(String),
    /// The image's name is blank after expansion.
    #[error("base name ({name}) should not be blank{}", blank(.empty))]
    BlankBase {
        /// As written.
        name: String,
        /// Its variables that have no value, each with whether an `ARG` before the first `FROM`
        /// declares it.
        empty: Vec<(String, bool)>,
    },
    /// A stage's name breaks the rules.
    #[error(
        "invalid name for build stage: {0:?}, name can't start with a number or contain symbols: it is made of letters, digits, `-`, `_` and `.`, a letter first"
    )]
    StageName(String),
    /// A stage takes from itself.
    #[error("circular dependency detected on stage: {0} (a stage takes from those before it)")]
    Circular(String),
    /// References made of variables nest without end in sight.
    #[error("stages refer to each other through variables more than {0} deep")]
    Nesting(usize),
    /// Variables and history, which are repeated in every `RUN` and every stage, become too long; in MiB.
    #[error(
        "variables and history come to more than {0} MiB: each RUN repeats the variables in scope, and each FROM of a stage its history; set fewer variables before RUNs"
    )]
    TooMuch(usize),
    /// A path that is longer than the kernel takes.
    #[error("{what} comes to a path of {length} bytes: the kernel takes at most {most}")]
    PathLength {
        /// The instruction.
        what: &'static str,
        /// How long the path is.
        length: usize,
        /// How long it can be.
        most: usize,
    },
    /// `COPY --from` names a stage that comes later.
    #[error(
        "cannot copy from stage {from:?}, it needs to be defined before current stage {stage:?}"
    )]
    CopyFromLater {
        /// The named one.
        from: String,
        /// The one that copies.
        stage: String,
    },
    /// `RUN --mount` names a stage that comes later.
    #[error(
        "cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command"
    )]
    MountFromLater {
        /// The named one.
        from: String,
        /// Where it would be mounted.
        target: String,
    },
    /// A number of a stage that there is not.
    #[error("invalid stage index {index}: {}", earlier(*.stages))]
    StageIndex {
        /// As written.
        index: String,
        /// How many stages stand before.
        stages: usize,
    },
    /// A word has variables or quotes that do not end or make no sense.
    #[error("{0}")]
    Expand(#[from] ExpandError),
    /// `--platform` is none.
    #[error("failed to parse platform {platform}: {why}")]
    Platform {
        /// As written, expanded.
        platform: String,
        /// What is wrong with it.
        why: String,
    },
    /// An image's name is none.
    #[error("failed to parse stage name {name:?}: {why}")]
    Reference {
        /// As written, expanded.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image cannot be had; the source says why.
    #[error("{0}: failed to resolve source metadata")]
    BaseImage(String),
    /// The base is not for Linux.
    #[error("image {image} is for {os}: rbuild builds for linux only")]
    NotLinux {
        /// Its name.
        image: String,
        /// What it is for.
        os: String,
    },
    /// An `ONBUILD` trigger of the base cannot be read.
    #[error("failed to parse ONBUILD trigger {trigger:?} of {image}: {why}")]
    Trigger {
        /// Its text.
        trigger: String,
        /// Whose it is.
        image: String,
        /// What is wrong with it.
        why: String,
    },
    /// An instruction that may not be a trigger.
    #[error(
        "{0} isn't allowed as an ONBUILD trigger: it is for instructions that come behind FROM"
    )]
    TriggerKeyword(String),
    /// A trigger of a trigger.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed: a trigger sets no trigger")]
    TriggerChain,
    /// `RUN --device` cannot be read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A wall that whoever builds did not allow to take down.
    #[error("entitlement {entitlement} is not allowed: {what} needs --allow {entitlement}")]
    NotAllowed {
        /// Its name.
        entitlement: String,
        /// What asks for it.
        what: String,
    },
    /// Something that Dockerfiles can say and this version cannot do.
    #[error("{0} is not supported yet")]
    NotSupported(String),
    /// A flag that the instruction does not have.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A flag that may stand once stands twice.
    #[error("duplicate flag specified: --{0} (it may stand once)")]
    DuplicateFlag(String),
    /// A flag without `=value`.
    #[error("missing a value on flag: --{0} (write --{0}=VALUE)")]
    FlagWithoutValue(String),
    /// A switch with another value than `true` or `false`.
    #[error("expecting boolean value for flag --{flag}, not: {value} (it is true or false)")]
    FlagNotBoolean {
        /// Which.
        flag: String,
        /// What it says.
        value: String,
    },
    /// A `RUN --mount` is wrong.
    #[error("{0}")]
    Mount(#[from] crate::mount::MountError),
    /// `--network` is none of the three.
    #[error("unsupported network mode {0:?}: it is default, none or host")]
    NetworkMode(String),
    /// A flag that only rbuild has, in a file that does not ask for such.
    #[error(
        "RUN --{0} is rbuild's own: ask for it with `# syntax=docker/dockerfile:1-labs` on the first line"
    )]
    OwnFlag(String),
    /// `--retry` is no number.
    #[error("invalid number of retries {0:?}: it is between 0 and 100")]
    Retries(String),
    /// A time that a flag of `RUN` gives is none.
    #[error("invalid value of --{flag}")]
    RunTime {
        /// Which flag.
        flag: String,
        /// Why.
        #[source]
        source: RunTimeError,
    },
    /// `--security` is none of the two.
    #[error("unsupported security mode {0:?}: it is sandbox or insecure")]
    SecurityMode(String),
    /// A `RUN` in JSON form without words, or with nothing to run.
    #[error("{0} requires at least one argument: a command, or [\"PROGRAM\", \"ARGUMENT\"]")]
    NothingToRun(&'static str),
    /// `--chmod` is none.
    #[error(
        "invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777, or symbolic as in u=rwX,go=rX"
    )]
    Chmod(String),
    /// `--chown` is none.
    #[error("invalid chown parameter: '{0}'. it should be USER[:GROUP], names or numbers")]
    Chown(String),
    /// `COPY` of an address.
    #[error("source can't be a URL for COPY, use ADD")]
    CopyUrl,
    /// `COPY` of a repository.
    #[error("source can't be a git ref for COPY, use ADD")]
    CopyGit,
    /// `--checksum` with anything else than one remote source.
    #[error("{0}")]
    Checksum(&'static str),
    /// `--checksum` is no digest.
    #[error("invalid checksum {text:?}: {why}")]
    ChecksumDigest {
        /// As written, expanded.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name of a repository says something that cannot be done.
    #[error("{0}")]
    Remote(#[from] crate::RemoteError),
    /// An `--exclude` pattern is none.
    #[error("invalid exclude pattern {0:?}: a `[` is not closed, or a `\\` ends it")]
    Exclude(String),
    /// A name is empty after expansion.
    #[error("{0} names can not be blank: what stands before `=` comes out empty")]
    BlankName(&'static str),
    /// A path in `VOLUME` is empty.
    #[error("VOLUME specified can not be an empty string")]
    BlankVolume,
    /// A port of `EXPOSE` is none.
    #[error(
        "invalid containerPort: {0} (a port is a number up to 65535, or a range such as 8000-8010)"
    )]
    Port(String),
    /// A protocol of `EXPOSE` is none.
    #[error("invalid proto: {0} (it is tcp, udp or sctp)")]
    Protocol(String),
    /// More ports than there can be are no mistake of typing.
    #[error("invalid ranges specified for container and host Ports: {0}")]
    PortRange(String),
    /// `STOPSIGNAL` is none.
    #[error("invalid signal: {0}: it is a name such as SIGTERM, or a number")]
    Signal(String),
    /// A time of `HEALTHCHECK` is none.
    #[error("{0}")]
    Duration(#[from] DurationError),
    /// A time of `HEALTHCHECK` is too short.
    #[error("Interval {0:?} cannot be less than 1ms (or 0, which leaves it to the runtime)")]
    ShortInterval(String),
    /// `--retries` is no number.
    #[error("invalid value {0:?} for --retries: it is a whole number up to 2147483647")]
    RetriesNumber(String),
    /// `--retries` is below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// `SOURCE_DATE_EPOCH` is no number of seconds.
    #[error("invalid SOURCE_DATE_EPOCH: {0} (it is a number of seconds since 1970)")]
    SourceDateEpoch(String),
    /// `# check=` says what it cannot say.
    #[error("failed to parse check options: {0}")]
    Check(#[from] crate::lint::CheckError),
    /// `# check=error=true`, and there are warnings.
    #[error("lint violation found for rules: {rules}: {first}{}", others(*.count))]
    Lint {
        /// Those that found something.
        rules: String,
        /// What the first in the file says.
        first: String,
        /// How many violations there are.
        count: usize,
    },
    /// `--strict-args`: a build-arg that nothing declares.
    #[error("one or more build-args [{}] were not consumed: no ARG declares them", .0.join(" "))]
    UnusedBuildArgs(Vec<String>),
}

impl PlanError {
    /// An error of the text at `span`.
    pub(crate) fn at(span: Span, kind: PlanErrorKind) -> Self {
        Self {
            source: None,
            kind: Box::new(kind),
            lines: Some(lines(span)),
            suggestion: None,
        }
    }

    /// An error that no line is to blame for.
    pub(crate) fn nowhere(kind: PlanErrorKind) -> Self {
        Self {
            source: None,
            kind: Box::new(kind),
            lines: None,
            suggestion: None,
        }
    }

    /// The same, caused by something outside.
    pub(crate) fn because(mut self, source: ResolveError) -> Self {
        self.source = Some(source);
        self
    }

    /// The same, with what was probably meant by `name` among `known`.
    pub(crate) fn suggest<'a>(
        mut self,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.suggestion = suggest(name, known, Case::Insensitive);
        self
    }
}

fn blank(empty: &[(String, bool)]) -> String {
    match empty {
        [] => String::new(),
        [(name, true), ..] => {
            format!(": {name} has no value, give it a default or --build-arg {name}=VALUE")
        }
        [(name, false), ..] => format!(": no ARG before the first FROM declares {name}"),
    }
}

fn others(count: usize) -> String {
    match count {
        1 => String::new(),
        count => format!(" (`--check` shows all {count})"),
    }
}

fn earlier(stages: usize) -> String {
    match stages {
        0 => "no stage stands before this one".to_owned(),
        1 => "only stage 0 stands before this one".to_owned(),
        stages => format!("stages 0 to {} stand before this one", stages - 1),
    }
}

/// The lines of `span`.
pub(crate) fn lines(span: Span) -> SourceRange {
    SourceRange {
        first_line: span.first_line,
        last_line: span.last_line,
    }
}

/// Why a time that a flag of `RUN` gives is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunTimeError {
    /// It is no duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// It is no time at all.
    #[error("{0:?} is not longer than nothing")]
    TooShort(String),
}
