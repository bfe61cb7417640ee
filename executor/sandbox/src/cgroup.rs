//! Control groups: how many processes, how much memory and processor time, which devices.
//!
//! Every owner has one directory in each hierarchy that it needs, below the one it is in itself or
//! below the one that a spec names, and in it one numbered directory for each sandbox that runs at
//! the same time; they are used again and again, and removed with their owner by its guard. Where a
//! hierarchy cannot be written, the number of processes and devices are held back by other means
//! ([`Groups::limit_processes`], [`Groups::filters_devices`]); any other limit that cannot be held is
//! an error.

mod setting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::mounts::{ALLOWED_DEVICES, Rule};
use crate::{Limits, Privileges};
use crate::{rootless, sys};

use setting::Kind;

/// From this slot on, groups are made anew for each sandbox, which is lent devices.
const FIRST_LENDING_SLOT: usize = 160;

/// From this slot on, devices are not filtered.
const FIRST_OPEN_SLOT: usize = 192;

/// How many sandboxes one owner can have at once.
const SLOTS: usize = 256;

/// The control groups of this process.
#[derive(Debug)]
pub(crate) struct Control {
    /// Where in every mounted hierarchy this process is.
    found: Vec<(Kind, Place)>,
    /// Where what is killed for want of memory in the group of this process is counted.
    around: Option<OwnedFd>,
    made: Mutex<Vec<Arc<Hierarchy>>>,
    slots: Mutex<Vec<Slot>>,
}

/// Where a hierarchy is mounted, and where in it this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The directory of the whole hierarchy.
    top: PathBuf,
    /// The directory of this process.
    own: PathBuf,
}

/// A number that one sandbox at a time has.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    in_use: bool,
    /// Whether its groups of the second version still hold what an earlier sandbox had asked for.
    is_altered: bool,
}

/// A slot that one sandbox has now.
#[derive(Debug, Clone, Copy)]
struct Taken {
    number: usize,
    was_altered: bool,
}

/// The owner's directory in one hierarchy.
#[derive(Debug)]
struct Hierarchy {
    kind: Kind,
    /// As [`Limits::parent`].
    below: Option<PathBuf>,
    parent: OwnedFd,
    directory: OwnedFd,
}

/// What the directory of this process is called in every hierarchy: by its number, and by the namespace in which it has
/// that. Containers that share a hierarchy each have a process 7.
pub(crate) fn owner_name() -> String {
    format!("rbuild-{}{}", std::process::id(), numbering())
}

/// How the names of all owners end that have their number in the same namespace as this process.
fn numbering() -> String {
    let namespace = rustix::fs::stat("/proc/self/ns/pid");
    namespace.map_or_else(|_| String::new(), |it| format!(".{:x}", it.st_ino))
}

/// What a sandbox asks of its groups.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) privileges: Privileges,
    /// The devices that it is lent.
    pub(crate) devices: &'a [Rule<'a>],
    /// Puts the directory of this name under guard that is about to be made in another.
    pub(crate) keep: &'a dyn Fn(BorrowedFd<'_>),
}

impl Control {
    /// The control groups of this process.
    pub(crate) fn get() -> &'static Control {
        static CONTROL: OnceLock<Control> = OnceLock::new();
        CONTROL.get_or_init(|| {
            let found = find();
            Control {
                around: counter_around(&found),
                found,
                made: Mutex::default(),
                slots: Mutex::new(vec![Slot::default(); SLOTS]),
            }
        })
    }

    /// Takes a free slot and sets its limits.
    pub(crate) fn take(&'static self, asked: Asked<'_>) -> io::Result<Groups> {
        let range = match asked.privileges {
            Privileges::Insecure => FIRST_OPEN_SLOT..SLOTS,
            Privileges::Default if asked.devices.is_empty() => 0..FIRST_LENDING_SLOT,
            Privileges::Default => FIRST_LENDING_SLOT..FIRST_OPEN_SLOT,
        };
        let taken = {
            let mut slots = locked(&self.slots);
            let free = range.clone().find(|number| !slots[*number].in_use);
            let number = free.ok_or_else(|| io::Error::other("too many sandboxes at once"))?;
            slots[number].in_use = true;
            Taken {
                number,
                was_altered: slots[number].is_altered,
            }
        };
        let number = taken.number;
        let mut groups = Groups {
            control: self,
            slot: Some(number),
            joined: Vec::new(),
            peak: None,
            ooms_before: 0,
            ooms_around_before: self.ooms_around(),
        };
        for (kind, place) in &self.found {
            if !kind.is_wanted(asked.limits, asked.privileges) {
                continue;
            }
            match self.enter(*kind, place, asked, taken) {
                Ok(group) => groups.joined.push((*kind, group)),
                Err(error) if kind.is_needed(asked.limits) => {
                    let what = format!("{}: {error}", kind.controller());
                    return Err(io::Error::new(error.kind(), what));
                }
                Err(error) => tracing::debug!(?kind, %error, "no control group here"),
            }
        }
        let joined: Vec<Kind> = groups.joined.iter().map(|it| it.0).collect();
        if let Some(what) = setting::missing(asked.limits, &joined) {
            return Err(io::Error::other(format!(
                "this machine has no control group that limits {what}"
            )));
        }
        locked(&self.slots)[number].is_altered = setting::alters(asked.limits);
        groups.peak = groups.peak_counter();
        groups.ooms_before = groups.ooms();
        Ok(groups)
    }

    /// How often something was killed for want of memory in the group of this process.
    fn ooms_around(&self) -> u64 {
        let mut text = [0; 512];
        self.around
            .as_ref()
            .and_then(|file| rustix::io::pread(file, &mut text, 0).ok())
            .and_then(|length| ooms_in(std::str::from_utf8(&text[..length]).ok()?))
            .unwrap_or(0)
    }

    /// The group of a slot with its limits set.
    fn enter(
        &self,
        kind: Kind,
        place: &Place,
        asked: Asked<'_>,
        taken: Taken,
    ) -> io::Result<OwnedFd> {
        let hierarchy = self.hierarchy(kind, place, asked)?;
        if kind == Kind::Unified {
            for controller in setting::controllers(asked.limits) {
                hand_down(&hierarchy.parent, controller);
                hand_down(&hierarchy.directory, controller);
            }
        }
        let name = taken.number.to_string();
        if !asked.devices.is_empty() && matches!(kind, Kind::Devices | Kind::Unified) {
            // What is there lets the devices through that another sandbox was lent.
            match rustix::fs::unlinkat(&hierarchy.directory, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let new = match rustix::fs::mkdirat(&hierarchy.directory, &name, Mode::from(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let group = rustix::fs::openat(&hierarchy.directory, &name, DIRECTORY, Mode::empty())?;
        match kind {
            Kind::Devices if new && asked.privileges == Privileges::Default => {
                restrict_devices(&group, asked.devices)?;
            }
            Kind::Cpuset => inherit_cpuset(&hierarchy.directory, &group)?,
            Kind::Unified
                if new && asked.privileges == Privileges::Default && filters_devices(kind) =>
            {
                sys::attach_device_filter(group.as_fd(), &device_filter(asked.devices))?;
            }
            _ => {}
        }
        for setting in setting::settings(kind, asked.limits, taken.was_altered) {
            let written = write(&group, setting.file, &setting.text);
            if let (true, Err(error)) = (setting.is_needed, written) {
                let what = format!("{}={}: {error}", setting.file, setting.text);
                return Err(io::Error::new(error.kind(), what));
            }
        }
        Ok(group)
    }

    /// The owner's directory in a hierarchy, made and put under guard at the first call.
    fn hierarchy(&self, kind: Kind, place: &Place, asked: Asked<'_>) -> io::Result<Arc<Hierarchy>> {
        let below = &asked.limits.parent;
        let mut made = locked(&self.made);
        if let Some(known) = made.iter().find(|it| it.kind == kind && it.below == *below) {
            return Ok(Arc::clone(known));
        }
        let hierarchy = Hierarchy::make(kind, place, below.as_deref(), asked.keep)?;
        let hierarchy = Arc::new(Hierarchy {
            below: below.clone(),
            ..hierarchy
        });
        made.push(Arc::clone(&hierarchy));
        Ok(hierarchy)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a user namespace the kernel takes no program that filters, whoever owns the group.
fn filters_devices(kind: Kind) -> bool {
    match kind {
        Kind::Devices => true,
        Kind::Unified => rootless::in_first_namespace(),
        _ => false,
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Hierarchy {
    fn make(
        kind: Kind,
        place: &Place,
        below: Option<&Path>,
        keep: &dyn Fn(BorrowedFd<'_>),
    ) -> io::Result<Hierarchy> {
        let parent = match below {
            None if kind == Kind::Unified => {
                rustix::fs::open(delegating(place), DIRECTORY, Mode::empty())?
            }
            None => rustix::fs::open(&place.own, DIRECTORY, Mode::empty())?,
            Some(path) => named(kind, &place.top, path)?,
        };
        sweep(&parent);
        // Before there is one: whoever is killed in between would leave it.
        keep(parent.as_fd());
        let directory = claim(&parent, &owner_name())?;
        remove_slots(&directory);
        if kind == Kind::Cpuset {
            inherit_cpuset(&parent, &directory)?;
        }
        Ok(Hierarchy {
            kind,
            below: None,
            parent,
            directory,
        })
    }
}

/// The group that a person named, from the top of the hierarchy, made where it is missing. It is
/// theirs, and stays.
fn named(kind: Kind, top: &Path, path: &Path) -> io::Result<OwnedFd> {
    let mut directory = rustix::fs::open(top, DIRECTORY, Mode::empty())?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        match rustix::fs::mkdirat(&directory, name, Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let next = rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())?;
        match kind {
            Kind::Cpuset => inherit_cpuset(&directory, &next)?,
            Kind::Unified => {
                for controller in setting::CONTROLLERS {
                    hand_down(&directory, controller);
                }
            }
            _ => {}
        }
        directory = next;
    }
    Ok(directory)
}

/// The first version gives a new group no processor at all: those of its parent, where it has none.
fn inherit_cpuset(parent: &OwnedFd, group: &OwnedFd) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(group, file)?.trim().is_empty() {
            write(group, file, read(parent, file)?.trim())?;
        }
    }
    Ok(())
}

/// The groups of one sandbox.
#[derive(Debug)]
pub(crate) struct Groups {
    control: &'static Control,
    slot: Option<usize>,
    joined: Vec<(Kind, OwnedFd)>,
    /// Where the most memory that was in use since the groups were taken is read.
    peak: Option<OwnedFd>,
    ooms_before: u64,
    ooms_around_before: u64,
}

impl Groups {
    /// What a process of one thread writes `0` to, to get into each group; with a name for people.
    pub(crate) fn doors(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let door = |(kind, group): &(Kind, OwnedFd)| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(group, kind.door(), flags, Mode::empty())?;
            Ok((format!("{}/{}", kind.controller(), kind.door()), file))
        };
        self.joined.iter().map(door).collect()
    }

    /// Whether device nodes are kept from being opened.
    pub(crate) fn filters_devices(&self) -> bool {
        self.joined.iter().any(|(kind, _)| filters_devices(*kind))
    }

    /// Whether more processes than were asked for cannot be.
    pub(crate) fn limit_processes(&self) -> bool {
        self.joined.iter().any(|(kind, group)| match kind {
            Kind::Pids => true,
            // Only where the controller was handed down.
            Kind::Unified => {
                rustix::fs::accessat(group, "pids.max", Access::EXISTS, AtFlags::empty()).is_ok()
            }
            _ => false,
        })
    }

    /// Whether something was killed for want of memory since the groups were taken.
    pub(crate) fn oom_killed(&self) -> bool {
        self.ooms() > self.ooms_before
    }

    /// Whether that happened in the group that this process is in itself, be it for a limit that somebody else has set.
    /// It need not have been the sandbox, unless something has killed that.
    pub(crate) fn oom_killed_around(&self) -> bool {
        self.control.ooms_around() > self.ooms_around_before
    }

    /// The most bytes that were in use at once since the groups were taken, where that was counted.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let mut text = [0; 32];
        let length = rustix::io::pread(self.peak.as_ref()?, &mut text, 0).ok()?;
        std::str::from_utf8(&text[..length])
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Gives the slot back, once nothing is in its groups any more.
    pub(crate) fn remove(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.joined.clear();
            self.peak = None;
            locked(&self.control.slots)[slot].in_use = false;
        }
    }

    /// The file that counts, set to now. A kernel that cannot do so counts from the group's
    /// beginning, which is of no use where the group was somebody else's.
    fn peak_counter(&self) -> Option<OwnedFd> {
        self.joined.iter().find_map(|(kind, group)| {
            let file = kind.peak_file()?;
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::openat(group, file, flags, Mode::empty()).ok()?;
            rustix::io::write(&file, b"0").ok()?;
            Some(file)
        })
    }

    fn ooms(&self) -> u64 {
        let count = |(kind, group): &(Kind, OwnedFd)| {
            let text = read(group, kind.oom_file()?).ok()?;
            ooms_in(&text)
        };
        self.joined.iter().filter_map(count).sum()
    }
}

/// The count in a file of what was killed for want of memory.
fn ooms_in(text: &str) -> Option<u64> {
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

/// That file of the group of this process.
fn counter_around(found: &[(Kind, Place)]) -> Option<OwnedFd> {
    found.iter().find_map(|(kind, place)| {
        let path = place.own.join(kind.oom_file()?);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    })
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Every hierarchy of interest that this machine has.
fn find() -> Vec<(Kind, Place)> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = |kind: Kind| Some((kind, directory(&own, &mounts, kind.controller())?));
    let first: Vec<_> = Kind::FIRST_VERSION.into_iter().filter_map(found).collect();
    // The second version counts only where the first does not have the controllers.
    if first.is_empty() {
        return found(Kind::Unified).into_iter().collect();
    }
    first
}

/// Which version of control groups there is, and the controllers of which this process may set limits.
pub(crate) fn survey() -> (Option<u8>, Vec<String>) {
    let may_write = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    let found = find();
    let version = match found.first() {
        None => None,
        Some((Kind::Unified, _)) => Some(2),
        Some(_) => Some(1),
    };
    let mut controllers = Vec::new();
    for (kind, place) in &found {
        if *kind == Kind::Unified {
            let at = delegating(place);
            if may_write(at) {
                let all = std::fs::read_to_string(at.join("cgroup.controllers"));
                let all = all.unwrap_or_default();
                controllers.extend(all.split_whitespace().map(str::to_owned));
            }
        } else if may_write(&place.own) {
            controllers.push(kind.controller().to_owned());
        }
    }
    (version, controllers)
}

/// Where `own` (`/proc/self/cgroup`) and `mounts` (`/proc/self/mountinfo`) say that the process is
/// in the hierarchy of a controller; the empty name stands for the second version.
fn directory(own: &str, mounts: &str, controller: &str) -> Option<Place> {
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
        right.then(|| Place {
            top: PathBuf::from(point),
            own: Path::new(point).join(below.trim_start_matches('/')),
        })
    })
}

/// Makes the directory of an owner and locks it as long as it is open: so that it is in use is known to those, too, to
/// whom its number says nothing.
fn claim(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    loop {
        match rustix::fs::mkdirat(parent, name, Mode::from(0o755)) {
            // Left by an owner of the same number whose guard was killed.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            opened => opened?,
        };
        // Shared, since one directory may be that of several controllers. Waits at most for a sweep; where there are
        // no locks, nobody sweeps what he does not know.
        match rustix::fs::flock(&directory, FlockOperation::LockShared) {
            Err(Errno::INTR) => continue,
            Err(error) => tracing::debug!(%error, "a control group is not locked"),
            Ok(()) => {}
        }
        if is_at(&directory, parent, name)? {
            return Ok(directory);
        }
    }
}

/// Whether an open directory is the one of this name, or was removed before it was locked.
fn is_at(directory: &OwnedFd, parent: &OwnedFd, name: &str) -> io::Result<bool> {
    let open = rustix::fs::fstat(directory)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok(open.st_ino == there.st_ino),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the directories of owners that are gone and whose guard was killed with them.
fn sweep(parent: &OwnedFd) {
    let Ok(entries) = rustix::fs::Dir::read_from(parent) else {
        return;
    };
    let numbering = numbering();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(directory) = abandoned(parent, &name, &numbering) {
            remove_slots(&directory);
            let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
        }
    }
}

/// The directory of this name, if it is an owner's who is gone; locked where that is how it is known.
fn abandoned(parent: &OwnedFd, name: &str, numbering: &str) -> Option<OwnedFd> {
    let (number, _) = name.strip_prefix("rbuild-")?.split_once('.')?;
    let pid = Pid::from_raw(number.parse().ok()?)?;
    let is_ours = !numbering.is_empty() && name.ends_with(numbering);
    if is_ours && rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
        return None;
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).ok()?;
    // Of another namespace the numbers mean nothing here, and with it all that was in it may be gone.
    let alone = || rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok();
    (is_ours || alone()).then_some(directory)
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

/// The nearest group of the second version, from our own upwards, that hands its controllers down. A
/// group with processes in it may not, which is what a login session's is; above it is one that does.
fn delegating(place: &Place) -> &Path {
    let file = |group: &Path| group.join("cgroup.subtree_control");
    let groups = || {
        let above = place.own.ancestors();
        above.take_while(|group| group.starts_with(&place.top))
    };
    let does = |group: &&Path| {
        let handed = std::fs::read_to_string(file(group)).unwrap_or_default();
        ["pids", "memory"]
            .iter()
            .all(|it| handed.split_whitespace().any(|name| name == *it))
    };
    let can = |group: &&Path| std::fs::write(file(group), "+pids +memory").is_ok();
    let found = groups().find(does).or_else(|| groups().find(can));
    found.unwrap_or(&place.own)
}

/// Hands a controller of a group down to the groups below it. Refused where processes are in the
/// same group, or where it was not handed down to this one; then there is no limit.
fn hand_down(group: &OwnedFd, controller: &str) {
    if let Err(error) = write(group, "cgroup.subtree_control", controller) {
        tracing::debug!(controller, %error, "no limit of this kind");
    }
}

fn restrict_devices(group: &OwnedFd, lent: &[Rule<'_>]) -> io::Result<()> {
    write(group, "devices.deny", "a")?;
    let number = |it: Option<u32>| it.map_or("*".to_owned(), |it| it.to_string());
    for (kind, major, minor, access) in ALLOWED_DEVICES.iter().chain(lent).copied() {
        write(
            group,
            "devices.allow",
            &format!("{kind} {}:{} {access}", number(major), number(minor)),
        )?;
    }
    Ok(())
}

/// The same rules as a program for the second version, which asks it about every device that is made or opened.
fn device_filter(lent: &[Rule<'_>]) -> Vec<u64> {
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
    for (kind, major, minor, access) in ALLOWED_DEVICES.iter().chain(lent).copied() {
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
        let at = |controller| {
            let place = directory(own, MOUNTS, controller)?;
            assert!(place.own.starts_with(&place.top), "{place:?}");
            Some(place.own.display().to_string())
        };
        assert_eq!(at("pids").as_deref(), Some("/sys/fs/cgroup/pids/a/b"));
        assert_eq!(at("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu/"));
        assert_eq!(at("memory").as_deref(), Some("/sys/fs/cgroup/memory/inner"));
        assert_eq!(at("").as_deref(), Some("/sys/fs/cgroup/unified/user.slice"));
        assert_eq!(at("devices"), None);
    }

    #[test]
    fn a_group_that_hands_down_is_looked_for_upwards() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().to_owned();
        let own = top.join("user.slice/session.scope");
        std::fs::create_dir_all(&own).unwrap();
        let place = Place {
            top: top.clone(),
            own: own.clone(),
        };
        // A directory in place of the file cannot be written, as the file of a group with processes.
        std::fs::create_dir(own.join("cgroup.subtree_control")).unwrap();
        assert_eq!(delegating(&place), top.join("user.slice"));
        let control = top.join("user.slice/cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(&control).unwrap(), "+pids +memory");
        std::fs::remove_file(&control).unwrap();
        std::fs::write(top.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        assert_eq!(
            delegating(&place),
            top,
            "rather one that does than one that could"
        );
    }

    /// What a process in a group with the device program can do with `/dev/kmsg` and with what everybody has.
    fn under_filter(name: &str, lent: &[Rule<'_>]) -> String {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let parent = directory(&own, &mounts, "")
            .expect("cgroup2 is mounted")
            .own;
        let path = parent.join(format!("rbuild-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("root can make a control group");
        let group =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        sys::attach_device_filter(group.as_fd(), &device_filter(lent)).unwrap();
        let script = format!(
            "echo $$ > {}/cgroup.procs; d=$(mktemp -d); mknod $d/kmsg c 1 11 && echo made; \
             (: < $d/kmsg) 2>/dev/null && echo read; (: >> $d/kmsg) 2>/dev/null && echo written; \
             : < /dev/null && : > /dev/full && echo open; rm -r $d",
            path.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        std::fs::remove_dir(&path).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs as root, with a mount of the second version.
    #[test]
    fn root_only_the_device_program_lets_through_what_is_lent_and_what_everybody_has() {
        let read: Rule<'_> = ('c', Some(1), Some(11), "r");
        let kind: Rule<'_> = ('b', Some(1), Some(11), "rwm");
        assert_eq!(under_filter("none", &[]), "made\nopen\n");
        assert_eq!(under_filter("kind", &[kind]), "made\nopen\n");
        assert_eq!(under_filter("read", &[read]), "made\nread\nopen\n");
    }
}
