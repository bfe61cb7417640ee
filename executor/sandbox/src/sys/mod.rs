//! The system calls that have no safe wrapper elsewhere. All unsafe code of the project is here.
//!
//! Outside this module every function is safe to call with any arguments. [`clone`] starts a child
//! that shares this process's memory and takes the steps of a plan; what that asks of the code in
//! [`child`] is written there.

mod child;
mod guard;
mod raw;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;

use crate::plan::Plan;
use crate::{Status, Usage};

pub(crate) use guard::Guard;

/// Every signal, as `rt_sigprocmask` takes it.
const ALL_SIGNALS: u64 = u64::MAX;

/// Has the program of `command`, one of the host's that works for rbuild, be killed when the thread
/// that starts it ends, and make files that others may read.
///
/// What the program itself starts is not killed with it; that it loses its pipes must be enough.
pub fn end_with_thread(command: &mut Command) {
    let owner = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // It may have ended in the meantime, and then no signal comes.
        match rustix::process::getppid() {
            Some(parent) if parent == owner => Ok(()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    };
    // SAFETY: the closure runs between fork and exec. It makes four system calls on its own stack,
    // and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// What the kernel said about a child that never ran its program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no child.
    Clone(io::Error),
    /// A step failed: its index in the plan, the call and its answer.
    Step {
        index: usize,
        call: &'static str,
        source: io::Error,
    },
    /// All steps were taken, and the program could not be executed.
    Exec(io::Error),
}

/// A child that runs its program.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// The stack of the children of one thread, used by one at a time.
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    /// Enough for [`child::run`], which holds no large values and never recurses.
    pub(crate) fn new() -> Stack {
        Stack(vec![0; (256 << 10) / size_of::<u128>()])
    }

    /// One past the highest address, aligned as every supported architecture wants it.
    fn top(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
}

/// Starts a child that takes the steps of `plan` and then executes its program.
///
/// Returns when the child has left this process's memory: by exec, or by ending. The caller must
/// have all signals blocked ([`block_signals`]), so that no handler runs in the child.
pub(crate) fn clone(plan: &Plan, stack: &mut Stack) -> Result<Cloned, Failure> {
    let mut work = child::Work::new(plan);
    let mut pidfd: libc::c_int = -1;
    let flags =
        libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | plan.namespaces;
    // SAFETY: `stack` is live memory that nothing else uses until the call returns, because with
    // CLONE_VFORK this thread sleeps until the child has left the address space. For the same
    // reason `work`, which the child writes to, outlives the child's use of it. `child::run` has
    // the signature that `clone` calls.
    let pid = unsafe {
        libc::clone(
            child::run,
            stack.top(),
            flags,
            (&raw mut work).cast(),
            &raw mut pidfd,
        )
    };
    if pid < 0 {
        return Err(Failure::Clone(io::Error::last_os_error()));
    }
    if plan.changes_user() {
        // Changing the user of the child marked the memory, which was ours too, as not to be inspected.
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    }
    // SAFETY: the kernel has just put a new descriptor there, which nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(pid).expect("clone returns a positive number in the parent");
    match work.failure() {
        None => Ok(Cloned { pid, pidfd }),
        Some(failure) => {
            // The child has written its report and ends by itself.
            let _ = wait(pid);
            Err(failure)
        }
    }
}

/// Waits for a child of this process and reaps it.
pub(crate) fn wait(pid: Pid) -> io::Result<(Status, Usage)> {
    let mut status = 0;
    // SAFETY: all zeroes is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the right types.
        let got = unsafe {
            libc::wait4(
                pid.as_raw_nonzero().get(),
                &raw mut status,
                libc::__WALL,
                &raw mut usage,
            )
        };
        if got >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let status = if libc::WIFSIGNALED(status) {
        Status::Signal(libc::WTERMSIG(status))
    } else {
        Status::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    };
    let usage = Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        max_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
        // In blocks of 512 bytes, whatever the disk has.
        read: u64::try_from(usage.ru_inblock).unwrap_or(0) << 9,
        written: u64::try_from(usage.ru_oublock).unwrap_or(0) << 9,
    };
    Ok((status, usage))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u32::try_from(time.tv_usec).unwrap_or(0);
    Duration::new(seconds, micros * 1000)
}

/// Blocks every signal in the calling thread.
pub(crate) fn block_signals() -> io::Result<()> {
    set_signal_mask(ALL_SIGNALS)
}

fn set_signal_mask(mask: u64) -> io::Result<()> {
    // SAFETY: the mask is a live local of the size that is passed; the old one is not asked for.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            0usize,
            size_of::<u64>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The mount namespace of a process, or `None` where it is over or the kernel does not tell (before 6.11).
pub(crate) fn mount_namespace(pidfd: BorrowedFd<'_>) -> Option<OwnedFd> {
    /// `_IO(0xFF, 3)`.
    const PIDFD_GET_MNT_NAMESPACE: libc::Ioctl = 0xff03;
    // SAFETY: this ioctl takes no argument and gives a new descriptor.
    let namespace = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_MNT_NAMESPACE, 0) };
    // SAFETY: the kernel has just made it for us.
    (namespace >= 0).then(|| unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount and of those below it, and cuts them off from what is
/// mounted in the places that they are copies of.
pub(crate) fn set_private(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string and the attributes are a live local of the size that is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A copy of a descriptor with a number of at least `from`, closed on exec.
pub(crate) fn duplicate(fd: RawFd, from: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; whether `fd` is open is for the kernel to say.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, from) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor and a number.
    let answer = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Gives the calling thread a namespace of its own of each kind in `flags` (`CLONE_NEW*`).
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a number. The kinds used here (mount, network) concern only the calling thread,
    // and no other thread's view of anything changes; a new user namespace the kernel gives only to
    // a process with one thread.
    let answer = unsafe { libc::unshare(flags) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Does something in a copy of this process, whose exit status is the answer of `what`.
///
/// Refused where this process has more than one thread: the others, and what they had locked, would be
/// missing in the copy.
pub(crate) fn fork(what: impl FnOnce() -> u8) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the process has several threads"));
    }
    // SAFETY: this is the only thread, so the copy is whole: no lock is held by a thread that is not
    // there. The child runs `what` and ends below without returning into its caller's frames.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid > 0 {
        return Ok(Pid::from_raw(pid).expect("fork returns a positive number in the parent"));
    }
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).unwrap_or(u8::MAX);
    // SAFETY: ends the process. What was to be done at its end is its parent's to do.
    unsafe { libc::_exit(answer.into()) }
}

/// The permitted capabilities of the calling thread, one bit each.
pub(crate) fn permitted_capabilities() -> u64 {
    capabilities().0
}

/// Its effective capabilities.
pub(crate) fn effective_capabilities() -> u64 {
    capabilities().1
}

/// Permitted and effective ones.
fn capabilities() -> (u64, u64) {
    let header = child::CapabilityHeader::current();
    let mut data = [child::CapabilityData::default(); 2];
    // SAFETY: both pointers are to live locals laid out as the third version of the call wants them.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    if answer < 0 {
        return (0, 0);
    }
    let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (
        whole(data[0].permitted, data[1].permitted),
        whole(data[0].effective, data[1].effective),
    )
}

/// Loads a device filter for control groups (version 2) and attaches it to `group`.
pub(crate) fn attach_device_filter(group: BorrowedFd<'_>, program: &[u64]) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    let mut load = [0u64; 16];
    load[0] = u64::from(TYPE_CGROUP_DEVICE) | (program.len() as u64) << 32;
    load[1] = program.as_ptr() as u64;
    load[2] = c"Apache-2.0".as_ptr() as u64;
    // SAFETY: `load` is laid out as `union bpf_attr` for this command: type, count, instructions,
    // licence; all other fields are zero. The program lives through the call.
    let filter =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, load.as_ptr(), size_of_val(&load)) };
    if filter < 0 {
        return Err(io::Error::last_os_error());
    }
    let filter = RawFd::try_from(filter).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    let filter = unsafe { OwnedFd::from_raw_fd(filter) };
    let mut attach = [0u32; 32];
    attach[0] = u32::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    attach[1] = u32::try_from(filter.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    attach[2] = ATTACH_CGROUP_DEVICE;
    // SAFETY: `attach` is laid out as `union bpf_attr` for this command: target, program, kind.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            attach.as_ptr(),
            size_of_val(&attach),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
