//! A process that was started, until it is over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;

use crate::cgroup::Groups;
use crate::quiet::Quiet;
use crate::spawner;
use crate::stub::Stubs;
use crate::sys;

/// A process in its sandbox.
///
/// Dropping it without [`wait`](Running::wait) kills the process and everything it started, and waits for that.
#[derive(Debug)]
pub struct Running {
    pub(crate) pid: Pid,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<Arc<OwnedFd>>,
    /// Keeps the mounts alive past the end of the process, so that taking them down is nobody's wait.
    pub(crate) mounts: Option<OwnedFd>,
    pub(crate) stubs: Stubs,
    pub(crate) groups: Groups,
    /// A network namespace that others can have afterwards.
    pub(crate) quiet: Option<Quiet>,
    pub(crate) over: bool,
}

impl Running {
    /// The process's number as the owner sees it.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Becomes readable when the process is over.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The end to write the process's input into, once, if it was asked for.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }

    /// The end to read the process's output from, once, if it was asked for.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }

    /// The end to read the process's errors from, once, if it was asked for.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.stderr.take()
    }

    /// The owner's end of the terminal. Reading it fails with `EIO` when the last process has let go of it.
    pub fn terminal(&self) -> Option<Arc<OwnedFd>> {
        self.terminal.clone()
    }

    /// What another thread needs to signal the process while this one waits.
    pub fn handle(&self) -> Handle {
        Handle {
            pidfd: Arc::clone(&self.pidfd),
            terminal: self.terminal.clone(),
        }
    }

    /// Waits until the process is over; with it everything it started is, then.
    ///
    /// Removes the mount targets that were made for it and its control groups. The mounts
    /// themselves are taken down afterwards by another thread.
    pub fn wait(mut self) -> Result<Exit, WaitError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Exit, WaitError> {
        self.over = true;
        let waited = sys::wait(self.pid).map_err(WaitError);
        self.stubs.remove();
        let mut oom_killed = self.groups.oom_killed();
        let around = self.groups.oom_killed_around();
        let peak = self.groups.peak_memory();
        self.groups.remove();
        if let Some(mounts) = self.mounts.take() {
            spawner::drop_later(mounts);
        }
        let (status, mut usage) = waited?;
        if let Some(quiet) = self.quiet.take() {
            quiet.give_back();
        }
        usage.max_memory = peak.unwrap_or(usage.max_memory);
        oom_killed |= around && status.is_of_kill();
        Ok(Exit {
            status,
            usage,
            oom_killed,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            // It may be over already; then there is nothing to kill.
            let _ = self.handle().kill();
            let _ = self.finish();
        }
    }
}

/// Reaches a running process from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    pidfd: Arc<OwnedFd>,
    terminal: Option<Arc<OwnedFd>>,
}

impl Handle {
    /// Sends a signal. The first process of a pid namespace gets only those it has a handler for, and `SIGKILL`.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&*self.pidfd, signal)?)
    }

    /// Ends the process and everything it started, at once.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Tells the terminal, if there is one, its new size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(&**terminal, size)?)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub status: Status,
    /// What it used, with everything it started and waited for.
    pub usage: Usage,
    /// Whether something in the sandbox was killed for want of memory, as far as that is known.
    pub oom_killed: bool,
}

impl Exit {
    /// The status as a shell tells it: the code, or 128 and the signal.
    pub fn code(&self) -> u8 {
        match self.status {
            Status::Code(code) => code,
            Status::Signal(signal) => 128 | u8::try_from(signal & 0x7f).unwrap_or(0x7f),
        }
    }
}

/// The status of a process that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ended itself.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
}

impl Status {
    /// Whether `SIGKILL` ended it, or what a shell ran last.
    fn is_of_kill(self) -> bool {
        matches!(self, Status::Signal(libc::SIGKILL) | Status::Code(137))
    }
}

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on a processor in its own code.
    pub user: Duration,
    /// Time on a processor in the kernel.
    pub system: Duration,
    /// The most memory that was in use at once, in bytes: of all its processes where a control group
    /// counted, else of the largest.
    pub max_memory: u64,
    /// Bytes that came from a disk.
    pub read: u64,
    /// Bytes that are to go to a disk.
    pub written: u64,
}

/// The end of a process could not be learnt.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for the process in the sandbox")]
pub struct WaitError(#[source] pub(crate) io::Error);
