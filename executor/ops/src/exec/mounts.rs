//! What a process is to find where: inputs, caches, memory, secrets, sockets.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use llb::op::{Copy, Exec, File, FileAction, FileChange, Mount, MountKind, Sharing, Tree};
use rustix::fs::FileType;
use rustix::mount::{OpenTreeFlags, open_tree};
use sandbox::MountSource;
use snapshot::{Active, Local, Root, SnapshotId};
use solve::Selector;
use solve::progress::Stream;
use store::{KeyLock, TmpDir};

use super::ExecError;
use crate::agent::{Agent, AgentFrom};
use crate::{Context, Ops, Ref, file};

/// Where in a copy of a local directory the part is that was asked for.
const PART: &str = "/part";
/// How long at most a cache that another step holds is left alone before it is looked at again.
const PATIENCE: Duration = Duration::from_millis(50);

/// The mode, uid and gid of a cache mount that says nothing of them.
const PLAIN: (u32, u32, u32) = (0o755, 0, 0);

/// All mounts of one process, and what must stay as long as it runs.
pub(super) struct Mounts<'a> {
    ops: &'a Ops,
    context: &'a Context<'a>,
    root: Option<OwnedFd>,
    others: Vec<sandbox::Mount>,
    env: Vec<String>,
    /// Layers whose writes are outputs, in their order.
    outputs: Vec<Active>,
    /// The directories of the cache mounts, by their names.
    caches: BTreeMap<String, PathBuf>,
    held: Vec<Held>,
}

/// Kept for its end only.
#[expect(dead_code, reason = "what is held is never looked at")]
enum Held {
    /// A layer whose writes nobody wants.
    Layer(Active),
    Lock(KeyLock),
    Agent(Agent),
    Directory(TmpDir),
}

impl<'a> Mounts<'a> {
    pub(super) fn prepare(
        ops: &'a Ops,
        exec: &Exec,
        inputs: &[Ref],
        context: &'a Context<'a>,
    ) -> Result<Self, ExecError> {
        let mut mounts = Self {
            ops,
            context,
            root: None,
            others: Vec::new(),
            env: Vec::new(),
            outputs: Vec::new(),
            caches: BTreeMap::new(),
            held: Vec::new(),
        };
        mounts.hold_caches(&exec.mounts, inputs)?;
        for mount in &exec.mounts {
            mounts.add(mount, inputs)?;
        }
        Ok(mounts)
    }

    pub(super) fn take_root(&mut self) -> Result<OwnedFd, ExecError> {
        self.root
            .take()
            .ok_or(ExecError::NotYet("a process without a root file system"))
    }

    pub(super) fn take_others(&mut self) -> Vec<sandbox::Mount> {
        std::mem::take(&mut self.others)
    }

    /// Variables that mounts bring along.
    pub(super) fn take_env(&mut self) -> Vec<String> {
        std::mem::take(&mut self.env)
    }

    /// Makes snapshots of the outputs. The process must be over.
    pub(super) fn commit(self) -> Result<Vec<Ref>, ExecError> {
        let commit = |layer: Active| Ok(Ref::Snapshot(Some(layer.commit()?)));
        self.outputs.into_iter().map(commit).collect()
    }

    fn add(&mut self, mount: &Mount, inputs: &[Ref]) -> Result<(), ExecError> {
        let source = match &mount.kind {
            MountKind::Bind { input, selector } => {
                let input = input.map_or(&Ref::Snapshot(None), |it| &inputs[it]);
                let failed = |source| failed(mount, selector, source);
                let (tree, part) = self.bind(mount, input, selector)?;
                MountSource::Detached(select(tree, part).map_err(failed)?)
            }
            MountKind::Cache { id, selector, .. } => {
                let cache = self.wanted(mount, inputs)?.expect("it is a cache mount");
                let path = &self.caches[&cache.name];
                match cache.seed {
                    // Where it does not begin with something, the part is one of the cache itself.
                    None if !matches!(selector.as_str(), "" | "/") => {
                        let part = part_of_cache(path, selector);
                        MountSource::Detached(part.map_err(|source| ExecError::NoPart {
                            id: id.clone(),
                            part: selector.clone(),
                            source,
                        })?)
                    }
                    _ => MountSource::Host(path.clone()),
                }
            }
            MountKind::Tmpfs { size } => MountSource::Tmpfs {
                size: *size,
                mode: 0o1777,
            },
            MountKind::Secret {
                id,
                required,
                owner,
                env,
            } => {
                let Some(data) = self.secret(id, *required)? else {
                    return Ok(());
                };
                if let Some(name) = env {
                    self.env
                        .push(format!("{name}={}", String::from_utf8_lossy(&data)));
                }
                if mount.target.is_empty() {
                    return Ok(());
                }
                let (mode, uid, gid) = *owner;
                MountSource::File {
                    data,
                    mode,
                    uid,
                    gid,
                }
            }
            MountKind::Ssh {
                id,
                required,
                owner,
            } => match self.context.session.ssh(id) {
                Some(from) => MountSource::Host(self.agent(id, from, *owner)?),
                None if *required => return Err(ExecError::NoAgent(id.clone())),
                None => return Ok(()),
            },
        };
        match (mount.target.as_str(), source) {
            ("/", MountSource::Detached(tree)) => self.root = Some(tree),
            (target, source) => self.others.push(sandbox::Mount {
                source,
                target: target.into(),
                read_only: mount.read_only,
            }),
        }
        Ok(())
    }

    /// A tree to mount, and which part of it.
    fn bind<'p>(
        &mut self,
        mount: &Mount,
        input: &Ref,
        selector: &'p str,
    ) -> Result<(OwnedFd, &'p str), ExecError> {
        let (top, part) = match input {
            Ref::Snapshot(top) => (*top, selector),
            Ref::Local(local) if mount.read_only && local.ignore().is_empty() => {
                return Ok((
                    in_place(local).map_err(|it| failed(mount, selector, it))?,
                    selector,
                ));
            }
            Ref::Local(_) => (self.copied(input, part_of(selector))?, PART),
        };
        if mount.read_only {
            return Ok((self.ops.snapshots.view(top)?, part));
        }
        let layer = self.ops.snapshots.prepare(top)?;
        let tree = match mount.target.as_str() {
            "/" => layer.mount_root()?,
            _ => layer.mount()?,
        };
        match mount.output {
            true => self.outputs.push(layer),
            false => self.held.push(Held::Layer(layer)),
        }
        Ok((tree, part))
    }

    /// A copy as a snapshot: of a local directory, without what is ignored and to be written into, or
    /// of what a cache begins with.
    fn copied(&self, from: &Ref, copy: Copy) -> Result<Option<SnapshotId>, ExecError> {
        let copy = File {
            actions: vec![FileAction {
                base: Tree::Scratch,
                change: FileChange::Copy(copy),
                output: true,
            }],
        };
        let outputs = file::run(self.ops, &copy, std::slice::from_ref(from), self.context);
        match outputs
            .map_err(|error| ExecError::Copy(Box::new(error)))?
            .pop()
        {
            Some(Ref::Snapshot(top)) => Ok(top),
            Some(Ref::Local(_)) | None => Ok(None),
        }
    }

    fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, ExecError> {
        match self.context.session.secret(id) {
            None if required => Err(ExecError::NoSecret(id.to_owned())),
            other => Ok(other),
        }
    }

    /// A socket that leads to an agent.
    fn agent(
        &mut self,
        id: &str,
        from: AgentFrom,
        owner: (u32, u32, u32),
    ) -> Result<PathBuf, ExecError> {
        let failed = |source| ExecError::Agent {
            id: id.to_owned(),
            source,
        };
        let directory = self.ops.store.tmp_dir()?;
        let agent = Agent::serve(from, directory.path(), owner).map_err(failed)?;
        let socket = agent.socket().to_owned();
        // In this order: the agent's socket is in the directory.
        self.held.push(Held::Agent(agent));
        self.held.push(Held::Directory(directory));
        Ok(socket)
    }

    /// Holds all cache mounts, each once, in the order of their names: two steps that hold each what
    /// the other waits for would wait for ever.
    fn hold_caches(&mut self, mounts: &[Mount], inputs: &[Ref]) -> Result<(), ExecError> {
        let mut wanted: BTreeMap<String, Wanted<'_>> = BTreeMap::new();
        for mount in mounts {
            let Some(cache) = self.wanted(mount, inputs)? else {
                continue;
            };
            match wanted.get_mut(&cache.name) {
                // Mounted twice, it is held as the stricter of the two asks for.
                Some(other) => other.sharing = stricter(other.sharing, cache.sharing),
                None => drop(wanted.insert(cache.name.clone(), cache)),
            }
        }
        for (name, cache) in wanted {
            let path = self.cache(&cache)?;
            self.caches.insert(name, path);
        }
        Ok(())
    }

    /// What a mount asks for, if it is a cache.
    fn wanted<'m>(
        &self,
        mount: &'m Mount,
        inputs: &'m [Ref],
    ) -> Result<Option<Wanted<'m>>, ExecError> {
        let MountKind::Cache {
            id,
            sharing,
            input,
            selector,
            owner,
        } = &mount.kind
        else {
            return Ok(None);
        };
        let seed = input.map(|it| (&inputs[it], selector.as_str()));
        // A cache that begins as a copy of something is another one for each such thing, and one of
        // another mode or owner is another one, too (G92).
        let name = match seed {
            None if *owner == PLAIN => id.clone(),
            None => format!("{id}@{:04o},{}:{}", owner.0, owner.1, owner.2),
            Some((from, part)) => {
                let checksum = self.ops.checksum(from, &Selector::Path(part.to_owned()));
                let key = checksum.map_err(|it| failed(mount, part, io::Error::other(it)))?;
                format!("{id}@{}", &key.to_string()[..12])
            }
        };
        Ok(Some(Wanted {
            name,
            sharing: *sharing,
            owner: *owner,
            seed,
        }))
    }

    /// The directory of a cache mount, held as it is to be shared. It is made only once it is held:
    /// whoever removes one holds it, too.
    fn cache(&mut self, wanted: &Wanted<'_>) -> Result<PathBuf, ExecError> {
        let store = &self.ops.store;
        let name = &wanted.name;
        let lock = match wanted.sharing {
            Sharing::Shared => self.wait_for_cache(name, store::Sharing::Shared)?,
            Sharing::Locked => self.wait_for_cache(name, store::Sharing::Locked)?,
            Sharing::Private => match store.try_lock_cache_mount(name, store::Sharing::Locked)? {
                Some(lock) => lock,
                None => return self.own_cache(wanted),
            },
        };
        self.held.push(Held::Lock(lock));
        let path = store.cache_mount(name)?;
        self.begin_cache(&path, wanted)?;
        Ok(path)
    }

    /// A cache that nobody else sees, forgotten after the step.
    fn own_cache(&mut self, wanted: &Wanted<'_>) -> Result<PathBuf, ExecError> {
        let directory = self.ops.store.tmp_dir()?;
        let path = directory.path().join("cache");
        fs::create_dir(&path).map_err(|source| cache_failed(&path, source))?;
        self.held.push(Held::Directory(directory));
        self.begin_cache(&path, wanted)?;
        Ok(path)
    }

    /// Gives a cache that has nothing in it yet what it is to begin with, or the mode and owner that
    /// the step asks for.
    fn begin_cache(&self, path: &Path, wanted: &Wanted<'_>) -> Result<(), ExecError> {
        let failed = |source| cache_failed(path, source);
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Ok(());
        }
        if let Some((from, part)) = wanted.seed {
            if !self.is_directory(from, part).map_err(failed)? {
                let part = part.to_owned();
                return Err(ExecError::Seed { part });
            }
            return self.seed_cache(path, from, part);
        }
        let (mode, uid, gid) = wanted.owner;
        snapshot::owner::give_path(path, (uid, gid)).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
    }

    fn is_directory(&self, of: &Ref, part: &str) -> io::Result<bool> {
        let stat = match of {
            Ref::Snapshot(top) => {
                let view = self.ops.snapshots.view(*top).map_err(io::Error::other)?;
                Root::from_fd(view).stat(Path::new(part))?
            }
            Ref::Local(local) => local.root().stat(Path::new(part))?,
        };
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Fills an empty cache with a copy: a layer of its own is made and becomes the directory.
    fn seed_cache(&self, path: &Path, from: &Ref, part: &str) -> Result<(), ExecError> {
        let Some(copy) = self.copied(from, directory_at(part))? else {
            return Ok(());
        };
        let copied = self
            .ops
            .store
            .snapshot_fs(copy)
            .join(PART.trim_start_matches('/'));
        fs::rename(&copied, path).map_err(|source| cache_failed(path, source))?;
        self.ops.store.drop_snapshot(copy)?;
        Ok(())
    }

    /// Waits until the cache may be used so, looking up from time to time to see whether to give up.
    fn wait_for_cache(&self, id: &str, sharing: store::Sharing) -> Result<KeyLock, ExecError> {
        let mut pause = Duration::from_millis(1);
        let mut said = false;
        loop {
            if let Some(lock) = self.ops.store.try_lock_cache_mount(id, sharing)? {
                return Ok(lock);
            }
            if pause == PATIENCE && !said {
                let waiting = format!("waiting for another step that uses cache mount {id}\n");
                (self.context.log)(Stream::Stderr, waiting.as_bytes());
                said = true;
            }
            if self.context.cancel.is_cancelled() {
                return Err(ExecError::Output(io::ErrorKind::Interrupted.into()));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PATIENCE);
        }
    }
}

/// Copies a part of a tree to [`PART`].
fn part_of(selector: &str) -> Copy {
    Copy {
        from: Tree::Input(0),
        source: selector.to_owned(),
        destination: PART.to_owned(),
        owner: None,
        mode: None,
        wildcard: false,
        unpack: false,
        exclude: Vec::new(),
        parents: false,
    }
}

/// Likewise of a directory, which looks there as it did: a directory that is a parent is taken along
/// with its mode and its owner.
fn directory_at(selector: &str) -> Copy {
    Copy {
        parents: true,
        ..part_of(&format!("{}/./", selector.trim_end_matches('/')))
    }
}

/// A cache mount that a step asks for.
struct Wanted<'a> {
    name: String,
    sharing: Sharing,
    /// Mode, user and group, should it be new.
    owner: (u32, u32, u32),
    /// What it begins as a copy of.
    seed: Option<(&'a Ref, &'a str)>,
}

fn stricter(one: Sharing, other: Sharing) -> Sharing {
    match (one, other) {
        (Sharing::Locked, _) | (_, Sharing::Locked) => Sharing::Locked,
        (Sharing::Private, _) | (_, Sharing::Private) => Sharing::Private,
        (Sharing::Shared, Sharing::Shared) => Sharing::Shared,
    }
}

fn cache_failed(path: &Path, source: io::Error) -> ExecError {
    ExecError::Mount {
        what: path.display().to_string(),
        target: String::new(),
        source,
    }
}

fn failed(mount: &Mount, selector: &str, source: io::Error) -> ExecError {
    ExecError::Mount {
        what: selector.to_owned(),
        target: mount.target.clone(),
        source,
    }
}

/// The part of a detached tree that `selector` names, as a mount of its own.
fn select(tree: OwnedFd, selector: &str) -> io::Result<OwnedFd> {
    if matches!(selector, "" | "/") {
        return Ok(tree);
    }
    clone(&Root::from_fd(tree).resolve(Path::new(selector))?)
}

/// What steps left at a path of a cache, as a mount. Links lead nowhere but into the cache.
fn part_of_cache(cache: &Path, part: &str) -> io::Result<OwnedFd> {
    clone(&Root::open(cache)?.resolve(Path::new(part))?)
}

/// A directory of the host as a mount.
fn in_place(local: &Local) -> io::Result<OwnedFd> {
    clone(&local.root().resolve(Path::new("/"))?)
}

fn clone(path: &impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(path, "", flags)?)
}
