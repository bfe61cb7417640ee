//! Images after the machine went down.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;

use export::{Output, Recovered, SaveOptions};
use oci::Digest;
use snapshot::SnapshotId;
use support::Fixture;

/// As if the machine had gone down since everything was written: no row is of this boot.
fn power_cut_without_damage(fixture: &Fixture) {
    let database = rusqlite::Connection::open(fixture.store().root().join("db.sqlite")).unwrap();
    database
        .execute_batch("UPDATE snapshots SET boot = 'before'; UPDATE blobs SET boot = 'before'")
        .unwrap();
}

/// As if the machine had gone down, with the lowest layer's files not on the disk yet.
fn power_cut(fixture: &Fixture, id: &Digest) -> Vec<SnapshotId> {
    let store = fixture.store();
    let chain = store
        .ancestry(store.image(id).unwrap().unwrap().top.unwrap())
        .unwrap();
    power_cut_without_damage(fixture);
    fs::write(store.snapshot_fs(chain[0].id).join("big"), "").unwrap();
    chain.iter().rev().map(|row| row.id).collect()
}

#[test]
fn an_image_that_was_loaded_gets_its_layers_back() {
    let here = Fixture::new();
    let id = here.image();
    let mut archive = Vec::new();
    export::save(
        &here.snapshots,
        &["app:v1"],
        &SaveOptions::default(),
        Output::Stream(&mut archive),
    )
    .unwrap();
    let there = Fixture::new();
    export::load(&there.snapshots, &archive[..], &[]).unwrap();
    let dropped = power_cut(&there, &id);
    let recovered = export::recover(&there.snapshots).unwrap();
    assert_eq!(
        recovered,
        Recovered {
            dropped,
            restored: vec![id],
            lost: Vec::new()
        }
    );
    let mut again = Vec::new();
    export::save(
        &there.snapshots,
        &["app:v1"],
        &SaveOptions::default(),
        Output::Stream(&mut again),
    )
    .unwrap();
    assert!(again == archive);
    let top = there.store().image(&id).unwrap().unwrap().top.unwrap();
    assert!(there.store().ancestry(top).unwrap().len() == 2);
    assert_eq!(
        export::recover(&there.snapshots).unwrap(),
        Recovered::default()
    );
}

#[test]
fn an_image_that_cannot_be_made_again_is_removed() {
    let here = Fixture::new();
    let id = here.image();
    power_cut(&here, &id);
    let recovered = export::recover(&here.snapshots).unwrap();
    assert!(
        recovered.lost.contains(&id) && recovered.restored.is_empty(),
        "{recovered:?}"
    );
    assert!(here.store().images().unwrap().is_empty());
    assert!(here.store().resolve("app:v1").is_err());
}

#[test]
fn an_image_without_its_config_is_removed() {
    let here = Fixture::new();
    let id = here.image();
    let config = here.store().blob_path(&id).unwrap();
    power_cut_without_damage(&here);
    fs::write(config, "").unwrap();
    let recovered = export::recover(&here.snapshots).unwrap();
    assert_eq!((recovered.dropped, recovered.lost), (Vec::new(), vec![id]));
    assert_eq!(here.store().images().unwrap().len(), 1, "the base stays");
}

#[test]
fn a_blob_that_is_not_the_layer_it_is_on_record_as_is_found_and_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = store::Store::open(root.path()).unwrap();
    let layer = Digest::of(b"a layer");
    let right = store.put_blob(b"a layer").unwrap();
    let wrong = store.put_blob(b"another layer").unwrap();
    store
        .record_layer_blob(&layer, oci::media_type::Compression::None, &right)
        .unwrap();
    assert_eq!(export::misfits(&store).unwrap(), []);
    store
        .record_layer_blob(&layer, oci::media_type::Compression::Gzip, &wrong)
        .unwrap();
    // What ends in the middle unpacks to nothing.
    let torn = store.put_blob(&[0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    store
        .record_layer_blob(&layer, oci::media_type::Compression::Zstd, &torn)
        .unwrap();
    let found = export::misfits(&store).unwrap();
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{said:?}");
    assert!(said.contains(&format!("blob {wrong} does not unpack to layer {layer}")));
    store.repair(&found).unwrap();
    assert_eq!(export::misfits(&store).unwrap(), []);
    let kept = store
        .layer_blob(&layer, oci::media_type::Compression::None)
        .unwrap();
    assert_eq!(kept.map(|(digest, _)| digest), Some(right));
}
