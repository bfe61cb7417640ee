//! Layers after the machine went down.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use snapshot::{Packing, SnapshotId, Snapshots};
use store::Store;
use support::Stand;

/// As if the machine had gone down since everything was written: no row is of this boot.
fn power_cut(stand: &Stand) {
    let database = stand.snapshots.store().root().join("db.sqlite");
    let database = rusqlite::Connection::open(database).unwrap();
    database
        .execute_batch("UPDATE snapshots SET boot = 'before'; UPDATE blobs SET boot = 'before'")
        .unwrap();
}

/// A base with two layers beside each other on it, one of which has a layer on top.
fn chains(stand: &Stand) -> [SnapshotId; 4] {
    let base = stand.commit(None, "write a base");
    let left = stand.commit(Some(base), "write b left");
    let right = stand.commit(Some(base), "write c right");
    let top = stand.commit(Some(left), "write d top");
    [base, left, right, top]
}

fn is_there(stand: &Stand, id: SnapshotId) -> bool {
    stand.snapshots.store().snapshot(id).is_ok()
}

#[test]
fn layers_that_are_whole_are_trusted_again() {
    let stand = Stand::new();
    let all = chains(&stand);
    power_cut(&stand);
    assert!(!all.iter().any(|id| is_there(&stand, *id)));
    assert_eq!(stand.snapshots.recover().unwrap(), []);
    assert!(all.iter().all(|id| is_there(&stand, *id)));
    assert_eq!(stand.snapshots.recover().unwrap(), []);
}

#[test]
fn a_damaged_layer_goes_with_all_that_stands_on_it() {
    let damages: [fn(&Stand, SnapshotId); 7] = [
        |stand, id| fs::write(stand.snapshots.store().snapshot_fs(id).join("b"), "").unwrap(),
        |stand, id| fs::remove_file(stand.snapshots.store().snapshot_fs(id).join("b")).unwrap(),
        |stand, id| fs::write(stand.snapshots.store().tree_path(id), [0; 64]).unwrap(),
        |stand, id| fs::remove_dir_all(stand.snapshots.store().snapshot_fs(id)).unwrap(),
        |stand, id| {
            // Not in the root of the manifest, but in the layer's tar.
            let file = stand.snapshots.store().snapshot_fs(id).join("b");
            let file = fs::File::options().append(true).open(file).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
        |stand, id| {
            let tree = stand.snapshots.store().tree_path(id);
            fs::remove_file(&tree).unwrap();
            fs::create_dir(tree).unwrap();
        },
        |stand, id| {
            // Whoever opened it as a file would wait for ever.
            let tree = stand.snapshots.store().tree_path(id);
            fs::remove_file(&tree).unwrap();
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, tree, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        },
    ];
    for damage in damages {
        let stand = Stand::new();
        let [base, left, right, top] = chains(&stand);
        damage(&stand, left);
        power_cut(&stand);
        assert_eq!(stand.snapshots.recover().unwrap(), [top, left]);
        assert!(is_there(&stand, base) && is_there(&stand, right));
        assert!(stand.snapshots.store().unverified().unwrap().is_empty());
    }
}

fn flip(path: PathBuf, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn a_damaged_packed_layer_goes_with_all_that_stands_on_it_as_root() {
    let damages: [fn(&Store, SnapshotId); 7] = [
        // A file's byte, a byte that no file has, and the magic number of the index.
        |store, id| flip(store.layer_tar(id), 512),
        |store, id| flip(store.layer_tar(id), 300),
        |store, id| flip(store.layer_index(id), 1024),
        |store, id| fs::write(store.layer_index(id), "").unwrap(),
        |store, id| fs::write(store.layer_tar(id), "").unwrap(),
        |store, id| fs::remove_file(store.layer_tar(id)).unwrap(),
        |store, id| fs::remove_file(store.layer_index(id)).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let source = Stand::new();
        let (tar, info) = source.pack(source.commit(None, "write b left"));
        let mut stand = Stand::new();
        stand.snapshots = stand.snapshots.packing(Packing::All);
        let base = stand.commit(None, "write a base");
        let packed = stand
            .snapshots
            .apply(Some(base), &mut &*tar, Some(info.diff_id))
            .unwrap();
        let top = stand.commit(Some(packed), "write d top");
        assert_eq!(stand.snapshots.damaged().unwrap(), []);
        damage(stand.snapshots.store(), packed);
        // What is mounted already is the process's own affair.
        let again = Snapshots::new(stand.snapshots.store().clone());
        assert_eq!(again.damaged().unwrap(), [packed], "{number}");
        power_cut(&stand);
        assert_eq!(again.recover().unwrap(), [top, packed], "{number}");
        assert!(is_there(&stand, base));
    }
}

#[test]
fn a_layer_that_is_gone_is_dropped_when_something_went_wrong() {
    let stand = Stand::new();
    let [base, left, right, top] = chains(&stand);
    assert_eq!(stand.snapshots.drop_lost().unwrap(), []);
    fs::remove_dir_all(stand.snapshots.store().snapshot_fs(left)).unwrap();
    fs::write(stand.snapshots.store().tree_path(right), "no manifest").unwrap();
    assert_eq!(stand.snapshots.drop_lost().unwrap(), [top, left, right]);
    assert!(is_there(&stand, base));
}
