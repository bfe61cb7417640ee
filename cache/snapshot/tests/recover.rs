//! Layers after the machine went down.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;

use snapshot::SnapshotId;
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
