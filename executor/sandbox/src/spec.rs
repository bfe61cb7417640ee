//! What is run, and in which surroundings.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// One process to run, and everything it will see.
///
/// Nothing is taken from the owner's own surroundings: no variable, no directory, no descriptor.
#[derive(Debug)]
pub struct Spec {
    /// The root file system: a mount that is not attached anywhere, as `fsmount` or `open_tree` give it.
    pub rootfs: OwnedFd,
    /// Whether the process can only read its root file system.
    pub read_only_rootfs: bool,
    /// The command and its arguments, never empty. A command without `/` is looked up in the `PATH` of `env`.
    pub args: Vec<OsString>,
    /// `KEY=value`, the whole environment.
    pub env: Vec<OsString>,
    /// The directory it starts in; it must exist in the root file system.
    pub cwd: PathBuf,
    /// Who it is.
    pub user: User,
    /// The host name it sees.
    pub hostname: String,
    /// The content of `/etc/hosts`, which it can only read; the file of the root file system where `None`.
    pub hosts: Option<Vec<u8>>,
    /// Likewise `/etc/resolv.conf`.
    pub resolv_conf: Option<Vec<u8>>,
    /// What is mounted beside the root file system, in this order.
    pub mounts: Vec<Mount>,
    /// Whom it can reach.
    pub network: Network,
    /// How closely it is held.
    pub privileges: Privileges,
    /// Where its first three descriptors lead.
    pub stdio: Stdio,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// What it can use up.
    pub limits: Limits,
}

impl Spec {
    /// A spec with the defaults of a build step: root in `/`, no network, no input, output into pipes.
    pub fn new(rootfs: OwnedFd, args: impl IntoIterator<Item = impl Into<OsString>>) -> Spec {
        Spec {
            rootfs,
            read_only_rootfs: false,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            hostname: "buildkitsandbox".to_owned(),
            hosts: None,
            resolv_conf: None,
            mounts: Vec::new(),
            network: Network::None,
            privileges: Privileges::Default,
            stdio: Stdio::pipes(),
            shm_size: 64 << 20,
            limits: Limits::default(),
        }
    }
}

/// Who a process is, by numbers only: names are the caller's to look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// Its primary group, which also becomes the first supplementary one.
    pub gid: u32,
    /// Further supplementary groups.
    pub groups: Vec<u32>,
}

/// A mount below the root file system.
#[derive(Debug)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside; links in it are followed within the root file system. A target that is
    /// not there is made, and removed after the run if it is still empty then.
    pub target: PathBuf,
    /// Whether the process can only read, also in what is mounted below.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug)]
pub enum MountSource {
    /// A mount that is not attached anywhere: a directory or a single file.
    Detached(OwnedFd),
    /// A directory or file of the host, with what is mounted below it.
    Host(PathBuf),
    /// Memory, forgotten after the run.
    Tmpfs {
        /// Bytes at most; half of the machine's memory where `None`.
        size: Option<u64>,
        /// Permissions of its root directory.
        mode: u32,
    },
    /// A device node of its own, which leads to a device of the machine's.
    Device(Device),
    /// A file in memory.
    File {
        /// Its content.
        data: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// A device of the machine's that a process is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Of which kind.
    pub kind: DeviceKind,
    /// Which driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: u32,
    /// Permissions of the node.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What the process may do with it: of `r`, `w` and `m`.
    pub access: String,
    /// The machine's own node, which stands in where nobody can make one: then mode, owner and group
    /// are those that it has there.
    pub host: PathBuf,
}

/// The two kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Read and written byte by byte.
    Character,
    /// A disk, or something like it.
    Block,
}

/// Whom a process can reach over the network.
#[derive(Debug)]
pub enum Network {
    /// Only itself: a fresh namespace with a loopback interface.
    None,
    /// Whom the namespace can reach (from [`network::Networks::lease`](crate::network::Networks::lease)).
    Namespace(OwnedFd),
    /// Whom the host can reach: the owner's own namespace.
    Host,
}

/// How closely a process is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privileges {
    /// Fourteen capabilities, the system call filter, masked and read-only paths, few devices.
    #[default]
    Default,
    /// Everything its owner may do, apart from the namespaces.
    Insecure,
}

/// Where the first three descriptors of a process lead.
#[derive(Debug)]
pub enum Stdio {
    /// Each somewhere else.
    Streams {
        /// Descriptor 0.
        stdin: Stream,
        /// Descriptor 1.
        stdout: Stream,
        /// Descriptor 2.
        stderr: Stream,
    },
    /// All three to a terminal of the sandbox, which controls the process's session. The owner's
    /// end comes with [`Running::terminal`](crate::Running::terminal).
    Terminal(Terminal),
}

impl Stdio {
    /// Nothing to read, output and errors each into a pipe.
    pub fn pipes() -> Stdio {
        Stdio::Streams {
            stdin: Stream::Null,
            stdout: Stream::Pipe,
            stderr: Stream::Pipe,
        }
    }

    /// The owner's own three.
    pub fn inherit() -> Stdio {
        Stdio::Streams {
            stdin: Stream::Inherit,
            stdout: Stream::Inherit,
            stderr: Stream::Inherit,
        }
    }

    /// Nothing to read, nobody listens.
    pub fn null() -> Stdio {
        Stdio::Streams {
            stdin: Stream::Null,
            stdout: Stream::Null,
            stderr: Stream::Null,
        }
    }
}

/// Where one descriptor leads.
#[derive(Debug)]
pub enum Stream {
    /// The sandbox's `/dev/null`.
    Null,
    /// A new pipe; the owner's end is in [`Running`](crate::Running).
    Pipe,
    /// The owner's descriptor of the same number. Through `/proc/self/fd` the process can reopen
    /// what it leads to, so this is for owners who trust it.
    Inherit,
    /// This one, with the same warning.
    Given(OwnedFd),
}

/// A terminal to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What a process and its children can use up.
///
/// Where the control groups of the host cannot hold the number of processes, it is that of each user of a user
/// namespace, all its sandboxes together; where there is none, it is not held. Where any other of these cannot be
/// held, the process does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is as much as there is. Where `None`, as much swap as
    /// memory, if swap can be limited.
    pub memory_and_swap: Option<i64>,
    /// How much of the processors' time, compared with others, when it is scarce; usually 1024.
    pub cpu_shares: Option<u64>,
    /// Microseconds of a processor in each period; -1 is as many as there are.
    pub cpu_quota: Option<i64>,
    /// Microseconds; 100,000 where `None`.
    pub cpu_period: Option<u64>,
    /// The processors it may run on: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use, likewise.
    pub cpuset_mems: Option<String>,
    /// The control group below which its own are, from the top of each hierarchy; made where it is
    /// missing. The owner's own where `None`.
    pub parent: Option<PathBuf>,
    /// What a single process can use (`setrlimit`); as the owner where they do not say.
    pub rlimits: Vec<Rlimit>,
}

/// One limit of a single process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// Where the kernel begins to refuse; `None` is nowhere. The process may raise it up to `hard`.
    pub soft: Option<u64>,
    /// As far as that.
    pub hard: Option<u64>,
}

/// What an [`Rlimit`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    name: &'static str,
    number: i32,
}

impl Resource {
    /// Every resource by docker's name, which is the kernel's in lower case.
    pub fn named(name: &str) -> Option<Resource> {
        let (name, number) = RESOURCES.into_iter().find(|it| it.0 == name)?;
        Some(Resource { name, number })
    }

    /// Docker's names of all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RESOURCES.into_iter().map(|it| it.0)
    }

    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The kernel's number of it.
    pub(crate) fn number(self) -> i32 {
        self.number
    }
}

/// Names and the kernel's numbers, which are the same on every architecture that rbuild runs on.
const RESOURCES: [(&str, i32); 16] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("as", 9),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

impl Default for Limits {
    /// Enough processes for any build, too few for a fork bomb to take the machine down.
    fn default() -> Limits {
        Limits {
            pids: Some(32_768),
            memory: None,
            memory_and_swap: None,
            cpu_shares: None,
            cpu_quota: None,
            cpu_period: None,
            cpuset_cpus: None,
            cpuset_mems: None,
            parent: None,
            rlimits: Vec::new(),
        }
    }
}
