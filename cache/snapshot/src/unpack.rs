//! Writes the members of a hostile archive into a layer, and nowhere else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use oci::Limits;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::archive::{Archive, ArchiveError, Member, MemberKind};
use crate::layer::{Directory, Follow, Layer, Present};
use crate::overlay;
use crate::owner;
use crate::root::open_in_root;
use crate::source::ResolveError;
use crate::tree::Xattr;

/// How names begin that say something about lower layers.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that begin like this were aufs's own business.
const AUFS: &[u8] = b".wh..wh.";

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub struct Unpack<'a> {
    /// The directory that the members' names start from, a result of [`Layer::resolve`].
    pub into: &'a Path,
    /// What names and links mean.
    pub rules: Rules,
    /// Owner and group of everything, in place of the archive's.
    pub owner: Option<(u32, u32)>,
    /// How much is too much.
    pub limits: UnpackLimits,
}

/// What the names in an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// An OCI layer: `.wh.` names remove, and only the layer's own links are followed.
    Layer,
    /// Any tar: all names mean themselves, and the whole tree's links are followed. The entry for
    /// the top directory is passed over.
    Archive,
}

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Members.
    pub members: u64,
    /// Directories above each other.
    pub depth: usize,
    /// Device nodes.
    pub devices: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 40,
            ..Self::from(&Limits::default())
        }
    }
}

impl From<&Limits> for UnpackLimits {
    /// Those of a layer.
    fn from(limits: &Limits) -> Self {
        Self {
            bytes: limits.layer,
            members: limits.files,
            depth: usize::try_from(limits.depth).unwrap_or(usize::MAX),
            devices: u64::MAX,
        }
    }
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not an archive that can be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A name or the target of a hard link points above the top directory.
    #[error("archive member `{}` leaves the root", shown(path))]
    Escapes {
        /// The name.
        path: PathBuf,
    },
    /// A member that cannot be written as what it claims to be.
    #[error("archive member `{}` {problem}", shown(path))]
    Refused {
        /// The name.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// More than is allowed.
    #[error("the archive has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The file system refused.
    #[error("cannot write `{}` from the archive", shown(path))]
    Write {
        /// The name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A name as people can bear it, whoever made it up: one line, and not too long.
fn shown(path: &Path) -> String {
    const LONGEST: usize = 200;
    let name = path.to_string_lossy();
    let mut shown: String = name
        .chars()
        .take(LONGEST)
        .map(|it| if it.is_control() { '?' } else { it })
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// How much of what is limited an archive has had so far.
pub(crate) struct Tally {
    limits: UnpackLimits,
    bytes: u64,
    members: u64,
    devices: u64,
}

impl Tally {
    pub(crate) fn new(limits: UnpackLimits) -> Self {
        Self {
            limits,
            bytes: 0,
            members: 0,
            devices: 0,
        }
    }

    /// One more member, which brings so many bytes once it is unpacked.
    pub(crate) fn member(&mut self, member: &Member) -> Result<(), UnpackError> {
        let too_much = |what, limit| Err(UnpackError::TooMuch { what, limit });
        self.members += 1;
        if self.members > self.limits.members {
            return too_much("members", self.limits.members);
        }
        if let MemberKind::File { size, .. } = member.kind {
            self.bytes = self.bytes.saturating_add(size);
        }
        if self.bytes > self.limits.bytes {
            return too_much("bytes", self.limits.bytes);
        }
        Ok(())
    }

    fn device(&mut self, path: &Path) -> Result<(), UnpackError> {
        self.devices += 1;
        if self.devices <= self.limits.devices {
            return Ok(());
        }
        let problem = match self.limits.devices {
            0 => "is a device, and there must be none",
            _ => "is one device too many",
        };
        Err(UnpackError::Refused {
            path: path.to_owned(),
            problem,
        })
    }

    /// How many members there were.
    pub(crate) fn members(&self) -> u64 {
        self.members
    }

    /// How many bytes their files have together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Unpacks a whole archive. When this fails, part of it may have been written.
pub fn unpack<R: Read>(
    archive: &mut Archive<R>,
    layer: &Layer,
    how: &Unpack<'_>,
) -> Result<(), UnpackError> {
    let mut target = Target {
        layer,
        how,
        parent: None,
        directories: Vec::new(),
        tally: Tally::new(how.limits),
    };
    while let Some(member) = archive.next_member()? {
        target.tally.member(&member)?;
        target.member(archive, &member)?;
    }
    target.set_directory_times()
}

struct Target<'a> {
    layer: &'a Layer,
    how: &'a Unpack<'a>,
    /// The directory of the last member, under its name in the archive: the next one is often there.
    parent: Option<(PathBuf, PathBuf, Directory)>,
    /// Directories whose times are set at the end, when nothing is written into them any more.
    directories: Vec<(PathBuf, (i64, u32))>,
    tally: Tally,
}

impl Target<'_> {
    fn member<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
    ) -> Result<(), UnpackError> {
        let path = clean(&member.path, self.how.limits.depth)?;
        let Some(name) = path.file_name() else {
            return self.top(member);
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self
            .open_parent(parent_path)
            .map_err(|error| error.at(&path))?;
        let place = Place {
            parent: &parent.1,
            real_parent: &parent.0,
            name,
            path: &path,
        };
        let marked = match self.how.rules {
            Rules::Layer => mark(name),
            Rules::Archive => None,
        };
        let written = match marked {
            Some(mark) => self.mark(mark, &place).map(|()| false),
            None => self.entry(archive, member, &place),
        };
        let replaced_directory = written?;
        // What was replaced may have been above the directory that is remembered.
        if !replaced_directory {
            self.parent = Some((parent_path.to_owned(), parent.0, parent.1));
        }
        Ok(())
    }

    /// The archive's entry for the top directory itself.
    fn top(&self, member: &Member) -> Result<(), UnpackError> {
        let path = PathBuf::from("/");
        if member.kind != MemberKind::Directory {
            return Err(UnpackError::Refused {
                path,
                problem: "takes the place of the root",
            });
        }
        if self.how.rules == Rules::Archive {
            return Ok(());
        }
        let set = |directory: Directory| self.set_metadata(directory.own(), b".", member);
        self.layer
            .root()
            .and_then(set)
            .map_err(|source| UnpackError::Write { path, source })
    }

    /// Opens the directory that a member goes into, and says where it really is.
    fn open_parent(&mut self, parent: &Path) -> Result<(PathBuf, Directory), Failure> {
        if let Some((known, real, directory)) = self.parent.take()
            && known == parent
        {
            return Ok((real, directory));
        }
        let real = self
            .layer
            .resolve(&self.how.into.join(parent), self.follow())?;
        let directory = match self.how.rules {
            Rules::Layer => self.layer.cover_directory(&real)?,
            Rules::Archive => self
                .layer
                .open_directory(&real, &mut |made| self.own(made))?,
        };
        Ok((real, directory))
    }

    /// Directories that are made because no member names them belong to whom everything belongs.
    fn own(&self, made: &Directory) -> io::Result<()> {
        match self.how.owner {
            Some(owner) => owner::give(made.own(), owner),
            None => Ok(()),
        }
    }

    fn follow(&self) -> Follow {
        match self.how.rules {
            Rules::Layer => Follow::Layer,
            Rules::Archive => Follow::Tree,
        }
    }

    /// A name that removes. Only what lower layers have is meant: what this layer brought stays.
    fn mark(
        &self,
        mark: Result<Mark<'_>, &'static str>,
        place: &Place<'_>,
    ) -> Result<(), UnpackError> {
        let Place { parent, path, .. } = *place;
        let failed = |source| UnpackError::Write {
            path: path.to_owned(),
            source,
        };
        let mark = mark.map_err(|problem| UnpackError::Refused {
            path: path.to_owned(),
            problem,
        })?;
        match mark {
            Mark::Hides => overlay::make_opaque(parent.own()).map_err(failed),
            Mark::Nothing => Ok(()),
            // Where there is nothing to hide a whiteout would be worse than useless: overlayfs lists it
            // in directories that only one layer has.
            Mark::Removes(name) => {
                if parent.look(name).map_err(failed)?.is_some_and(|it| !it.own) {
                    overlay::make_whiteout(parent.own(), name.as_bytes()).map_err(failed)?;
                }
                Ok(())
            }
        }
    }

    /// Writes one member; true where it took the place of a directory.
    fn entry<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
        place: &Place<'_>,
    ) -> Result<bool, UnpackError> {
        let Place {
            parent,
            real_parent,
            name,
            path,
        } = *place;
        let failed = |source| UnpackError::Write {
            path: path.to_owned(),
            source,
        };
        let present = parent.look(name).map_err(failed)?;
        let was_directory = present.is_some_and(|it| it.is_directory());
        let dir = parent.own();
        match &member.kind {
            MemberKind::Directory => {
                self.make_directory(parent, name, present).map_err(failed)?;
                self.directories
                    .push((real_parent.join(name), member.mtime));
                self.set_metadata(dir, name.as_bytes(), member)
                    .map_err(failed)?;
                return Ok(false);
            }
            MemberKind::File { size, pieces } => {
                parent.make_room(name).map_err(failed)?;
                let mut file = create(dir, name).map_err(failed)?;
                write_content(archive, &mut file, *size, pieces.as_deref(), path)?;
                self.set_file_metadata(&file, member).map_err(failed)?;
                return Ok(was_directory);
            }
            MemberKind::Link(target) => {
                let target = self.link_target(target, path)?;
                if target == real_parent.join(name) {
                    let problem = "is a link to itself";
                    return Err(UnpackError::Refused {
                        path: path.to_owned(),
                        problem,
                    });
                }
                self.link(&target, parent, name, path)?;
                return Ok(was_directory);
            }
            MemberKind::Symlink(text) => {
                parent.make_room(name).map_err(failed)?;
                rustix::fs::symlinkat(text.as_slice(), dir, name)
                    .map_err(|error| failed(error.into()))?;
            }
            MemberKind::Character(0, 0) => {
                let problem = "is a device that overlayfs takes for a whiteout";
                return Err(UnpackError::Refused {
                    path: path.to_owned(),
                    problem,
                });
            }
            MemberKind::Character(major, minor) => {
                self.tally.device(path)?;
                parent.make_room(name).map_err(failed)?;
                make_node(dir, name, FileType::CharacterDevice, (*major, *minor))
                    .map_err(failed)?;
            }
            MemberKind::Block(major, minor) => {
                self.tally.device(path)?;
                parent.make_room(name).map_err(failed)?;
                make_node(dir, name, FileType::BlockDevice, (*major, *minor)).map_err(failed)?;
            }
            MemberKind::Fifo => {
                parent.make_room(name).map_err(failed)?;
                make_node(dir, name, FileType::Fifo, (0, 0)).map_err(failed)?;
            }
        }
        self.set_metadata(dir, name.as_bytes(), member)
            .map_err(failed)?;
        Ok(was_directory)
    }

    /// Makes a directory, or opens the one that is there. One that only lower layers have is merged
    /// with all the same, but a layer says all about it that is to be known.
    fn make_directory(
        &self,
        parent: &Directory,
        name: &OsStr,
        present: Option<Present>,
    ) -> io::Result<()> {
        match present {
            Some(it) if it.is_directory() && (it.own || self.how.rules == Rules::Archive) => {
                parent.enter_or_make(name, &mut |_| Ok(()))?
            }
            Some(it) if it.own => parent.replace_with_directory(name)?,
            _ => parent.make_directory(name)?,
        };
        Ok(())
    }

    /// Where the target of a hard link really is: in the tree, whatever it says.
    fn link_target(&self, target: &[u8], path: &Path) -> Result<PathBuf, UnpackError> {
        let escapes = || UnpackError::Escapes {
            path: path.to_owned(),
        };
        let clean = clean(target, self.how.limits.depth).map_err(|_| escapes())?;
        let name = clean.file_name().ok_or_else(escapes)?.to_owned();
        let parent = self.how.into.join(clean.parent().unwrap_or(Path::new("")));
        let real = self
            .layer
            .resolve(&parent, self.follow())
            .map_err(|error| Failure::from(error).at(path))?;
        Ok(real.join(name))
    }

    fn link(
        &self,
        target: &Path,
        parent: &Directory,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let failed = |source| UnpackError::Write {
            path: path.to_owned(),
            source,
        };
        let refused = |problem| UnpackError::Refused {
            path: path.to_owned(),
            problem,
        };
        let present = self.layer.look(target).map_err(failed)?;
        let present = present.ok_or_else(|| refused("is a link to what is not there"))?;
        if present.is_directory() {
            return Err(refused("is a hard link to a directory"));
        }
        let target_name = target.file_name().unwrap_or_default();
        let target_parent = target.parent().unwrap_or(Path::new(""));
        // A link reaches only within one layer: the target becomes this layer's own first.
        let from = self
            .layer
            .open_directory(target_parent, &mut |_| Ok(()))
            .map_err(failed)?;
        if !present.own {
            self.layer.copy_up(&from, target_name).map_err(failed)?;
        }
        parent.make_room(name).map_err(failed)?;
        rustix::fs::linkat(
            from.own(),
            target_name,
            parent.own(),
            name,
            AtFlags::empty(),
        )
        .map_err(|error| failed(error.into()))
    }

    fn owner_of(&self, member: &Member) -> (u32, u32) {
        self.how.owner.unwrap_or((member.uid, member.gid))
    }

    /// Owner first: a change of it clears set-id bits and file capabilities.
    fn set_file_metadata(&self, file: &File, member: &Member) -> io::Result<()> {
        owner::give(file, self.owner_of(member))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(member.mode))?;
        for xattr in settable(&member.xattrs) {
            let flags = rustix::fs::XattrFlags::empty();
            let set = rustix::fs::fsetxattr(file, &*xattr.name, &xattr.value, flags);
            tolerate(set.map_err(io::Error::from), xattr)?;
        }
        Ok(rustix::fs::futimens(file, &times(member.mtime))?)
    }

    fn set_metadata(&self, dir: BorrowedFd<'_>, name: &[u8], member: &Member) -> io::Result<()> {
        self.layer.give_at(dir, name, self.owner_of(member))?;
        if !matches!(member.kind, MemberKind::Symlink(_)) {
            // Not a symlink: this very name was just made, and nobody else works here.
            rustix::fs::chmodat(
                dir,
                name,
                Mode::from_raw_mode(member.mode),
                AtFlags::empty(),
            )?;
        }
        for xattr in settable(&member.xattrs) {
            tolerate(overlay::set_xattr_at(dir, name, xattr), xattr)?;
        }
        Ok(rustix::fs::utimensat(
            dir,
            name,
            &times(member.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn set_directory_times(&self) -> Result<(), UnpackError> {
        for (path, mtime) in &self.directories {
            let failed = |source| UnpackError::Write {
                path: path.clone(),
                source,
            };
            let root = self.layer.root().map_err(failed)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            // Replaced by a later member, perhaps.
            let Ok(dir) = open_in_root(root.own(), path, flags, Mode::empty()) else {
                continue;
            };
            rustix::fs::futimens(&dir, &times(*mtime)).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}

/// The name as seen from the top, without `.` and `..`.
pub(crate) fn clean(name: &[u8], most_depth: usize) -> Result<PathBuf, UnpackError> {
    let path = Path::new(OsStr::from_bytes(name));
    let mut clean = PathBuf::new();
    let mut depth = 0;
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                clean.push(name);
                depth += 1;
            }
            Component::ParentDir if !clean.pop() => {
                return Err(UnpackError::Escapes {
                    path: path.to_owned(),
                });
            }
            _ => {}
        }
    }
    if depth > most_depth {
        return Err(UnpackError::TooMuch {
            what: "directories in one name",
            limit: most_depth as u64,
        });
    }
    Ok(clean)
}

/// What a name in a layer says about lower layers.
pub(crate) enum Mark<'a> {
    /// That nothing of theirs shows in this directory.
    Hides,
    /// That this name of theirs is gone.
    Removes(&'a OsStr),
    /// Nothing that anybody understands any more.
    Nothing,
}

/// What a name in a layer says, if it says anything; an error is about a name that cannot be.
pub(crate) fn mark(name: &OsStr) -> Option<Result<Mark<'_>, &'static str>> {
    let name = name.as_bytes();
    let removed = name.strip_prefix(WHITEOUT)?;
    Some(match removed {
        _ if name == OPAQUE => Ok(Mark::Hides),
        _ if name.starts_with(AUFS) => Ok(Mark::Nothing),
        b"" | b"." | b".." => Err("removes something that has no name"),
        removed => Ok(Mark::Removes(OsStr::from_bytes(removed))),
    })
}

/// Where a member goes.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: &'a Directory,
    /// The same as a path in the tree, without symlinks.
    real_parent: &'a Path,
    name: &'a OsStr,
    /// As the archive has it.
    path: &'a Path,
}

/// Why a directory could not be opened for a member.
enum Failure {
    Links,
    File(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::TooManyLinks => Self::Links,
            ResolveError::Lookup(error) => Self::File(error),
        }
    }
}

impl Failure {
    fn at(self, path: &Path) -> UnpackError {
        let path = path.to_owned();
        match self {
            Self::Links => UnpackError::Refused {
                path,
                problem: "is behind links without end",
            },
            Self::File(source) => UnpackError::Write { path, source },
        }
    }
}

fn write_content<R: Read>(
    archive: &mut Archive<R>,
    file: &mut File,
    size: u64,
    pieces: Option<&[(u64, u64)]>,
    path: &Path,
) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write {
        path: path.to_owned(),
        source,
    };
    let mut buffer = vec![
        0;
        usize::try_from(size)
            .unwrap_or(usize::MAX)
            .clamp(1, 256 << 10)
    ];
    let Some(pieces) = pieces else {
        loop {
            let length = archive.read_content(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..length]).map_err(failed)?;
        }
    };
    file.set_len(size).map_err(failed)?;
    for (offset, length) in pieces {
        let mut done = 0;
        while done < *length {
            let want = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let got = archive.read_content(&mut buffer[..want])?;
            if got == 0 {
                return Err(ArchiveError::Truncated.into());
            }
            file.write_all_at(&buffer[..got], offset + done)
                .map_err(failed)?;
            done += got as u64;
        }
    }
    Ok(())
}

fn create(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(
        dir,
        name,
        flags,
        Mode::from_raw_mode(0o600),
    )?))
}

fn make_node(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    device: (u32, u32),
) -> io::Result<()> {
    owner::make_node(dir, name, kind, rustix::fs::makedev(device.0, device.1))
}

/// All attributes but overlayfs's own, with which an archive could forge what other layers show.
fn settable(xattrs: &[Xattr]) -> impl Iterator<Item = &Xattr> {
    xattrs.iter().filter(|xattr| !overlay::is_own(&xattr.name))
}

/// A file system without attributes, or one that refuses this name, loses only the attribute; what
/// gives a program its rights may not get lost.
fn tolerate(result: io::Result<()>, xattr: &Xattr) -> io::Result<()> {
    let refused = result.as_ref().err().and_then(Errno::from_io_error);
    if matches!(refused, Some(Errno::OPNOTSUPP | Errno::PERM))
        && &*xattr.name != b"security.capability"
    {
        tracing::debug!(name = %String::from_utf8_lossy(&xattr.name), "attribute not kept");
        return Ok(());
    }
    result
}

fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

impl Layer {
    /// Makes a file that only lower layers have the layer's own, in the same directory.
    pub(crate) fn copy_up(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        directory.copy_in(name, directory.open_lower(name)?.as_fd())
    }
}

impl Directory {
    fn open_lower(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let lower = self.lower().ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(lower, name, flags, Mode::empty())?)
    }

    /// Makes a copy of a file of any kind but a directory, with all that belongs to it.
    pub(crate) fn copy_in(&self, name: &OsStr, from: BorrowedFd<'_>) -> io::Result<()> {
        let stat = rustix::fs::fstat(from)?;
        let dir = self.own();
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let mut from = File::from(crate::root::reopen(from, OFlags::RDONLY)?);
                let mut to = create(dir, name)?;
                io::copy(&mut from, &mut to)?;
                owner::give(&to, owner::of(from.as_fd(), (stat.st_uid, stat.st_gid))?)?;
                owner::copy_device(from.as_fd(), to.as_fd())?;
                for xattr in overlay::read_xattrs(from.as_fd())? {
                    overlay::set_xattr_at(dir, name.as_bytes(), &xattr)?;
                }
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(from, "", Vec::new())?;
                let text = OsString::from_vec(text.into_bytes());
                rustix::fs::symlinkat(text.as_os_str(), dir, name)?;
            }
            _ => owner::make_node(dir, name, kind, stat.st_rdev)?,
        }
        if kind != FileType::RegularFile {
            chown(dir, name, &stat)?;
        }
        if kind != FileType::Symlink {
            rustix::fs::chmodat(
                dir,
                name,
                Mode::from_raw_mode(stat.st_mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        let times = crate::layer::times(&stat);
        Ok(rustix::fs::utimensat(
            dir,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

fn chown(dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(
        dir,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
