//! From a [`Spec`] to the list of steps that a child takes between clone and exec.
//!
//! Everything that can be done beforehand is done here, in ordinary code: file systems are made,
//! places for mounts found, programs looked up in `PATH`, strings turned into C strings. The steps
//! are what only the child can do.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::sock_filter;
use rustix::fs::{CWD, Gid, OFlags, Uid};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::process::Pid;

use crate::cgroup::{Asked, Control, Groups};
use crate::mounts::{self, Dev, Files, NewFile};
use crate::quiet::Quiet;
use crate::spawn::SpawnError;
use crate::spawner::Spawner;
use crate::stub::{self, Kind, Links, NoPlace, Stubs, Tree};
use crate::{
    Device, Limits, Mount, MountSource, Network, Privileges, Resource, Rlimit, Spec, Stdio, Stream,
    capability, rootless, seccomp, sys,
};

/// Where commands are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a child is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// `CLONE_NEW*` of the namespaces that are made with the child.
    pub(crate) namespaces: libc::c_int,
    /// Where the program may be, in the order in which it is tried.
    pub(crate) programs: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// The root file system.
    pub(crate) rootfs: RawFd,
    /// The file system of `/dev`.
    pub(crate) devices: RawFd,
    /// The owners of what is spoken of by number.
    #[expect(dead_code, reason = "holds the descriptors open")]
    held: Vec<OwnedFd>,
}

impl Plan {
    /// Whether the child becomes somebody else before it leaves our memory.
    pub(crate) fn changes_user(&self) -> bool {
        self.steps
            .iter()
            .any(|it| matches!(it, Step::User(1..) | Step::Group(1..)))
    }
}

/// How the root file system becomes the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// It is mounted over the root that there is, and stays there. What it covers (nearly nothing: see
    /// [`spawner`](crate::spawner)) has no path from within, above it is nothing, and to take it away
    /// needs rights that the process does not have. Nothing is unmounted, so the kernel need not wait
    /// for all processors, which on a busy machine takes it longer than all the rest.
    Over,
    /// It changes places with the root that there is, which goes. For who has those rights.
    InPlace,
}

/// One thing that the child does.
#[derive(Debug)]
pub(crate) enum Step {
    ResetSignals,
    JoinGroup {
        procs: OwnedFd,
        name: String,
    },
    OwnGroupRoot,
    EnterNetwork(OwnedFd),
    LoopbackUp,
    HostName(CString),
    NewSession,
    NewKeyring,
    AttachFiles(RawFd),
    AttachRoot(RawFd, Entrance),
    /// Attaches a mount of the parent's.
    Attach {
        mount: OwnedFd,
        target: CString,
    },
    /// Mounts a file system that depends on the child's namespaces.
    Mount {
        kind: &'static CStr,
        options: Vec<(&'static CStr, CString)>,
        attributes: u64,
        target: CString,
    },
    /// Mounts one device node of `directory`.
    AttachDevice {
        directory: RawFd,
        name: CString,
        target: CString,
    },
    /// The same at `/sys`, or the host's.
    MountSys {
        attributes: u64,
    },
    /// The same, and no harm where the kernel does not have it.
    MountIfKnown {
        kind: &'static CStr,
        attributes: u64,
        target: CString,
    },
    /// Mounts one file of `directory`, or one with an absolute path as the spawner sees it.
    AttachFile {
        directory: RawFd,
        name: CString,
        attributes: u64,
        target: CString,
    },
    ReadOnly {
        target: CString,
    },
    Mask {
        target: CString,
    },
    RootAttributes(u64),
    EnterRoot(Entrance),
    Stdio([OwnedFd; 3]),
    ControllingTerminal,
    Umask(u32),
    Directory(CString),
    Limit(Rlimit),
    BoundingSet(u64),
    Filter(&'static [sock_filter]),
    KeepCapabilities,
    Groups(Vec<u32>),
    Group(u32),
    User(u32),
    Capabilities {
        permitted: u64,
        inheritable: u64,
    },
    Ambient(u64),
    DieWithOwner(&'static OwnedFd),
    CloseOnExec,
    UnblockSignals,
}

/// What a step works on, as it would stand between the parentheses of a call.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::JoinGroup { name, .. } => f.write_str(name),
            Step::HostName(name) => write!(f, "{}", name.to_string_lossy()),
            Step::Attach { target, .. }
            | Step::AttachFile { target, .. }
            | Step::AttachDevice { target, .. } => {
                write!(f, "{}", target.to_string_lossy())
            }
            Step::Mount { kind, target, .. } | Step::MountIfKnown { kind, target, .. } => {
                write!(
                    f,
                    "{}, {}",
                    kind.to_string_lossy(),
                    target.to_string_lossy()
                )
            }
            Step::MountSys { .. } => f.write_str("sysfs, /sys"),
            Step::ReadOnly { target } => write!(f, "{}, read-only", target.to_string_lossy()),
            Step::Mask { target } => write!(f, "{}, masked", target.to_string_lossy()),
            Step::Directory(path) => write!(f, "{}", path.to_string_lossy()),
            Step::Limit(limit) => f.write_str(limit.resource.name()),
            Step::Groups(groups) => write!(f, "{groups:?}"),
            Step::Group(id) | Step::User(id) => write!(f, "{id}"),
            Step::AttachRoot(..) | Step::EnterRoot(_) | Step::RootAttributes(_) => {
                f.write_str("the root file system")
            }
            Step::AttachFiles(_) => f.write_str("files in memory"),
            Step::LoopbackUp => f.write_str("lo"),
            Step::BoundingSet(set) | Step::Ambient(set) => write!(f, "{set:#x}"),
            Step::Capabilities { permitted, .. } => write!(f, "{permitted:#x}"),
            Step::Filter(program) => write!(f, "{} instructions", program.len()),
            _ => Ok(()),
        }
    }
}

/// A plan, and what the parent keeps.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) stubs: Stubs,
    pub(crate) groups: Groups,
    pub(crate) seclusion: Seclusion,
    pub(crate) ends: Ends,
}

/// The owner's ends of the child's descriptors.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Where no control group holds the number of processes: the limit of those that each user has, which the kernel
/// counts for every user namespace alone. Root of the first namespace has none.
fn fewer_processes(limits: &Limits, groups: &Groups) -> Option<Rlimit> {
    let resource = Resource::named("nproc").expect("every kernel has it");
    let is_theirs = |it: &Rlimit| it.resource == resource;
    if groups.limit_processes()
        || rootless::in_first_namespace()
        || limits.rlimits.iter().any(is_theirs)
    {
        return None;
    }
    let own = rustix::process::getrlimit(rustix::process::Resource::Nproc);
    let most = own.maximum.unwrap_or(u64::MAX).min(limits.pids?);
    Some(Rlimit {
        resource,
        soft: Some(most),
        hard: Some(most),
    })
}

/// Prepares everything and writes the plan.
pub(crate) fn prepare(spec: Spec, spawner: &'static Spawner) -> Result<Prepared, SpawnError> {
    let strings = Strings::new(&spec)?;
    if [spec.user.uid, spec.user.gid].contains(&u32::MAX) {
        // To the kernel it means "stay who you are", which is root.
        return Err(SpawnError::Invalid(format!(
            "no user has the number {}",
            u32::MAX
        )));
    }
    there_is(spec.user.uid, spec.user.gid)?;
    sys::set_private(spec.rootfs.as_fd(), 0).map_err(because("the root file system"))?;
    let lent = spec.mounts.iter().filter_map(|it| match &it.source {
        MountSource::Device(device) => Some(mounts::rule(device)),
        _ => None,
    });
    let asked = Asked {
        limits: &spec.limits,
        privileges: spec.privileges,
        devices: &lent.collect::<Vec<_>>(),
        keep: &|parent| spawner.keep(parent),
    };
    let groups = Control::get()
        .take(asked)
        .map_err(because("control groups"))?;
    let mut steps = vec![Step::ResetSignals];
    for (name, procs) in groups.doors().map_err(because("control groups"))? {
        steps.push(Step::JoinGroup { procs, name });
    }
    steps.push(Step::OwnGroupRoot);
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let seclusion = seclusion(&spec.network, spec.privileges);
    namespaces |= network(&mut steps, spec.network, &seclusion)?;
    steps.extend([
        Step::HostName(strings.hostname),
        Step::NewSession,
        Step::NewKeyring,
    ]);

    let rootfs = spec.rootfs.as_raw_fd();
    let dev = mounts::dev(spec.shm_size).map_err(because("/dev"))?;
    let devices = dev.devices.as_raw_fd();
    let mut ends = Ends::default();
    let after_root = stdio(&mut ends, spec.stdio, &dev, spec.user.uid)?;
    let mut room = Room {
        tree: Tree::new(spec.rootfs.as_fd()),
        steps,
        spawner,
        files: None,
    };
    let entrance = match spec.privileges {
        Privileges::Default => Entrance::Over,
        Privileges::Insecure => Entrance::InPlace,
    };
    room.steps.push(Step::AttachRoot(rootfs, entrance));
    room.kernel(dev, ends.terminal.is_some(), spec.privileges)?;
    let (hosts, resolv_conf) = (spec.hosts.as_deref(), spec.resolv_conf.as_deref());
    room.network_files(hosts, resolv_conf, spec.privileges)?;
    for mount in spec.mounts {
        room.mount(mount)?;
    }
    room.covers(spec.privileges);
    let filters_devices = groups.filters_devices() || spec.privileges == Privileges::Insecure;
    let mut attributes = if filters_devices {
        0
    } else {
        libc::MOUNT_ATTR_NODEV
    };
    attributes |= if spec.read_only_rootfs {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    if attributes != 0 {
        room.steps.push(Step::RootAttributes(attributes));
    }
    let Room {
        tree,
        mut steps,
        files: memory,
        ..
    } = room;
    let stubs = tree.into_stubs();

    steps.push(Step::EnterRoot(entrance));
    steps.extend(after_root);
    steps.extend([Step::Umask(0o022), Step::Directory(strings.cwd)]);
    // After the last descriptor is opened, before the right to raise a limit is gone.
    steps.extend(spec.limits.rlimits.iter().copied().map(Step::Limit));
    steps.extend(fewer_processes(&spec.limits, &groups).map(Step::Limit));
    identity(&mut steps, spec.user, spec.privileges, filters_devices);
    steps.extend([
        Step::DieWithOwner(spawner.owner()),
        Step::CloseOnExec,
        Step::UnblockSignals,
    ]);

    let mut held = vec![spec.rootfs];
    held.extend(memory.map(Files::into_directory));
    let plan = Plan {
        steps,
        namespaces,
        programs: strings.programs,
        args: strings.args,
        env: strings.env,
        rootfs,
        devices,
        held,
    };
    Ok(Prepared {
        plan,
        stubs,
        groups,
        seclusion,
        ends,
    })
}

/// Refuses who is nobody in this user namespace.
fn there_is(user: u32, group: u32) -> Result<(), SpawnError> {
    match (
        rootless::is_user_mapped(user),
        rootless::is_group_mapped(group),
    ) {
        (false, _) => Err(SpawnError::Unmapped {
            kind: "user",
            id: user,
        }),
        (_, false) => Err(SpawnError::Unmapped {
            kind: "group",
            id: group,
        }),
        _ => Ok(()),
    }
}

fn because(what: &'static str) -> impl Fn(io::Error) -> SpawnError {
    move |source| match source.raw_os_error() {
        Some(libc::ENOSYS) => SpawnError::Kernel {
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
        },
        _ => SpawnError::Prepare {
            what: what.to_owned(),
            source,
        },
    }
}

/// The texts of a spec as the kernel takes them.
struct Strings {
    programs: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    hostname: CString,
    cwd: CString,
}

impl Strings {
    fn new(spec: &Spec) -> Result<Strings, SpawnError> {
        let Some(program) = spec.args.first().filter(|it| !it.is_empty()) else {
            return Err(SpawnError::Invalid("no command".to_owned()));
        };
        let args = spec
            .args
            .iter()
            .map(|it| c_string(it))
            .collect::<Result<_, _>>()?;
        Ok(Strings {
            programs: programs(program, &spec.env)?,
            args,
            env: spec
                .env
                .iter()
                .map(|it| c_string(it))
                .collect::<Result<_, _>>()?,
            hostname: c_string(OsStr::new(&spec.hostname))?,
            cwd: c_string(spec.cwd.as_os_str())?,
        })
    }
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    let zero = |_| {
        SpawnError::Invalid(format!(
            "`{}` holds a zero byte",
            text.to_string_lossy().escape_debug()
        ))
    };
    CString::new(text.as_bytes()).map_err(zero)
}

/// Where a command may be: where its path says, or in each directory of `PATH`.
fn programs(program: &OsStr, env: &[OsString]) -> Result<Vec<CString>, SpawnError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = env
        .iter()
        .rev()
        .find_map(|it| it.as_bytes().strip_prefix(b"PATH="));
    let directories = path
        .unwrap_or(DEFAULT_PATH.as_bytes())
        .split(|it| *it == b':');
    let in_directory = |directory: &[u8]| {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        c_string(
            Path::new(OsStr::from_bytes(directory))
                .join(program)
                .as_os_str(),
        )
    };
    directories.map(in_directory).collect()
}

/// Where the network of a sandbox that can reach only itself comes from, and where it goes.
#[derive(Debug)]
pub(crate) enum Seclusion {
    /// It has another network, or one that it can change.
    No,
    /// It gets a new namespace that others can have after it.
    New,
    /// It gets one that others had before.
    Used(Quiet),
}

impl Seclusion {
    /// What is to be kept for others once the process with this number, which runs, is over.
    pub(crate) fn kept(self, pid: Pid) -> Option<Quiet> {
        match self {
            Seclusion::No => None,
            Seclusion::New => Quiet::of(pid),
            Seclusion::Used(quiet) => Some(quiet),
        }
    }
}

fn seclusion(network: &Network, privileges: Privileges) -> Seclusion {
    match (network, privileges) {
        (Network::None, Privileges::Default) => {
            Quiet::take().map_or(Seclusion::New, Seclusion::Used)
        }
        _ => Seclusion::No,
    }
}

fn network(
    steps: &mut Vec<Step>,
    network: Network,
    seclusion: &Seclusion,
) -> Result<libc::c_int, SpawnError> {
    match (network, seclusion) {
        (Network::None, Seclusion::Used(quiet)) => {
            let namespace = quiet.namespace().try_clone_to_owned();
            steps.push(Step::EnterNetwork(namespace.map_err(because("a network"))?));
            Ok(0)
        }
        (Network::None, _) => {
            steps.push(Step::LoopbackUp);
            Ok(libc::CLONE_NEWNET)
        }
        (Network::Namespace(namespace), _) => {
            steps.push(Step::EnterNetwork(namespace));
            Ok(0)
        }
        (Network::Host, _) => Ok(0),
    }
}

/// Makes the child's first three descriptors; the steps that put them into place.
fn stdio(ends: &mut Ends, stdio: Stdio, dev: &Dev, uid: u32) -> Result<Vec<Step>, SpawnError> {
    let fail = because("standard input and output");
    match stdio {
        Stdio::Streams {
            stdin,
            stdout,
            stderr,
        } => {
            let (stdin, end) = stream(stdin, 0, dev, uid).map_err(&fail)?;
            ends.stdin = end;
            let (stdout, end) = stream(stdout, 1, dev, uid).map_err(&fail)?;
            ends.stdout = end;
            let (stderr, end) = stream(stderr, 2, dev, uid).map_err(&fail)?;
            ends.stderr = end;
            Ok(vec![Step::Stdio([stdin, stdout, stderr])])
        }
        Stdio::Terminal(size) => {
            let (owner, inside) =
                mounts::terminal(dev, size, uid).map_err(because("a terminal"))?;
            let copy = || high(inside.as_raw_fd()).map_err(&fail);
            let three = [copy()?, copy()?, copy()?];
            ends.terminal = Some(owner);
            Ok(vec![Step::Stdio(three), Step::ControllingTerminal])
        }
    }
}

/// The child's end of one stream and the owner's, if it has one.
fn stream(
    stream: Stream,
    number: RawFd,
    dev: &Dev,
    uid: u32,
) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    match stream {
        Stream::Null => {
            let flags = if number == 0 {
                OFlags::RDONLY
            } else {
                OFlags::WRONLY
            };
            let flags = flags | OFlags::CLOEXEC;
            let nothing = rustix::fs::Mode::empty();
            let null = match dev.borrowed.iter().find(|(name, _)| *name == "null") {
                // A mount of a file is not to be opened by a name in it.
                Some((_, mount)) => {
                    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
                    rustix::fs::open(path, flags, nothing)?
                }
                None => rustix::fs::openat(&dev.devices, "null", flags, nothing)?,
            };
            Ok((high(null.as_raw_fd())?, None))
        }
        Stream::Inherit => Ok((high(number)?, None)),
        Stream::Given(fd) => Ok((high(fd.as_raw_fd())?, None)),
        Stream::Pipe => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let (child, owner) = if number == 0 {
                (read, write)
            } else {
                (write, read)
            };
            // So that a user other than root can open `/dev/stdout`, as under docker.
            rustix::fs::fchown(&child, Some(Uid::from_raw(uid)), None::<Gid>)?;
            Ok((high(child.as_raw_fd())?, Some(owner)))
        }
    }
}

/// A copy of a descriptor that is none of the first three.
fn high(fd: RawFd) -> io::Result<OwnedFd> {
    sys::duplicate(fd, 3)
}

/// The mounts of a sandbox while they are planned.
struct Room<'a> {
    tree: Tree<'a>,
    steps: Vec<Step>,
    spawner: &'static Spawner,
    /// Files of this sandbox alone, if there are any.
    files: Option<Files>,
}

const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOTHING: u64 = NO_SUID | NO_EXEC | NO_DEV;

impl Room<'_> {
    /// `/proc`, `/dev` and `/sys`.
    fn kernel(
        &mut self,
        dev: Dev,
        terminal: bool,
        privileges: Privileges,
    ) -> Result<(), SpawnError> {
        self.own("proc")?;
        self.new_mount(c"proc", NOTHING, c"/proc");

        self.own("dev")?;
        let terminals = dev.terminals.as_raw_fd();
        let borrowed = dev.borrowed;
        for (place, mount, target) in [
            (&["dev"][..], dev.devices, c"/dev"),
            (&["dev", "pts"], dev.terminals, c"/dev/pts"),
            (&["dev", "shm"], dev.shared_memory, c"/dev/shm"),
        ] {
            let copy = mount.try_clone().map_err(because("/dev"))?;
            self.tree
                .mount(place.iter().map(OsString::from).collect(), Some(copy));
            self.steps.push(Step::Attach {
                mount,
                target: target.to_owned(),
            });
        }
        for (name, mount) in borrowed {
            let target = CString::new(format!("/dev/{name}")).expect("a constant name");
            self.steps.push(Step::Attach { mount, target });
        }
        self.new_mount(c"mqueue", NOTHING, c"/dev/mqueue");
        if terminal {
            let attributes = NO_SUID | NO_EXEC;
            let (name, target) = (c"0".to_owned(), c"/dev/console".to_owned());
            self.steps.push(Step::AttachFile {
                directory: terminals,
                name,
                attributes,
                target,
            });
        }

        self.own("sys")?;
        let read_only = if privileges == Privileges::Insecure {
            0
        } else {
            libc::MOUNT_ATTR_RDONLY
        };
        let attributes = NOTHING | read_only;
        self.steps.push(Step::MountSys { attributes });
        let (kind, attributes, target) = (
            c"cgroup2",
            NOTHING | read_only,
            c"/sys/fs/cgroup".to_owned(),
        );
        self.steps.push(Step::MountIfKnown {
            kind,
            attributes,
            target,
        });
        Ok(())
    }

    /// A directory that must be itself: a link there would put our mounts somewhere else.
    fn own(&mut self, name: &str) -> Result<(), SpawnError> {
        let path = Path::new("/").join(name);
        self.tree
            .place(&path, Kind::Directory, Links::Refuse)
            .map_err(no_place(&path))?;
        self.tree.mount(vec![name.into()], None);
        Ok(())
    }

    fn new_mount(&mut self, kind: &'static CStr, attributes: u64, target: &CStr) {
        self.steps.push(Step::Mount {
            kind,
            options: Vec::new(),
            attributes,
            target: target.to_owned(),
        });
    }

    fn network_files(
        &mut self,
        hosts: Option<&[u8]>,
        resolv_conf: Option<&[u8]>,
        privileges: Privileges,
    ) -> Result<(), SpawnError> {
        for (data, target) in [(hosts, "/etc/hosts"), (resolv_conf, "/etc/resolv.conf")] {
            let Some(data) = data else { continue };
            let target = Path::new(target);
            match privileges {
                Privileges::Default => self.public_file(data, target)?,
                // It could make the mount writable, and change what others see.
                Privileges::Insecure => {
                    let file = NewFile {
                        data,
                        mode: 0o644,
                        uid: 0,
                        gid: 0,
                    };
                    self.file(file, target, libc::MOUNT_ATTR_RDONLY)?;
                }
            }
        }
        Ok(())
    }

    /// A file that others have, too.
    fn public_file(&mut self, data: &[u8], target: &Path) -> Result<(), SpawnError> {
        let name = self.spawner.public_file(data);
        let name = name.map_err(because("a file in memory"))?;
        let target = self.place(target, Kind::File, None)?;
        self.steps.push(Step::AttachFile {
            directory: libc::AT_FDCWD,
            name,
            attributes: NOTHING | libc::MOUNT_ATTR_RDONLY,
            target,
        });
        Ok(())
    }

    /// A file that nobody else is to see.
    fn file(
        &mut self,
        file: NewFile<'_>,
        target: &Path,
        attributes: u64,
    ) -> Result<(), SpawnError> {
        there_is(file.uid, file.gid)?;
        let files = self.files()?;
        let name = files.add(file).map_err(because("a file in memory"))?;
        let directory = files.directory();
        let target = self.place(target, Kind::File, None)?;
        self.steps.push(Step::AttachFile {
            directory,
            name,
            attributes: NOTHING | attributes,
            target,
        });
        Ok(())
    }

    /// Where files and nodes are made, made at the first call.
    fn files(&mut self) -> Result<&mut Files, SpawnError> {
        match &mut self.files {
            Some(files) => Ok(files),
            none => {
                let files = none.insert(Files::new().map_err(because("memory"))?);
                self.steps.push(Step::AttachFiles(files.directory()));
                Ok(files)
            }
        }
    }

    /// Puts a device node at its place; where none can be made, gives the machine's own as a mount.
    fn device(&mut self, device: &Device, target: &Path) -> Result<Option<OwnedFd>, SpawnError> {
        let files = self.files()?;
        let made = files.add_device(device);
        let directory = files.directory();
        let Some(name) = made.map_err(because("a device node"))? else {
            let borrowed = mounts::borrowed(device);
            return borrowed.map(Some).map_err(because("a device"));
        };
        let target = self.place(target, Kind::File, None)?;
        self.steps.push(Step::AttachDevice {
            directory,
            name,
            target,
        });
        Ok(None)
    }

    /// Finds the place of a mount and notes that it is taken.
    fn place(
        &mut self,
        target: &Path,
        kind: Kind,
        mount: Option<OwnedFd>,
    ) -> Result<CString, SpawnError> {
        let place = self
            .tree
            .place(target, kind, Links::Follow)
            .map_err(no_place(target))?;
        if place.first().is_some_and(|it| it == "proc" || it == "sys") {
            return Err(no_place(target)(NoPlace::Refused(
                "the kernel's own file systems stay as they are".to_owned(),
            )));
        }
        let path = stub::path(&place).map_err(no_place(target))?;
        self.tree.mount(place, mount);
        Ok(path)
    }

    fn mount(&mut self, mount: Mount) -> Result<(), SpawnError> {
        let Mount {
            source,
            target,
            read_only,
        } = mount;
        let set = if read_only {
            libc::MOUNT_ATTR_RDONLY
        } else {
            0
        };
        let what = |source| SpawnError::Prepare {
            what: format!("the mount at `{}`", target.display()),
            source,
        };
        let mount = match source {
            MountSource::File {
                data,
                mode,
                uid,
                gid,
            } => {
                return self.file(
                    NewFile {
                        data: &data,
                        mode,
                        uid,
                        gid,
                    },
                    &target,
                    set,
                );
            }
            MountSource::Device(device) => match self.device(&device, &target)? {
                Some(mount) => mount,
                None => return Ok(()),
            },
            MountSource::Detached(mount) => mount,
            MountSource::Host(path) => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE;
                rustix::mount::open_tree(CWD, &path, flags).map_err(|it| what(it.into()))?
            }
            MountSource::Tmpfs { size, mode } => {
                let (size, mode) = (size.map(|it| it.to_string()), format!("{mode:o}"));
                let mut options = vec![("mode", mode.as_str())];
                options.extend(size.as_deref().map(|it| ("size", it)));
                let attributes =
                    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                mounts::file_system("tmpfs", &options, attributes).map_err(what)?
            }
        };
        let kind = if mounts::is_directory(mount.as_fd()).map_err(what)? {
            Kind::Directory
        } else {
            Kind::File
        };
        let inside = mount.try_clone().map_err(what)?;
        sys::set_private(mount.as_fd(), set).map_err(what)?;
        let target = self.place(&target, kind, Some(inside))?;
        self.steps.push(Step::Attach { mount, target });
        Ok(())
    }

    /// Hides what tells about the host, and protects what changes it.
    fn covers(&mut self, privileges: Privileges) {
        if privileges == Privileges::Insecure {
            return;
        }
        for path in mounts::READ_ONLY {
            let target = CString::new(path).expect("a constant without zero bytes");
            self.steps.push(Step::ReadOnly { target });
        }
        self.steps.extend(
            mounts::masked()
                .iter()
                .map(|it| Step::Mask { target: it.clone() }),
        );
    }
}

fn no_place(target: &Path) -> impl Fn(NoPlace) -> SpawnError {
    move |why| {
        let reason = match why {
            NoPlace::Refused(reason) => reason,
            NoPlace::Failed(error) => error.to_string(),
        };
        SpawnError::Target {
            path: target.to_owned(),
            reason,
        }
    }
}

/// Becomes who it is to be. The filter comes while there is still the right to load one.
fn identity(
    steps: &mut Vec<Step>,
    user: crate::User,
    privileges: Privileges,
    filters_devices: bool,
) {
    let crate::User { uid, gid, groups } = user;
    let mut all = vec![gid];
    all.extend(groups.into_iter().filter(|it| *it != gid));
    let mut who = vec![Step::Group(gid), Step::User(uid)];
    if rootless::may_set_groups() {
        who.insert(0, Step::Groups(all));
    }
    match privileges {
        Privileges::Default => {
            let mut keep = capability::set(&capability::DEFAULT);
            if !filters_devices {
                keep &= !capability::MKNOD.bit();
            }
            steps.extend([Step::BoundingSet(keep), Step::Filter(seccomp::program())]);
            steps.extend(who);
            let permitted = if uid == 0 { keep } else { 0 };
            steps.push(Step::Capabilities {
                permitted,
                inheritable: 0,
            });
        }
        Privileges::Insecure => {
            let all = sys::permitted_capabilities();
            steps.push(Step::KeepCapabilities);
            steps.extend(who);
            steps.extend([
                Step::Capabilities {
                    permitted: all,
                    inheritable: all,
                },
                Step::Ambient(all),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: &str, env: &[&str]) -> Vec<String> {
        let env: Vec<_> = env.iter().map(OsString::from).collect();
        let found = programs(OsStr::new(program), &env).unwrap();
        found
            .into_iter()
            .map(|it| it.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_command_is_looked_up_in_the_path_of_its_own_environment() {
        assert_eq!(found("sh", &["A=1", "PATH=/a:/b"]), ["/a/sh", "/b/sh"]);
        assert_eq!(found("sh", &["PATH=:/b"]), ["./sh", "/b/sh"]);
        assert_eq!(found("sh", &[]).len(), 6);
    }

    #[test]
    fn a_command_with_a_slash_is_taken_as_it_is() {
        assert_eq!(found("./a", &["PATH=/a"]), ["./a"]);
        assert_eq!(found("/bin/a", &[]), ["/bin/a"]);
    }

    #[test]
    fn a_zero_byte_is_refused() {
        assert!(matches!(
            programs(OsStr::new("a\0b"), &[]),
            Err(SpawnError::Invalid(_))
        ));
    }
}
