//! One process, held: a plain [`Spec`] in, a [`Running`] process out, and in the end its [`Exit`].
//!
//! The process is the first one of its own pid namespace and sees nothing of the host: own mount,
//! ipc, uts, network and cgroup namespaces, a root file system handed in as a detached mount, a
//! `/dev`, `/proc` and `/sys` made for it, fourteen capabilities, a system call filter, and no
//! descriptor but the first three. It dies with its owner, whatever happens to either.
//!
//! What is allowed and denied stands as commented data in [`seccomp`], [`capability`] and
//! [`mounts`]; `plan` turns a spec into a list of steps, and `sys`, the only unsafe code of the
//! project, takes those steps between clone and exec.
//!
//! Needs Linux 5.12 or newer, and the capabilities of root: those of the machine's root, or those that
//! [`rootless::enter`] gives to anybody. In a user namespace some of it stands on other ground: device
//! nodes are the host's, mounted one by one; `/sys` is the host's for a process in the host's network;
//! control groups are there as far as somebody delegated them.

pub mod capability;
pub mod mounts;
pub mod network;
pub mod rootless;
pub mod seccomp;

mod cgroup;
mod plan;
mod program;
mod quiet;
mod running;
mod spawn;
mod spawner;
mod spec;
mod stub;
#[expect(
    unsafe_code,
    reason = "the one place where system calls without a safe wrapper are made"
)]
mod sys;

pub use running::{Exit, Handle, Running, Status, Usage, WaitError};
pub use spawn::{OLDEST_KERNEL, SpawnError, spawn};
pub use spec::{
    Device, DeviceKind, Limits, Mount, MountSource, Network, Privileges, Resource, Rlimit, Spec,
    Stdio, Stream, Terminal, User,
};
pub use sys::end_with_thread;

/// Which version of control groups this machine has, if any, and the controllers of which this process
/// may set limits.
pub fn control_groups() -> (Option<u8>, Vec<String>) {
    cgroup::survey()
}
