//! The store as its users see it, one process at a time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use oci::media_type::Compression;
use oci::{Digest, Key, KeyHasher, Platform, Reference};
use serde_json::json;
use store::{
    Alike, Budget, Build, Failure, ImageRecord, NewSnapshot, OpenError, Origins, RanStep, Record,
    ResolveError, Sharing, SnapshotId, Store, StoreError, Stored,
};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn key(text: &str) -> Key {
    let mut hasher = KeyHasher::new("test");
    hasher.text(text);
    hasher.finish()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Commits a layer of one file that holds `text`.
fn snapshot(store: &Store, parent: Option<SnapshotId>, text: &str) -> SnapshotId {
    let staged = store.tmp_dir().unwrap();
    fs::create_dir(staged.path().join("fs")).unwrap();
    fs::write(staged.path().join("fs/file"), text).unwrap();
    fs::write(staged.path().join("tree"), text).unwrap();
    let new = NewSnapshot {
        parent,
        diff_id: None,
        chain_id: None,
        content: key(text),
        tree_root: key(text),
        size: text.len() as u64,
    };
    store.commit_snapshot(staged.path(), &new).unwrap()
}

fn record(store: &Store, key_text: &str, outputs: &[Option<SnapshotId>]) {
    let record = Record {
        key: key(key_text),
        kind: "definition".to_owned(),
        preimage: json!({ "op": key_text }),
        outputs: outputs.to_vec(),
        name: "RUN make".to_owned(),
        started: Timestamp::now(),
        duration: Duration::from_millis(7),
        project: String::new(),
        made: None,
        spent: None,
    };
    store.record(&record).unwrap();
}

fn image(store: &Store, config: &str, top: Option<SnapshotId>, names: &[&str]) -> Digest {
    let id = store.put_blob(config.as_bytes()).unwrap();
    let record = ImageRecord {
        id,
        top,
        diff_ids: Vec::new(),
        manifest: None,
        created: None,
        size: 0,
    };
    store
        .put_image(
            &record,
            &names.iter().map(|it| name(it)).collect::<Vec<_>>(),
        )
        .unwrap();
    id
}

/// As if the machine had gone down since everything was written: no row is of this boot.
fn power_cut(root: &Path) {
    let database = rusqlite::Connection::open(root.join("db.sqlite")).unwrap();
    database
        .execute_batch("UPDATE snapshots SET boot = 'before'; UPDATE blobs SET boot = 'before'")
        .unwrap();
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_blob_is_found_by_its_digest() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    let (digest, size) = writer.commit().unwrap();
    assert_eq!((digest, size), (Digest::of(b"hello world"), 11));
    let mut text = String::new();
    store
        .open_blob(&digest)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hello world");
    assert_eq!(store.blob_size(&digest).unwrap(), 11);

    store.remove_blob(&digest).unwrap();
    assert!(!store.has_blob(&digest).unwrap());
    assert!(
        matches!(store.open_blob(&digest), Err(StoreError::MissingBlob(missing)) if missing == digest)
    );
}

#[test]
fn a_blob_that_is_not_what_was_announced_never_was() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.append(b"forged").unwrap();
    let error = writer.commit_expected(&Digest::of(b"honest")).unwrap_err();
    assert!(
        matches!(error, StoreError::WrongDigest { found, .. } if found == Digest::of(b"forged"))
    );
    assert!(!store.has_blob(&Digest::of(b"forged")).unwrap());
    drop(store);
    assert!(is_empty(&root.path().join("tmp")), "no work is left");
    assert!(is_empty(&root.path().join("blobs/sha256")));
}

#[test]
fn a_layers_blob_is_forgotten_with_the_blob() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let (diff_id, blob) = (Digest::of(b"tar"), store.put_blob(b"compressed").unwrap());
    store
        .record_layer_blob(&diff_id, Compression::Gzip, &blob)
        .unwrap();
    assert_eq!(
        store.layer_blob(&diff_id, Compression::Gzip).unwrap(),
        Some((blob, 10))
    );
    assert_eq!(store.layer_blob(&diff_id, Compression::Zstd).unwrap(), None);
    store.remove_blob(&blob).unwrap();
    assert_eq!(store.layer_blob(&diff_id, Compression::Gzip).unwrap(), None);
}

#[test]
fn a_chain_is_listed_from_its_lowest_layer() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let base = snapshot(&store, None, "base");
    let middle = snapshot(&store, Some(base), "middle");
    let top = snapshot(&store, Some(middle), "top");
    let chain: Vec<_> = store
        .ancestry(top)
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(chain, [base, middle, top]);
    assert_eq!(
        fs::read_to_string(store.snapshot_fs(top).join("file")).unwrap(),
        "top"
    );
    assert_eq!(fs::read_to_string(store.tree_path(base)).unwrap(), "base");
    assert_eq!(store.snapshot(top).unwrap().content, key("top"));

    let (diff_id, chain_id) = (Digest::of(b"diff"), Digest::of(b"chain"));
    store.set_diff_id(base, &diff_id, &chain_id).unwrap();
    assert_eq!(
        store
            .snapshot_by_chain_id(&chain_id)
            .unwrap()
            .map(|row| (row.id, row.diff_id)),
        Some((base, Some(diff_id)))
    );
}

#[test]
fn one_chain_is_stored_once() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let commit = || {
        let staged = store.tmp_dir().unwrap();
        fs::create_dir(staged.path().join("fs")).unwrap();
        let id = Some(Digest::of(b"layer"));
        let new = NewSnapshot {
            parent: None,
            diff_id: id,
            chain_id: id,
            content: key(""),
            tree_root: key(""),
            size: 0,
        };
        store.commit_snapshot(staged.path(), &new).unwrap()
    };
    assert_eq!(commit(), commit());
}

#[test]
fn what_a_killed_commit_left_is_moved_out_of_the_way() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let orphan = root.path().join("snapshots/1/fs");
    fs::create_dir_all(&orphan).unwrap();
    fs::write(orphan.join("file"), "orphan").unwrap();
    let id = snapshot(&store, None, "real");
    assert_eq!(id, SnapshotId(1));
    assert_eq!(
        fs::read_to_string(store.snapshot_fs(id).join("file")).unwrap(),
        "real"
    );
}

#[test]
fn a_result_is_found_by_its_key_while_its_outputs_are_there() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let id = snapshot(&store, None, "out");
    record(&store, "step", &[Some(id), None]);
    assert_eq!(
        store.result(&key("step")).unwrap().unwrap().outputs,
        [Some(id), None]
    );
    assert_eq!(store.result(&key("other")).unwrap(), None);
    let known = store.records_named("RUN make", 5).unwrap();
    assert_eq!(known[0].preimage, json!({ "op": "step" }));
    assert_eq!(known[0].outputs, [Some(id), None]);

    store.drop_snapshot(id).unwrap();
    assert_eq!(store.result(&key("step")).unwrap(), None);
    assert!(!store.snapshot_fs(id).exists());
}

#[test]
fn a_result_of_snapshots_that_are_gone_is_not_recorded() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let record = Record {
        key: key("step"),
        kind: "definition".to_owned(),
        preimage: json!(null),
        outputs: vec![Some(SnapshotId(99))],
        name: String::new(),
        started: Timestamp::now(),
        duration: Duration::ZERO,
        project: String::new(),
        made: None,
        spent: None,
    };
    assert!(matches!(
        store.record(&record),
        Err(StoreError::MissingSnapshot(SnapshotId(99)))
    ));
    assert_eq!(store.result(&key("step")).unwrap(), None);
}

#[test]
fn after_a_power_cut_nothing_is_returned_before_it_is_verified() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let base = snapshot(&store, None, "base");
    let top = snapshot(&store, Some(base), "top");
    record(&store, "step", &[Some(top)]);
    power_cut(root.path());

    assert_eq!(store.result(&key("step")).unwrap(), None);
    assert!(matches!(
        store.snapshot(base),
        Err(StoreError::MissingSnapshot(_))
    ));
    let waiting: Vec<_> = store
        .unverified()
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(waiting, [base, top]);
    assert!(
        store.mark_verified(top).is_err(),
        "its parent is not trusted yet"
    );
    store.mark_verified(base).unwrap();
    store.mark_verified(top).unwrap();
    assert_eq!(
        store.result(&key("step")).unwrap().unwrap().outputs,
        [Some(top)]
    );
    assert!(store.unverified().unwrap().is_empty());
}

#[test]
fn a_snapshot_dropped_takes_what_stands_on_it_along() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let base = snapshot(&store, None, "base");
    let top = snapshot(&store, Some(base), "top");
    let beside = snapshot(&store, None, "beside");
    record(&store, "step", &[Some(beside), Some(top)]);
    let id = image(&store, "{}", Some(top), &["app"]);
    assert_eq!(store.drop_snapshot(base).unwrap(), [top, base]);
    assert_eq!(store.result(&key("step")).unwrap(), None);
    assert_eq!(store.image(&id).unwrap().unwrap().top, None);
    assert!(store.snapshot(beside).is_ok());
}

#[test]
fn after_a_power_cut_a_torn_blob_is_gone_and_a_whole_one_is_there() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let (whole, torn) = (
        store.put_blob(b"whole").unwrap(),
        store.put_blob(b"torn").unwrap(),
    );
    fs::write(store.blob_path(&torn).unwrap(), "").unwrap();
    power_cut(root.path());
    assert_eq!(store.verify_blobs().unwrap(), [torn]);
    assert_eq!(store.verify_blobs().unwrap(), []);
    assert!(store.has_blob(&whole).unwrap());
    assert!(!store.has_blob(&torn).unwrap());
    assert_eq!(store.put_blob(b"torn").unwrap(), torn);
    assert_eq!(store.blob_size(&torn).unwrap(), 4);
}

#[test]
fn what_was_synced_outlives_a_power_cut() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let id = snapshot(&store, None, "out");
    record(&store, "step", &[Some(id)]);
    assert!(!store.snapshot(id).unwrap().durable);
    assert!(store.mark_synced(Duration::from_secs(60)).unwrap());
    assert!(store.snapshot(id).unwrap().durable);
    power_cut(root.path());
    assert!(store.unverified().unwrap().is_empty());
    assert!(store.result(&key("step")).unwrap().is_some());
}

#[test]
fn an_image_is_meant_by_name_or_by_the_beginning_of_its_id() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let [one, two] = [
        image(&store, "{\"a\":1}", None, &["app", "app:v1"]),
        image(&store, "{\"a\":2}", None, &[]),
    ];
    for word in [
        "app",
        "app:latest",
        "docker.io/library/app:v1",
        &one.hex(),
        &one.to_string(),
        &one.short(),
    ] {
        assert_eq!(store.resolve(word).unwrap().id, one, "{word}");
    }
    assert!(matches!(
        store.resolve("nothing"),
        Err(ResolveError::Unknown(_))
    ));
    assert!(matches!(
        store.resolve("Bad Name"),
        Err(ResolveError::Malformed(_))
    ));
    assert_eq!(
        store
            .dangling_images()
            .unwrap()
            .iter()
            .map(|it| it.id)
            .collect::<Vec<_>>(),
        [two]
    );
    assert_eq!(store.names(&one).unwrap(), [name("app"), name("app:v1")]);
    assert_eq!(store.images().unwrap().len(), 2);
}

#[test]
fn a_beginning_shared_by_two_ids_is_refused() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let ids: Vec<_> = (0..17)
        .map(|number| image(&store, &format!("{{\"n\":{number}}}"), None, &[]))
        .collect();
    let first_digit = |id: &Digest| id.hex()[..1].to_owned();
    let shared = ids
        .iter()
        .map(first_digit)
        .find(|digit| ids.iter().filter(|id| first_digit(id) == *digit).count() > 1);
    let shared = shared.expect("seventeen ids, sixteen digits");
    assert!(
        matches!(store.resolve(&shared), Err(ResolveError::Ambiguous { count, .. }) if count > 1)
    );
}

#[test]
fn a_name_moves_from_image_to_image() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let one = image(&store, "{\"a\":1}", None, &["app"]);
    let two = image(&store, "{\"a\":2}", None, &[]);
    assert_eq!(store.tag(&name("app"), &two).unwrap(), Some(one));
    assert_eq!(store.resolve("app").unwrap().id, two);
    assert_eq!(store.tag(&name("app"), &two).unwrap(), None);
    assert!(store.last_tagged(&two).unwrap().is_some());
    assert_eq!(store.untag(&name("app")).unwrap(), Some(two));
    assert!(store.remove_image(&two).unwrap());
    assert!(!store.remove_image(&two).unwrap());
    assert!(store.tag(&name("app"), &two).is_err());
}

#[test]
fn images_for_several_platforms_go_by_one_name_and_go_with_it() {
    let directory = scratch();
    let store = Store::open(directory.path()).unwrap();
    let host = Platform::host();
    let other: Platform = if host.architecture == "riscv64" {
        "linux/amd64".parse().unwrap()
    } else {
        "linux/riscv64".parse().unwrap()
    };
    let of_host = image(&store, "{\"host\":1}", None, &[]);
    let of_other = image(&store, "{\"other\":1}", None, &[]);
    let name: Reference = "app".parse().unwrap();
    let both = [(other.clone(), of_other), (host.clone(), of_host)];
    store.tag_platforms(&name, &both).unwrap();
    assert_eq!(store.image_named(&name).unwrap().unwrap().id, of_host);
    assert_eq!(store.platforms(&name).unwrap().len(), 2);
    // Those that stand beside are no images of their own to people.
    let listed: Vec<Digest> = store.images().unwrap().iter().map(|it| it.0.id).collect();
    assert_eq!(listed, [of_host]);

    let second: Reference = "app:2".parse().unwrap();
    store.tag_platforms(&second, &both).unwrap();
    store.untag(&name).unwrap();
    assert!(
        store.image(&of_other).unwrap().is_some(),
        "the second name leads to it"
    );
    store.tag(&second, &of_host).unwrap();
    assert!(store.image(&of_other).unwrap().is_none());
    assert_eq!(store.platforms(&second).unwrap(), []);

    let of_other = image(&store, "{\"other\":1}", None, &[]);
    store
        .tag_platforms(&second, &[(host, of_host), (other, of_other)])
        .unwrap();
    store.remove_image(&of_host).unwrap();
    assert!(store.image(&of_other).unwrap().is_none());
}

/// What a store keeps because it made it is kept until it is closed; so each look is another's.
#[test]
fn what_is_said_about_an_image_is_there_as_long_as_the_image() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let [one, two] = ["{\"a\":1}", "{\"a\":2}"].map(|it| image(&store, it, None, &[]));
    let said = store.put_blob(b"said").unwrap();
    assert_eq!(store.attestations(&one).unwrap(), None);
    for id in [&one, &two] {
        store.keep_attestations(id, Some(&said)).unwrap();
    }
    let reopened = |store: Store| {
        drop(store);
        let store = Store::open(root.path()).unwrap();
        store.gc().unwrap();
        store
    };
    let store = reopened(store);
    assert_eq!(store.attestations(&one).unwrap(), Some(said));
    assert_eq!(store.verify().unwrap(), []);
    store.remove_image(&one).unwrap();
    assert_eq!(store.attestations(&one).unwrap(), None);
    let store = reopened(store);
    assert!(store.has_blob(&said).unwrap());
    store.keep_attestations(&two, None).unwrap();
    let store = reopened(store);
    assert!(!store.has_blob(&said).unwrap());
    let nowhere = store.keep_attestations(&two, Some(&said));
    assert!(matches!(nowhere, Err(StoreError::MissingBlob(_))));
}

#[test]
fn an_image_without_its_config_is_not_added() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let record = ImageRecord {
        id: Digest::of(b"nowhere"),
        top: None,
        diff_ids: Vec::new(),
        manifest: None,
        created: None,
        size: 0,
    };
    assert!(matches!(
        store.put_image(&record, &[name("app")]),
        Err(StoreError::MissingBlob(_))
    ));
    assert!(
        store.image_named(&name("app")).unwrap().is_none(),
        "no name is left half-way"
    );
}

#[test]
fn only_what_nothing_leads_to_is_collected() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let base = snapshot(&store, None, "base");
    let cached = snapshot(&store, Some(base), "cached");
    let imaged = snapshot(&store, Some(base), "imaged");
    let leased = snapshot(&store, Some(base), "leased");
    let lost = snapshot(&store, Some(cached), "lost");
    record(&store, "step", &[Some(cached)]);
    let config = image(&store, "{}", Some(imaged), &["app"]);
    let blob = store.put_blob(b"nobody's").unwrap();
    assert_eq!(
        store.gc().unwrap(),
        store::Collected::default(),
        "an open store keeps what it made"
    );
    drop(store);

    let store = Store::open(root.path()).unwrap();
    let lease = store.lease(&[leased], &[]).unwrap();
    fs::create_dir(root.path().join("snapshots/4711")).unwrap();
    fs::write(
        root.path()
            .join("blobs/sha256")
            .join(Digest::of(b"x").hex()),
        "x",
    )
    .unwrap();
    let collected = store.gc().unwrap();
    assert_eq!(
        (collected.snapshots, collected.blobs),
        (vec![lost], vec![blob])
    );
    assert_eq!(collected.bytes, 12);
    assert!(!root.path().join("snapshots/4711").exists());
    assert_eq!(
        fs::read_dir(root.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        1
    );
    drop(lease);
    assert_eq!(store.gc().unwrap().snapshots, [leased]);

    store.remove_image(&config).unwrap();
    store
        .forget_results(Timestamp::now() + Duration::from_secs(1))
        .unwrap();
    assert_eq!(store.gc().unwrap().snapshots, [imaged, cached, base]);
    assert!(is_empty(&root.path().join("snapshots")));
}

#[test]
fn a_key_is_held_by_one_at_a_time_and_leaves_no_file() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let held = store.lock_key(&key("step")).unwrap();
    assert!(store.try_lock_key(&key("step")).unwrap().is_none());
    assert!(store.try_lock_key(&key("other")).unwrap().is_some());
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| store.lock_key(&key("step")).unwrap());
        drop(held);
        drop(waiter.join().unwrap());
    });
    drop(
        store
            .try_lock_key(&key("step"))
            .unwrap()
            .expect("it is free again"),
    );
    assert!(is_empty(&root.path().join("locks")));
}

#[test]
fn a_cache_mount_is_one_directory_whatever_its_name() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let path = store.cache_mount("../../etc").unwrap();
    assert!(path.is_dir() && path.parent() == Some(&root.path().join("mounts")));
    assert_eq!(store.cache_mount("../../etc").unwrap(), path);
    assert_ne!(store.cache_mount("/root/.cache").unwrap(), path);
    let shared = [
        store.lock_cache_mount("c", Sharing::Shared).unwrap(),
        store.lock_cache_mount("c", Sharing::Shared).unwrap(),
    ];
    drop(shared);
    drop(store.lock_cache_mount("c", Sharing::Locked).unwrap());
}

#[test]
fn the_bytes_of_the_store_are_those_that_du_counts() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    snapshot(&store, None, &"x".repeat(100_000));
    fs::write(store.cache_mount("pip").unwrap().join("f"), vec![1; 30_000]).unwrap();
    let du = std::process::Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8(du.stdout).unwrap();
    let bytes: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(store.allocated().unwrap(), bytes);
}

#[test]
fn a_prune_takes_what_nobody_needs_and_leaves_what_is_in_use() {
    let root = scratch();
    let ids = {
        let store = Store::open(root.path()).unwrap();
        let base = snapshot(&store, None, "base");
        let imaged = snapshot(&store, Some(base), "imaged");
        image(&store, "{}", Some(imaged), &[]);
        let used = snapshot(&store, Some(base), "used");
        let unused = snapshot(&store, Some(used), "unused");
        record(&store, "used", &[Some(used)]);
        record(&store, "unused", &[Some(unused)]);
        [base, imaged, used, unused]
    };
    let store = Store::open(root.path()).unwrap();
    let other = Store::open(root.path()).unwrap();
    let everything = || store.plan_prune(&|_| true, &Budget::default()).unwrap();
    assert_eq!(everything().len(), 2, "images keep their layers");
    let planned = everything();
    // A build begins to use it between the plan and its execution.
    let lease = other.lease(&[ids[2]], &[]).unwrap();
    assert_eq!(everything().len(), 1);
    let gone: Vec<_> = store.prune(planned).unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].item.what, Stored::Snapshot(ids[3]));
    assert!(store.snapshot(ids[2]).is_ok() && store.result(&key("used")).unwrap().is_some());
    assert!(store.result(&key("unused")).unwrap().is_none());
    drop(lease);
    assert_eq!(store.prune(everything()).unwrap().len(), 1);
    assert_eq!(store.verify().unwrap(), []);
}

#[test]
fn room_is_made_of_layers_first_and_of_cache_mounts_last_and_never_of_images() {
    let root = scratch();
    let imaged = {
        let store = Store::open(root.path()).unwrap();
        let imaged = snapshot(&store, None, "imaged");
        image(&store, "{}", Some(imaged), &["app"]);
        record(&store, "imaged", &[Some(imaged)]);
        let cached = snapshot(&store, Some(imaged), "cached");
        record(&store, "cached", &[Some(cached)]);
        snapshot(&store, None, "unreachable");
        let mount = store.cache_mount("pip").unwrap();
        fs::write(mount.join("wheel"), "wheel").unwrap();
        imaged
    };
    let store = Store::open(root.path()).unwrap();
    let held = store.lock_cache_mount("pip", Sharing::Shared).unwrap();
    assert!(store.make_room().unwrap() > 0);
    assert!(store.result(&key("cached")).unwrap().is_none());
    assert_eq!(store.snapshots().unwrap().len(), 1);
    assert_eq!(store.make_room().unwrap(), 0, "a step uses the cache mount");
    drop(held);
    assert_eq!(store.cache_mounts().unwrap().len(), 1);
    assert!(store.make_room().unwrap() > 0);
    assert!(store.cache_mounts().unwrap().is_empty());
    assert_eq!(store.make_room().unwrap(), 0);
    assert!(store.snapshot(imaged).is_ok() && store.result(&key("imaged")).unwrap().is_some());
    assert_eq!(store.verify().unwrap(), []);
}

#[test]
fn the_budget_is_kept_after_builds_and_looked_at_now_and_then() {
    let root = scratch();
    let mark = root.path().join("budget");
    let days_ago = |store: &Store, days: i64, tables: &[&str]| {
        let database = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
        let time = Timestamp::now().as_microsecond() - days * 86_400_000_000;
        for table in tables {
            let columns = if *table == "snapshots" {
                "created = ?1"
            } else {
                "created = ?1, used = ?1"
            };
            database
                .execute(&format!("UPDATE {table} SET {columns}"), [time])
                .unwrap();
        }
    };
    {
        let store = Store::open(root.path()).unwrap();
        let layer = snapshot(&store, None, "layer");
        record(&store, "layer", &[Some(layer)]);
        store.cache_mount("pip").unwrap();
    }
    let store = Store::open(root.path()).unwrap();
    assert_eq!(store.keep_budget().unwrap().len(), 0, "all of it is new");
    days_ago(&store, 3, &["mounts", "results", "snapshots"]);
    assert_eq!(
        store.keep_budget().unwrap().len(),
        0,
        "it was looked at just now"
    );

    let look_again = || {
        let past = std::time::SystemTime::now() - Duration::from_secs(601);
        fs::File::open(&mark).unwrap().set_modified(past).unwrap();
        store.keep_budget().unwrap()
    };
    assert_eq!(look_again(), [], "there is not much of it");
    days_ago(&store, 61, &["mounts"]);
    let gone = look_again();
    assert_eq!(gone.len(), 1);
    assert!(matches!(gone[0].item.what, Stored::Mount(_)), "{gone:?}");
    assert_eq!(gone[0].reason, "not used for 60 days");
    assert!(store.result(&key("layer")).unwrap().is_some());
    days_ago(&store, 61, &["results", "snapshots"]);
    assert_eq!(look_again().len(), 1);
    assert!(store.snapshots().unwrap().is_empty());
    assert_eq!(store.verify().unwrap(), []);
}

#[test]
fn a_cache_mount_in_use_is_not_removed() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let path = store.cache_mount("pip").unwrap();
    let held = store.lock_cache_mount("pip", Sharing::Shared).unwrap();
    assert!(!store.remove_cache_mount("pip").unwrap());
    drop(held);
    assert!(store.remove_cache_mount("pip").unwrap());
    assert!(!path.exists() && store.cache_mounts().unwrap().is_empty());
}

#[test]
fn a_source_that_has_a_name_goes_when_nobody_brings_it_in() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let (named, nameless) = (key("named"), key("nameless"));
    store.note_source(&named, "https://host/r.git").unwrap();
    let path = store.source_directory(&named).unwrap();
    fs::create_dir(path.join("mirror")).unwrap();
    fs::write(path.join("mirror/pack"), [7; 10_000]).unwrap();
    store.source_directory(&nameless).unwrap();
    let items = store.usage().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].description, "a mirror of https://host/r.git");
    assert_eq!(items[0].kind(), "source.git.checkout");
    assert!(items[0].size > 10_000);

    let everything = || store.plan_prune(&|_| true, &Budget::default()).unwrap();
    let other = Store::open(root.path()).unwrap();
    let held = other.lock_key(&named).unwrap();
    assert_eq!(store.prune(everything()).unwrap(), []);
    drop(held);
    assert_eq!(store.prune(everything()).unwrap().len(), 1);
    assert!(!path.exists() && store.source_directory(&nameless).unwrap().is_dir());
    assert!(everything().is_empty());
}

#[test]
fn what_is_damaged_is_named_and_repaired() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let id = image(&store, "{}", None, &["app"]);
    let blob = store.put_blob(b"a layer").unwrap();
    assert_eq!(store.verify().unwrap(), []);
    fs::write(store.blob_path(&blob).unwrap(), b"a lawyer").unwrap();
    fs::remove_file(store.blob_path(&id).unwrap()).unwrap();
    fs::create_dir(root.path().join("snapshots/77")).unwrap();
    let damages = store.verify().unwrap();
    assert_eq!(damages.len(), 3, "{damages:?}");
    store.repair(&damages).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn builds_are_listed_from_the_latest() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let build = |name: &str| Build {
        name: name.to_owned(),
        started: Timestamp::from_second(1).unwrap(),
        duration: Duration::from_secs(2),
        steps: 3,
        cached: 1,
        image: Some(Digest::of(b"")),
        error: None,
        project: "/src".to_owned(),
    };
    store.record_build(&build("first"), &[], &[]).unwrap();
    store.record_build(&build("second"), &[], &[]).unwrap();
    let builds = store.builds(10).unwrap();
    assert_eq!(
        builds
            .iter()
            .map(|row| row.build.clone())
            .collect::<Vec<_>>(),
        [build("second"), build("first")]
    );
}

#[test]
fn how_long_a_step_took_and_whether_it_failed_is_in_the_history() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let build = |project: &str| Build {
        name: ".".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        duration: Duration::ZERO,
        steps: 1,
        cached: 0,
        image: None,
        error: None,
        project: project.to_owned(),
    };
    let step = |name: &str, seconds: u64, failure: Option<Failure>| RanStep {
        name: name.to_owned(),
        line: Some(2),
        key: key(name),
        why: "missing".to_owned(),
        duration: Some(Duration::from_secs(seconds)),
        failure,
    };
    let failure = Failure {
        error: "exit code: 1".to_owned(),
        kind: "content".to_owned(),
        preimage: json!({ "op": "make" }),
    };
    let make = step("[2/2] RUN make", 9, None);
    let first = store.record_build(&build("/a"), std::slice::from_ref(&make), &[]);
    let failed = step("[2/3] RUN make", 1, Some(failure));
    let second = store.record_build(&build("/b"), std::slice::from_ref(&failed), &[]);

    assert_eq!(store.ran_steps(first.unwrap()).unwrap(), [make]);
    assert_eq!(store.ran_steps(second.unwrap()).unwrap(), [failed]);
    let took = |alike, project| store.last_duration(alike, project).unwrap();
    let nine = Some(Duration::from_secs(9));
    assert_eq!(took(Alike::Named("[2/2] RUN make"), None), nine);
    assert_eq!(took(Alike::Beginning("[2/"), Some("/a")), nine);
    assert_eq!(took(Alike::Ending("] RUN make"), Some("/a")), nine);
    assert_eq!(
        took(Alike::Ending("] RUN make"), Some("/b")),
        None,
        "a failure says nothing"
    );
    assert_eq!(took(Alike::Named("[2/3] RUN make"), None), None);
    assert!(store.failed_before(&key("[2/3] RUN make"), 3).unwrap());
    assert!(!store.failed_before(&key("[2/3] RUN make"), 2).unwrap());
}

/// Each schema that there ever was is a file of SQL in `schemas`, with one of everything in it.
#[test]
fn a_store_of_an_earlier_program_is_brought_up_to_date_and_loses_nothing() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let mut tried = 0;
    for schema in fs::read_dir(schemas).unwrap() {
        let root = scratch();
        for directory in ["blobs", "blobs/sha256", "locks", "mounts/aa", "stat", "tmp"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let layer = root.path().join("snapshots/7/fs");
        fs::create_dir_all(&layer).unwrap();
        let sql = fs::read_to_string(schema.unwrap().path()).unwrap();
        let database = rusqlite::Connection::open(root.path().join("db.sqlite")).unwrap();
        database.execute_batch(&sql).unwrap();
        drop(database);

        let store = Store::open(root.path()).unwrap();
        let zero = Key::from_bytes([0; 32]);
        let found = store.result(&zero).unwrap().unwrap();
        assert_eq!(found.outputs, [Some(SnapshotId(7))]);
        let known = store.record_of(&zero).unwrap().unwrap();
        assert_eq!((known.project.as_str(), known.made), ("", None));
        assert_eq!(known.duration, Duration::from_millis(9));
        assert_eq!(store.builds(9).unwrap()[0].build.name, ".");
        assert_eq!(store.cache_mounts().unwrap()[0].id, "pip");
        assert_eq!(store.usage().unwrap().len(), 2);

        // What is written by this program stands beside it, also for one that opens it later.
        record(&store, "new", &[Some(SnapshotId(7))]);
        let build = store.builds(1).unwrap().remove(0).build;
        store.record_build(&build, &[], &[zero]).unwrap();
        drop(store);
        let again = Store::open(root.path()).unwrap();
        assert_eq!(again.builds(9).unwrap().len(), 2);
        assert!(again.result(&key("new")).unwrap().is_some());
        assert_eq!(again.verify().unwrap(), []);
        tried += 1;
    }
    assert!(tried > 0);
}

/// As many processes as like may find the old schema at the same time.
#[test]
fn an_earlier_schema_is_brought_up_to_date_once_whoever_comes_first() {
    let root = scratch();
    fs::create_dir_all(root.path().join("locks")).unwrap();
    for directory in ["blobs/sha256", "snapshots", "mounts", "stat", "tmp"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let database = rusqlite::Connection::open(root.path().join("db.sqlite")).unwrap();
    database
        .execute_batch(include_str!("schemas/1.sql"))
        .unwrap();
    drop(database);
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Store::open(root.path()).unwrap().builds(9).unwrap().len()))
            .collect();
        for opener in openers {
            assert_eq!(opener.join().unwrap(), 1);
        }
    });
}

#[test]
fn work_directories_go_with_their_guard_and_whatever_is_in_them() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let directory = store.tmp_dir().unwrap();
    let closed = directory.path().join("work/work");
    fs::create_dir_all(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let path = directory.path().to_owned();
    drop(directory);
    assert!(!path.exists());
}

#[test]
fn a_work_directory_that_was_let_go_of_goes_while_its_store_lives() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let directory = store.tmp_dir().unwrap();
    let path = directory.path().to_owned();
    fs::create_dir(path.join("work")).unwrap();
    directory.let_go();
    let begun = std::time::Instant::now();
    while path.exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!path.exists());
}

#[test]
fn a_live_owners_work_is_left_alone() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let directory = store.tmp_dir().unwrap();
    let other = Store::open(root.path()).unwrap();
    other.gc().unwrap();
    assert!(directory.path().is_dir());
}

/// SQLite's locks belong to the process and end when any descriptor of the file is closed.
#[test]
fn opening_a_store_again_takes_no_lock_from_the_first() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    store.images().unwrap();
    let inode = fs::metadata(root.path().join("db.sqlite")).unwrap().ino();
    let is_locked = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("POSIX") && line.contains(&format!(":{inode} ")))
    };
    assert!(is_locked());
    drop(Store::open(root.path()).unwrap());
    assert!(is_locked());
}

fn open_error(root: &Path) -> String {
    Store::open(root).unwrap_err().to_string()
}

#[test]
fn a_store_of_a_newer_rbuild_is_refused() {
    let root = scratch();
    drop(Store::open(root.path()).unwrap());
    let database = rusqlite::Connection::open(root.path().join("db.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    let shown = root.path().display();
    assert_eq!(
        open_error(root.path()),
        format!("the store `{shown}` was written by a newer rbuild (schema 99, this one knows 8)")
    );
}

#[test]
fn a_damaged_database_is_called_so() {
    let root = scratch();
    drop(Store::open(root.path()).unwrap());
    let path = root.path().join("db.sqlite");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(root.path().join(format!("db.sqlite{suffix}"))).unwrap();
    }
    fs::write(
        &path,
        "garbage, nothing but garbage, for more than the hundred bytes of a header".repeat(10),
    )
    .unwrap();
    assert_eq!(
        open_error(root.path()),
        format!("the store's database `{}` is damaged", path.display())
    );
}

#[test]
fn a_file_is_no_store() {
    let root = scratch();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(
        Store::open(&file),
        Err(OpenError::NotADirectory { .. })
    ));
    assert!(matches!(
        Store::open(&file.join("below")),
        Err(OpenError::NotADirectory { .. })
    ));
}

#[test]
fn as_root_a_store_of_another_user_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let root = scratch();
    chown(root.path(), Some(4242), None).unwrap();
    let shown = root.path().display();
    assert_eq!(
        open_error(root.path()),
        format!("the store `{shown}` belongs to user 4242, not to user 0")
    );
}

#[test]
fn the_store_is_closed_to_others() {
    let root = scratch();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    drop(Store::open(root.path()).unwrap());
    assert_eq!(
        fs::metadata(root.path()).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

/// A small tmpfs at a directory, as long as the guard lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: usize) -> Self {
        let directory = scratch();
        let options = std::ffi::CString::new(format!("size={bytes},mode=700")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            flags,
            options.as_c_str(),
        )
        .expect("this test needs root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn as_root_a_full_disk_is_called_so_and_the_store_survives_it() {
    let disk = SmallDisk::new(2 << 20);
    let root = disk.0.path();
    let store = Store::open(root).unwrap();
    let small = store.put_blob(b"small").unwrap();
    let full = format!(
        "no space left on the disk of the store `{}`",
        root.display()
    );
    let mut writer = store.blob_writer().unwrap();
    let error = std::iter::repeat_with(|| writer.append(&[7; 1 << 16]))
        .find_map(Result::err)
        .unwrap();
    assert_eq!(error.to_string(), full);
    // While the disk is full, the database cannot grow either.
    let failed =
        (0..1000).find_map(|number| store.cache_mount(&format!("{number}").repeat(500)).err());
    assert_eq!(failed.map(|error| error.to_string()), Some(full));
    drop(writer);
    assert_eq!(store.put_blob(b"next").unwrap(), Digest::of(b"next"));
    assert!(store.has_blob(&small).unwrap());
}

#[test]
fn as_root_a_read_only_store_is_called_so() {
    let disk = SmallDisk::new(2 << 20);
    let root = disk.0.path();
    drop(Store::open(root).unwrap());
    rustix::mount::mount_remount(root, rustix::mount::MountFlags::RDONLY, c"").unwrap();
    assert_eq!(
        open_error(root),
        format!("the store `{}` cannot be written", root.display())
    );
    assert!(open_error(&root.join("below")).ends_with("/below` cannot be written"));
}

#[test]
fn where_an_images_history_stands_is_known_as_long_as_the_image() {
    let root = scratch();
    let store = Store::open(root.path()).unwrap();
    let id = store.put_blob(b"{}").unwrap();
    let image = ImageRecord {
        id,
        top: None,
        diff_ids: Vec::new(),
        manifest: None,
        created: None,
        size: 0,
    };
    let origins = |file: &str| Origins {
        file: file.to_owned(),
        lines: vec![None, Some((3, 5))],
    };
    store.put_image(&image, &[]).unwrap();
    store.put_origins(&id, &origins("Dockerfile")).unwrap();
    // The same image from another file keeps its first.
    store.put_origins(&id, &origins("other")).unwrap();
    assert_eq!(store.origins(&id).unwrap(), Some(origins("Dockerfile")));
    store.remove_image(&id).unwrap();
    assert_eq!(store.origins(&id).unwrap(), None);
}
