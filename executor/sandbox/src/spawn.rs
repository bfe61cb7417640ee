//! From a [`Spec`] to a [`Running`] process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Pid;

use crate::plan::{self, Plan, Prepared, Step};
use crate::spawner::Spawner;
use crate::sys::{self, Cloned, Failure};
use crate::{Running, Spec};

/// The first kernel that can do what every sandbox needs: attributes of a whole tree of mounts at once.
pub const OLDEST_KERNEL: &str = "5.12";

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such command; shells and docker answer 127.
    #[error("exec: `{program}`: {}", if program.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" })]
    NotFound {
        /// The command.
        program: String,
    },
    /// The command is there and cannot be run; shells and docker answer 126.
    #[error("exec: `{program}`: {}", errno_text(source))]
    NotExecutable {
        /// The command.
        program: String,
        /// `EACCES`, `ENOEXEC`, `EISDIR` and their like.
        source: io::Error,
    },
    /// The directory to start in cannot be entered.
    #[error("cannot start in `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A mount target cannot be: reserved, a link that should be none, of the wrong kind.
    #[error("cannot mount at `{path}`: {reason}")]
    Target {
        /// The target as it was asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody has this number in the user namespace that rbuild works in.
    #[error("there is no {kind} {id} in this user namespace")]
    Unmapped {
        /// `user` or `group`.
        kind: &'static str,
        /// The number.
        id: u32,
    },
    /// The spec holds something that cannot be passed on: an empty command, a zero byte.
    #[error("{0}")]
    Invalid(String),
    /// A call that everything rests on is missing.
    #[error("Linux {release} is too old: rbuild needs Linux {OLDEST_KERNEL} or newer")]
    Kernel {
        /// What the kernel calls itself.
        release: String,
    },
    /// Something on the owner's side, before there was a process.
    #[error("cannot prepare the sandbox: {what}")]
    Prepare {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A limit of a single process that cannot be set, above all one that is higher than ours.
    #[error("cannot set the limit `{name}` to {soft}:{hard}{}", if source.kind() == io::ErrorKind::PermissionDenied { ": only a process with CAP_SYS_RESOURCE may raise a hard limit" } else { "" })]
    Limit {
        /// The limit.
        name: &'static str,
        /// What was asked for.
        soft: String,
        /// What was asked for.
        hard: String,
        /// Why not.
        source: io::Error,
    },
    /// A step between clone and exec, as `strace` would print it.
    #[error("cannot set up the sandbox: {step}")]
    Step {
        /// The call: `mount(proc, /proc)`.
        step: String,
        /// Its answer.
        source: io::Error,
    },
}

/// What helps in a container that does not let rbuild have a user namespace, or not use it.
pub(crate) const CONFINED: &str = "rbuild is in a container that allows too little: start that with `--privileged`, or with \
    `--security-opt seccomp=unconfined` and `--security-opt unmask=ALL` (podman; docker calls the second \
    `systempaths=unconfined`)";

impl SpawnError {
    /// What the person can do, where that is known.
    pub fn help(&self) -> Option<&'static str> {
        // A filter of system calls forbids the first; for the second the kernel wants to see a whole `/proc`. The others
        // want rights that root has here and was not given.
        let is_theirs = |step: &str| {
            let calls = ["sethostname(", "ioctl(lo", "capset("];
            step.ends_with("(proc, /proc)") || calls.iter().any(|call| step.starts_with(call))
        };
        match self {
            Self::Step { step, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                is_theirs(step).then_some(CONFINED)
            }
            _ => None,
        }
    }
}

fn errno_text(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => "permission denied",
        Some(libc::ENOEXEC) => "exec format error",
        Some(libc::EISDIR) => "is a directory",
        _ => "cannot be executed",
    }
}

/// Starts the process of a spec.
///
/// Returns when the process runs its own program, or with the reason why it never will. May be
/// called from any thread, which may end before the process does.
pub fn spawn(spec: Spec) -> Result<Running, SpawnError> {
    let spawner = Spawner::get().map_err(|it| SpawnError::Prepare {
        what: it.what.to_owned(),
        source: copy_of(&it.source),
    })?;
    let program = spec
        .args
        .first()
        .map(|it| it.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Prepared {
        plan,
        stubs,
        groups,
        seclusion,
        ends,
    } = plan::prepare(spec, spawner)?;
    let (plan, started) = spawner.run(plan);
    let Cloned { pid, pidfd } = started.map_err(|it| explain(it, &plan, program))?;
    let mounts = sys::mount_namespace(pidfd.as_fd());
    Ok(Running {
        pid,
        pidfd: Arc::new(pidfd),
        stdin: ends.stdin,
        stdout: ends.stdout,
        stderr: ends.stderr,
        terminal: ends.terminal.map(Arc::new),
        mounts: mounts.or_else(|| by_path(pid)),
        stubs,
        groups,
        quiet: seclusion.kept(pid),
        over: false,
    })
}

/// The mount namespace of a process, where the kernel has no other way to it. The number cannot have
/// changed hands, since nobody has reaped the process.
fn by_path(pid: Pid) -> Option<OwnedFd> {
    File::open(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero()))
        .ok()
        .map(OwnedFd::from)
}

fn explain(failure: Failure, plan: &Plan, program: String) -> SpawnError {
    match failure {
        Failure::Clone(source) => SpawnError::Step {
            step: "clone()".to_owned(),
            source,
        },
        Failure::Step {
            index,
            call,
            source,
        } => match &plan.steps[index] {
            Step::Directory(path) => SpawnError::Directory {
                path: PathBuf::from(path.to_string_lossy().into_owned()),
                source: match source.raw_os_error() {
                    Some(libc::EXDEV) => io::Error::other("it is outside of the root file system"),
                    _ => source,
                },
            },
            Step::Limit(limit) => SpawnError::Limit {
                name: limit.resource.name(),
                soft: shown(limit.soft),
                hard: shown(limit.hard),
                source,
            },
            step => SpawnError::Step {
                step: format!("{call}({step})"),
                source,
            },
        },
        Failure::Exec(source) => match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound { program },
            _ => SpawnError::NotExecutable { program, source },
        },
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |it| it.to_string())
}

/// Errors cannot be cloned, and this one is asked for again and again.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_allows_too_little_is_known_by_what_it_refuses() {
        let helps = |step: &str, errno| {
            let (step, source) = (step.to_owned(), io::Error::from_raw_os_error(errno));
            SpawnError::Step { step, source }.help().is_some()
        };
        assert!(helps("sethostname(buildkitsandbox)", libc::EPERM));
        assert!(helps("fsmount(proc, /proc)", libc::EPERM));
        assert!(helps("ioctl(lo)", libc::EPERM));
        assert!(helps("capset(0xa00425fb)", libc::EPERM));
        assert!(!helps("fsmount(proc, /proc)", libc::ENOMEM));
        assert!(!helps("fsmount(mqueue, /dev/mqueue)", libc::EPERM));
    }
}
