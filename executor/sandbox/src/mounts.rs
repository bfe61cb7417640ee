//! What a sandboxed process finds in `/dev`, and what it must not find in `/proc` and `/sys`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::{Device, DeviceKind, Terminal, rootless};

/// Paths that are covered: they tell about the host, or change it. The union of what containerd, moby and podman cover.
pub const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    // Timings of other people's key strokes.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Covered too, once for every processor of the host.
const MASKED_PER_PROCESSOR: &str = "thermal_throttle";

/// Paths that can be read and not written.
pub const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The device nodes of `/dev`: name, major, minor. All are character devices for everyone (0666).
pub const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Which devices can be opened, beside the terminals of the sandbox: nodes may be made of any (as in
/// docker), but only these lead anywhere. Kind, major, minor (`None` for all), access.
pub(crate) const ALLOWED_DEVICES: [(char, Option<u32>, Option<u32>, &str); 10] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
];

/// One rule of [`ALLOWED_DEVICES`].
pub(crate) type Rule<'a> = (char, Option<u32>, Option<u32>, &'a str);

/// The rule that lets a device through.
pub(crate) fn rule(device: &Device) -> Rule<'_> {
    let kind = match device.kind {
        DeviceKind::Character => 'c',
        DeviceKind::Block => 'b',
    };
    (kind, Some(device.major), Some(device.minor), &device.access)
}

/// Symbolic links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// All masked paths on this host.
pub(crate) fn masked() -> &'static [CString] {
    static ALL: OnceLock<Vec<CString>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<_> = MASKED
            .iter()
            .map(|it| CString::new(*it).expect("no zero bytes"))
            .collect();
        let processors = "/sys/devices/system/cpu";
        for entry in std::fs::read_dir(processors)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path().join(MASKED_PER_PROCESSOR);
            if path.exists() {
                all.extend(CString::new(path.as_os_str().as_bytes()));
            }
        }
        all
    })
}

/// The three file systems of `/dev`, not attached anywhere yet.
#[derive(Debug)]
pub(crate) struct Dev {
    pub(crate) devices: OwnedFd,
    pub(crate) terminals: OwnedFd,
    pub(crate) shared_memory: OwnedFd,
    /// Devices of the host, to be mounted on the file of their name where no node can be made.
    pub(crate) borrowed: Vec<(&'static str, OwnedFd)>,
}

/// Makes a `/dev`.
pub(crate) fn dev(shm_size: u64) -> io::Result<Dev> {
    let noexec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "755"), ("size", "65536k")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let devices = file_system("tmpfs", &options, attributes)?;
    let mut borrowed = Vec::new();
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(&devices, name, kind, Mode::from(0o666), device) {
            // In a user namespace nobody makes devices.
            Err(Errno::PERM) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&devices, name, flags, Mode::from(0o666))?;
                let path = Path::new("/dev").join(name);
                borrowed.push((name, borrow(&path, kind, device)?));
            }
            made => made?,
        }
        // The mode above passed through the caller's umask.
        rustix::fs::chmodat(&devices, name, Mode::from(0o666), AtFlags::empty())?;
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &devices, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&devices, name, Mode::from(0o755))?;
    }
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    // Without such a group the terminals stay with the group of who opens them.
    let options = &options[..if rootless::is_group_mapped(5) { 3 } else { 2 }];
    let terminals = file_system("devpts", options, noexec)?;
    let size = shm_size.to_string();
    let options = [("mode", "1777"), ("size", size.as_str())];
    let shared_memory = file_system("tmpfs", &options, noexec | MountAttrFlags::MOUNT_ATTR_NODEV)?;
    Ok(Dev {
        devices,
        terminals,
        shared_memory,
        borrowed,
    })
}

/// A device of the host as a mount; that it is the right one is looked at.
fn borrow(path: &Path, kind: FileType, device: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, path, flags)?;
    let stat = rustix::fs::fstat(&mount)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
        let path = path.display();
        return Err(io::Error::other(format!("`{path}` is another device")));
    }
    Ok(mount)
}

/// The machine's own node of a device, as a mount.
pub(crate) fn borrowed(device: &Device) -> io::Result<OwnedFd> {
    let number = rustix::fs::makedev(device.major, device.minor);
    borrow(&device.host, file_type(device.kind), number)
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    }
}

/// Makes the first terminal of a `/dev`: the owner's end, and the sandbox's.
///
/// The second is taken from the first, not opened by a path that somebody could have replaced.
pub(crate) fn terminal(dev: &Dev, size: Terminal, uid: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let owner = rustix::fs::openat(&dev.terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&owner)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inside = rustix::pty::ioctl_tiocgptpeer(&owner, flags)?;
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&owner, size)?;
    rustix::fs::fchown(&inside, Some(Uid::from_raw(uid)), None)?;
    // The kernel's console of the sandbox: a file for the terminal to be put over.
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&dev.devices, "console", flags, Mode::from(0o620))?;
    Ok((owner, inside))
}

/// Mounts a new file system without attaching it.
pub(crate) fn file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", kind)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Files in memory that will be mounted one by one.
#[derive(Debug)]
pub(crate) struct Files {
    directory: OwnedFd,
    count: usize,
}

/// A file to put into memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Files {
    pub(crate) fn new() -> io::Result<Files> {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "700")?;
        // Secrets stay out of the swap where the kernel can promise that (6.4).
        let _ = rustix::mount::fsconfig_set_flag(context.as_fd(), "noswap");
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let directory =
            rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Files {
            directory,
            count: 0,
        })
    }

    /// Adds a file; its name in the directory.
    pub(crate) fn add(&mut self, file: NewFile<'_>) -> io::Result<CString> {
        let name = CString::new(self.count.to_string())?;
        self.count += 1;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut opened = File::from(rustix::fs::openat(
            &self.directory,
            &name,
            flags,
            Mode::from(0o600),
        )?);
        opened.write_all(file.data)?;
        rustix::fs::fchown(
            &opened,
            Some(Uid::from_raw(file.uid)),
            Some(Gid::from_raw(file.gid)),
        )?;
        rustix::fs::fchmod(&opened, Mode::from(file.mode & 0o7777))?;
        Ok(name)
    }

    /// Adds a device node; its name in the directory. `None` where nobody makes devices, as in a user
    /// namespace.
    pub(crate) fn add_device(&mut self, device: &Device) -> io::Result<Option<CString>> {
        let name = CString::new(self.count.to_string())?;
        let kind = file_type(device.kind);
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::from(device.mode & 0o777);
        match rustix::fs::mknodat(&self.directory, &name, kind, mode, number) {
            Err(Errno::PERM) => return Ok(None),
            made => made?,
        }
        self.count += 1;
        // The mode above passed through the caller's umask.
        rustix::fs::chmodat(&self.directory, &name, mode, AtFlags::empty())?;
        let owner = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let (user, group) = (Some(owner.0), Some(owner.1));
        rustix::fs::chownat(
            &self.directory,
            &name,
            user,
            group,
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(Some(name))
    }

    /// The directory, borrowed as a number; it lives as long as what [`into_directory`](Files::into_directory) gives.
    pub(crate) fn directory(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    /// The directory.
    pub(crate) fn directory_itself(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(crate) fn into_directory(self) -> OwnedFd {
        self.directory
    }
}

/// Whether a mount shows a directory, and not a single file.
pub(crate) fn is_directory(mount: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(mount)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
