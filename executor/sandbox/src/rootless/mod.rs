//! A normal user's way to what root can do: a user namespace in which he is root.
//!
//! There are three *rungs*. A process that can mount needs no namespace. A user with ranges of
//! subordinate ids (`/etc/subuid`, `/etc/subgid`) gets them all, mapped by the set-user-id programs
//! `newuidmap` and `newgidmap`. Everybody else gets one: himself, who is root inside. The process
//! moves in place, so that its number, its terminal and its signals stay what they are.

mod ids;
mod obstacle;
mod ranges;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::MountAttrFlags;

use crate::{Status, capability, mounts, program, sys};
use ranges::Ranges;

pub(crate) use ids::{in_first_namespace, is_group_mapped, is_user_mapped, may_set_groups};
pub use obstacle::Obstacle;

/// The programs that map users and groups for who may not.
const USERS: &str = "newuidmap";
const GROUPS: &str = "newgidmap";

/// With whose rights a process works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// It could mount already: it is root, or somebody made it root of a namespace.
    Root,
    /// Root of a user namespace with ranges of subordinate ids.
    Ranges,
    /// Root of a user namespace with no other id.
    Single {
        /// Why there is no more than one.
        reason: String,
    },
}

/// A process could not become root of a user namespace.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The machine does not let it.
    #[error("user {user} cannot be root of a user namespace: {obstacle}")]
    Forbidden {
        /// Who.
        user: u32,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// One of the programs that map ids did its work, and the other did not.
    #[error("the ids of this user cannot be mapped: {0}")]
    Mapping(String),
    /// Something else failed.
    #[error("cannot enter a user namespace: {what}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Climbs the highest rung there is: where this process cannot mount, it becomes root of a user
/// namespace and of a mount namespace.
///
/// To be called while the process has one thread.
pub fn enter() -> Result<Rung, EnterError> {
    if can_mount() {
        return Ok(Rung::Root);
    }
    let caller = Caller::new();
    match Ranges::of(caller.user) {
        Ok(ranges) => enter_with(caller, &ranges),
        Err(reason) => enter_alone(caller, reason),
    }
}

/// What [`probe`] found out about a rung: nothing to say where it can be climbed, else why not.
pub type Finding = Result<(), String>;

/// All rungs, tried.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Working without a namespace.
    pub root: Finding,
    /// A namespace with ranges of ids.
    pub ranges: Finding,
    /// A namespace with one id.
    pub single: Finding,
}

/// Tries each rung, in processes that are over afterwards.
///
/// To be called while the process has one thread.
pub fn probe() -> Probe {
    let caller = Caller::new();
    let root = can_mount()
        .then_some(())
        .ok_or_else(|| format!("user {} cannot mount", caller.user));
    let ranges = Ranges::of(caller.user).and_then(|ranges| {
        attempt(|| match enter_with(caller, &ranges) {
            Ok(Rung::Single { reason }) => Err(reason),
            other => other.map(drop).map_err(|it| it.to_string()),
        })
    });
    let single = attempt(|| {
        let entered = enter_alone(caller, String::new());
        entered.map(drop).map_err(|it| it.to_string())
    });
    Probe {
        root,
        ranges,
        single,
    }
}

/// Does something in a copy of this process, and hears how it went.
fn attempt(what: impl FnOnce() -> Finding) -> Finding {
    let failed = |error: io::Error| format!("it cannot be tried: {error}");
    let (mut answer, mut question) = io::pipe().map_err(failed)?;
    let child = sys::fork(|| {
        let found = what();
        let reason = found.as_ref().err().map_or("", String::as_str);
        let _ = question.write_all(reason.as_bytes());
        u8::from(found.is_err())
    });
    drop(question);
    let child = child.map_err(failed)?;
    let mut reason = String::new();
    let _ = answer.read_to_string(&mut reason);
    match sys::wait(child).map_err(failed)?.0 {
        Status::Code(0) => Ok(()),
        _ => Err(reason),
    }
}

/// Whether this process has what root has that matters.
fn can_mount() -> bool {
    sys::effective_capabilities() & capability::SYS_ADMIN.bit() != 0
}

/// Who called: in a new namespace a process does not know any more who it was.
#[derive(Debug, Clone, Copy)]
struct Caller {
    user: u32,
    group: u32,
}

impl Caller {
    fn new() -> Caller {
        Caller {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        }
    }

    fn forbidden(self, source: &io::Error) -> EnterError {
        EnterError::Forbidden {
            user: self.user,
            obstacle: Obstacle::find(source),
        }
    }
}

fn enter_with(caller: Caller, ranges: &Ranges) -> Result<Rung, EnterError> {
    let failed = |what| move |source| EnterError::Failed { what, source };
    let this = std::process::id();
    let (mut ready, go) = io::pipe().map_err(failed("a pipe"))?;
    let (mut answer, mut question) = io::pipe().map_err(failed("a pipe"))?;
    let mut go = Some(go);
    // The maps of a namespace are written from outside, so somebody has to stay there.
    let helper = sys::fork(|| {
        // With the copy open, the end of this process could not be noticed.
        drop(go.take());
        let mut byte = [0];
        if !matches!(ready.read(&mut byte), Ok(1)) {
            return 1;
        }
        match map_from_outside(this, ranges) {
            Ok(()) => 0,
            Err(reason) => {
                let _ = question.write_all(reason.as_bytes());
                1
            }
        }
    });
    drop(question);
    let helper = helper.map_err(failed("a helper"))?;
    let unshared = sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    if unshared.is_ok()
        && let Some(go) = &mut go
    {
        go.write_all(b"+").map_err(failed("a helper"))?;
    }
    drop(go);
    let mut reason = String::new();
    answer
        .read_to_string(&mut reason)
        .map_err(failed("a helper"))?;
    let status = sys::wait(helper).map_err(failed("a helper"))?.0;
    unshared.map_err(|it| caller.forbidden(&it))?;
    if status == Status::Code(0) {
        check(caller)?;
        return Ok(Rung::Ranges);
    }
    if !ids::none_are_mapped() {
        return Err(EnterError::Mapping(reason));
    }
    map_alone(caller)?;
    Ok(Rung::Single { reason })
}

fn map_from_outside(process: u32, ranges: &Ranges) -> Result<(), String> {
    for (name, map) in [(USERS, ranges.users()), (GROUPS, ranges.groups())] {
        let path = program::find(name);
        let output = Command::new(path.as_deref().unwrap_or(Path::new(name)))
            .arg(process.to_string())
            .args(map)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run `{name}`: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("no reason given").trim();
            let said = said.strip_prefix(&format!("{name}: ")).unwrap_or(said);
            return Err(format!("`{name}` refused: {said}"));
        }
    }
    Ok(())
}

fn enter_alone(caller: Caller, reason: String) -> Result<Rung, EnterError> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|it| caller.forbidden(&it))?;
    map_alone(caller)?;
    Ok(Rung::Single { reason })
}

/// Maps the caller alone, in a namespace without maps.
fn map_alone(caller: Caller) -> Result<(), EnterError> {
    for (file, text) in [
        // Who drops a group gets what the group is kept from, so with one id nobody may.
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("0 {} 1", caller.group)),
        ("uid_map", format!("0 {} 1", caller.user)),
    ] {
        fs::write(format!("/proc/self/{file}"), text).map_err(|it| caller.forbidden(&it))?;
    }
    check(caller)
}

/// Mounts something: security modules let a user make a namespace and then be nobody in it.
fn check(caller: Caller) -> Result<(), EnterError> {
    let mount = mounts::file_system("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_NODEV);
    mount.map(drop).map_err(|it| caller.forbidden(&it))
}
