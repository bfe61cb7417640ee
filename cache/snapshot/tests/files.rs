//! Chains given away as plain files. Needs root, since it makes devices.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use snapshot::{FilesError, Plain, SnapshotId};
use support::Stand;

/// Two layers: what the second changes, removes and adds over the first.
fn chain(stand: &Stand) -> SnapshotId {
    let below = commit(
        stand,
        None,
        "mkdir -p bin etc old; echo one > bin/tool; ln bin/tool bin/same; \
         ln -s tool bin/link; echo gone > old/file; mkfifo etc/pipe; mknod etc/null c 1 3; \
         touch -d @1000 bin/tool; chown 7:8 bin/tool; chmod 4755 bin/tool; mkdir -m 0500 etc/closed; echo in > etc/closed/it",
    );
    let script =
        "rm -r old; echo new > etc/conf; touch -d @2000 etc/conf; echo x > etc/a; ln etc/a etc/b";
    commit(stand, Some(below), script)
}

/// A layer that a shell made.
fn commit(stand: &Stand, parent: Option<SnapshotId>, script: &str) -> SnapshotId {
    let active = stand.snapshots.prepare(parent).unwrap();
    let mount = active.mount().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", script])
        .current_dir(support::path(&mount));
    assert!(shell.status().unwrap().success());
    active.commit().unwrap()
}

fn names(directory: &Path) -> String {
    let output = Command::new("find")
        .args([".", "-mindepth", "1", "-printf", "%P %y %m\\n"])
        .current_dir(directory)
        .output()
        .unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

const NAMES: &str = "bin d 755\nbin/link l 777\nbin/same f 4755\nbin/tool f 4755\netc d 755\n\
                     etc/a f 644\netc/b f 644\netc/closed d 500\netc/closed/it f 644\n\
                     etc/conf f 644\netc/null c 644\netc/pipe p 644";

#[test]
fn a_directory_gets_what_a_chain_shows_as_root() {
    let stand = Stand::new();
    let top = chain(&stand);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("some/where");
    let size = stand
        .snapshots
        .write_directory(Some(top), &Plain::default(), &to)
        .unwrap();
    assert_eq!(names(&to), NAMES);
    assert_eq!(size, 4 + 3 + 4 + 2);
    let stat = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
    assert_eq!(stat("bin/tool").ino(), stat("bin/same").ino());
    assert_eq!(stat("etc/a").ino(), stat("etc/b").ino());
    assert_ne!(
        stat("etc/a").ino(),
        stat("bin/tool").ino(),
        "links of two layers are not mixed up"
    );
    assert_eq!(
        (stat("bin/tool").uid(), stat("bin/tool").mtime()),
        (0, 1000)
    );
    let beside: Vec<_> = fs::read_dir(folder.path().join("some")).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left beside it");
}

#[test]
fn what_is_there_already_stays_or_is_replaced_as_root() {
    let stand = Stand::new();
    let top = chain(&stand);
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let to = folder.path();
    fs::write(to.join("mine"), "mine").unwrap();
    fs::create_dir(to.join("bin")).unwrap();
    fs::write(to.join("bin/tool"), "an older one").unwrap();
    symlink(elsewhere.path(), to.join("etc")).unwrap();
    let plain = Plain {
        epoch: Some(5),
        below: None,
    };
    for _ in 0..2 {
        stand
            .snapshots
            .write_directory(Some(top), &plain, to)
            .unwrap();
        assert_eq!(fs::read_to_string(to.join("mine")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(to.join("bin/tool")).unwrap(), "one\n");
        assert_eq!(fs::symlink_metadata(to.join("etc")).unwrap().mtime(), 5);
    }
    let through = fs::read_dir(elsewhere.path()).unwrap().count();
    assert_eq!(through, 0, "a link in the target is not followed");
    fs::remove_file(to.join("bin/tool")).unwrap();
    fs::create_dir(to.join("bin/tool")).unwrap();
    let refused = stand.snapshots.write_directory(Some(top), &plain, to);
    assert!(matches!(refused, Err(FilesError::IsDirectory(path)) if path == to.join("bin/tool")));
}

#[test]
fn a_chain_is_dated_back_and_else_stays_what_it_was_as_root() {
    let stand = Stand::new();
    let snapshots = &stand.snapshots;
    let top = chain(&stand);
    let layers = |top| snapshots.store().ancestry(top).unwrap();
    // A layer is known again by the digests of those below it.
    let below = layers(top)[0].id;
    let digest = stand.pack(below).1.diff_id;
    let store = snapshots.store();
    store.set_diff_id(below, &digest, &digest).unwrap();
    let old = layers(top);
    let clamped = snapshots.clamp(top, 1, 1500).unwrap();
    let new = layers(clamped);
    assert_eq!(new.len(), 2);
    assert_eq!(new[0].id, old[0].id, "what is below stays");
    assert_ne!(new[1].id, old[1].id);
    assert_eq!(new[1].created, old[1].created);
    assert_eq!(new[1].content, old[1].content, "times are no content");
    let tree = snapshots.tree(clamped).unwrap();
    let time = |name: &str| tree.get(name.as_bytes()).unwrap().mtime.0;
    assert_eq!(
        (time("etc/conf"), time("etc/a"), time("etc")),
        (1500, 1500, 1500)
    );
    assert_eq!(
        snapshots.clamp(top, 1, 1500).unwrap(),
        clamped,
        "it is known again"
    );
    assert_ne!(snapshots.clamp(clamped, 0, 1500).unwrap(), clamped);
    assert_eq!(snapshots.clamp(clamped, 1, 1500).unwrap(), clamped);
    assert_eq!(
        snapshots.clamp(top, 0, i64::MAX).unwrap(),
        top,
        "nothing is younger"
    );
    let both = layers(snapshots.clamp(top, 0, 500).unwrap());
    let tool = snapshots.tree(both[0].id).unwrap();
    assert_eq!(tool.get(b"bin/tool").unwrap().mtime.0, 500);
    assert_eq!(both[1].content, old[1].content);
    // The tar of the copy is the one that it was made from.
    let digest = snapshots
        .diff(clamped, &mut std::io::sink())
        .unwrap()
        .diff_id;
    assert_eq!(new[1].diff_id, Some(digest));
}

#[test]
fn a_tar_holds_what_a_chain_shows_in_the_same_bytes_each_time_as_root() {
    let stand = Stand::new();
    let top = chain(&stand);
    let tar = |plain: &Plain| {
        let mut bytes = Vec::new();
        stand
            .snapshots
            .write_tar(Some(top), plain, &mut bytes)
            .unwrap();
        bytes
    };
    let bytes = tar(&Plain::default());
    assert_eq!(bytes, tar(&Plain::default()));
    let folder = tempfile::tempdir().unwrap();
    let unpack = |bytes: &[u8]| {
        let file = folder.path().join("it.tar");
        fs::write(&file, bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        let arguments = ["-xpf", file.to_str().unwrap(), "--numeric-owner"];
        let status = Command::new("tar")
            .args(arguments)
            .current_dir(to.path())
            .status();
        assert!(status.unwrap().success());
        to
    };
    let to = unpack(&bytes);
    assert_eq!(names(to.path()), NAMES);
    let stat = fs::metadata(to.path().join("bin/same")).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.nlink(), stat.mtime()),
        (7, 8, 2, 1000)
    );
    let plain = Plain {
        epoch: Some(5),
        below: Some("linux_amd64".to_owned()),
    };
    let to = unpack(&tar(&plain));
    let below = to.path().join("linux_amd64");
    assert_eq!(names(&below), NAMES);
    assert_eq!(fs::metadata(below.join("bin/tool")).unwrap().mtime(), 5);
    assert_eq!(
        fs::metadata(&below).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn nothing_is_an_empty_directory_and_an_empty_tar_as_root() {
    let stand = Stand::new();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("empty");
    stand
        .snapshots
        .write_directory(None, &Plain::default(), &to)
        .unwrap();
    assert_eq!(names(&to), "");
    let mut bytes = Vec::new();
    stand
        .snapshots
        .write_tar(None, &Plain::default(), &mut bytes)
        .unwrap();
    assert_eq!(bytes, [0; 1024]);
}
