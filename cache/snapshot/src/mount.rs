//! Mounts that nobody can see: made with the new mount API and held as descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

/// What goes into an overlay: the lower directories, topmost first, and where writes go, if anywhere.
pub(crate) struct Overlay<'a> {
    pub(crate) lowers: Vec<BorrowedFd<'a>>,
    pub(crate) writes: Option<Writes<'a>>,
}

/// The upper directory of an overlay and the work directory beside it.
pub(crate) struct Writes<'a> {
    pub(crate) upper: BorrowedFd<'a>,
    pub(crate) work: BorrowedFd<'a>,
}

impl Overlay<'_> {
    /// Mounts it, detached: gone when the last descriptor is.
    ///
    /// `volatile` saves a sync of the whole backing file system at every unmount. `redirect_dir` and
    /// `metacopy` stay off because a layer must say in its own files all that changed. Outside of the
    /// first user namespace the kernel writes its notes into attributes that a user may set, and then
    /// both are off and not to be spoken of.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "rbuild")?;
        for lower in &self.lowers {
            fsconfig_set_fd(&fs, "lowerdir+", lower)?;
        }
        if let Some(writes) = &self.writes {
            fsconfig_set_fd(&fs, "upperdir", writes.upper)?;
            fsconfig_set_fd(&fs, "workdir", writes.work)?;
            fsconfig_set_flag(&fs, "volatile")?;
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
