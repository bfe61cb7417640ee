//! A store to test with, layers written by small scripts, trees drawn as text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test program uses its own part"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use snapshot::{DiffInfo, Kind, Merged, Mounting, SnapshotId, Snapshots};
use store::Store;

pub(crate) struct Stand {
    pub(crate) snapshots: Snapshots,
    _dir: Option<tempfile::TempDir>,
}

impl Stand {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts and makes devices: run it as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut stand = Self::at(&dir.path().join("store"));
        stand._dir = Some(dir);
        stand
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self {
            snapshots: Snapshots::new(Store::open(root).unwrap()),
            _dir: None,
        }
    }

    /// Does `what` with a new store for each way of mounting that there is on this kernel.
    pub(crate) fn each(what: impl Fn(Self)) {
        for how in [Mounting::Descriptors, Mounting::Names, Mounting::Copies] {
            let mut stand = Self::new();
            stand.snapshots = stand.snapshots.mounted(how);
            if how == Mounting::Descriptors && !has_descriptors() {
                assert!(stand.snapshots.probe().is_err());
                continue;
            }
            // What fails is told with the way in which it did.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| what(stand))) {
                panic!("{how:?}: {}", words(&*panic));
            }
        }
    }

    pub(crate) fn commit(&self, parent: Option<SnapshotId>, script: &str) -> SnapshotId {
        let active = self.snapshots.prepare(parent).unwrap();
        run(&active.mount().unwrap(), script);
        active.commit().unwrap()
    }

    pub(crate) fn pack(&self, id: SnapshotId) -> (Vec<u8>, DiffInfo) {
        let mut tar = Vec::new();
        let info = self.snapshots.diff(id, &mut tar).unwrap();
        assert_eq!(info.size, tar.len() as u64);
        (tar, info)
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| "see above".to_owned())
}

/// Whether the kernel takes the directories of an overlay by descriptor: from 6.13 on.
fn has_descriptors() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    let (major, minor) = (
        numbers.next().unwrap().unwrap(),
        numbers.next().unwrap().unwrap(),
    );
    (major, minor) >= (6, 13)
}

/// A path that leads into an open mount or directory.
pub(crate) fn path(mount: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()))
}

/// Runs commands, separated by `;`, in a tree. `try-` before a command makes its failure no matter.
pub(crate) fn run(mount: &OwnedFd, script: &str) {
    for command in script
        .split(';')
        .map(str::trim)
        .filter(|command| !command.is_empty())
    {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (name, forgiving) = match words[0].strip_prefix("try-") {
            Some(name) => (name, true),
            None => (words[0], false),
        };
        let result = execute(&path(mount), name, &words[1..]);
        assert!(forgiving || result.is_ok(), "{command}: {result:?}");
    }
}

fn execute(base: &Path, name: &str, arguments: &[&str]) -> std::io::Result<()> {
    let at = |index: usize| base.join(arguments[index]);
    match name {
        "mkdir" => fs::create_dir(at(0)),
        // Never through a link: what it means depends on where the tree is looked at from.
        "write" if at(0).is_symlink() => Err(std::io::ErrorKind::AlreadyExists.into()),
        "write" => fs::write(at(0), arguments[1]),
        "append" if at(0).is_symlink() => Err(std::io::ErrorKind::AlreadyExists.into()),
        "append" => {
            let mut file = fs::OpenOptions::new().append(true).open(at(0))?;
            std::io::Write::write_all(&mut file, arguments[1].as_bytes())
        }
        "rm" if at(0).symlink_metadata()?.is_dir() => fs::remove_dir_all(at(0)),
        "rm" => fs::remove_file(at(0)),
        "ln" => fs::hard_link(at(0), at(1)),
        "sym" => symlink(arguments[0], at(1)),
        "chmod" if at(1).is_symlink() => Err(std::io::ErrorKind::InvalidInput.into()),
        "chmod" => fs::set_permissions(
            at(1),
            fs::Permissions::from_mode(u32::from_str_radix(arguments[0], 8).unwrap()),
        ),
        "chown" => {
            let (uid, gid) = arguments[0].split_once(':').unwrap();
            std::os::unix::fs::lchown(at(1), uid.parse().ok(), gid.parse().ok())
        }
        "fifo" => Ok(rustix::fs::mkfifoat(rustix::fs::CWD, at(0), 0o644.into())?),
        "mknod" => {
            let device =
                rustix::fs::makedev(arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
            let kind = rustix::fs::FileType::CharacterDevice;
            Ok(rustix::fs::mknodat(
                rustix::fs::CWD,
                at(0),
                kind,
                0o666.into(),
                device,
            )?)
        }
        "xattr" => {
            let flags = rustix::fs::XattrFlags::empty();
            Ok(rustix::fs::lsetxattr(
                at(0),
                arguments[1],
                arguments[2].as_bytes(),
                flags,
            )?)
        }
        other => panic!("no command {other}"),
    }
}

/// A tree as text: a line a path with type, mode, owner and what is in it.
pub(crate) fn draw(mount: &OwnedFd) -> String {
    let mut lines = Vec::new();
    draw_directory(&path(mount), Path::new(""), &mut lines);
    lines.sort();
    lines.concat()
}

fn draw_directory(base: &Path, relative: &Path, lines: &mut Vec<String>) {
    let here = base.join(relative);
    let metadata = fs::metadata(&here).unwrap();
    let name = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    lines.push(line(name, "d", &metadata, ""));
    for entry in fs::read_dir(&here).unwrap() {
        let name = relative.join(entry.unwrap().file_name());
        let full = base.join(&name);
        let metadata = full.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        if kind.is_dir() {
            draw_directory(base, &name, lines);
        } else if kind.is_symlink() {
            lines.push(format!(
                "{} l {}\n",
                name.display(),
                fs::read_link(&full).unwrap().display()
            ));
        } else if kind.is_file() {
            lines.push(line(
                &name,
                "f",
                &metadata,
                &fs::read_to_string(&full).unwrap(),
            ));
        } else if kind.is_fifo() {
            lines.push(line(&name, "p", &metadata, ""));
        } else {
            let (major, minor) = (
                rustix::fs::major(metadata.rdev()),
                rustix::fs::minor(metadata.rdev()),
            );
            lines.push(line(&name, "c", &metadata, &format!("{major},{minor}")));
        }
    }
}

fn line(name: &Path, kind: &str, metadata: &fs::Metadata, content: &str) -> String {
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    format!("{} {kind} {mode:o} {uid}:{gid} {content}\n", name.display())
}

/// The same drawing from manifests; of a file's content, which they only have the digest of, it says
/// what the digest is of when that is a short number or word of these tests.
pub(crate) fn draw_merged(merged: &Merged) -> String {
    let mut lines = Vec::new();
    for entry in merged.iter() {
        let name = if entry.path.is_empty() {
            Path::new(".")
        } else {
            entry.path()
        };
        let mut text = String::new();
        let mut with = |kind: &str, content: &str| {
            let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
            writeln!(
                text,
                "{} {kind} {mode:o} {uid}:{gid} {content}",
                name.display()
            )
            .unwrap();
        };
        match &entry.kind {
            Kind::File { content, .. } => with("f", &known_content(content)),
            Kind::Directory { .. } => with("d", ""),
            Kind::Symlink(target) => {
                let target = std::ffi::OsStr::from_bytes(target);
                text = format!("{} l {}\n", name.display(), target.display());
            }
            Kind::Character(major, minor) => with("c", &format!("{major},{minor}")),
            Kind::Fifo => with("p", ""),
            other => panic!("{other:?} is not shown"),
        }
        lines.push(text);
    }
    lines.sort();
    lines.concat()
}

/// What was hashed, by trial: all that these tests ever write.
fn known_content(key: &oci::Key) -> String {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    static WORDS: OnceLock<HashMap<[u8; 32], String>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let numbers = (0..200).map(|number| number.to_string());
        let pairs = (0..100).flat_map(|a| (0..100).map(move |b| format!("{a}{b}")));
        let others = ["", "hello", "x", "now-a-file", "umlaut"].map(str::to_owned);
        let triples = (0..100)
            .flat_map(|a| (0..100).flat_map(move |b| (0..100).map(move |c| format!("{a}{b}{c}"))));
        let all = numbers.chain(pairs).chain(others).chain(triples);
        all.map(|word| (*blake3::hash(word.as_bytes()).as_bytes(), word))
            .collect()
    });
    words
        .get(key.as_bytes())
        .cloned()
        .unwrap_or_else(|| format!("unknown content {key}"))
}

pub(crate) fn count_files(dir: &Path) -> usize {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .fold(0, |count, entry| {
            count
                + 1
                + if entry.file_type().unwrap().is_dir() {
                    count_files(&entry.path())
                } else {
                    0
                }
        })
}

pub(crate) fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        if entry.file_type().unwrap().is_dir()
            && let Some(found) = find(&entry.path(), name)
        {
            return Some(found);
        }
    }
    None
}
