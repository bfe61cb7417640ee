//! Why a build failed, with all that a person needs to see of it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use export::{PullError, PushError};
use llb::SourceRange;
use lower::PlanError;
use oci::{Bytes, Reference};
use ops::{ChecksumError, ExecError, FileError, OpError};
use registry::RegistryError;
use snapshot::{DiffError, FilesError, SnapshotError, UnpackError};
use store::StoreError;

use crate::{Growth, Leak};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile, the ignore file or the context cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The Dockerfile breaks the grammar.
    #[error("{message}")]
    Parse {
        /// `dockerfile parse error on line 3: unknown instruction: FORM (did you mean FROM?)`
        message: String,
        /// Where.
        place: Option<Place>,
    },
    /// The Dockerfile makes no sense.
    #[error(transparent)]
    Plan(Box<PlanFailure>),
    /// A step failed.
    #[error(transparent)]
    Step(Box<StepFailure>),
    /// The result could not be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The result is there, but what it was made with did not go where it should.
    #[error("failed to export cache to {name}")]
    CacheExport {
        /// The cache.
        name: String,
        /// Why.
        #[source]
        source: Box<remote::ExportError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
}

fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::MissingSnapshot(_))
}

impl StepError {
    fn is_lost_result(&self) -> bool {
        let in_snapshot =
            |error: &SnapshotError| matches!(error, SnapshotError::Store(error) if is_lost(error));
        match self {
            Self::Lost { .. } => true,
            Self::Store(error) | Self::Run(OpError::Exec(ExecError::Store(error))) => {
                is_lost(error)
            }
            Self::Run(
                OpError::Exec(ExecError::Snapshot(error))
                | OpError::File(FileError::Snapshot(error)),
            ) => in_snapshot(error),
            Self::Checksum { source, .. } => match &**source {
                ChecksumError::Unreadable(snapshot::ChecksumError::Snapshot(error)) => {
                    in_snapshot(error)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// A Dockerfile that makes no sense. As an error it reads as [`PlanFailure::error`] does.
#[derive(Debug)]
pub struct PlanFailure {
    /// Why.
    pub error: PlanError,
    /// Where.
    pub place: Option<Place>,
}

/// A step that failed. As an error it reads as [`StepFailure::error`] does.
#[derive(Debug)]
pub struct StepFailure {
    /// `[build 2/5] RUN make`
    pub name: String,
    /// Where it was written.
    pub place: Option<Place>,
    /// The last lines that it wrote, at most ten; empty where it is no process.
    pub log: Vec<LogLine>,
    /// Why it failed.
    pub error: StepError,
}

impl fmt::Display for PlanFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for PlanFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for StepFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It ran.
    #[error(transparent)]
    Run(#[from] OpError),
    /// What it takes could not be read.
    #[error("failed to compute cache key: failed to calculate checksum of ref {of}")]
    Checksum {
        /// Of what.
        of: String,
        /// Where the person may have gone wrong.
        hint: Option<String>,
        /// Why.
        #[source]
        source: Box<ChecksumError>,
    },
    /// A cache does not have what it said it had.
    #[error("cache {name} does not have what it said it had")]
    Lost {
        /// The cache.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<PullError>,
    },
    /// What it made again could not be compared with what it had made.
    #[error("cannot compare what it made with what it had made")]
    Compare(#[source] Box<SnapshotError>),
    /// An image did not come in.
    #[error("failed to pull {reference}")]
    Pull {
        /// Its name.
        reference: String,
        /// Why.
        #[source]
        source: Box<PullError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, since its step began.
    pub at: Duration,
    /// The line, without its end.
    pub text: String,
}

/// Lines of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as the person knows it.
    pub file: String,
    /// Its text.
    pub text: Arc<[u8]>,
    /// Which lines.
    pub lines: SourceRange,
}

/// Why the Dockerfile, the ignore file or the context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such context.
    #[error("unable to prepare context: path {path:?} not found")]
    NoContext {
        /// As asked for.
        path: PathBuf,
    },
    /// The context is something else.
    #[error("unable to prepare context: path {path:?} is not a directory")]
    NoDirectory {
        /// As asked for.
        path: PathBuf,
    },
    /// The context cannot be read.
    #[error("unable to prepare context: path {path:?} cannot be read")]
    UnreadableContext {
        /// As asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A named context.
    #[error("failed to get build context {name}")]
    Named {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<ReadError>,
    },
    /// A context has a name that nothing can have.
    #[error(transparent)]
    ContextName(#[from] lower::ContextNameError),
    /// The name of a repository says something that cannot be done.
    #[error("unable to prepare context: {address:?} names nothing that can be fetched")]
    Address {
        /// As asked for, without credentials.
        address: String,
        /// What is wrong with it.
        #[source]
        source: lower::RemoteError,
    },
    /// The context or the Dockerfile could not be fetched.
    #[error(transparent)]
    Fetch(Box<OpError>),
    /// The standard input.
    #[error("unable to prepare context: standard input cannot be read")]
    Stdin {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A text that came instead of a context.
    #[error("failed to read dockerfile: {from} cannot be read")]
    Text {
        /// From where.
        from: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What came is larger than anyone would send.
    #[error("unable to prepare context: {from} has more than {limit} bytes")]
    TooLarge {
        /// From where.
        from: String,
        /// How many it may have.
        limit: u64,
    },
    /// What came is packed, and no tar.
    #[error("unable to prepare context: {from} is compressed, but holds no tar")]
    NoArchive {
        /// From where.
        from: String,
    },
    /// The tar of a context is damaged, or wants what no context may.
    #[error("unable to prepare context: cannot unpack the tar from {from}")]
    Archive {
        /// From where.
        from: String,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// The context's tree could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The context is a Dockerfile, and another one is named.
    #[error("ambiguous Dockerfile source: both {from} and flag correspond to Dockerfiles")]
    TwoDockerfiles {
        /// What the context is.
        from: String,
    },
    /// The Dockerfile.
    #[error("failed to read dockerfile: open {name}")]
    Dockerfile {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ignore file.
    #[error("failed to read {name}")]
    Ignore {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of the ignore file.
    #[error("failed to parse {name}: line {line}: {pattern:?}: {why}")]
    IgnoreLine {
        /// The file's name.
        name: String,
        /// Which line, from one.
        line: usize,
        /// What is there.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Why an image that the Dockerfile names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not in the store, and its registry does not give it.
    #[error("{source}")]
    Registry {
        /// Its name.
        reference: Reference,
        /// Why.
        source: Box<PullError>,
    },
    /// The person gave up.
    #[error("canceled")]
    Cancelled,
    /// Its config is none.
    #[error("the config of {reference} cannot be read")]
    Config {
        /// Its name.
        reference: Reference,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is not in the OCI layout, or that is none.
    #[error("cannot take an image from the OCI layout `{}`", directory.display())]
    Layout {
        /// Where that is.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<export::LoadError>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the result could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The files could not be given away.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What the result is made of could not be found out.
    #[error("failed to generate attestations")]
    Attest(#[from] export::sbom::SbomError),
    /// The new layers could not be dated back.
    #[error("failed to rewrite timestamps of layers")]
    Clamp(#[source] Box<snapshot::ClampError>),
    /// A layer has no tar.
    #[error("failed to export layer of {name:?}")]
    Layer {
        /// The step that made it.
        name: String,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// The image has no manifest that could have annotations.
    #[error("cannot annotate the image")]
    Annotate(#[source] Box<export::SaveError>),
    /// The result could not be brought in from a cache.
    #[error(transparent)]
    Result(Box<StepError>),
    /// A tar is of one file system.
    #[error("a tar has the files of one platform: name one, or a directory with type=local")]
    SeveralInTar,
    /// There is nothing to call it by.
    #[error("tag is needed when pushing to registry")]
    NoTag,
    /// A registry did not take it.
    #[error("failed to push {name}")]
    Push {
        /// The image's name there.
        name: Reference,
        /// Why.
        #[source]
        source: Box<PushError>,
    },
    /// The image is larger than it may be.
    #[error(
        "the image has {size}, and --max-size allows {limit}: too much with the {adds} of {step}"
    )]
    TooLarge {
        /// The bytes of its layers.
        size: Bytes,
        /// How many there may be.
        limit: Bytes,
        /// The step with which there are more.
        step: String,
        /// How many that added.
        adds: Bytes,
        /// Where it stands.
        place: Option<Box<Place>>,
    },
    /// A layer is larger than the last time, and by more than it may be.
    #[error(
        "the layer of {step} grew from {before} to {now}, and --max-layer-growth allows {limit}"
    )]
    Grown {
        /// The step that made it.
        step: String,
        /// Its bytes the last time.
        before: Bytes,
        /// Its bytes now.
        now: Bytes,
        /// How many more there may be.
        limit: Growth,
        /// Where the step stands.
        place: Option<Box<Place>>,
    },
    /// Who has the image has a secret.
    #[error("{}{}", leak.sentence(), and_more(*more))]
    Leak {
        /// The first.
        leak: Box<Leak>,
        /// How many more places there are.
        more: usize,
    },
    /// A file of a layer could not be searched for secrets.
    #[error("cannot look for secrets in `{}`", path.display())]
    Unsearched {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is in the layers is not known.
    #[error("cannot look at the layers of the image")]
    Looking(#[source] Box<SnapshotError>),
    /// The image could not be stored.
    #[error("failed to store the image")]
    Image(#[source] StoreError),
    /// A file that was asked for beside the image.
    #[error("failed to write {path:?}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// The lines of the Dockerfile that are to blame.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Parse { place, .. } => place.as_ref(),
            Self::Plan(failure) => failure.place.as_ref(),
            Self::Step(failure) => failure.place.as_ref(),
            Self::Export(error) => error.place(),
            Self::Read(_) | Self::CacheExport { .. } | Self::Store(_) | Self::Cancelled => None,
        }
    }

    /// The step that failed, where it was one.
    pub fn step(&self) -> Option<&StepFailure> {
        match self {
            Self::Step(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether a result that had been found was gone when it was to be used.
    pub(crate) fn is_lost_result(&self) -> bool {
        match self {
            Self::Store(error) | Self::Export(ExportError::Image(error)) => is_lost(error),
            Self::Export(ExportError::Result(error)) => error.is_lost_result(),
            Self::Step(failure) => failure.error.is_lost_result(),
            _ => false,
        }
    }

    /// Whether a layer that is not what it was may be the cause: everything that is not the person's,
    /// and not what a process said.
    pub(crate) fn may_come_of_damage(&self) -> bool {
        match self {
            Self::Step(failure) => !matches!(
                &failure.error,
                StepError::Run(OpError::Exec(
                    ExecError::Exit { .. } | ExecError::TooLong { .. }
                ))
            ),
            Self::Export(error) => !error.is_refusal(),
            Self::Store(_) => true,
            Self::Read(_)
            | Self::Parse { .. }
            | Self::Plan(_)
            | Self::CacheExport { .. }
            | Self::Cancelled => false,
        }
    }

    /// What the person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(failure) => {
                if let Some(suggestion) = &failure.error.suggestion {
                    return Some(format!("did you mean {suggestion}?"));
                }
                let image = failure
                    .source()
                    .and_then(|it| it.downcast_ref::<ImageError>());
                image.and_then(ImageError::hint).map(str::to_owned)
            }
            Self::Read(ReadError::Dockerfile { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some(
                    "name the Dockerfile with `-f`, or run in the directory that has it".to_owned(),
                )
            }
            Self::Step(failure) => match &failure.error {
                StepError::Run(OpError::Exec(ExecError::Foreign { .. })) => Some(
                    "`apt-get install qemu-user-static binfmt-support` registers emulators with the kernel; steps of a stage `FROM --platform=$BUILDPLATFORM` need none".to_owned(),
                ),
                StepError::Run(OpError::Exec(ExecError::Spawn { source, .. })) => {
                    source.help().map(str::to_owned)
                }
                StepError::Run(OpError::Exec(ExecError::Network(error))) => {
                    Some(error.help().to_owned())
                }
                StepError::Checksum { hint, .. } => hint.clone(),
                _ => None,
            },
            Self::Export(ExportError::Leak { .. }) => Some(
                "let RUN --mount=type=secret read it and write it nowhere; --secret-leaks=warn only tells of it".to_owned(),
            ),
            Self::Export(ExportError::TooLarge { .. } | ExportError::Grown { .. }) => {
                Some("--size-report says what each step adds and what is wasted".to_owned())
            }
            _ => None,
        }
    }
}

impl ExportError {
    /// Whether the image is as it should be, and only not wanted so.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Grown { .. } | Self::Leak { .. }
        )
    }

    /// The lines of the Dockerfile that are to blame.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::TooLarge { place, .. } | Self::Grown { place, .. } => place.as_deref(),
            Self::Leak { leak, .. } => leak.place.as_deref(),
            _ => None,
        }
    }
}

/// How many there are besides the one that was told.
fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => " (and one more place)".to_owned(),
        more => format!(" (and {more} more places)"),
    }
}

impl ImageError {
    fn hint(&self) -> Option<&'static str> {
        let Self::Registry { source, .. } = self else {
            return None;
        };
        match **source {
            PullError::NotRemembered { .. } => Some(
                "build without --offline, or bring it in with `rbuild pull`, `rbuild load` or `rbuild import`",
            ),
            PullError::Registry(RegistryError::Http(_)) => Some(
                "`--offline` asks no registry; `rbuild load` and `rbuild import` bring images in from files",
            ),
            _ => None,
        }
    }
}

impl ReadError {
    /// Whether it is the context that cannot be had, rather than something in it.
    pub fn is_of_context(&self) -> bool {
        !matches!(
            self,
            Self::Dockerfile { .. }
                | Self::Text { .. }
                | Self::Ignore { .. }
                | Self::IgnoreLine { .. }
                | Self::Snapshot(_)
                | Self::Store(_)
        )
    }
}

impl Place {
    /// The lines with some around them, as BuildKit shows them.
    pub fn excerpt(&self) -> String {
        dockerfile_parser::excerpt(
            &self.file,
            &self.text,
            self.lines.first_line,
            self.lines.last_line,
        )
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &impl Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
