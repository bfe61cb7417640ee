//! What the person who builds can choose.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::Platform;

use crate::{Contexts, Warning};

/// The build-arg that says which time is the latest that a result may show.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What the person who builds can choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--target`: a stage's name or number; the last stage where `None`.
    pub target: Option<String>,
    /// `--build-arg`, names to values. Those without a value are already filled in or left out.
    pub build_args: BTreeMap<String, String>,
    /// `--label`: override the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// What the image runs on.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// Whether step names say the platform, as they do when several are built at once.
    pub name_platform: bool,
    /// Which stages run even if the cache knows their results.
    pub no_cache: NoCache,
    /// `--network`: of those RUNs that do not say.
    pub network: llb::op::Network,
    /// `--add-host`, names to addresses.
    pub extra_hosts: BTreeMap<String, String>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub ulimits: BTreeMap<String, llb::op::Ulimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
    /// `--resource`
    pub resources: Arc<llb::op::Resources>,
    /// `--allow`
    pub allowed: Allowed,
    /// The host name in RUN; the build-arg `BUILDKIT_SANDBOX_HOSTNAME` wins over it.
    pub hostname: String,
    /// Lines of the context's `.dockerignore`, without comments and blank lines.
    pub ignore: Vec<String>,
    /// `--build-context`: what stands for stages and images of those names.
    pub contexts: Contexts,
    /// What `SOURCE_DATE_EPOCH=context` stands for, in seconds since 1970: the time of a repository's commit,
    /// or of the newest file of a tar. A directory has none, and the variable is not set then.
    pub context_epoch: Option<i64>,
    /// What the parser noticed in the file, to be told with the rest of the warnings unless the file
    /// asks not to.
    pub findings: Vec<Warning>,
    /// `--strict-args`: a `--build-arg` that nothing declares is an error, not a warning.
    pub strict_args: bool,
}

/// Which walls a Dockerfile may take down (`--allow`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// `network.host`: steps may use the host's network.
    pub network_host: bool,
    /// `security.insecure`: steps may have all capabilities.
    pub security_insecure: bool,
    /// `device`: steps may be lent devices.
    pub devices: Devices,
}

/// Which devices of the machine a step may be lent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Devices {
    /// None.
    #[default]
    None,
    /// Each.
    All,
    /// Those that a Dockerfile calls so, and what they are; names of single ones or of whole classes.
    Named(BTreeMap<String, String>),
}

impl Devices {
    /// Adds a device, or a class of them, that a Dockerfile calls `alias`.
    pub fn add(&mut self, alias: &str, name: &str) {
        let entry = (alias.to_owned(), name.to_owned());
        match self {
            Devices::All => {}
            Devices::None => *self = Devices::Named([entry].into()),
            Devices::Named(known) => known.extend([entry]),
        }
    }
}

impl Allowed {
    /// Nothing is in the way.
    pub const ALL: Self = Self {
        network_host: true,
        security_insecure: true,
        devices: Devices::All,
    };

    /// The name of a device that a Dockerfile calls `name`, if a step may be lent it.
    pub(crate) fn device(&self, name: &str) -> Option<String> {
        let class = name.split('=').next().unwrap_or_default();
        match &self.devices {
            Devices::None => None,
            Devices::All => Some(name.to_owned()),
            Devices::Named(known) => match known.get(name) {
                Some(meant) => Some(meant.clone()),
                None if known.contains_key(class) => Some(name.to_owned()),
                None => known.get(&format!("{class}=*")).map(|_| name.to_owned()),
            },
        }
    }
}

/// Which stages run even if the cache knows their results.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None.
    #[default]
    Off,
    /// `--no-cache`
    All,
    /// `--no-cache-filter`, names of stages in lower case.
    Stages(Vec<String>),
}

impl Options {
    /// Nothing chosen, for a build on and for `platform`.
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            build_platform: platform.clone(),
            platform,
            name_platform: false,
            no_cache: NoCache::Off,
            network: llb::op::Network::Default,
            extra_hosts: BTreeMap::new(),
            shm_size: None,
            ulimits: BTreeMap::new(),
            cgroup_parent: None,
            resources: Arc::default(),
            allowed: Allowed::default(),
            hostname: "buildkitsandbox".to_owned(),
            ignore: Vec::new(),
            contexts: Contexts::default(),
            context_epoch: None,
            findings: Vec::new(),
            strict_args: false,
        }
    }
}
