//! Builds over a store that somebody changed behind its back.

use std::fs;

use crate::room::Room;

const CHAIN: &str = "\
FROM scratch AS first
COPY a /a
FROM scratch
COPY --from=first /a /b
COPY c /c
";

#[test]
fn a_build_makes_layers_anew_that_are_gone_even_if_all_of_it_was_cached() {
    let room = Room::with(CHAIN);
    room.write("a", "a");
    room.write("c", "c");
    let mut image = room.build().unwrap().image.unwrap();
    let store = room.engine.store();
    let layers = |image: &oci::Digest| {
        let top = store.image(image).unwrap().unwrap().top.unwrap();
        store.ancestry(top).unwrap()
    };
    for at in 0..layers(&image).len() {
        fs::remove_dir_all(store.snapshot_fs(layers(&image)[at].id)).unwrap();
        fs::write(store.blob_path(&image).unwrap(), "not a config").unwrap();
        image = room.build().unwrap().image.unwrap();
        for row in layers(&image) {
            assert!(store.snapshot_fs(row.id).is_dir());
        }
        store.read_blob(&image).unwrap();
    }
}

#[test]
fn a_build_drops_a_manifest_that_cannot_be_read_and_goes_on() {
    let room = Room::with(CHAIN);
    room.write("a", "a");
    room.write("c", "c");
    room.build().unwrap();
    let store = room.engine.store();
    for row in store.snapshots().unwrap() {
        fs::write(store.tree_path(row.id), "no manifest").unwrap();
    }
    room.write("c", "another");
    // A process of its own: this one remembers what it read.
    engine::build(&room.second_engine(), &room.request(), &|_| {}).unwrap();
}
