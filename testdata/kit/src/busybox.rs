//! The base image of the tests: one static busybox, the links to it, and the handful of files a root needs.
//!
//! It is a real image in every respect but its size, it needs no registry, and building it takes milliseconds.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use tar::{Builder, EntryType, Header};

/// The directories of the root, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// The accounts a Dockerfile's `USER` and `--chown` are tested with.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1000:user:/home:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nstaff:x:50:user\nuser:x:1000:\nnobody:x:65534:\n",
    ),
];

/// The host's busybox.
///
/// # Panics
///
/// Where there is none, naming the package that has it.
pub fn binary() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|it| it.is_file())
        .expect("no busybox here: install the package `busybox-static`, or run `testdata/test`, which does")
}

/// Writes the root file system as an uncompressed tar: the same bytes for the same busybox.
pub fn write_rootfs(out: impl Write) -> io::Result<()> {
    let binary = binary();
    let mut tar = Builder::new(out);
    for (path, mode) in DIRECTORIES {
        append(
            &mut tar,
            path,
            &Entry {
                kind: EntryType::Directory,
                mode: *mode,
                data: b"",
            },
        )?;
    }
    for (path, text) in FILES {
        append(
            &mut tar,
            path,
            &Entry {
                kind: EntryType::Regular,
                mode: 0o644,
                data: text.as_bytes(),
            },
        )?;
    }
    let mut bytes = Vec::new();
    fs::File::open(&binary)?.read_to_end(&mut bytes)?;
    append(
        &mut tar,
        "bin/busybox",
        &Entry {
            kind: EntryType::Regular,
            mode: 0o755,
            data: &bytes,
        },
    )?;
    for applet in applets(&binary)? {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.finish()
}

/// Writes the root file system to a file, for a command to import.
pub fn write_rootfs_to(path: &Path) -> io::Result<()> {
    let mut out = io::BufWriter::new(fs::File::create(path)?);
    write_rootfs(&mut out)?;
    out.flush()
}

/// The names busybox answers to, sorted, without its own.
fn applets(binary: &Path) -> io::Result<Vec<String>> {
    let listed = Command::new(binary).arg("--list").output()?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let mut names: Vec<String> = text
        .lines()
        .filter(|it| *it != "busybox")
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

struct Entry<'a> {
    kind: EntryType,
    mode: u32,
    data: &'a [u8],
}

fn append<W: Write>(tar: &mut Builder<W>, path: &str, entry: &Entry<'_>) -> io::Result<()> {
    let mut header = header(entry.kind, entry.mode, entry.data.len() as u64);
    tar.append_data(&mut header, path, entry.data)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_a_shell_and_is_the_same_every_time() {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        write_rootfs(&mut once).unwrap();
        write_rootfs(&mut twice).unwrap();
        assert_eq!(once, twice);
        let mut archive = tar::Archive::new(&*once);
        let shell = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .find(|it| it.path().unwrap().ends_with("bin/sh"));
        assert_eq!(
            shell.unwrap().link_name().unwrap().unwrap(),
            Path::new("busybox")
        );
    }
}
