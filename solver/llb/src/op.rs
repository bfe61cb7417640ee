//! What a vertex does. The five ops of BuildKit: source, exec, file, merge, diff.
//!
//! Inputs are numbered by their position in the vertex's input list; outputs by their position in
//! what the op produces. `None` where an input is expected means scratch, the empty file system.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Brings something in from outside. No inputs, one output.
    Source(Source),
    /// Runs a process. Outputs are the mounts that keep what was written, in their order.
    Exec(Exec),
    /// Copies and makes files. Outputs are those actions that say so, in their order.
    File(File),
    /// Lays the inputs over each other, the last on top. One output.
    Merge,
    /// What the second input has over the first. One output.
    Diff,
}

/// Where a source vertex takes its content from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The root file system of an image.
    Image(ImageSource),
    /// A directory of the person who builds, by the name under which the session knows it (`context`).
    Local(LocalSource),
    /// What an address answers with, as one file.
    Http(HttpSource),
    /// The files of one commit of a repository.
    Git(GitSource),
}

impl Source {
    /// Whether it must be asked outside what the source is at the moment, before anything is known of
    /// it. What comes of that is the same source with its `pin` filled in.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Git(_))
    }
}

/// The root file system of an image, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSource {
    /// The full name, for people and for fetching; not in the key.
    pub reference: String,
    /// The digest of the image's config: its id.
    pub id: oci::Digest,
    /// The layers, lowest first, by the digest of their uncompressed tar.
    pub diff_ids: Vec<oci::Digest>,
}

/// A directory that the session lends, read in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LocalSource {
    /// The session's name for it.
    pub name: String,
    /// Lines of a `.dockerignore`, already stripped of comments and blank lines.
    pub ignore: Vec<String>,
}

/// What an address answers with, as one file in an otherwise empty tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpSource {
    /// The whole address; http or https.
    pub url: String,
    /// What its content must be.
    pub checksum: Option<oci::Digest>,
    /// The file's name in the tree: one component.
    pub filename: String,
    /// The file's permissions.
    pub mode: u32,
    /// User and group of the file.
    pub owner: (u32, u32),
    /// What the address answers with now; `None` until it was asked.
    pub pin: Option<HttpPin>,
}

/// What an address answered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpPin {
    /// The digest of its content.
    pub content: oci::Digest,
    /// When it last changed, in seconds since 1970, if the server said so.
    pub last_modified: Option<i64>,
}

/// The files of one commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GitSource {
    /// Where the repository is: `https://…`, `ssh://…`, `git://…` or `user@host:path`.
    pub remote: String,
    /// A branch, a tag, a full name below `refs/`, or a whole commit id; empty for the default branch.
    pub reference: String,
    /// What the commit's id must begin with.
    pub checksum: Option<String>,
    /// The directory whose content is taken, absolute and clean; `/` for all.
    pub subdir: String,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are filled in, and theirs.
    pub submodules: bool,
    /// When the files were changed, as they say.
    pub times: GitTimes,
    /// Whether only the commit's id is asked for, and not the reference where that is refused.
    pub fetch_by_commit: bool,
    /// The id of the commit that the reference means now; `None` until the repository was asked.
    pub pin: Option<String>,
}

/// What the files of a [`GitSource`] have as modification times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum GitTimes {
    /// The time at which they were checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// Runs one process in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exec {
    /// The command and its arguments, never empty.
    pub args: Vec<String>,
    /// `KEY=value`; ARGs in scope are among them. Most steps of a build have the same.
    #[serde(with = "shared")]
    pub env: Arc<Vec<String>>,
    /// Like `env`, given to the process but not part of the key (proxies).
    pub unkeyed_env: Vec<String>,
    /// Absolute directory in which the command starts.
    pub cwd: String,
    /// `user[:group]`, names or numbers, looked up in the root file system; empty means root.
    pub user: String,
    /// What is mounted where. The mount at `/` is the root file system and comes first.
    pub mounts: Vec<Mount>,
    /// Whom the process can reach.
    pub network: Network,
    /// How closely the process is held.
    pub security: Security,
    /// `host -> address` lines for `/etc/hosts`; the addresses are not in the key.
    pub extra_hosts: BTreeMap<String, String>,
    /// The host name inside.
    pub hostname: String,
    /// Bytes of `/dev/shm`; 64 MiB where `None`.
    pub shm_size: Option<u64>,
    /// What it is lent of the machine's devices; needs the entitlement `device`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Limits of single processes (`--ulimit`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The control group of the host below which that of the process is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// What the process and its children can use up together; not in the key.
    #[serde(default, skip_serializing_if = "Resources::is_empty", with = "shared")]
    pub resources: Arc<Resources>,
    /// How it is tried and how long its result is good; not in the key.
    #[serde(default)]
    pub terms: Terms,
}

/// What is shared here is written as if it were not.
mod shared {
    use super::{Arc, Deserialize, Serialize};

    pub(super) fn serialize<T, S>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: serde::Serializer,
    {
        shared.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Arc<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: serde::Deserializer<'de>,
    {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// What the machine describes as a device (CDI), by its name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// `VENDOR/CLASS=NAME`; without `=NAME` the first of its class, and `=*` is all of them.
    pub name: String,
    /// Whether the step fails where the machine has none.
    pub required: bool,
}

impl Device {
    /// `VENDOR/CLASS`
    pub fn class(&self) -> &str {
        self.name.split('=').next().unwrap_or_default()
    }
}

/// One limit of single processes, by docker's name of it. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ulimit {
    /// Where the kernel begins to refuse.
    pub soft: Option<u64>,
    /// How far the process may raise that.
    pub hard: Option<u64>,
}

/// What a process and its children can use up together (`--resource`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is as much as there is.
    pub memory_swap: Option<i64>,
    /// How much of the processors' time, compared with others.
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of a processor in each period; -1 is as many as there are.
    pub cpu_quota: Option<i64>,
    /// The processors to run on: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes, likewise.
    pub cpuset_mems: Option<String>,
}

impl Resources {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a process is tried, and how long its result is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Terms {
    /// How often it is tried again after it failed, each time on a clean layer.
    pub retry: u32,
    /// How long one try may take.
    pub timeout: Option<Duration>,
    /// How long after it ran its result may be taken from the cache.
    pub time_to_live: Option<Duration>,
}

/// One mount of an [`Exec`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the root file system.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether the process can only read.
    pub read_only: bool,
    /// Whether what the process wrote is an output of the vertex. Otherwise it is discarded (or, for a cache, kept in the cache).
    pub output: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MountKind {
    /// An input, or scratch where `input` is `None`; from it the part at `selector` (`/` for all).
    Bind {
        /// Which input.
        input: Option<usize>,
        /// Absolute path within the input.
        selector: String,
    },
    /// A directory that outlives the build. Its content is no part of any key.
    Cache {
        /// Under which name it is found again.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// What it starts with.
        input: Option<usize>,
        /// Absolute path within the input.
        selector: String,
        /// Mode, uid, gid of the directory when it is made.
        owner: (u32, u32, u32),
    },
    /// Memory, forgotten after the step.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A file with a secret of the session. Its value is no part of any key.
    Secret {
        /// The session's name for it.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Mode, uid, gid.
        owner: (u32, u32, u32),
        /// Variable to set, in place of the file where `target` is empty.
        env: Option<String>,
    },
    /// A socket of an ssh agent of the session.
    Ssh {
        /// The session's name for it.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Mode, uid, gid.
        owner: (u32, u32, u32),
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sharing {
    /// Everyone at once.
    Shared,
    /// Each user its own: the kept one if nobody has it, else an empty one.
    Private,
    /// One after the other.
    Locked,
}

/// Whom a process can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Network {
    /// The outside, from a network namespace of its own.
    #[default]
    Default,
    /// Itself.
    None,
    /// Everything the host can; needs the entitlement `network.host`.
    Host,
}

/// How closely a process is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Security {
    /// In the sandbox.
    #[default]
    Sandbox,
    /// With all capabilities; needs the entitlement `security.insecure`.
    Insecure,
}

/// Copies and makes files, one action after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct File {
    /// Never empty; an action may build on the result of an earlier one.
    pub actions: Vec<FileAction>,
}

/// One action of a [`File`] op: takes a tree, gives a changed one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileAction {
    /// The tree that is changed.
    pub base: Tree,
    /// What changes.
    pub change: FileChange,
    /// Whether the changed tree is an output of the vertex.
    pub output: bool,
}

/// A tree that a file action can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tree {
    /// The empty one.
    Scratch,
    /// An input of the vertex.
    Input(usize),
    /// The result of an earlier action of the same op.
    Action(usize),
}

/// What a file action does. Paths are absolute within their tree; they are resolved there, never outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileChange {
    /// `COPY` and `ADD` of one source.
    Copy(Copy),
    /// Makes a file with the given content.
    MakeFile {
        /// Where; missing parents are made.
        path: String,
        /// Its content.
        data: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// Its owner; root where `None`.
        owner: Option<Owner>,
        /// Whether a name in `path` that ends in `/` or is a directory takes the file inside under this name.
        name: Option<String>,
    },
    /// Makes a directory with its parents; one that is there stays as it is.
    MakeDirectory {
        /// Where.
        path: String,
        /// Permissions of what is made.
        mode: u32,
        /// Owner of what is made; root where `None`.
        owner: Option<Owner>,
    },
    /// Removes a file or a directory.
    Remove {
        /// What.
        path: String,
        /// Whether it is fine if there is nothing.
        allow_missing: bool,
    },
}

/// Copies one source into a tree, with `COPY`'s rules (spec A.10 G53-G82).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Copy {
    /// The tree that is copied from.
    pub from: Tree,
    /// Path within it, absolute and clean, possibly with wildcards (Go's `filepath.Match`, no `**`).
    pub source: String,
    /// Path within the changed tree. A `/` at the end means: a directory.
    pub destination: String,
    /// New owner; kept where `None`.
    pub owner: Option<Owner>,
    /// New permissions; kept where `None`.
    pub mode: Option<ModeChange>,
    /// Whether `source` may hold wildcards; one that matches nothing is then fine.
    pub wildcard: bool,
    /// Whether a regular file that is a tar, compressed or not, is unpacked into `destination`.
    pub unpack: bool,
    /// Patterns of what is left out, as in `.dockerignore`, relative to the source.
    pub exclude: Vec<String>,
    /// Whether the source's path is kept below `destination` (`--parents`). Then `source` may hold
    /// one `/./`, and only what is behind it is kept; and `**` is a wildcard too (G72).
    pub parents: bool,
}

/// Who owns a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// A number, or a name to look up in the tree that is changed.
    pub user: UserName,
    /// Likewise; the user's own group where `None` (for a user by number, the group of that number in
    /// the tree's `passwd`, else 0).
    pub group: Option<UserName>,
    /// Where names are looked up.
    pub names: OwnerNames,
}

/// Whose `/etc/passwd` and `/etc/group` say what the names of an [`Owner`] mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum OwnerNames {
    /// Those of the tree that is changed; an unknown name is an error.
    #[default]
    Changed,
    /// Those of the tree that is changed; an unknown name means root (`WORKDIR`, G45).
    ChangedOrRoot,
    /// Those of an input that is otherwise not looked at (`COPY --link --chown=NAME`, whose tree is
    /// scratch); an unknown name is an error.
    Input(usize),
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserName {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// How permissions change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModeChange {
    /// To these, at most `0o7777`.
    Octal(u32),
    /// As `chmod` reads it: `u=rwX,go=rX`.
    Symbolic(String),
}
