//! What one person wants built.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use export::{Annotations, Mode, SaveOptions, Version};
use llb::op::{Network, Resources, Ulimit};
use oci::{Platform, Reference};
use ops::AgentFrom;
use remote::{Backend, CacheTo};

use crate::{Cancel, ContextFrom, DockerfileFrom, Leaks, LogLimits, NamedFrom, SizeLimits};

pub use lower::{Allowed, Devices, NoCache};

/// What one person wants built. The fields are the flags of `build`.
#[derive(Debug, Clone)]
pub struct Request {
    /// What `COPY` copies from.
    pub context: ContextFrom,
    /// `--build-context`: what stands for stages and images of these names.
    pub contexts: BTreeMap<String, NamedFrom>,
    /// `--file`
    pub dockerfile: DockerfileFrom,
    /// `--target`
    pub target: Option<String>,
    /// `--build-arg`, names to values; those without a value are filled in from the environment or left out.
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--platform`: what is built for, each once; the host where there is none.
    pub platforms: Vec<Platform>,
    /// `--no-cache` and `--no-cache-filter`
    pub no_cache: NoCache,
    /// `--network`
    pub network: Network,
    /// `--add-host`, names to addresses.
    pub extra_hosts: BTreeMap<String, String>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`, docker's names to limits.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
    /// `--resource`
    pub resources: Resources,
    /// `--allow`
    pub allowed: Allowed,
    /// `--strict-args`
    pub strict_args: bool,
    /// `--secret`, ids to where the values are.
    pub secrets: BTreeMap<String, SecretFrom>,
    /// `--ssh`, ids to agents.
    pub ssh: BTreeMap<String, AgentFrom>,
    /// `--tag`
    pub tags: Vec<Reference>,
    /// `--output`; an image in the store where there is none.
    pub outputs: Vec<Output>,
    /// `--annotation`, `oci-mediatypes=`: how the manifest of an image in the store is, and so those that are
    /// written from it. What is given to registries has its own.
    pub stored: SaveOptions,
    /// `rewrite-timestamp=true`: no file of a layer that the build made is younger than `SOURCE_DATE_EPOCH`
    /// in images.
    pub rewrite_timestamp: bool,
    /// `source-date-epoch=`: what counts for images instead of `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// `--iidfile`
    pub iidfile: Option<PathBuf>,
    /// `--pull` and `--offline`
    pub pull: Pull,
    /// `--cache-from`: caches elsewhere, the first first.
    pub cache_from: Vec<Arc<dyn Backend>>,
    /// `--cache-to`, but for those into the image.
    pub cache_to: Vec<CacheTo>,
    /// `--cache-to type=inline`: the image has the cache of its layers with it.
    pub inline_cache: bool,
    /// `--attest`, `--provenance`, `--sbom`
    pub attest: Attest,
    /// How many steps may run at once; no limit where `None`, as with BuildKit.
    pub parallelism: Option<usize>,
    /// `--max-size` and `--max-layer-growth`
    pub size_limits: SizeLimits,
    /// `--size-report`: [`Built::sizes`](crate::Built::sizes) are wanted.
    pub report_sizes: bool,
    /// `--secret-leaks`
    pub leaks: Leaks,
    /// Whether layers are searched for keys that are known by how they look, of which people are told.
    pub known_tokens: bool,
    /// How much each process may write before the rest is left out.
    pub log_limits: LogLimits,
    /// `--explain`: each step that runs says why.
    pub explain: bool,
    /// `--verify-reproducible`: once it is built, all of it runs again, and what that makes is compared.
    pub verify: bool,
    /// Cancelled when the person gives up.
    pub cancel: Cancel,
}

/// What is said about the result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attest {
    /// Where it comes from.
    pub provenance: Option<ProvenanceOf>,
    /// What it is made of.
    pub sbom: bool,
}

/// How it is said where a result comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenanceOf {
    /// How much is told.
    pub mode: Mode,
    /// In which version of SLSA's words.
    pub version: Version,
    /// Who builds, as an address; empty where nobody says.
    pub builder_id: String,
    /// Whether whoever builds says that the same comes out each time.
    pub says_reproducible: bool,
}

/// What becomes of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the store, under the request's tags.
    Image,
    /// An image in the store, which is then given to registries as well.
    Push(Push),
    /// Nothing: the steps run and are in the cache.
    CacheOnly,
    /// The files of the result in a directory (`type=local`).
    Local(Files),
    /// The files of the result as a tar (`type=tar`).
    Tar(Files),
}

/// Where the files of a result go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The directory or file; where `None`, a tar goes to the standard output and a directory is the
    /// one that rbuild runs in.
    pub destination: Option<PathBuf>,
    /// Whether they stand in a directory named for their platform (`linux_amd64`).
    pub platform_split: bool,
    /// `source-date-epoch=`: the time that all of them have, instead of `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// How the names of files begin that say something of the others.
    pub attestation_prefix: String,
}

/// How an image is given to registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Push {
    /// The names it gets there; the request's tags where there are none.
    pub names: Vec<Reference>,
    /// How layers are packed: as they are packed already, or with gzip, unless it says otherwise.
    pub options: SaveOptions,
}

/// When a registry is asked for the images that a Dockerfile names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// Where the store has none of that name.
    #[default]
    Missing,
    /// Each time (`--pull`).
    Always,
    /// Never (`--offline`): what the store has counts, then what registries said before.
    Never,
}

/// Where the value of a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// In a file.
    File(PathBuf),
    /// Here, taken from a variable of the environment.
    Value(Vec<u8>),
}

impl Request {
    /// A build of the directory `context` with nothing chosen.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self {
            context: ContextFrom::Directory(context.into()),
            contexts: BTreeMap::new(),
            dockerfile: DockerfileFrom::Context,
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platforms: Vec::new(),
            no_cache: NoCache::Off,
            network: Network::Default,
            extra_hosts: BTreeMap::new(),
            shm_size: None,
            ulimits: BTreeMap::new(),
            cgroup_parent: None,
            resources: Resources::default(),
            allowed: Allowed::default(),
            strict_args: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            tags: Vec::new(),
            outputs: Vec::new(),
            stored: SaveOptions {
                annotations: Some(Annotations::default()),
                ..SaveOptions::default()
            },
            rewrite_timestamp: false,
            epoch: None,
            iidfile: None,
            pull: Pull::Missing,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            inline_cache: false,
            attest: Attest::default(),
            parallelism: None,
            size_limits: SizeLimits::default(),
            report_sizes: false,
            leaks: Leaks::default(),
            known_tokens: false,
            log_limits: LogLimits::default(),
            explain: false,
            verify: false,
            cancel: Cancel::default(),
        }
    }

    /// What is built, whichever part of it: steps are compared with earlier ones of the same project.
    pub(crate) fn project(&self) -> String {
        let context = match &self.context {
            ContextFrom::Directory(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
            other => other.shown(),
        };
        match &self.dockerfile {
            DockerfileFrom::File(path) => format!("{context} {}", path.display()),
            DockerfileFrom::Remote(address) => {
                format!("{context} {}", llb::without_credentials(address))
            }
            DockerfileFrom::Context | DockerfileFrom::Stdin => context,
        }
    }

    /// The build in a few words.
    pub(crate) fn title(&self) -> String {
        let context = self.context.shown();
        match &self.target {
            Some(target) => format!("{context} ({target})"),
            None => context,
        }
    }
}
