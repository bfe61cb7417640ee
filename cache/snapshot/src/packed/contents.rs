//! What is in a layer's tar: names, and where in it their bytes are.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use oci::Key;

use crate::archive::{Archive, ArchiveError, Member, MemberKind};
use crate::erofs;
use crate::overlay;
use crate::tree::Xattr;
use crate::unpack::{Mark, Tally, UnpackError, UnpackLimits, clean, mark};

/// All that a layer's tar says.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Whatever has a name; the first is the top directory.
    pub(crate) nodes: Vec<Node>,
    pub(crate) members: u64,
    /// Of all files together.
    pub(crate) bytes: u64,
}

/// Something in a layer, under however many names.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<Xattr>,
    /// How many names it has.
    pub(crate) names: u32,
    /// Whether the layer says all about it from the beginning. Of a directory that is there because of
    /// what is in it, the layer below knows more.
    pub(crate) is_said: bool,
    pub(crate) began_unsaid: bool,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum What {
    File {
        /// Where its bytes begin in the tar.
        at: u64,
        size: u64,
        content: Key,
    },
    Directory {
        names: BTreeMap<Box<[u8]>, Named>,
        opaque: bool,
    },
    Symlink(Box<[u8]>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The node of this number.
    Node(usize),
    /// That lower layers' thing of this name is gone.
    Whiteout,
}

/// The layer has something of which an index cannot tell, or where the order of the members matters: it is
/// unpacked instead.
struct Odd;

impl Contents {
    /// Reads all members of an archive. Nothing where an index cannot say what they say; whether they are
    /// refused turns out when they are unpacked.
    ///
    /// # Errors
    /// If it is no archive, or has more than is allowed.
    pub(crate) fn read<R: Read>(
        archive: &mut Archive<R>,
        limits: UnpackLimits,
    ) -> Result<Option<Self>, UnpackError> {
        let mut contents = Some(Self::default());
        let mut tally = Tally::new(limits);
        while let Some(member) = archive.next_member()? {
            tally.member(&member)?;
            let Some(known) = &mut contents else { continue };
            let at = archive.position();
            let content = match member.kind {
                MemberKind::File { pieces: None, .. } => Some(content(archive)?),
                _ => None,
            };
            let added = match clean(&member.path, limits.depth) {
                Ok(path) => known.add(&path, &member, content.map(|content| (at, content))),
                Err(_) => Err(Odd),
            };
            if added.is_err() {
                contents = None;
            }
        }
        Ok(contents.map(|contents| Self {
            members: tally.members(),
            bytes: tally.bytes(),
            ..contents
        }))
    }

    fn add(
        &mut self,
        path: &Path,
        member: &Member,
        content: Option<(u64, Key)>,
    ) -> Result<(), Odd> {
        let Some(name) = path.file_name() else {
            return self.say(0, member);
        };
        let parent = self.enter(path.parent().unwrap_or(Path::new("")), member.mtime)?;
        let bytes = name.as_bytes();
        if let Some(mark) = mark(name) {
            return self.mark(parent, &mark.map_err(|_| Odd)?);
        }
        match &member.kind {
            MemberKind::Directory => return self.directory(parent, bytes, member),
            MemberKind::Link(target) => {
                let target = self.target(target)?;
                return self.name(parent, bytes, target);
            }
            _ => {}
        }
        let node = Node {
            what: what(&member.kind, content)?,
            mode: member.mode,
            owner: (member.uid, member.gid),
            mtime: member.mtime,
            xattrs: xattrs(member)?,
            names: 0,
            is_said: true,
            began_unsaid: false,
        };
        self.nodes.push(node);
        self.name(parent, bytes, self.nodes.len() - 1)
    }

    /// The number of the directory at `path`, which is made where there is nothing.
    fn enter(&mut self, path: &Path, mtime: (i64, u32)) -> Result<usize, Odd> {
        let mut at = 0;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            at = match self.look(at, name.as_bytes())? {
                Some(Named::Node(child)) => child,
                Some(Named::Whiteout) => return Err(Odd),
                None => {
                    let mut node = Node::directory();
                    (node.mtime, node.names) = (mtime, 1);
                    self.nodes.push(node);
                    let child = self.nodes.len() - 1;
                    self.names(at)?
                        .insert(name.as_bytes().into(), Named::Node(child));
                    child
                }
            };
        }
        // A link, perhaps, or a file.
        self.names(at)?;
        Ok(at)
    }

    fn directory(&mut self, parent: usize, name: &[u8], member: &Member) -> Result<(), Odd> {
        let child = match self.look(parent, name)? {
            Some(Named::Node(child)) => child,
            // It hides what was there before.
            Some(Named::Whiteout) => return Err(Odd),
            None => {
                let mut node = Node::directory();
                (node.names, node.began_unsaid) = (1, false);
                self.nodes.push(node);
                let child = self.nodes.len() - 1;
                self.names(parent)?.insert(name.into(), Named::Node(child));
                child
            }
        };
        // Something else that was there goes with all that is said of it.
        self.names(child)?;
        self.say(child, member)
    }

    /// Takes over what a member says of a directory.
    fn say(&mut self, directory: usize, member: &Member) -> Result<(), Odd> {
        if member.kind != MemberKind::Directory {
            return Err(Odd);
        }
        let new = xattrs(member)?;
        let node = &mut self.nodes[directory];
        node.mode = member.mode;
        node.owner = (member.uid, member.gid);
        node.mtime = member.mtime;
        node.is_said = true;
        node.xattrs
            .retain(|it| !new.iter().any(|new| new.name == it.name));
        node.xattrs.extend(new);
        Ok(())
    }

    fn mark(&mut self, parent: usize, mark: &Mark<'_>) -> Result<(), Odd> {
        match mark {
            Mark::Nothing => {}
            Mark::Hides => {
                if let What::Directory { opaque, .. } = &mut self.nodes[parent].what {
                    *opaque = true;
                }
            }
            // What the layer itself brought stays.
            Mark::Removes(name) => {
                let names = self.names(parent)?;
                names
                    .entry(name.as_bytes().into())
                    .or_insert(Named::Whiteout);
            }
        }
        Ok(())
    }

    /// What a hard link leads to: something of this layer that is no directory, for now.
    fn target(&self, target: &[u8]) -> Result<usize, Odd> {
        let path = clean(target, usize::MAX).map_err(|_| Odd)?;
        let mut at = 0;
        for component in path.components() {
            match self.look(at, component.as_os_str().as_bytes())? {
                Some(Named::Node(child)) => at = child,
                _ => return Err(Odd),
            }
        }
        match self.nodes[at].what {
            What::File { .. } => Ok(at),
            _ => Err(Odd),
        }
    }

    /// Gives a node a name, in place of whatever had it.
    fn name(&mut self, parent: usize, name: &[u8], node: usize) -> Result<(), Odd> {
        let before = self.names(parent)?.insert(name.into(), Named::Node(node));
        if let Some(Named::Node(before)) = before {
            // A directory goes with all below it, and a link to itself is none.
            if before == node || matches!(self.nodes[before].what, What::Directory { .. }) {
                return Err(Odd);
            }
            self.nodes[before].names -= 1;
        }
        self.nodes[node].names += 1;
        Ok(())
    }

    fn look(&self, directory: usize, name: &[u8]) -> Result<Option<Named>, Odd> {
        match &self.nodes[directory].what {
            What::Directory { names, .. } => Ok(names.get(name).copied()),
            _ => Err(Odd),
        }
    }

    fn names(&mut self, directory: usize) -> Result<&mut BTreeMap<Box<[u8]>, Named>, Odd> {
        match &mut self.nodes[directory].what {
            What::Directory { names, .. } => Ok(names),
            _ => Err(Odd),
        }
    }
}

impl Default for Contents {
    /// Nothing but the top directory.
    fn default() -> Self {
        Self {
            nodes: vec![Node::directory()],
            members: 0,
            bytes: 0,
        }
    }
}

impl Node {
    /// One of which nothing is said.
    fn directory() -> Self {
        Self {
            what: What::Directory {
                names: BTreeMap::new(),
                opaque: false,
            },
            mode: 0o755,
            owner: (0, 0),
            mtime: (0, 0),
            xattrs: Vec::new(),
            names: 0,
            is_said: false,
            began_unsaid: true,
        }
    }
}

fn what(kind: &MemberKind, content: Option<(u64, Key)>) -> Result<What, Odd> {
    match (kind, content) {
        (MemberKind::File { size, .. }, Some((at, content))) if at % erofs::BLOCK == 0 => {
            let size = *size;
            Ok(What::File { at, size, content })
        }
        (MemberKind::Symlink(text), _) if !text.is_empty() => {
            Ok(What::Symlink(text.as_slice().into()))
        }
        (MemberKind::Character(0, 0), _) => Err(Odd),
        (MemberKind::Character(major, minor), _) => Ok(What::Character(*major, *minor)),
        (MemberKind::Block(major, minor), _) => Ok(What::Block(*major, *minor)),
        (MemberKind::Fifo, _) => Ok(What::Fifo),
        _ => Err(Odd),
    }
}

/// The attributes that a file system would take: those that it would refuse are lost in the same way.
fn xattrs(member: &Member) -> Result<Vec<Xattr>, Odd> {
    let may_have_users = matches!(member.kind, MemberKind::File { .. } | MemberKind::Directory);
    let mut kept = Vec::new();
    for xattr in &member.xattrs {
        // Access control lists change the mode, too.
        if xattr.name.starts_with(b"system.") || xattr.value.len() > usize::from(u16::MAX) {
            return Err(Odd);
        }
        let is_users = xattr.name.starts_with(b"user.");
        if overlay::is_own(&xattr.name)
            || !erofs::holds(&xattr.name)
            || (is_users && !may_have_users)
        {
            continue;
        }
        kept.retain(|it: &Xattr| it.name != xattr.name);
        kept.push(xattr.clone());
    }
    Ok(kept)
}

/// The key of the current member's content, which is read to its end.
fn content<R: Read>(archive: &mut Archive<R>) -> Result<Key, ArchiveError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match archive.read_content(&mut buffer)? {
            0 => return Ok(Key::from_bytes(*hasher.finalize().as_bytes())),
            length => hasher.update(&buffer[..length]),
        };
    }
}
