//! Overlays of kernels that want to be told the directories by name, in one string of one page at most.
//!
//! A name is looked up in the mount namespace of whoever asks, and what is mounted has a place there. So
//! each of these mounts is made by a thread of its own in a namespace that is gone with it: nobody else
//! sees the place, and no other thread's working directory, from which the names are short, changes.

use std::ffi::CString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, StatVfsMountFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount as mount_by_name,
    mount_bind, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::Overlay;

/// How many bytes the kernel reads of a string of options, at most: a page of the smallest kind, with a zero
/// at the end.
pub(super) const MOST: usize = 4095;

/// Mounts an overlay, detached, with strings of at most `most` bytes. What does not fit into one is mounted
/// before, read-only, and is one of the directories of the next.
pub(super) fn mount(overlay: &Overlay<'_>, most: usize) -> io::Result<OwnedFd> {
    in_a_room(|room| {
        rustix::process::chdir(overlay.base)?;
        room.mount(overlay, most)
    })
}

/// Does something in a thread that has a mount namespace and a working directory of its own.
fn in_a_room(what: impl FnOnce(Room) -> io::Result<OwnedFd> + Send) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".to_owned());
        let thread = thread.spawn_scoped(scope, || what(Room::new()?))?;
        let died = |_| io::Error::other("the thread that mounts died");
        thread.join().map_err(died)?
    })
}

/// A detached mount of a directory that nobody can write through.
pub(super) fn read_only(directory: &Path) -> io::Result<OwnedFd> {
    in_a_room(|room| room.read_only(directory))
}

/// Where the calling thread mounts what it is about to mount: a file system in memory that nobody else sees.
struct Room(OwnedFd);

/// The empty directory below every chain without an upper directory: the kernel wants two.
const FLOOR: &str = "floor";

impl Room {
    fn new() -> io::Result<Room> {
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe for the sake of flags other than these"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::FS)?;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let memory = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&memory)?;
        let memory = fsmount(
            &memory,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        rustix::fs::mkdirat(&memory, FLOOR, Mode::from_raw_mode(0o755))?;
        // Over the root, but not in its place: names lead where they led before.
        move_mount(
            &memory,
            "",
            CWD,
            "/",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(Room(memory))
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd())
    }

    fn mount(&self, overlay: &Overlay<'_>, most: usize) -> io::Result<OwnedFd> {
        let mut lowers: Vec<String> = Vec::new();
        for lower in &overlay.lowers {
            lowers.push(name(overlay.base, &lower.path)?);
        }
        let mut end = String::new();
        if let Some(writes) = &overlay.writes {
            let upper = name(overlay.base, &writes.upper.path)?;
            let work = name(overlay.base, &writes.work.path)?;
            let _ = write!(end, ",upperdir={upper},workdir={work},volatile");
        } else {
            lowers.push(self.path(FLOOR));
        }
        let marks = if store::ids::in_first_namespace() {
            ",redirect_dir=off,metacopy=off"
        } else {
            ",userxattr"
        };
        end.push_str(marks);
        while START.len() + length(&lowers) + end.len() > most {
            lowers = self.gather(lowers, marks, most)?;
        }
        detach(&self.attach("whole", &lowers, &end)?)
    }

    fn read_only(&self, directory: &Path) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(&self.0, "whole", Mode::from_raw_mode(0o755))?;
        let place = self.path("whole");
        mount_bind(directory, &place)?;
        // In a user namespace these can only be kept.
        let has = rustix::fs::statvfs(&place)?.f_flag;
        let kept = [
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        ];
        let kept = kept.into_iter().filter(|(flag, _)| has.contains(*flag));
        let flags = kept.fold(MountFlags::RDONLY | MountFlags::BIND, |all, (_, it)| {
            all | it
        });
        mount_remount(&place, flags, c"")?;
        detach(&place)
    }

    /// Mounts as many of the lowest directories as fit into one string; what there is instead.
    fn gather(&self, mut lowers: Vec<String>, end: &str, most: usize) -> io::Result<Vec<String>> {
        let is_fitting = |some: &[String]| START.len() + length(some) + end.len() <= most;
        // Not the one that an earlier round made: the kernel stacks overlays on overlays once.
        let is_own = |it: &String| !it.starts_with("/proc/") || it.ends_with(FLOOR);
        let last = lowers.iter().rposition(is_own).map_or(0, |it| it + 1);
        let mut first = last;
        while first > 0 && is_fitting(&lowers[first - 1..last]) {
            first -= 1;
        }
        if last - first < 2 {
            return Err(rustix::io::Errno::NAMETOOLONG.into());
        }
        let name = format!("{first}");
        let place = self.attach(&name, &lowers[first..last], end)?;
        lowers.splice(first..last, [place]);
        Ok(lowers)
    }

    /// Mounts `lowers` at a new directory; its path.
    fn attach(&self, place: &str, lowers: &[String], end: &str) -> io::Result<String> {
        rustix::fs::mkdirat(&self.0, place, Mode::from_raw_mode(0o755))?;
        let path = self.path(place);
        let options = CString::new(format!("{START}{}{end}", lowers.join(":")))?;
        mount_by_name(
            "rbuild",
            &path,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )?;
        Ok(path)
    }
}

/// Takes a mount away from where it is and keeps it.
fn detach(place: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, place, flags)?;
    unmount(place, UnmountFlags::DETACH)?;
    Ok(copy)
}

const START: &str = "lowerdir=";

/// Of the names with what stands between them.
fn length(names: &[String]) -> usize {
    names.iter().map(|it| it.len() + 1).sum::<usize>() - 1
}

/// A directory's name as seen from the base, or from above it. The parts that rbuild did not name itself
/// do not come into it.
fn name(base: &Path, path: &Path) -> io::Result<String> {
    let near = path.strip_prefix(base).map(|it| it.display().to_string());
    let above = || {
        let below = path.strip_prefix(base.parent()?).ok()?;
        Some(format!("../{}", below.display()))
    };
    let name = near.ok().or_else(above);
    name.ok_or_else(|| io::Error::other(format!("`{}` is not in the store", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd as _;

    use super::super::{Place, Writes};
    use super::*;

    /// Directories `0` to `n`, each with a file of its name and its number in `same`, and mounts them with
    /// strings of at most `most` bytes.
    fn check(count: usize, is_written: bool, most: usize) -> io::Result<(usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        let place = |path: std::path::PathBuf| {
            fs::create_dir_all(&path).unwrap();
            let open = std::sync::Arc::new(fs::File::open(&path).unwrap().into());
            Place { path, open }
        };
        let lower = |number: usize| {
            let made = place(base.join(number.to_string()));
            fs::write(made.path.join(format!("own{number}")), "").unwrap();
            fs::write(made.path.join("same"), number.to_string()).unwrap();
            made
        };
        let lowers = (0..count).map(lower).collect();
        let writes = is_written.then(|| Writes {
            upper: place(folder.path().join("upper")),
            work: place(folder.path().join("work")),
        });
        let overlay = Overlay {
            base: &base,
            lowers,
            writes,
        };
        let mount = mount(&overlay, most)?;
        let seen = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let files = fs::read_dir(&seen)?.count();
        if is_written {
            fs::write(format!("{seen}/new"), "")?;
            assert!(folder.path().join("upper/new").exists());
        }
        Ok((files, fs::read_to_string(format!("{seen}/same"))?))
    }

    #[test]
    fn what_does_not_fit_into_one_string_is_mounted_before_as_root() {
        for is_written in [false, true] {
            for most in [150, 200, 260, 600, MOST] {
                let seen = check(60, is_written, most).unwrap();
                assert_eq!(seen, (61, "0".to_owned()), "{is_written} {most}");
            }
        }
        let error = check(60, true, 60).unwrap_err();
        let too_long = rustix::io::Errno::NAMETOOLONG.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(too_long));
    }
}
