//! What is below the root of a process. Needs root.

mod support;

use std::fs;

use snapshot::Mounting;
use support::{Stand, draw, draw_merged, path, run};

const PLACES: [&str; 5] = ["dev", "proc", "sys", "etc/hosts", "etc/resolv.conf"];

#[test]
fn the_root_of_a_process_has_places_for_mounts_that_no_layer_has_as_root() {
    for how in [Mounting::Descriptors, Mounting::Names] {
        let mut stand = Stand::new();
        stand.snapshots = stand.snapshots.mounted(how);
        let base = stand.commit(None, "mkdir etc; write etc/hosts 7; chmod 700 etc");
        let active = stand.snapshots.prepare(Some(base)).unwrap();
        let root = active.mount_root().unwrap();
        for place in PLACES {
            assert!(path(&root).join(place).exists(), "{place}");
        }
        // What the chain has is what is seen of it.
        let etc = fs::metadata(path(&root).join("etc")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&etc) & 0o777, 0o700);
        assert_eq!(
            fs::read_to_string(path(&root).join("etc/hosts")).unwrap(),
            "7"
        );
        run(&root, "write new 1");
        drop(root);
        let top = active.commit().unwrap();
        let seen = draw(&stand.snapshots.view(Some(top)).unwrap());
        let expected = ". d 755 0:0 \netc d 700 0:0 \netc/hosts f 644 0:0 7\nnew f 644 0:0 1\n";
        assert_eq!(seen, expected);
        assert_eq!(
            draw_merged(&stand.snapshots.merged(Some(top)).unwrap()),
            expected
        );
    }
}

#[test]
fn a_layer_may_hide_the_places_and_a_process_may_write_beside_them_as_root() {
    let stand = Stand::new();
    let base = stand.commit(None, "write etc none; sym bin sbin");
    let active = stand.snapshots.prepare(Some(base)).unwrap();
    let root = active.mount_root().unwrap();
    assert!(path(&root).join("etc").is_file());
    run(&root, "rm etc; mkdir etc; write etc/passwd 1");
    drop(root);
    let top = active.commit().unwrap();
    let active = stand.snapshots.prepare(Some(top)).unwrap();
    // It was made anew, so nothing of what is below shows.
    assert!(
        !path(&active.mount_root().unwrap())
            .join("etc/hosts")
            .exists()
    );
}

#[test]
fn a_floor_that_somebody_changed_is_laid_anew_as_root() {
    let stand = Stand::new();
    let root = stand.snapshots.store().root().to_owned();
    let base = stand.commit(None, "write a 1");
    let places = || {
        // What is known of the floor is known to one process.
        let again = Stand::at(&root);
        let active = again.snapshots.prepare(Some(base)).unwrap();
        let mount = active.mount_root().unwrap();
        let floor = draw(&mount);
        PLACES.iter().for_each(|place| {
            assert!(path(&mount).join(place).exists(), "{place}: {floor}");
        });
        floor
    };
    let whole = places();
    let floor = root.join("floor");
    let damages: [fn(&std::path::Path); 5] = [
        |it| fs::write(it.join("etc/hosts"), "10.0.0.1 elsewhere").unwrap(),
        |it| fs::remove_file(it.join("etc/resolv.conf")).unwrap(),
        |it| fs::write(it.join("etc/passwd"), "me::0:0::/:/bin/sh").unwrap(),
        |it| fs::remove_dir(it.join("sys")).unwrap(),
        |it| {
            fs::remove_dir_all(it).unwrap();
            fs::write(it, "").unwrap();
        },
    ];
    for damage in damages {
        damage(&floor);
        assert_eq!(places(), whole);
    }
}
