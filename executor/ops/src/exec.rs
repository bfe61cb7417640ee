//! Runs the process of an exec op in a sandbox on its mounts.

mod devices;
mod foreign;
mod laps;
mod mounts;
mod output;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use llb::op::{Exec, Network, Security, Ulimit};
use oci::Platform;
use rustix::io::Errno;
use sandbox::network::{Attachment, LeaseError, Reach};
use sandbox::{
    Exit, Limits, Privileges, Resource, Rlimit, SpawnError, Spec, Status, Stdio, WaitError,
};
use snapshot::{Account, AccountError, Accounts, Root, SnapshotError};
use solve::progress::Stream;
use store::{Spent, StoreError};

use crate::{Context, FileError, Ops, Ref};

pub use devices::DeviceError;
use laps::Laps;
use mounts::Mounts;

/// What a process finds its commands in where nothing says otherwise.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_SHM: u64 = 64 << 20;
/// In `--add-host`, the address at which the machine itself is reached.
const HOST_GATEWAY: &str = "host-gateway";

/// Why an exec op gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The process ended with a code that means failure.
    #[error("process {command:?} did not complete successfully: exit code: {code}{killed}")]
    Exit {
        /// What ran, with its arguments.
        command: String,
        /// Its exit code, 128 and the signal's number where a signal ended it.
        code: i32,
        /// Whether it did not end by itself.
        killed: Killed,
    },
    /// The process took longer than it may.
    #[error("process {command:?} did not end within {}", shown(*.limit))]
    TooLong {
        /// What ran, with its arguments.
        command: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The process did not come to run.
    #[error("process {command:?} did not start")]
    Spawn {
        /// What was to run.
        command: String,
        /// Why it did not.
        #[source]
        source: SpawnError,
    },
    /// The process is of a program for another processor, and nobody emulates that here.
    #[error(
        "process {command:?} did not start: it is for linux/{architecture}, this machine is {host}, and no emulator is registered"
    )]
    Foreign {
        /// What was to run.
        command: String,
        /// What it is for, in Go's words.
        architecture: &'static str,
        /// What we are.
        host: Platform,
    },
    /// How it ended is not known.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// What it wrote could not be read.
    #[error("cannot read the output of the process")]
    Output(#[source] io::Error),
    /// It is to be somebody that the root file system does not know.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A limit that no kernel has.
    #[error("invalid ulimit type: {0}")]
    Ulimit(String),
    /// It is not lent a device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It has no network to be in.
    #[error(transparent)]
    Network(#[from] LeaseError),
    /// A file of the host that it needs a copy of.
    #[error("cannot read `{path}`")]
    HostFile {
        /// Which.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is to be mounted is not there, or cannot be.
    #[error("cannot mount {what:?} of an input at `{target}`")]
    Mount {
        /// The path in the input.
        what: String,
        /// Where it is to be.
        target: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A part of a cache that no step made yet, or that cannot be mounted.
    #[error("the cache {id:?} has no part {part:?} to mount")]
    NoPart {
        /// The cache.
        id: String,
        /// The path in it.
        part: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A cache that is to begin as a copy of something else than a directory.
    #[error("a cache mount begins with a directory, and {part:?} is none")]
    Seed {
        /// What it was to begin with.
        part: String,
    },
    /// The session lacks a secret.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// The session lacks an agent.
    #[error("ssh agent {0}: not found; name its socket or its keys with `--ssh`")]
    NoAgent(String),
    /// Comes later.
    #[error("{0} is not supported yet")]
    NotYet(&'static str),
    /// A directory of the session could not be copied for the process to write into.
    #[error("cannot copy the local directory")]
    Copy(#[source] Box<FileError>),
    /// There is no socket for an agent, or it could not be made.
    #[error("cannot pass on the ssh agent {id:?}")]
    Agent {
        /// The session's name for it.
        id: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A layer could not be mounted or committed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a process did not end by itself, or something that it started did not; behind an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// As far as is known, it did.
    No,
    /// Something of it was killed for want of memory.
    OutOfMemory {
        /// The bytes that it could have, where that was limited.
        limit: Option<u64>,
    },
    /// A signal ended it, or what the shell ran last.
    Signal(&'static str),
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::No => Ok(()),
            Self::OutOfMemory { limit: None } => f.write_str(": was killed: out of memory"),
            Self::OutOfMemory { limit: Some(limit) } => {
                write!(f, ": was killed: out of memory (limit {})", bytes(limit))
            }
            Self::Signal(signal) => write!(f, " ({signal})"),
        }
    }
}

/// In the largest unit that divides it.
fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// The signals that end processes.
const SIGNALS: [(i32, &str); 16] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (31, "SIGSYS"),
];

/// Those of them whose codes mean nothing else: git ends with 129 if it does not understand.
const OF_SHELLS: [(i32, &str); 8] = [
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

fn signal_name(signal: i32, names: &[(i32, &'static str)]) -> Option<&'static str> {
    names.iter().find(|it| it.0 == signal).map(|it| it.1)
}

fn shown(limit: Duration) -> String {
    match limit.as_secs() {
        0 => format!("{}ms", limit.as_millis()),
        seconds => format!("{seconds}s"),
    }
}

/// Runs the process, and again as often as it may be tried, each time on a clean layer.
pub(crate) fn run(
    ops: &Ops,
    exec: &Exec,
    inputs: &[Ref],
    context: &Context<'_>,
) -> Result<Vec<Ref>, ExecError> {
    let mut left = exec.terms.retry;
    loop {
        let error = match once(ops, exec, inputs, context) {
            Err(error @ (ExecError::Exit { .. } | ExecError::TooLong { .. })) if left > 0 => error,
            other => return other,
        };
        if context.cancel.is_cancelled() {
            return Err(error);
        }
        let (tried, all) = (exec.terms.retry - left + 1, exec.terms.retry + 1);
        let line = format!("{error}; try {} of {all}\n", tried + 1);
        (context.log)(Stream::Stderr, line.as_bytes());
        left -= 1;
    }
}

/// Ends a process that takes too long, unless it is dropped before.
struct Alarm {
    rang: Arc<AtomicBool>,
    off: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn set(limit: Duration, kill: impl FnOnce() + Send + 'static) -> Self {
        let rang = Arc::new(AtomicBool::new(false));
        let (off, wait) = mpsc::channel();
        let ring = Arc::clone(&rang);
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                ring.store(true, Ordering::SeqCst);
                kill();
            }
        });
        Self {
            rang,
            off: Some(off),
            thread: Some(thread),
        }
    }

    fn rang(&self) -> bool {
        self.rang.load(Ordering::SeqCst)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        drop(self.off.take());
        // A panic there has been told already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Why a process did not start: because it cannot on this machine, where that is the reason.
fn unstarted(exec: &Exec, files: &Root, source: SpawnError) -> ExecError {
    let command = exec.args.join(" ");
    let foreign = match &source {
        SpawnError::NotExecutable { program, source }
            if source.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) =>
        {
            let path = exec
                .env
                .iter()
                .rev()
                .find_map(|line| line.strip_prefix("PATH="));
            foreign::architecture(files, program, &exec.cwd, path.unwrap_or_default())
        }
        _ => None,
    };
    match foreign {
        Some(architecture) => ExecError::Foreign {
            command,
            architecture,
            host: Platform::host(),
        },
        None => ExecError::Spawn { command, source },
    }
}

fn once(
    ops: &Ops,
    exec: &Exec,
    inputs: &[Ref],
    context: &Context<'_>,
) -> Result<Vec<Ref>, ExecError> {
    let mut laps = Laps::start();
    let mut mounts = Mounts::prepare(ops, exec, inputs, context)?;
    let root = mounts.take_root()?;
    laps.over("mounts");
    let in_root = |source| ExecError::Mount {
        what: "/".to_owned(),
        target: "/".to_owned(),
        source,
    };
    let files = Root::from_fd(root.try_clone().map_err(in_root)?);
    let account = Accounts::read(&files)?.find(&exec.user)?;
    let lent = devices::lend(&exec.devices, &account, &|name, why| {
        let text = format!("rbuild: the step does without the device {name}: {why}\n");
        (context.log)(Stream::Stderr, text.as_bytes());
    })?;
    laps.over("account");
    let attachment = attach_network(ops, exec)?;
    tell_reach(&attachment, ops, context);
    laps.over("network");
    let command = exec.args.join(" ");
    let spec = Spec {
        read_only_rootfs: exec.mounts.first().is_some_and(|root| root.read_only),
        env: environment(exec, &account, [mounts.take_env(), lent.env].concat())
            .into_iter()
            .map(Into::into)
            .collect(),
        cwd: exec.cwd.clone().into(),
        user: sandbox::User {
            uid: account.uid,
            gid: account.gid,
            groups: [account.groups, lent.groups].concat(),
        },
        hostname: exec.hostname.clone(),
        hosts: Some(hosts(&exec.hostname, &exec.extra_hosts, attachment.host())),
        resolv_conf: resolv_conf(&attachment)?,
        mounts: mounts
            .take_others()
            .into_iter()
            .chain(lent.mounts)
            .collect(),
        network: attachment.network().map_err(|source| ExecError::HostFile {
            path: "/proc/self/ns/net",
            source,
        })?,
        privileges: match exec.security {
            Security::Sandbox => Privileges::Default,
            Security::Insecure => Privileges::Insecure,
        },
        stdio: Stdio::pipes(),
        shm_size: exec.shm_size.unwrap_or(DEFAULT_SHM),
        limits: limits(exec)?,
        ..Spec::new(root, exec.args.iter().map(String::as_str))
    };
    let mut running = sandbox::spawn(spec).map_err(|source| unstarted(exec, &files, source))?;
    laps.over("sandbox");
    // An open directory below the root would keep it from being unmounted.
    drop(files);
    let handle = running.handle();
    // A process that is over already cannot be killed, which is fine.
    let _stop = context.cancel.on_cancel(move || drop(handle.kill()));
    let handle = running.handle();
    let alarm = exec
        .terms
        .timeout
        .map(|limit| (limit, Alarm::set(limit, move || drop(handle.kill()))));
    let pipes = [running.take_stdout(), running.take_stderr()];
    output::pass_on(pipes, context).map_err(ExecError::Output)?;
    laps.over("process");
    let exit = running.wait()?;
    laps.over("end");
    (context.spent)(Spent {
        processor: exit.usage.user + exit.usage.system,
        memory: exit.usage.max_memory,
        read: exit.usage.read,
        written: exit.usage.written,
    });
    if let Some((limit, _)) = alarm.filter(|(_, alarm)| alarm.rang()) {
        return Err(ExecError::TooLong { command, limit });
    }
    if exit.code() != 0 {
        return Err(ExecError::Exit {
            command,
            code: i32::from(exit.code()),
            killed: killed(&exit, exec.resources.memory),
        });
    }
    let outputs = mounts.commit()?;
    laps.over("commit");
    laps.tell();
    Ok(outputs)
}

fn killed(exit: &Exit, limit: Option<u64>) -> Killed {
    match exit.status {
        _ if exit.oom_killed => Killed::OutOfMemory { limit },
        Status::Signal(signal) => signal_name(signal, &SIGNALS).map_or(Killed::No, Killed::Signal),
        // Shells pass on the end of what they ran.
        Status::Code(code) => {
            let signal = i32::from(code) - 128;
            signal_name(signal, &OF_SHELLS).map_or(Killed::No, Killed::Signal)
        }
    }
}

fn limits(exec: &Exec) -> Result<Limits, ExecError> {
    let rlimit = |(name, limit): (&String, &Ulimit)| {
        let resource = Resource::named(name);
        let resource = resource.ok_or_else(|| ExecError::Ulimit(name.clone()))?;
        Ok(Rlimit {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        })
    };
    let resources = &exec.resources;
    Ok(Limits {
        memory: resources.memory,
        memory_and_swap: resources.memory_swap,
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        parent: exec.cgroup_parent.as_ref().map(Into::into),
        rlimits: exec
            .ulimits
            .iter()
            .map(rlimit)
            .collect::<Result<_, ExecError>>()?,
        ..Limits::default()
    })
}

/// The environment of the process: what the op says, what mounts and devices bring along, which
/// counts more, and what every process expects.
fn environment(exec: &Exec, account: &Account, brought: Vec<String>) -> Vec<String> {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let mut env: Vec<String> = exec.env.iter().chain(&exec.unkeyed_env).cloned().collect();
    for line in brought {
        env.retain(|it| name(it) != name(&line));
        env.push(line);
    }
    let is_set = |env: &[String], wanted: &str| env.iter().any(|it| name(it) == wanted);
    if !is_set(&env, "PATH") {
        env.insert(0, DEFAULT_PATH.to_owned());
    }
    if !is_set(&env, "HOME") {
        env.push(format!("HOME={}", account.home));
    }
    env
}

/// `host` is where the machine itself is reached.
fn hosts(hostname: &str, extra: &BTreeMap<String, String>, host: Option<Ipv4Addr>) -> Vec<u8> {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        let _ = match (address.as_str(), host) {
            (HOST_GATEWAY, Some(host)) => writeln!(text, "{host}\t{name}"),
            (HOST_GATEWAY, None) => Ok(()),
            (address, _) => writeln!(text, "{address}\t{name}"),
        };
    }
    text.into_bytes()
}

/// The network that a step asks for.
fn attach_network(ops: &Ops, exec: &Exec) -> Result<Attachment, LeaseError> {
    Ok(match (exec.network, exec.security) {
        (Network::None, _) => Attachment::Nobody,
        (Network::Host, _) => Attachment::Host,
        (Network::Default, Security::Sandbox) => Attachment::Outside(ops.networks.lease()?),
        (Network::Default, Security::Insecure) => Attachment::Outside(ops.networks.lease_once()?),
    })
}

/// Says once for all steps that the way out is not the usual one.
fn tell_reach(attachment: &Attachment, ops: &Ops, context: &Context<'_>) {
    let Attachment::Outside(lease) = attachment else {
        return;
    };
    let reach = (!matches!(lease.reach(), Reach::Translated))
        .then(|| format!("rbuild: RUN reaches {}\n", lease.reach()));
    let remark = lease.remark().map(|it| format!("rbuild: {it}\n"));
    let text = reach.into_iter().chain(remark).collect::<String>();
    if !text.is_empty() && !ops.told.swap(true, Ordering::Relaxed) {
        (context.log)(Stream::Stderr, text.as_bytes());
    }
}

fn resolv_conf(attachment: &Attachment) -> Result<Option<Vec<u8>>, ExecError> {
    const PATH: &str = "/etc/resolv.conf";
    match attachment {
        Attachment::Nobody => Ok(Some(Vec::new())),
        Attachment::Outside(lease) => Ok(Some(lease.resolv_conf().to_owned())),
        Attachment::Host => match fs::read(PATH) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ExecError::HostFile { path: PATH, source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_a_process_stands_behind_its_exit_code() {
        let exit = |status, oom_killed| Exit {
            status,
            usage: sandbox::Usage::default(),
            oom_killed,
        };
        let said = |status, oom_killed, limit| killed(&exit(status, oom_killed), limit).to_string();
        let table = [
            (said(Status::Code(1), false, None), ""),
            (said(Status::Code(129), false, None), ""),
            (said(Status::Code(139), false, None), " (SIGSEGV)"),
            (said(Status::Signal(1), false, None), " (SIGHUP)"),
            (said(Status::Signal(9), false, Some(1)), " (SIGKILL)"),
            (
                said(Status::Signal(9), true, None),
                ": was killed: out of memory",
            ),
            (
                said(Status::Code(1), true, Some(64 << 20)),
                ": was killed: out of memory (limit 64MiB)",
            ),
            (
                said(Status::Code(1), true, Some((64 << 20) + 1)),
                ": was killed: out of memory (limit 67108865 bytes)",
            ),
        ];
        for (said, expected) in table {
            assert_eq!(said, expected);
        }
    }
}
