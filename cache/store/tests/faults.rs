//! The store after what the fault runs do to it: each test is a failure that they found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use oci::{Key, KeyHasher, Reference};
use store::{ImageRecord, NewSnapshot, OpenError, Sharing, SnapshotId, Store, StoreError};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn key(text: &str) -> Key {
    let mut hasher = KeyHasher::new("test");
    hasher.text(text);
    hasher.finish()
}

fn snapshot(store: &Store) -> SnapshotId {
    let staged = store.tmp_dir().unwrap();
    fs::create_dir(staged.path().join("fs")).unwrap();
    fs::write(staged.path().join("tree"), "").unwrap();
    let new = NewSnapshot {
        parent: None,
        diff_id: None,
        chain_id: None,
        content: key("content"),
        tree_root: key("tree"),
        size: 0,
    };
    store.commit_snapshot(staged.path(), &new).unwrap()
}

/// The work directory of a process that is gone.
fn dead_owner(root: &Path) {
    fs::create_dir_all(root.join("tmp/1-1-0/7")).unwrap();
    fs::write(root.join("tmp/1-1-0/lock"), "").unwrap();
}

#[test]
fn after_a_killed_process_opening_removes_all_it_left() {
    let root = scratch();
    drop(Store::open(root.path()).unwrap());
    dead_owner(root.path());
    // Between a rename and the end of its transaction; while it held a lock; before a rename.
    fs::create_dir_all(root.path().join("snapshots/9/fs")).unwrap();
    let blob = root.path().join("blobs/sha256").join("a".repeat(64));
    fs::write(blob, "half").unwrap();
    let lock = root.path().join("locks").join(key("step").to_string());
    fs::write(lock, "").unwrap();
    fs::write(root.path().join("stat/abc.12.new"), "").unwrap();

    let store = Store::open(root.path()).unwrap();
    for directory in ["snapshots", "blobs/sha256", "locks", "stat"] {
        let left: Vec<_> = fs::read_dir(root.path().join(directory)).unwrap().collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
    assert_eq!(store.verify().unwrap(), []);
}

#[test]
fn whoever_holds_a_lock_has_a_work_directory_by_which_its_end_is_noticed() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let owners = || fs::read_dir(root.path().join("tmp")).unwrap().count();
    assert_eq!(owners(), 0);
    let _lock = store.lock_key(&key("step")).unwrap();
    assert_eq!(owners(), 1);
}

#[test]
fn the_last_holder_of_a_shared_lock_takes_its_file_along() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let files = || fs::read_dir(root.path().join("locks")).unwrap().count();
    let first = store.lock_cache_mount("go", Sharing::Shared).unwrap();
    let second = store.lock_cache_mount("go", Sharing::Shared).unwrap();
    drop(first);
    assert_eq!(files(), 1);
    drop(second);
    assert_eq!(files(), 0);
}

#[test]
fn what_is_no_lock_does_not_keep_anybody_waiting() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let path = root.path().join("locks").join(key("step").to_string());
    let nowhere = root.path().join("nowhere");
    symlink(&nowhere, &path).unwrap();
    drop(store.lock_key(&key("step")).unwrap());
    fs::create_dir(&path).unwrap();
    drop(store.lock_key(&key("step")).unwrap());
    assert!(!nowhere.exists(), "the link was followed");
}

#[test]
fn a_directory_of_the_store_that_is_gone_or_is_none_is_made_again() {
    let root = scratch();
    drop(Store::open(root.path()).unwrap());
    for name in ["blobs", "snapshots", "mounts", "stat", "locks", "tmp"] {
        let path = root.path().join(name);
        fs::remove_dir_all(&path).unwrap();
        drop(Store::open(root.path()).unwrap());
        assert!(path.is_dir(), "{name}");
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "").unwrap();
        let store = Store::open(root.path()).unwrap();
        store.put_blob(b"bytes").unwrap();
        assert!(path.is_dir(), "{name}");
    }
}

#[test]
fn a_blob_whose_file_was_cut_short_or_is_gone_is_missing_and_can_be_stored_again() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let digest = store.put_blob(b"the config").unwrap();
    let path = store.blob_path(&digest).unwrap();
    for damage in [None, Some("the"), Some("THE CONFIG")] {
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        assert!(!store.blob_is_whole(&digest).unwrap(), "{damage:?}");
        assert_eq!(store.put_blob(b"the config").unwrap(), digest);
        assert_eq!(store.read_blob(&digest).unwrap(), b"the config");
    }
}

#[test]
fn a_blob_that_is_no_file_is_found_damaged_and_removed() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let digest = store.put_blob(b"bytes").unwrap();
    let path = store.blob_path(&digest).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let damages = store.verify().unwrap();
    assert_eq!(damages.len(), 1, "{damages:?}");
    store.repair(&damages).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    assert!(!path.exists());
}

#[test]
fn an_image_that_lost_its_manifest_keeps_its_config() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let (id, manifest) = (
        store.put_blob(b"config").unwrap(),
        store.put_blob(b"manifest").unwrap(),
    );
    let image = ImageRecord {
        id,
        top: Some(snapshot(&store)),
        diff_ids: Vec::new(),
        manifest: Some(manifest),
        created: None,
        size: 0,
    };
    let name: Reference = "app".parse().unwrap();
    store.put_image(&image, &[name]).unwrap();
    fs::remove_file(store.blob_path(&manifest).unwrap()).unwrap();
    let damages = store.verify().unwrap();
    store.repair(&damages).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    assert_eq!(store.image(&id).unwrap().unwrap().manifest, None);
}

#[test]
fn a_damaged_database_is_made_anew_from_what_can_be_read() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let mut digests = Vec::new();
    for number in 0..400 {
        digests.push(store.put_blob(format!("{number}").as_bytes()).unwrap());
    }
    let kept = snapshot(&store);
    // All of it into the file, which is then cut.
    store
        .mark_synced(std::time::Duration::from_secs(60))
        .unwrap();
    drop(store);
    let path = root.path().join("db.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() * 3 / 4]).unwrap();

    Store::salvage(root.path()).unwrap();
    let store = Store::open(root.path()).unwrap();
    let found = digests.iter().filter(|it| store.has_blob(it).unwrap());
    assert!(found.count() > 0, "nothing was saved");
    // What was saved is not believed before somebody looked.
    assert!(matches!(
        store.snapshot(kept),
        Err(StoreError::MissingSnapshot(_))
    ));
    store.repair(&store.verify().unwrap()).unwrap();
    assert_eq!(store.verify().unwrap(), []);
}

#[test]
fn a_database_that_is_no_file_is_called_damaged_and_no_link_is_followed() {
    let root = scratch();
    drop(Store::open(root.path()).unwrap());
    let nowhere = root.path().join("nowhere");
    for file in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        let path = root.path().join(file);
        let _ = fs::remove_file(&path);
        symlink(&nowhere, &path).unwrap();
        let refused = Store::open(root.path()).map(drop).unwrap_err();
        assert!(
            matches!(refused, OpenError::Store(StoreError::Corrupt { .. })),
            "{file}: {refused:?}"
        );
        Store::salvage(root.path()).unwrap();
        drop(Store::open(root.path()).unwrap());
        assert!(!nowhere.exists(), "{file}: the link was followed");
    }
}

#[test]
fn the_mark_of_the_budget_is_not_written_through_a_link() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let nowhere = root.path().join("nowhere");
    symlink(&nowhere, root.path().join("budget")).unwrap();
    store.keep_budget().unwrap();
    assert!(!nowhere.exists(), "the link was followed");
    assert!(root.path().join("budget").is_file());
}
