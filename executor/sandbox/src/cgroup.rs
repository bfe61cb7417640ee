//! Control groups: how many processes, how much memory, which devices.
//!
//! Every owner has one directory in each hierarchy, below the one it is in itself, and in it one
//! numbered directory for each sandbox that runs at the same time; they are used again and again,
//! and removed with their owner by its guard. Where a hierarchy cannot be written, there is no
//! limit of that kind; devices are then held back by other means ([`Control::filters_devices`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::mounts::ALLOWED_DEVICES;
use crate::{Limits, Privileges};
use crate::{rootless, sys};

/// From this slot on, devices are not filtered.
const FIRST_OPEN_SLOT: usize = 192;

/// How many sandboxes one owner can have at once.
const SLOTS: usize = 256;

/// The control groups of this process.
#[derive(Debug)]
pub(crate) struct Control {
    hierarchies: Vec<Hierarchy>,
    in_use: Mutex<Vec<bool>>,
}

/// The owner's directory in one hierarchy.
#[derive(Debug)]
struct Hierarchy {
    kind: Kind,
    name: String,
    parent: OwnedFd,
    directory: OwnedFd,
}

/// What a hierarchy controls. The second version has everything in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pids,
    Devices,
    Memory,
    Unified,
}

impl Control {
    /// The control groups of this process, made at the first call.
    pub(crate) fn get() -> &'static Control {
        static CONTROL: OnceLock<Control> = OnceLock::new();
        CONTROL.get_or_init(|| {
            let hierarchies = find().into_iter().filter_map(|(kind, path)| match Hierarchy::make(kind, &path) {
                Ok(made) => Some(made),
                Err(error) => {
                    tracing::debug!(?kind, path = %path.display(), %error, "no control group here");
                    None
                }
            });
            Control { hierarchies: hierarchies.collect(), in_use: Mutex::new(vec![false; SLOTS]) }
        })
    }

    /// Whether device nodes can be kept from being opened.
    pub(crate) fn filters_devices(&self) -> bool {
        self.hierarchies.iter().any(Hierarchy::filters_devices)
    }

    /// What the guard has to remove: directory, its parent, its name.
    pub(crate) fn directories(&self) -> io::Result<Vec<(OwnedFd, OwnedFd, String)>> {
        let both = |it: &Hierarchy| {
            Ok((
                it.directory.as_fd().try_clone_to_owned()?,
                it.parent.as_fd().try_clone_to_owned()?,
                it.name.clone(),
            ))
        };
        self.hierarchies.iter().map(both).collect()
    }

    /// Takes a free slot and sets its limits.
    pub(crate) fn take(
        &'static self,
        limits: Limits,
        privileges: Privileges,
    ) -> io::Result<Groups> {
        let range = match privileges {
            Privileges::Default => 0..FIRST_OPEN_SLOT,
            Privileges::Insecure => FIRST_OPEN_SLOT..SLOTS,
        };
        let slot = {
            let mut in_use = self
                .in_use
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let free = range.clone().find(|slot| !in_use[*slot]);
            let slot = free.ok_or_else(|| io::Error::other("too many sandboxes at once"))?;
            in_use[slot] = true;
            slot
        };
        let mut groups = Groups {
            control: self,
            slot: Some(slot),
            joined: Vec::new(),
            ooms_before: 0,
        };
        for hierarchy in &self.hierarchies {
            if let Some(group) = hierarchy.enter(slot, limits, privileges)? {
                groups.joined.push((hierarchy.kind, group));
            }
        }
        groups.ooms_before = groups.ooms();
        Ok(groups)
    }
}

impl Hierarchy {
    /// In a user namespace the kernel takes no program that filters, whoever owns the group.
    fn filters_devices(&self) -> bool {
        match self.kind {
            Kind::Devices => true,
            Kind::Unified => rootless::in_first_namespace(),
            _ => false,
        }
    }

    fn make(kind: Kind, path: &Path) -> io::Result<Hierarchy> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(path, flags, Mode::empty())?;
        sweep(&parent);
        let name = format!("rbuild-{}", std::process::id());
        match rustix::fs::mkdirat(&parent, &name, Mode::from(0o755)) {
            // Left by an owner of the same number whose guard was killed.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
        remove_slots(&directory);
        if kind == Kind::Unified {
            delegate(&parent, &directory);
        }
        Ok(Hierarchy {
            kind,
            name,
            parent,
            directory,
        })
    }

    /// The group of a slot with its limits set, or `None` where the sandbox need not be in this hierarchy.
    fn enter(
        &self,
        slot: usize,
        limits: Limits,
        privileges: Privileges,
    ) -> io::Result<Option<OwnedFd>> {
        let wanted = match self.kind {
            Kind::Pids => limits.pids.is_some(),
            Kind::Memory => limits.memory.is_some(),
            Kind::Devices => privileges == Privileges::Default,
            Kind::Unified => true,
        };
        if !wanted {
            return Ok(None);
        }
        let name = slot.to_string();
        let new = match rustix::fs::mkdirat(&self.directory, &name, Mode::from(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())?;
        let number = |limit: Option<u64>| limit.map_or("max".to_owned(), |it| it.to_string());
        match self.kind {
            Kind::Pids => write(&group, "pids.max", &number(limits.pids))?,
            Kind::Memory => write(
                &group,
                "memory.limit_in_bytes",
                &limits.memory.unwrap_or(u64::MAX).to_string(),
            )?,
            Kind::Devices if new => restrict_devices(&group)?,
            Kind::Devices => {}
            Kind::Unified => {
                // A controller that was not handed down to us has no such file.
                let _ = write(&group, "pids.max", &number(limits.pids));
                let _ = write(&group, "memory.max", &number(limits.memory));
                if new && privileges == Privileges::Default && self.filters_devices() {
                    sys::attach_device_filter(group.as_fd(), &device_filter())?;
                }
            }
        }
        Ok(Some(group))
    }
}

/// The groups of one sandbox.
#[derive(Debug)]
pub(crate) struct Groups {
    control: &'static Control,
    slot: Option<usize>,
    joined: Vec<(Kind, OwnedFd)>,
    ooms_before: u64,
}

impl Groups {
    /// What to write a process number to, to bring the process into each group; with a name for people.
    pub(crate) fn doors(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let door = |(kind, group): &(Kind, OwnedFd)| {
            let file = rustix::fs::openat(
                group,
                "cgroup.procs",
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            Ok((format!("{kind:?}").to_lowercase(), file))
        };
        self.joined.iter().map(door).collect()
    }

    /// Whether something was killed for want of memory since the groups were taken.
    pub(crate) fn oom_killed(&self) -> bool {
        self.ooms() > self.ooms_before
    }

    /// Gives the slot back, once nothing is in its groups any more.
    pub(crate) fn remove(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.joined.clear();
            self.control
                .in_use
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)[slot] = false;
        }
    }

    fn ooms(&self) -> u64 {
        let count = |(kind, group): &(Kind, OwnedFd)| {
            let file = match kind {
                Kind::Memory => "memory.oom_control",
                Kind::Unified => "memory.events",
                Kind::Pids | Kind::Devices => return None,
            };
            let text = read(group, file).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill "))?
                .trim()
                .parse::<u64>()
                .ok()
        };
        self.joined.iter().filter_map(count).sum()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The directory of this process in every hierarchy of interest.
fn find() -> Vec<(Kind, PathBuf)> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = |controller: &str, kind| Some((kind, directory(&own, &mounts, controller)?));
    let mut first = vec![
        found("pids", Kind::Pids),
        found("devices", Kind::Devices),
        found("memory", Kind::Memory),
    ];
    // The second version counts only where the first does not have the controllers.
    if first.iter().all(Option::is_none) {
        first.push(found("", Kind::Unified));
    }
    first.into_iter().flatten().collect()
}

/// Where `own` (`/proc/self/cgroup`) and `mounts` (`/proc/self/mountinfo`) say that the process is
/// in the hierarchy of a controller; the empty name stands for the second version.
fn directory(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers
            .split(',')
            .any(|it| it == controller)
            .then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let right = match controller {
            "" => kind == "cgroup2",
            name => kind == "cgroup" && options.split(',').any(|it| it == name),
        };
        let below = if root == "/" {
            path
        } else {
            path.strip_prefix(root)?
        };
        right.then(|| Path::new(point).join(below.trim_start_matches('/')))
    })
}

/// Removes the directories of owners that are gone and whose guard was killed with them.
fn sweep(parent: &OwnedFd) {
    let Ok(entries) = rustix::fs::Dir::read_from(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("rbuild-")
            .and_then(|it| it.parse().ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        if rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(directory) = rustix::fs::openat(parent, &name, flags, Mode::empty()) {
            remove_slots(&directory);
            let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
        }
    }
}

fn remove_slots(directory: &OwnedFd) {
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_bytes().iter().all(u8::is_ascii_digit) {
            let _ = rustix::fs::unlinkat(directory, entry.file_name(), AtFlags::REMOVEDIR);
        }
    }
}

/// Hands the controllers that we have down to the slots. Refused where processes are in the same group as we; then there is no limit.
fn delegate(parent: &OwnedFd, directory: &OwnedFd) {
    for controller in ["+pids", "+memory"] {
        let handed = write(parent, "cgroup.subtree_control", controller)
            .and_then(|()| write(directory, "cgroup.subtree_control", controller));
        if let Err(error) = handed {
            tracing::debug!(controller, %error, "no limit of this kind");
        }
    }
}

fn restrict_devices(group: &OwnedFd) -> io::Result<()> {
    write(group, "devices.deny", "a")?;
    let number = |it: Option<u32>| it.map_or("*".to_owned(), |it| it.to_string());
    for (kind, major, minor, access) in ALLOWED_DEVICES {
        write(
            group,
            "devices.allow",
            &format!("{kind} {}:{} {access}", number(major), number(minor)),
        )?;
    }
    Ok(())
}

/// The same rules as a program for the second version, which asks it about every device that is made or opened.
fn device_filter() -> Vec<u64> {
    const LOAD: u8 = 0x61;
    const AND: u8 = 0x57;
    const SHIFT: u8 = 0x77;
    const COPY: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const UNEQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let one = |code: u8, to: u8, from: u8, over: u8, value: u32| {
        u64::from(code)
            | u64::from(to) << 8
            | u64::from(from) << 12
            | u64::from(over) << 16
            | u64::from(value) << 32
    };
    // Into registers 2 to 5: kind, access, major, minor.
    let mut program = vec![
        one(LOAD, 2, 1, 0, 0),
        one(COPY, 3, 2, 0, 0),
        one(AND, 2, 0, 0, 0xffff),
        one(SHIFT, 3, 0, 0, 16),
        one(LOAD, 4, 1, 4, 0),
        one(LOAD, 5, 1, 8, 0),
    ];
    for (kind, major, minor, access) in ALLOWED_DEVICES {
        let bit = |it: char| match it {
            'm' => 1,
            'r' => 2,
            _ => 4,
        };
        let more_than = !access.chars().map(bit).sum::<u32>();
        // Backwards, since every comparison skips the rest of its rule.
        let mut rule = vec![one(EXIT, 0, 0, 0, 0), one(SET, 0, 0, 0, 1)];
        let skip = |rule: &Vec<u64>| u8::try_from(rule.len()).expect("a rule is short");
        for (register, value) in [(5, minor), (4, major)] {
            if let Some(value) = value {
                rule.push(one(UNEQUAL, register, 0, skip(&rule), value));
            }
        }
        rule.push(one(UNEQUAL, 0, 0, skip(&rule), 0));
        rule.push(one(AND, 0, 0, 0, more_than & 0xffff));
        rule.push(one(COPY, 0, 3, 0, 0));
        rule.push(one(
            UNEQUAL,
            2,
            0,
            skip(&rule),
            if kind == 'b' { 1 } else { 2 },
        ));
        program.extend(rule.into_iter().rev());
    }
    program.extend([one(SET, 0, 0, 0, 0), one(EXIT, 0, 0, 0, 0)]);
    program
}

fn write(group: &OwnedFd, file: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::openat(group, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

fn read(group: &OwnedFd, file: &str) -> io::Result<String> {
    let file = rustix::fs::openat(group, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    io::read_to_string(std::fs::File::from(file))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MOUNTS: &str = "\
31 24 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
33 24 0:29 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 24 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_directory_is_found_in_both_versions() {
        let own = "8:pids:/a/b\n3:cpu,cpuacct:/\n2:memory:/outer/inner\n0::/user.slice\n";
        let at = |controller| directory(own, MOUNTS, controller).map(|it| it.display().to_string());
        assert_eq!(at("pids").as_deref(), Some("/sys/fs/cgroup/pids/a/b"));
        assert_eq!(at("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu/"));
        assert_eq!(at("memory").as_deref(), Some("/sys/fs/cgroup/memory/inner"));
        assert_eq!(at("").as_deref(), Some("/sys/fs/cgroup/unified/user.slice"));
        assert_eq!(at("devices"), None);
    }

    /// Runs as root, with a mount of the second version.
    #[test]
    fn root_only_the_device_program_lets_null_through_and_nothing_else() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let parent = directory(&own, &mounts, "").expect("cgroup2 is mounted");
        let path = parent.join(format!("rbuild-test-{}", std::process::id()));
        std::fs::create_dir(&path).expect("root can make a control group");
        let group =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        sys::attach_device_filter(group.as_fd(), &device_filter()).unwrap();
        let script = format!(
            "echo $$ > {}/cgroup.procs; d=$(mktemp -d); mknod $d/kmsg c 1 11 && echo made; \
             (: < $d/kmsg) 2>/dev/null || echo closed; : < /dev/null && : > /dev/full && echo open; rm -r $d",
            path.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "made\nclosed\nopen\n"
        );
    }
}
