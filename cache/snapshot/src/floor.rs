//! The floor under every chain that is the root of a process: places for what is mounted in all of them.
//!
//! A process gets `/proc`, `/dev`, `/sys`, `/etc/hosts` and `/etc/resolv.conf`, whether its root file system has such
//! places or not. Those that it lacks could be made in its layer and removed again, as is done for other mounts; but
//! whoever removes a place on which something is still mounted, even where nobody can see it, waits for all
//! processors, which takes as long as the step, and `/etc` stays in the layer. As a layer below all others the floor
//! shows where they have nothing, it never changes, and no snapshot has it. It is on the store's own file system: an
//! overlay of several ones gives files and directories different device numbers.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::mount::Place;
use crate::snapshots::{Snapshots, open_place};

const NAME: &str = "floor";
const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
const FILES: [&str; 2] = ["etc/hosts", "etc/resolv.conf"];

impl Snapshots {
    /// The floor, made where it is missing or is not as it was made; `None` where it cannot be, since nobody depends on
    /// it: the places are made in the layer then.
    pub(crate) fn floor(&self) -> Option<Place> {
        let open = self.floor.get_or_init(|| {
            let found = self.lay_floor();
            let said = |error: &io::Error| tracing::debug!(%error, "there is no floor");
            found.inspect_err(said).ok().map(|it| it.open)
        });
        Some(Place {
            path: self.store.root().join(NAME),
            open: Arc::clone(open.as_ref()?),
        })
    }

    fn lay_floor(&self) -> io::Result<Place> {
        let path = self.store.root().join(NAME);
        if !is_whole(&path) {
            let place = self.store.tmp_dir().map_err(io::Error::other)?;
            let made = place.path().join(NAME);
            make(&made)?;
            // Another process may do the same, which is as good.
            let _ = fs::rename(&path, place.path().join("old"));
            match fs::rename(&made, &path) {
                Err(_) if is_whole(&path) => {}
                other => other?,
            }
        }
        open_place(path).map_err(io::Error::other)
    }
}

fn make(floor: &Path) -> io::Result<()> {
    let give = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    fs::create_dir(floor)?;
    give(floor, 0o755)?;
    for name in DIRECTORIES {
        let path = floor.join(name);
        fs::create_dir(&path)?;
        give(&path, 0o755)?;
    }
    for name in FILES {
        let path = floor.join(name);
        fs::write(&path, b"")?;
        give(&path, 0o644)?;
    }
    Ok(())
}

/// Whether all of it is there as it was made, and nothing else.
fn is_whole(floor: &Path) -> bool {
    let here = rustix::process::geteuid().as_raw();
    let is = |path: &Path, kind: fn(&fs::Metadata) -> bool, mode| {
        let found = fs::symlink_metadata(path);
        found.is_ok_and(|it| kind(&it) && it.mode() & 0o7777 == mode && it.uid() == here)
    };
    let is_directory = |path: &Path, entries| {
        let count = fs::read_dir(path).map(Iterator::count);
        is(path, fs::Metadata::is_dir, 0o755) && count.is_ok_and(|it| it == entries)
    };
    let is_file = |it: &fs::Metadata| it.is_file() && it.len() == 0 && it.nlink() == 1;
    let entries = |name| if name == "etc" { FILES.len() } else { 0 };
    is_directory(floor, DIRECTORIES.len())
        && DIRECTORIES
            .iter()
            .all(|name| is_directory(&floor.join(name), entries(*name)))
        && FILES
            .iter()
            .all(|name| is(&floor.join(name), is_file, 0o644))
}
