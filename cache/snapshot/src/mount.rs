//! Mounts that nobody can see: made with the new mount API and held as descriptors.

mod names;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

/// How the directories of a chain become one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounting {
    /// An overlay, told by descriptor, one after the other: Linux 6.13.
    Descriptors,
    /// An overlay, told by name, all in one string: every kernel.
    Names,
    /// No overlay: every chain is a directory.
    Copies,
}

/// What goes into an overlay: the lower directories, topmost first, and where writes go, if anywhere.
pub(crate) struct Overlay<'a> {
    /// The directory from which the kernel is told names, so that they are short.
    pub(crate) base: &'a Path,
    pub(crate) lowers: Vec<Place>,
    pub(crate) writes: Option<Writes>,
}

/// A directory, open and by name.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) open: Arc<OwnedFd>,
}

/// The upper directory of an overlay and the work directory beside it.
pub(crate) struct Writes {
    pub(crate) upper: Place,
    pub(crate) work: Place,
}

/// Why the first way did not lead to a mount.
enum Refusal {
    /// The kernel does not know it.
    Unknown(Errno),
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Overlay<'_> {
    /// Mounts it, detached: gone when the last descriptor is. Without a word on how, as this kernel wants
    /// it, which is found out with the first mount.
    ///
    /// `volatile` saves a sync of the whole backing file system at every unmount. `redirect_dir` and
    /// `metacopy` stay off because a layer must say in its own files all that changed. Outside of the
    /// first user namespace the kernel writes its notes into attributes that a user may set, and then
    /// both are off and not to be spoken of.
    pub(crate) fn mount(&self, how: Option<Mounting>) -> io::Result<OwnedFd> {
        static HERE: OnceLock<Mounting> = OnceLock::new();
        match how.or_else(|| HERE.get().copied()) {
            Some(Mounting::Copies) => Err(Errno::OPNOTSUPP.into()),
            Some(Mounting::Names) => names::mount(self, names::MOST),
            found => match self.by_descriptors() {
                Ok(mount) => {
                    let _ = HERE.set(Mounting::Descriptors);
                    Ok(mount)
                }
                Err(Refusal::Unknown(_)) if found.is_none() => {
                    let mount = names::mount(self, names::MOST)?;
                    let _ = HERE.set(Mounting::Names);
                    Ok(mount)
                }
                Err(Refusal::Unknown(error)) => Err(error.into()),
                Err(Refusal::Failed(error)) => Err(error),
            },
        }
    }

    fn by_descriptors(&self) -> Result<OwnedFd, Refusal> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "rbuild")?;
        for lower in &self.lowers {
            match fsconfig_set_fd(&fs, "lowerdir+", &lower.open) {
                // Before 6.5 there are no descriptors in this call, then no such option or only with a name.
                Err(error @ (Errno::OPNOTSUPP | Errno::INVAL)) => {
                    return Err(Refusal::Unknown(error));
                }
                set => set?,
            }
        }
        // Detached, and so gone with its descriptor: to be held until the kernel has its own copy.
        let floor;
        if let Some(writes) = &self.writes {
            fsconfig_set_fd(&fs, "upperdir", &writes.upper.open)?;
            fsconfig_set_fd(&fs, "workdir", &writes.work.open)?;
            fsconfig_set_flag(&fs, "volatile")?;
            // Else every new upper directory gets an attribute with a number that nobody asks for.
            fsconfig_set_string(&fs, "uuid", "null")?;
        } else {
            // The kernel wants two lower directories where there is no upper one.
            floor = empty()?;
            fsconfig_set_fd(&fs, "lowerdir+", &floor)?;
        }
        if store::ids::in_first_namespace() {
            fsconfig_set_string(&fs, "redirect_dir", "off")?;
            fsconfig_set_string(&fs, "metacopy", "off")?;
        } else {
            fsconfig_set_flag(&fs, "userxattr")?;
        }
        fsconfig_create(&fs)?;
        Ok(fsmount(
            &fs,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?)
    }
}

/// A detached, read-only mount of a tar, by the index over it.
pub(crate) fn packed(index: &Path, tar: &Path) -> io::Result<OwnedFd> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", index)?;
    fsconfig_set_string(&fs, "device", tar)?;
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    Ok(fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?)
}

/// A detached mount of a directory as it stands.
pub(crate) fn bind(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, directory, flags)?)
}

/// The same, and nobody can write through it.
pub(crate) fn bind_read_only(directory: &Path) -> io::Result<OwnedFd> {
    names::read_only(directory)
}

/// A detached, read-only mount with nothing in it: the scratch file system.
pub(crate) fn empty() -> io::Result<OwnedFd> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "rbuild")?;
    fsconfig_set_string(&fs, "mode", "0755")?;
    fsconfig_set_string(&fs, "nr_inodes", "1")?;
    fsconfig_create(&fs)?;
    Ok(fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?)
}
