//! A process that outlives its owner by a moment, to kill and clean up what the owner left.
//!
//! `PR_SET_PDEATHSIG` alone is not enough: the kernel forgets it when a process executes a
//! set-user-ID program, and `RUN sudo …` is just that. So every owner has one guard, which holds a
//! pidfd of every sandbox and what the owner's control groups are in. It sleeps on a socket,
//! through which it gets them;
//! when the owner is gone, in whatever way, the socket ends, and the guard kills, waits, removes.
//!
//! The guard shares its owner's memory (so that starting it copies nothing) and therefore keeps to
//! the rules of [`child`](super::child): system calls only.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_int, c_void};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

use super::Stack;
use super::raw::raw;

/// Where the guard keeps its end of the socket.
const SOCKET: RawFd = 0;

/// Where the guard keeps what it gets: from here on upwards.
const FIRST: RawFd = 1;

/// What comes with the pidfd of a sandbox.
const SANDBOX: u8 = b'+';

/// What comes with a directory in which the owner is about to make its directory of control groups.
const PARENT: u8 = b'd';

/// How many directories of control groups an owner can have: one a hierarchy, for each group that
/// people name.
const MOST_DIRECTORIES: usize = 64;

/// How much of a directory is read at once.
const PIECE: usize = 4 << 10;

/// The owner's end.
#[derive(Debug)]
pub(crate) struct Guard(OwnedFd);

/// What the guard has to know, leaked, since it is read after everything else is gone.
struct Orders {
    socket: RawFd,
    /// What every directory of control groups is called in its parent.
    name: std::ffi::CString,
}

/// What the owner's directories of control groups are in; the first `count` of them.
struct Kept {
    parents: [RawFd; MOST_DIRECTORIES],
    count: usize,
}

impl Kept {
    fn add(&mut self, parent: RawFd) {
        if let Some(place) = self.parents.get_mut(self.count) {
            *place = parent;
            self.count = self.count.wrapping_add(1);
        }
    }

    fn parents(&self) -> impl Iterator<Item = RawFd> {
        self.parents.iter().take(self.count).copied()
    }

    fn holds(&self, fd: RawFd) -> bool {
        self.parents().any(|it| it == fd)
    }
}

impl Guard {
    /// Starts the guard of this process. `name` is what its directories of control groups are called.
    /// All signals must be blocked.
    pub(crate) fn start(name: String) -> io::Result<Guard> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 64)?;
        let orders = Orders {
            socket: theirs.as_raw_fd(),
            name: std::ffi::CString::new(name).map_err(io::Error::other)?,
        };
        let orders: &'static Orders = Box::leak(Box::new(orders));
        let stack: &'static mut Stack = Box::leak(Box::new(Stack::new()));
        // SAFETY: stack and orders are never freed. `run` has the signature that `clone` calls and
        // keeps to system calls. Without an exit signal the guard is nobody's to wait for until it
        // is handed on to init. Its table of descriptors is a copy, so it closes nothing of ours.
        let pid = unsafe {
            libc::clone(
                run,
                stack.top(),
                libc::CLONE_VM,
                std::ptr::from_ref(orders).cast_mut().cast(),
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Guard(ours))
    }

    /// Puts a sandbox under guard.
    pub(crate) fn watch(&self, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        self.send(SANDBOX, pidfd)
    }

    /// Puts the directory of control groups under guard that is about to be made in `parent`.
    pub(crate) fn keep(&self, parent: BorrowedFd<'_>) -> io::Result<()> {
        self.send(PARENT, parent)
    }

    fn send(&self, what: u8, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(
            &self.0,
            &[io::IoSlice::new(&[what])],
            &mut rights,
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

extern "C" fn run(orders: *mut c_void) -> c_int {
    // SAFETY: `start` passes a leaked `Orders`.
    let orders = unsafe { &*orders.cast::<Orders>() };
    keep(orders.socket, SOCKET);
    // The owner's other descriptors, its locks and pipes among them, must end with the owner. A
    // session of its own keeps the guard out of what happens to the terminal.
    // SAFETY: closes the guard's own copies; the rest takes numbers.
    unsafe {
        raw!(SYS_close_range, FIRST, u32::MAX, 0);
        raw!(SYS_setsid);
        raw!(SYS_chdir, c"/".as_ptr());
    }
    let mut kept = Kept {
        parents: [0; MOST_DIRECTORIES],
        count: 0,
    };
    let mut last = FIRST;
    while let Some((what, fd)) = receive() {
        last = last.max(fd);
        if what == PARENT {
            kept.add(fd);
        }
        forget_finished(last, &kept);
    }
    end(last, &kept);
    remove_groups(orders, &kept);
    loop {
        // SAFETY: ends the process without running anything of the shared memory.
        unsafe { raw!(SYS_exit_group, 0) };
    }
}

fn keep(from: RawFd, to: RawFd) {
    // SAFETY: works on the guard's own table of descriptors; `from` is 64 or above, `to` below.
    unsafe { raw!(SYS_dup3, from, to, 0) };
}

/// Waits for what comes next: what it is, and its descriptor. `None` when the owner is gone.
fn receive() -> Option<(u8, RawFd)> {
    let mut byte = 0u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = [0u64; 8];
    loop {
        // SAFETY: all zeroes is a valid header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the header points to live locals.
        let got = unsafe { raw!(SYS_recvmsg, SOCKET, &raw mut header, 0) };
        if got <= 0 {
            return None;
        }
        // SAFETY: the kernel has filled the control buffer as far as the header says; the macros of
        // the C library walk it, and hold back where there is no message.
        let received = unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (!message.is_null()).then(|| {
                let fd = libc::CMSG_DATA(message).cast::<c_int>();
                (byte, fd.read_unaligned())
            })
        };
        if received.is_some() {
            return received;
        }
    }
}

/// Whether a process is there to be killed; `signal` 0 only asks.
fn send(pidfd: RawFd, signal: c_int) -> bool {
    // SAFETY: takes numbers, and a null pointer where information could be passed on.
    let answer = unsafe {
        raw!(
            SYS_pidfd_send_signal,
            pidfd,
            signal,
            std::ptr::null::<c_void>(),
            0
        )
    };
    answer == 0
}

fn forget_finished(last: RawFd, kept: &Kept) {
    let mut fd = FIRST;
    while fd <= last {
        if !kept.holds(fd) && !send(fd, 0) {
            // SAFETY: closes the guard's own copy, if there is one at this number.
            unsafe { raw!(SYS_close, fd) };
        }
        fd = fd.wrapping_add(1);
    }
}

/// Kills what is left and waits until it is gone, so that its control groups can go.
fn end(last: RawFd, kept: &Kept) {
    let mut fd = FIRST;
    while fd <= last {
        send(fd, libc::SIGKILL);
        fd = fd.wrapping_add(1);
    }
    let mut fd = FIRST;
    while fd <= last {
        if kept.holds(fd) {
            fd = fd.wrapping_add(1);
            continue;
        }
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let limit = libc::timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        // SAFETY: the pointers are to live locals; a number without a descriptor answers at once.
        unsafe {
            raw!(
                SYS_ppoll,
                &raw mut poll,
                1,
                &raw const limit,
                std::ptr::null::<u64>(),
                8
            );
        }
        fd = fd.wrapping_add(1);
    }
}

fn remove_groups(orders: &Orders, kept: &Kept) {
    for parent in kept.parents() {
        // SAFETY: the name is a C string. What is not there has no descriptor, and the rest fails.
        let directory = unsafe {
            raw!(
                SYS_openat,
                parent,
                orders.name.as_ptr(),
                libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW,
                0
            )
        };
        remove_directories(directory as RawFd);
        // SAFETY: as above.
        unsafe {
            raw!(
                SYS_unlinkat,
                parent,
                orders.name.as_ptr(),
                libc::AT_REMOVEDIR
            )
        };
    }
}

/// Removes the directories in a directory, as far as they are empty. What is in use stays, and so does what
/// is a file.
fn remove_directories(directory: RawFd) {
    /// Before the name: two numbers of eight bytes, the length of the entry, and its kind.
    const LENGTH: usize = 16;
    const KIND: usize = 18;
    const NAME: usize = 19;
    let mut piece = [0u64; PIECE / size_of::<u64>()];
    let start = piece.as_mut_ptr().cast::<u8>();
    loop {
        // SAFETY: the kernel writes as much as the live local takes.
        let got = unsafe { raw!(SYS_getdents64, directory, start, PIECE) };
        let Ok(got @ 1..=PIECE) = usize::try_from(got) else {
            return;
        };
        let mut at = 0usize;
        while at.wrapping_add(NAME) < got {
            // SAFETY: the kernel fills what it has said with whole entries, each as long as it says itself,
            // with a name that ends in zero. Nothing is read behind what it has filled.
            let (length, kind, name) = unsafe {
                let entry = start.add(at);
                let length = entry.add(LENGTH).cast::<u16>().read_unaligned();
                (length, *entry.add(KIND), entry.add(NAME))
            };
            if kind == libc::DT_DIR {
                // SAFETY: the name is a C string. Both dots are refused.
                unsafe { raw!(SYS_unlinkat, directory, name, libc::AT_REMOVEDIR) };
            }
            if length == 0 {
                return;
            }
            at = at.wrapping_add(usize::from(length));
        }
    }
}
