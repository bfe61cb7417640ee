//! The thread that starts children, and the one that lets go of their mounts.
//!
//! All children of a process are started by one thread that lives as long as the process, since the
//! kernel's promise to kill a child with its parent is bound to the parent's *thread*. This thread
//! lives in a mount namespace of its own with almost nothing in it, so that copying it for each
//! child costs next to nothing. It starts one child at a time, about a millisecond each.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::process::PidfdFlags;

use crate::cgroup::owner_name;
use crate::mounts::{self, Files, NewFile};
use crate::plan::Plan;
use crate::rootless;
use crate::sys::{self, Cloned, Failure, Guard, Stack};

/// What the thread is to do: start the child of a plan, and say what became of it.
struct Job {
    plan: Plan,
    reply: SyncSender<(Plan, Result<Cloned, Failure>)>,
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Spawner {
    jobs: Sender<Job>,
    guard: Arc<Guard>,
    owner: OwnedFd,
    public: Mutex<Public>,
}

/// Files that every sandbox may see, and none can change: each content is there once.
#[derive(Debug)]
struct Public {
    files: Files,
    names: HashMap<Vec<u8>, CString>,
}

/// Why there is no such thread.
#[derive(Debug)]
pub(crate) struct NoSpawner {
    pub(crate) what: &'static str,
    pub(crate) source: io::Error,
}

impl Spawner {
    /// The spawner of this process, started at the first call.
    pub(crate) fn get() -> Result<&'static Spawner, &'static NoSpawner> {
        static SPAWNER: OnceLock<Result<Spawner, NoSpawner>> = OnceLock::new();
        SPAWNER.get_or_init(start).as_ref()
    }

    /// A pidfd of this process.
    pub(crate) fn owner(&'static self) -> &'static OwnedFd {
        &self.owner
    }

    /// The path, as children see it before they enter their root, of a file with this content that is
    /// no secret.
    pub(crate) fn public_file(&self, content: &[u8]) -> io::Result<CString> {
        let mut public = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = public.names.get(content) {
            return Ok(name.clone());
        }
        let name = public.files.add(NewFile {
            data: content,
            mode: 0o644,
            uid: 0,
            gid: 0,
        })?;
        let path = CString::new([b"/public/", name.as_bytes()].concat())?;
        public.names.insert(content.to_owned(), path.clone());
        Ok(path)
    }

    /// Runs a plan; the plan back, and the child or what went wrong.
    pub(crate) fn run(&self, plan: Plan) -> (Plan, Result<Cloned, Failure>) {
        let (reply, answer) = sync_channel(1);
        self.jobs
            .send(Job { plan, reply })
            .expect("the spawner lives as long as the process");
        answer.recv().expect("the spawner answers every job")
    }

    /// Puts the directory of control groups under guard that is about to be made in `parent`.
    pub(crate) fn keep(&self, parent: BorrowedFd<'_>) {
        if let Err(error) = self.guard.keep(parent) {
            tracing::warn!(%error, "a control group is without a guard");
        }
    }
}

fn start() -> Result<Spawner, NoSpawner> {
    let this = rustix::process::getpid();
    let owner = rustix::process::pidfd_open(this, PidfdFlags::empty());
    let owner = owner.map_err(|it| NoSpawner {
        what: "a descriptor of this process",
        source: it.into(),
    })?;
    let (jobs, queue) = channel();
    let (ready, started) = sync_channel(1);
    let thread = std::thread::Builder::new().name("sandbox".to_owned());
    let spawned = thread.spawn(move || match set_up() {
        Ok((guard, files)) => {
            let guard = Arc::new(guard);
            let _ = ready.send(Ok((Arc::clone(&guard), files)));
            serve(&queue, &guard);
        }
        Err(error) => drop(ready.send(Err(error))),
    });
    spawned.map_err(|source| NoSpawner {
        what: "a thread",
        source,
    })?;
    let (guard, files) = started.recv().expect("the thread says how it went")?;
    let names = HashMap::new();
    Ok(Spawner {
        jobs,
        guard,
        owner,
        public: Mutex::new(Public { files, names }),
    })
}

fn serve(queue: &Receiver<Job>, guard: &Guard) {
    let mut stack = Stack::new();
    while let Ok(Job { plan, reply }) = queue.recv() {
        let started = sys::clone(&plan, &mut stack);
        if let Ok(child) = &started
            && let Err(error) = guard.watch(child.pidfd.as_fd())
        {
            tracing::warn!(%error, "the sandbox is without a guard");
        }
        // Whoever asked may have given up.
        let _ = reply.send((plan, started));
    }
}

/// Prepares the calling thread; its guard, and where public files go.
fn set_up() -> Result<(Guard, Files), NoSpawner> {
    let fail = |what| move |source: io::Error| NoSpawner { what, source };
    sys::block_signals().map_err(fail("signals"))?;
    let guard = Guard::start(owner_name()).map_err(fail("a guard"))?;
    sys::unshare(libc::CLONE_NEWNS).map_err(fail(
        "a mount namespace (for who is not root: `rootless::enter`)",
    ))?;
    let files = empty_root().map_err(fail("an empty root"))?;
    Ok((guard, files))
}

/// What a user namespace needs to see before it can mount a new one, or what stands in for it.
const VISIBLE: [&str; 2] = ["proc", "sys"];

/// Leaves the calling thread with a root of a few empty directories, and no other mounts but
///
/// - `/empty`, a directory in which nothing is nor can be, to cover others with,
/// - `/public`, with files that are mounted in sandboxes one by one,
/// - and in a user namespace those that are [`VISIBLE`].
///
/// None of it is to be seen from within a sandbox.
fn empty_root() -> io::Result<Files> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let root = mounts::file_system(
        "tmpfs",
        &[("mode", "755")],
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    for name in ["root", "files", "empty", "public"] {
        rustix::fs::mkdirat(&root, name, Mode::from(0o700))?;
    }
    let nothing = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let options = [("mode", "755"), ("nr_inodes", "1")];
    let empty = mounts::file_system("tmpfs", &options, nothing)?;
    let public = Files::new()?;
    let mut visible = vec![
        ("empty", empty),
        ("public", public.directory_itself().try_clone_to_owned()?),
    ];
    if !rootless::in_first_namespace() {
        for name in VISIBLE {
            rustix::fs::mkdirat(&root, name, Mode::from(0o700))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let copy = rustix::mount::open_tree(CWD, format!("/{name}"), flags)?;
            visible.push((name, copy));
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty())?;
    rustix::mount::move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for (name, copy) in visible {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&copy, "", &root, name, flags)?;
    }
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(public)
}

/// Lets go of a mount namespace in another thread: the kernel takes its mounts down before it returns.
pub(crate) fn drop_later(mounts: OwnedFd) {
    static TEARDOWN: OnceLock<Option<Sender<OwnedFd>>> = OnceLock::new();
    let sender = TEARDOWN.get_or_init(|| {
        let (sender, queue) = channel::<OwnedFd>();
        let thread = std::thread::Builder::new().name("teardown".to_owned());
        thread
            .spawn(move || queue.into_iter().for_each(drop))
            .ok()
            .map(|_| sender)
    });
    if let Some(sender) = sender {
        // If the thread is gone, the descriptor comes back and is dropped here.
        let _ = sender.send(mounts);
    }
}
