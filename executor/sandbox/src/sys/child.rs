//! What happens between clone and exec.
//!
//! The child shares the memory of a process whose other threads keep running, and of which any may
//! hold any lock. So everything below [`run`] makes system calls and nothing else: it allocates
//! nothing, takes no lock, formats nothing, cannot panic, and frees nothing (a step's descriptors
//! belong to the parent; the child's copies vanish with exec). What it has to say it writes into
//! its [`Work`], which the sleeping parent reads afterwards.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use libc::{c_int, c_void};

use crate::plan::{Entrance, Plan, Step};
use crate::sys::Failure;
use crate::sys::raw::raw;

/// What the child is to do, and what it reports.
pub(super) struct Work<'a> {
    plan: &'a Plan,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// The step being taken; the number of steps while executing.
    step: usize,
    /// The call being made.
    call: &'static str,
    /// Its answer, or 0.
    errno: c_int,
}

impl<'a> Work<'a> {
    pub(super) fn new(plan: &'a Plan) -> Work<'a> {
        let pointers = |strings: &[std::ffi::CString]| {
            strings
                .iter()
                .map(|it| it.as_ptr())
                .chain([ptr::null()])
                .collect::<Vec<_>>()
        };
        Work {
            plan,
            arguments: pointers(&plan.args),
            environment: pointers(&plan.env),
            step: 0,
            call: "",
            errno: 0,
        }
    }

    /// What went wrong, asked by the parent afterwards.
    pub(super) fn failure(&self) -> Option<Failure> {
        let source = || io::Error::from_raw_os_error(self.errno);
        match self.errno {
            0 => None,
            _ if self.step < self.plan.steps.len() => Some(Failure::Step {
                index: self.step,
                call: self.call,
                source: source(),
            }),
            _ => Some(Failure::Exec(source())),
        }
    }
}

/// The version, and whose capabilities: 0, the caller's.
#[repr(C)]
pub(super) struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

impl CapabilityHeader {
    pub(super) const fn current() -> CapabilityHeader {
        CapabilityHeader {
            version: 0x2008_0522,
            pid: 0,
        }
    }
}

/// 32 of the capabilities of a thread.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct CapabilityData {
    pub(super) effective: u32,
    pub(super) permitted: u32,
    pub(super) inheritable: u32,
}

/// The entry of the child.
pub(super) extern "C" fn run(work: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a pointer to a `Work` that lives until the child is gone, and the
    // parent does not touch it meanwhile because it sleeps.
    let work = unsafe { &mut *work.cast::<Work<'_>>() };
    let plan = work.plan;
    for step in &plan.steps {
        if let Err(Stop(errno)) = take(step, work) {
            work.errno = errno;
            exit();
        }
        work.step = work.step.wrapping_add(1);
    }
    work.errno = execute(work);
    exit()
}

fn exit() -> ! {
    loop {
        // SAFETY: ends the process without running anything of the shared memory.
        unsafe { raw!(SYS_exit_group, 127) };
    }
}

/// An error number.
struct Stop(c_int);

/// Tries the places where the program may be; the error number of the one that counts.
fn execute(work: &Work<'_>) -> c_int {
    let mut answer = libc::ENOENT;
    for program in &work.plan.programs {
        // SAFETY: all three point to zero-terminated strings and lists of them, built by the parent.
        let failed = unsafe {
            raw!(
                SYS_execve,
                program.as_ptr(),
                work.arguments.as_ptr(),
                work.environment.as_ptr()
            )
        };
        match (failed as c_int).wrapping_neg() {
            // As execvp: go on, and remember that there was something.
            libc::EACCES => answer = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR => {}
            other => return other,
        }
    }
    answer
}

fn check(answer: isize) -> Result<RawFd, Stop> {
    let answer = answer as c_int;
    if answer < 0 {
        Err(Stop(answer.wrapping_neg()))
    } else {
        Ok(answer)
    }
}

/// Makes a system call and notes its name first.
macro_rules! call {
    ($work:expr, $name:literal, $number:ident $(, $argument:expr)*) => {{
        $work.call = $name;
        // SAFETY: see the call's own line: every pointer is to live memory of the right shape,
        // everything else is a number.
        check(unsafe { raw!($number $(, $argument)*) })
    }};
}

fn take(step: &Step, work: &mut Work<'_>) -> Result<(), Stop> {
    match step {
        Step::ResetSignals => reset_signals(),
        Step::JoinGroup { procs, .. } => call!(
            work,
            "write",
            SYS_write,
            procs.as_raw_fd(),
            c"0".as_ptr(),
            1usize
        )
        .map(drop),
        Step::OwnGroupRoot => call!(work, "unshare", SYS_unshare, libc::CLONE_NEWCGROUP).map(drop),
        Step::EnterNetwork(namespace) => call!(
            work,
            "setns",
            SYS_setns,
            namespace.as_raw_fd(),
            libc::CLONE_NEWNET
        )
        .map(drop),
        Step::LoopbackUp => loopback_up(work),
        Step::HostName(name) => call!(
            work,
            "sethostname",
            SYS_sethostname,
            name.as_ptr(),
            name.count_bytes()
        )
        .map(drop),
        Step::NewSession => call!(work, "setsid", SYS_setsid).map(drop),
        Step::NewKeyring => {
            // Not to be had is as good: then there is no keyring to share either.
            let _ = call!(work, "keyctl", SYS_keyctl, 1, 0);
            Ok(())
        }
        Step::AttachRoot(mount, Entrance::Over) => attach_at(work, *mount, libc::AT_FDCWD, c"/"),
        Step::AttachRoot(mount, Entrance::InPlace) => {
            attach_at(work, *mount, libc::AT_FDCWD, c"/root")
        }
        Step::AttachFiles(mount) => attach_at(work, *mount, libc::AT_FDCWD, c"/files"),
        Step::Attach { mount, target } => attach(work, mount.as_raw_fd(), target),
        Step::Mount {
            kind,
            options,
            attributes,
            target,
        } => {
            let mount = new_mount(work, kind, options, *attributes)?;
            attach(work, mount, target)?;
            close(mount);
            Ok(())
        }
        Step::MountSys { attributes } => mount_sys(work, *attributes),
        Step::MountIfKnown {
            kind,
            attributes,
            target,
        } => {
            let Ok(mount) = new_mount(work, kind, &[], *attributes) else {
                return Ok(());
            };
            attach(work, mount, target)?;
            close(mount);
            Ok(())
        }
        Step::AttachFile {
            directory,
            name,
            attributes,
            target,
        } => {
            let file = copy_of(work, *directory, name, 0)?;
            set_attributes(work, file, *attributes, 0)?;
            attach(work, file, target)?;
            close(file);
            Ok(())
        }
        Step::AttachDevice {
            directory,
            name,
            target,
        } => {
            let node = copy_of(work, *directory, name, 0)?;
            let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
            change_attributes(work, node, (set, libc::MOUNT_ATTR_NODEV), 0)?;
            attach(work, node, target)?;
            close(node);
            Ok(())
        }
        Step::ReadOnly { target } => read_only(work, target),
        Step::Mask { target } => mask(work, target),
        Step::RootAttributes(set) => {
            let root = work.plan.rootfs;
            set_attributes(work, root, *set, 0)
        }
        Step::EnterRoot(Entrance::Over) => enter_root_over(work),
        Step::EnterRoot(Entrance::InPlace) => enter_root_in_place(work),
        Step::Stdio(streams) => stdio(work, streams),
        Step::ControllingTerminal => {
            call!(work, "ioctl", SYS_ioctl, 0, libc::TIOCSCTTY, 0).map(drop)
        }
        Step::Umask(mask) => call!(work, "umask", SYS_umask, *mask).map(drop),
        Step::Directory(path) => directory(work, path),
        Step::Limit(limit) => {
            let value = libc::rlimit64 {
                rlim_cur: limit.soft.unwrap_or(libc::RLIM64_INFINITY),
                rlim_max: limit.hard.unwrap_or(libc::RLIM64_INFINITY),
            };
            let nowhere = ptr::null::<libc::rlimit64>();
            let number = limit.resource.number();
            call!(
                work,
                "prlimit",
                SYS_prlimit64,
                0,
                number,
                &raw const value,
                nowhere
            )
            .map(drop)
        }
        Step::BoundingSet(keep) => bounding_set(work, *keep),
        Step::Filter(program) => filter(work, program),
        Step::KeepCapabilities => {
            call!(work, "prctl", SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).map(drop)
        }
        Step::Groups(groups) => call!(
            work,
            "setgroups",
            SYS_setgroups,
            groups.len(),
            groups.as_ptr()
        )
        .map(drop),
        Step::Group(gid) => call!(work, "setresgid", SYS_setresgid, *gid, *gid, *gid).map(drop),
        Step::User(uid) => call!(work, "setresuid", SYS_setresuid, *uid, *uid, *uid).map(drop),
        Step::Capabilities {
            permitted,
            inheritable,
        } => capabilities(work, *permitted, *inheritable),
        Step::Ambient(set) => ambient(work, *set),
        Step::DieWithOwner(owner) => die_with_owner(work, owner.as_raw_fd()),
        Step::CloseOnExec => {
            let on_exec = libc::CLOSE_RANGE_CLOEXEC;
            call!(work, "close_range", SYS_close_range, 3, u32::MAX, on_exec).map(drop)
        }
        Step::UnblockSignals => {
            let none: u64 = 0;
            let size = size_of::<u64>();
            let nowhere = ptr::null::<u64>();
            call!(
                work,
                "rt_sigprocmask",
                SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const none,
                nowhere,
                size
            )
            .map(drop)
        }
    }
}

fn close(fd: RawFd) {
    // SAFETY: closes the child's own copy; the parent's table is another one.
    unsafe { raw!(SYS_close, fd) };
}

/// Every handler back to its default: handlers are code of the shared memory, and ignored signals
/// (Rust ignores `SIGPIPE`) would stay ignored in the program.
fn reset_signals() -> Result<(), Stop> {
    /// The kernel's own layout of `struct sigaction`, large enough for every architecture; all zero is the default.
    const DEFAULT: [u64; 8] = [0; 8];
    for signal in 1..=64u32 {
        // SAFETY: reads a zeroed, large enough structure. KILL and STOP refuse, which is right.
        unsafe {
            raw!(
                SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null::<u64>(),
                size_of::<u64>()
            );
        }
    }
    Ok(())
}

fn loopback_up(work: &mut Work<'_>) -> Result<(), Stop> {
    let datagrams = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = call!(work, "socket", SYS_socket, libc::AF_INET, datagrams, 0)?;
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    call!(
        work,
        "ioctl",
        SYS_ioctl,
        socket,
        libc::SIOCSIFFLAGS,
        &raw const request
    )?;
    close(socket);
    Ok(())
}

/// Opens a path below the root file system; with nothing in it being a link, and never above it.
fn open_below_root(work: &mut Work<'_>, target: &CStr) -> Result<RawFd, Stop> {
    // SAFETY: all zeroes is a valid request.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let root = work.plan.rootfs;
    call!(
        work,
        "openat2",
        SYS_openat2,
        root,
        target.as_ptr(),
        &raw const how,
        size_of::<libc::open_how>()
    )
}

fn attach_at(
    work: &mut Work<'_>,
    mount: RawFd,
    directory: RawFd,
    target: &CStr,
) -> Result<(), Stop> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    call!(
        work,
        "move_mount",
        SYS_move_mount,
        mount,
        c"".as_ptr(),
        directory,
        target.as_ptr(),
        flags
    )
    .map(drop)
}

fn attach(work: &mut Work<'_>, mount: RawFd, target: &CStr) -> Result<(), Stop> {
    let place = open_below_root(work, target)?;
    attach_at(work, mount, place, c"")?;
    close(place);
    Ok(())
}

fn new_mount(
    work: &mut Work<'_>,
    kind: &CStr,
    options: &[(&'static CStr, std::ffi::CString)],
    attributes: u64,
) -> Result<RawFd, Stop> {
    /// `FSCONFIG_SET_STRING` and `FSCONFIG_CMD_CREATE`.
    const SET_STRING: c_int = 1;
    const CREATE: c_int = 6;
    let context = call!(work, "fsopen", SYS_fsopen, kind.as_ptr(), 1)?;
    call!(
        work,
        "fsconfig",
        SYS_fsconfig,
        context,
        SET_STRING,
        c"source".as_ptr(),
        kind.as_ptr(),
        0
    )?;
    for (key, value) in options {
        call!(
            work,
            "fsconfig",
            SYS_fsconfig,
            context,
            SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0
        )?;
    }
    let nothing = ptr::null::<libc::c_char>();
    call!(
        work,
        "fsconfig",
        SYS_fsconfig,
        context,
        CREATE,
        nothing,
        nothing,
        0
    )?;
    let mount = call!(work, "fsmount", SYS_fsmount, context, 1, attributes)?;
    close(context);
    Ok(mount)
}

/// Mounts what the kernel says of itself. For whom the network is not his own, as for a user in the
/// host's, there is no new one: he gets the host's, with the same attributes.
fn mount_sys(work: &mut Work<'_>, attributes: u64) -> Result<(), Stop> {
    let mount = match new_mount(work, c"sysfs", &[], attributes) {
        Err(Stop(libc::EPERM)) => {
            let copy = copy_of(work, libc::AT_FDCWD, c"/sys", libc::AT_RECURSIVE)?;
            set_attributes(work, copy, attributes, libc::AT_RECURSIVE)?;
            copy
        }
        other => other?,
    };
    attach(work, mount, c"/sys")?;
    close(mount);
    Ok(())
}

fn copy_of(
    work: &mut Work<'_>,
    directory: RawFd,
    path: &CStr,
    flags: c_int,
) -> Result<RawFd, Stop> {
    let flags = libc::c_uint::from(libc::OPEN_TREE_CLONE)
        | libc::O_CLOEXEC as libc::c_uint
        | flags as libc::c_uint;
    call!(
        work,
        "open_tree",
        SYS_open_tree,
        directory,
        path.as_ptr(),
        flags
    )
}

fn set_attributes(work: &mut Work<'_>, mount: RawFd, set: u64, flags: c_int) -> Result<(), Stop> {
    change_attributes(work, mount, (set, 0), flags)
}

/// Sets some attributes of a mount and clears others.
fn change_attributes(
    work: &mut Work<'_>,
    mount: RawFd,
    (set, clear): (u64, u64),
    flags: c_int,
) -> Result<(), Stop> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = flags | libc::AT_EMPTY_PATH;
    let size = size_of::<libc::mount_attr>();
    call!(
        work,
        "mount_setattr",
        SYS_mount_setattr,
        mount,
        c"".as_ptr(),
        flags,
        &raw const attributes,
        size
    )
    .map(drop)
}

/// Covers a path with a read-only view of itself. What is not there needs no cover.
fn read_only(work: &mut Work<'_>, target: &CStr) -> Result<(), Stop> {
    let place = match open_below_root(work, target) {
        Ok(place) => place,
        Err(Stop(libc::ENOENT)) => return Ok(()),
        Err(stop) => return Err(stop),
    };
    let below = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let copy = copy_of(work, place, c"", below)?;
    let set = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    set_attributes(work, copy, set, libc::AT_RECURSIVE)?;
    attach_at(work, copy, place, c"")?;
    close(copy);
    close(place);
    Ok(())
}

/// Covers a directory with an empty one and a file with the null device.
fn mask(work: &mut Work<'_>, target: &CStr) -> Result<(), Stop> {
    let place = match open_below_root(work, target) {
        Ok(place) => place,
        Err(Stop(libc::ENOENT)) => return Ok(()),
        Err(stop) => return Err(stop),
    };
    let cover = if is_directory(work, place)? {
        copy_of(work, libc::AT_FDCWD, c"/empty", 0)?
    } else {
        let devices = work.plan.devices;
        copy_of(work, devices, c"null", 0)?
    };
    attach_at(work, cover, place, c"")?;
    close(cover);
    close(place);
    Ok(())
}

fn is_directory(work: &mut Work<'_>, fd: RawFd) -> Result<bool, Stop> {
    // SAFETY: all zeroes is a valid `statx`.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    call!(
        work,
        "statx",
        SYS_statx,
        fd,
        c"".as_ptr(),
        libc::AT_EMPTY_PATH,
        libc::STATX_TYPE,
        &raw mut stat
    )?;
    Ok(u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR)
}

/// Makes the root file system the root, which it is mounted over.
fn enter_root_over(work: &mut Work<'_>) -> Result<(), Stop> {
    let new = work.plan.rootfs;
    call!(work, "fchdir", SYS_fchdir, new)?;
    call!(work, "chroot", SYS_chroot, c".".as_ptr()).map(drop)
}

/// Makes the root file system the root, and lets go of everything else.
fn enter_root_in_place(work: &mut Work<'_>) -> Result<(), Stop> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let old = call!(
        work,
        "openat",
        SYS_openat,
        libc::AT_FDCWD,
        c"/".as_ptr(),
        flags
    )?;
    let new = work.plan.rootfs;
    call!(work, "fchdir", SYS_fchdir, new)?;
    // The old root ends up on top of the new one, so no directory is needed for it.
    call!(
        work,
        "pivot_root",
        SYS_pivot_root,
        c".".as_ptr(),
        c".".as_ptr()
    )?;
    call!(work, "fchdir", SYS_fchdir, old)?;
    call!(
        work,
        "umount2",
        SYS_umount2,
        c".".as_ptr(),
        libc::MNT_DETACH
    )?;
    call!(work, "chdir", SYS_chdir, c"/".as_ptr())?;
    close(old);
    Ok(())
}

fn stdio(work: &mut Work<'_>, streams: &[std::os::fd::OwnedFd; 3]) -> Result<(), Stop> {
    // The parent made sure that none of them is 0, 1 or 2 itself.
    let [stdin, stdout, stderr] = streams;
    call!(work, "dup3", SYS_dup3, stdin.as_raw_fd(), 0, 0)?;
    call!(work, "dup3", SYS_dup3, stdout.as_raw_fd(), 1, 0)?;
    call!(work, "dup3", SYS_dup3, stderr.as_raw_fd(), 2, 0).map(drop)
}

/// Enters the directory to start in and makes sure that it is inside: a directory reached through a
/// descriptor of the outside (`/proc/self/fd/N`) has no path here.
fn directory(work: &mut Work<'_>, path: &CStr) -> Result<(), Stop> {
    call!(work, "chdir", SYS_chdir, path.as_ptr())?;
    let mut here = [0u8; 4096];
    call!(work, "getcwd", SYS_getcwd, here.as_mut_ptr(), here.len())?;
    match here.first() {
        Some(b'/') => Ok(()),
        _ => Err(Stop(libc::EXDEV)),
    }
}

fn bounding_set(work: &mut Work<'_>, keep: u64) -> Result<(), Stop> {
    for capability in 0..64u32 {
        if keep & 1u64.wrapping_shl(capability) != 0 {
            continue;
        }
        let number = capability;
        match call!(
            work,
            "prctl",
            SYS_prctl,
            libc::PR_CAPBSET_DROP,
            number,
            0,
            0,
            0
        ) {
            Ok(_) => {}
            // Past the last one that this kernel knows.
            Err(Stop(libc::EINVAL)) => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

fn filter(work: &mut Work<'_>, program: &[libc::sock_filter]) -> Result<(), Stop> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    call!(work, "seccomp", SYS_seccomp, mode, 0, &raw const program).map(drop)
}

fn capabilities(work: &mut Work<'_>, permitted: u64, inheritable: u64) -> Result<(), Stop> {
    let header = CapabilityHeader::current();
    let half = |shift: u32| {
        let part = |set: u64| set.wrapping_shr(shift) as u32;
        CapabilityData {
            effective: part(permitted),
            permitted: part(permitted),
            inheritable: part(inheritable),
        }
    };
    let data = [half(0), half(32)];
    call!(work, "capset", SYS_capset, &raw const header, data.as_ptr()).map(drop)
}

fn ambient(work: &mut Work<'_>, set: u64) -> Result<(), Stop> {
    for capability in 0..64u32 {
        if set & 1u64.wrapping_shl(capability) != 0 {
            let raise = libc::PR_CAP_AMBIENT_RAISE;
            let number = capability;
            call!(
                work,
                "prctl",
                SYS_prctl,
                libc::PR_CAP_AMBIENT,
                raise,
                number,
                0,
                0
            )?;
        }
    }
    Ok(())
}

/// Asks for death at the owner's, and dies at once if that has come already.
fn die_with_owner(work: &mut Work<'_>, owner: RawFd) -> Result<(), Stop> {
    let kill = libc::SIGKILL;
    call!(
        work,
        "prctl",
        SYS_prctl,
        libc::PR_SET_PDEATHSIG,
        kill,
        0,
        0,
        0
    )?;
    let mut poll = libc::pollfd {
        fd: owner,
        events: libc::POLLIN,
        revents: 0,
    };
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let (poll, now) = (&raw mut poll, &raw const now);
    match call!(
        work,
        "ppoll",
        SYS_ppoll,
        poll,
        1,
        now,
        ptr::null::<u64>(),
        size_of::<u64>()
    )? {
        0 => Ok(()),
        _ => Err(Stop(libc::ESRCH)),
    }
}
