//! Archives written, read, and refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::error::Error;
use std::fs;
use std::io::Write;

use export::{Change, Compression, ImportOptions, Output, SaveOptions};
use oci::{Digest, ImageConfig, media_type};
use serde_json::json;
use support::{Fixture, Part, archive, blob, config, descriptor, file, files, layer, rootfs};

fn save(fixture: &Fixture, words: &[&str], compression: Option<Compression>) -> Vec<u8> {
    let options = SaveOptions {
        compression,
        level: Some(1),
        ..SaveOptions::default()
    };
    let mut bytes = Vec::new();
    export::save(
        &fixture.snapshots,
        words,
        &options,
        Output::Stream(&mut bytes),
    )
    .unwrap();
    let path = fixture.path("saved.tar");
    export::save(&fixture.snapshots, words, &options, Output::File(&path)).unwrap();
    assert!(
        fs::read(path).unwrap() == bytes,
        "a file holds what a stream got"
    );
    bytes
}

fn names(fixture: &Fixture, id: &Digest) -> Vec<String> {
    fixture
        .store()
        .names(id)
        .unwrap()
        .iter()
        .map(oci::Reference::familiar)
        .collect()
}

#[test]
fn an_image_saved_and_loaded_elsewhere_is_the_same_image() {
    let here = Fixture::new();
    let id = here.image();
    for compression in [
        None,
        Some(Compression::None),
        Some(Compression::Gzip),
        Some(Compression::Zstd),
    ] {
        let bytes = save(&here, &["app:v1", "app:latest"], compression);
        let there = Fixture::new();
        let loaded = export::load(&there.snapshots, &bytes[..], &[]).unwrap();
        assert_eq!(loaded.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
        assert_eq!(names(&there, &id), ["app:latest", "app:v1"]);
        let image = there.store().image(&id).unwrap().unwrap();
        let content = |it: &Fixture| {
            let top = it.store().image(&id).unwrap().unwrap().top;
            it.snapshots.content(top).unwrap()
        };
        assert_eq!(content(&here), content(&there), "the files are the same");
        assert_eq!(
            image.diff_ids,
            here.store().image(&id).unwrap().unwrap().diff_ids
        );
        assert!(
            save(&there, &["app:v1", "app:latest"], None) == bytes,
            "and it can be passed on as it came"
        );
    }
}

#[test]
fn an_archive_may_be_packed_itself() {
    let here = Fixture::new();
    let id = here.image();
    let bytes = save(&here, &["app:v1"], None);
    let packed = [
        pack(
            flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()),
            &bytes,
            flate2::write::GzEncoder::finish,
        ),
        pack(
            zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap(),
            &bytes,
            zstd::stream::write::Encoder::finish,
        ),
        pack(
            bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast()),
            &bytes,
            bzip2::write::BzEncoder::finish,
        ),
        pack(
            liblzma::write::XzEncoder::new(Vec::new(), 1),
            &bytes,
            liblzma::write::XzEncoder::finish,
        ),
    ];
    for packed in packed {
        let there = Fixture::new();
        assert_eq!(
            export::load(&there.snapshots, &packed[..], &[]).unwrap()[0].id,
            id
        );
    }
}

fn pack<W: Write>(
    mut encoder: W,
    bytes: &[u8],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> Vec<u8> {
    encoder.write_all(bytes).unwrap();
    finish(encoder).unwrap()
}

#[test]
fn a_word_says_which_names_are_saved() {
    let here = Fixture::new();
    let id = here.image();
    let cases: &[(&[&str], &[&str])] = &[
        (&["app:v1"], &["app:v1"]),
        (&["app"], &["app:latest", "app:v1"]),
        (&["app:v1", "app:v1", &id.short()], &["app:v1"]),
        (&[&id.hex()], &[]),
    ];
    for (words, expected) in cases {
        let there = Fixture::new();
        let loaded = export::load(&there.snapshots, &save(&here, words, None)[..], &[]).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(names(&there, &id), *expected, "{words:?}");
    }
    let both = Fixture::new();
    assert_eq!(
        export::load(
            &both.snapshots,
            &save(&here, &["app:v1", "base"], None)[..],
            &[]
        )
        .unwrap()
        .len(),
        2
    );
    let error = export::save(
        &here.snapshots,
        &["nothing"],
        &SaveOptions::default(),
        Output::Stream(&mut Vec::new()),
    );
    assert_eq!(error.unwrap_err().to_string(), "No such image: nothing");
}

#[test]
fn a_layer_that_two_images_share_is_written_once() {
    let here = Fixture::new();
    here.image();
    let [one, both] = [
        save(&here, &["app:v1"], None),
        save(&here, &["app:v1", "base"], None),
    ];
    assert!(
        both.len() < one.len() + 16_384,
        "{} and {}",
        one.len(),
        both.len()
    );
}

#[test]
fn a_save_that_fails_leaves_the_file_as_it_was() {
    let here = Fixture::new();
    let id = here.image();
    let directory = here.path("out");
    fs::create_dir(&directory).unwrap();
    let target = directory.join("image.tar");
    fs::write(&target, "before").unwrap();
    let base = here
        .store()
        .ancestry(here.store().image(&id).unwrap().unwrap().top.unwrap())
        .unwrap()[0]
        .id;
    fs::remove_file(here.store().snapshot_fs(base).join("big")).unwrap();
    let error = export::save(
        &here.snapshots,
        &["app:v1"],
        &SaveOptions::default(),
        Output::File(&target),
    );
    assert!(error.is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "before");
    assert_eq!(files(&directory), ["image.tar"]);

    let nowhere = here.path("no/such/directory.tar");
    let error = export::save(
        &here.snapshots,
        &["app:v1"],
        &SaveOptions::default(),
        Output::File(&nowhere),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("cannot create `{}`", nowhere.display())
    );
}

#[test]
fn a_closed_pipe_ends_a_save() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let here = Fixture::new();
    here.image();
    let error = export::save(
        &here.snapshots,
        &["app:v1"],
        &SaveOptions::default(),
        Output::Stream(&mut Closed),
    );
    assert_eq!(error.unwrap_err().to_string(), "cannot write the archive");
}

#[test]
fn a_name_that_is_taken_from_another_image_is_told() {
    let here = Fixture::new();
    here.image();
    let bytes = save(&here, &["app:v1"], None);
    let there = Fixture::new();
    let other = there.image();
    let loaded = export::load(&there.snapshots, &bytes[..], &[]).unwrap();
    assert_eq!(loaded[0].taken, [("app:v1".parse().unwrap(), other)]);
    assert_eq!(names(&there, &other), ["app:latest"]);
}

/// What docker wrote before version 25: a directory a layer, and links for layers it had already.
#[test]
fn the_old_kind_with_linked_layers_is_read() {
    let (a, b) = (layer("a", "a"), layer("b", "b"));
    let diff_ids = [&a, &b, &a].map(|it| Digest::of(it));
    let config = config(&diff_ids);
    let hex = Digest::of(&config).hex();
    let manifest = json!([{
        "Config": format!("{hex}.json"),
        "RepoTags": ["old:1"],
        "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"],
    }]);
    let parts = [
        file("one/VERSION", "1.0"),
        file("one/json", "{}"),
        file("one/layer.tar", a),
        Part::Link("three/layer.tar".into(), "../one/layer.tar".into()),
        file("two/layer.tar", b),
        file(&format!("{hex}.json"), config.clone()),
        file("manifest.json", manifest.to_string()),
        file("repositories", "{}"),
    ];
    let there = Fixture::new();
    let loaded = export::load(&there.snapshots, &archive(&parts)[..], &[]).unwrap();
    assert_eq!(loaded[0].id, Digest::of(&config));
    assert_eq!(names(&there, &loaded[0].id), ["old:1"]);
    let top = there
        .store()
        .image(&loaded[0].id)
        .unwrap()
        .unwrap()
        .top
        .unwrap();
    assert_eq!(there.store().ancestry(top).unwrap().len(), 3);
    assert_eq!(
        there.blobs(),
        3,
        "two layers and a config; the rest is gone"
    );
}

/// An OCI layout: its parts, and the digest of its only image.
fn layout(index_of: impl FnOnce(serde_json::Value) -> serde_json::Value) -> (Vec<Part>, Digest) {
    let tar = layer("a", "a");
    let config = config(&[Digest::of(&tar)]);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": descriptor(media_type::CONFIG, &config),
        "layers": [descriptor(media_type::LAYER, &tar)],
    })
    .to_string();
    let index = index_of(descriptor(media_type::MANIFEST, manifest.as_bytes()));
    let parts = vec![
        file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        file("index.json", index.to_string()),
        blob(&tar),
        blob(&config),
        blob(manifest.as_bytes()),
    ];
    (parts, Digest::of(&config))
}

fn with(
    mut descriptor: serde_json::Value,
    field: &str,
    value: serde_json::Value,
) -> serde_json::Value {
    descriptor[field] = value;
    descriptor
}

#[test]
fn a_layout_names_its_images_by_annotation() {
    let full = "docker.io/library/app:1";
    let cases = [
        (
            json!({ "io.containerd.image.name": full, "org.opencontainers.image.ref.name": "1" }),
            vec!["app:1"],
        ),
        (
            json!({ "org.opencontainers.image.ref.name": full }),
            vec!["app:1"],
        ),
        (json!({ "org.opencontainers.image.ref.name": "1" }), vec![]),
        (json!({}), vec![]),
    ];
    for (annotations, expected) in cases {
        let (parts, id) =
            layout(|it| json!({ "manifests": [with(it, "annotations", annotations)] }));
        let there = Fixture::new();
        assert_eq!(
            export::load(&there.snapshots, &archive(&parts)[..], &[]).unwrap()[0].id,
            id
        );
        assert_eq!(names(&there, &id), expected);
    }
}

#[test]
fn a_layout_may_be_a_directory() {
    let (parts, id) = layout(|it| json!({ "manifests": [it] }));
    let there = Fixture::new();
    let directory = there.path("layout");
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    for part in &parts {
        if let Part::File(path, bytes) = part {
            fs::write(directory.join(path), bytes).unwrap();
        }
    }
    assert_eq!(
        export::load_directory(&there.snapshots, &directory).unwrap()[0].id,
        id
    );

    let evil = directory.join("blobs/sha256").join(Digest::of(b"x").hex());
    std::os::unix::fs::symlink("/etc/hostname", evil).unwrap();
    assert!(
        export::load_directory(&there.snapshots, &directory).is_err(),
        "a link leads out of it"
    );
}

/// As docker writes with the containerd store: an index of platforms, with attestations between.
#[test]
fn the_image_for_this_machine_is_taken_from_an_index() {
    let host = oci::Platform::host();
    let platform = |os: &str, architecture: &str| json!({ "os": os, "architecture": architecture });
    let nowhere = || descriptor(media_type::MANIFEST, b"not in the archive");
    let mut nested = Vec::new();
    let (mut parts, id) = layout(|image| {
        let index = json!({ "mediaType": media_type::INDEX, "manifests": [
            with(nowhere(), "platform", platform("linux", "s390x")),
            with(image, "platform", platform(&host.os, &host.architecture)),
            with(nowhere(), "platform", platform("unknown", "unknown")),
        ]});
        nested = index.to_string().into_bytes();
        json!({ "manifests": [descriptor(media_type::INDEX, &nested)] })
    });
    parts.push(blob(&nested));
    let there = Fixture::new();
    assert_eq!(
        export::load(&there.snapshots, &archive(&parts)[..], &[]).unwrap()[0].id,
        id
    );
}

/// The sentence with which `bytes` are refused, after which nothing is left of them.
fn refusal(there: &Fixture, bytes: &[u8]) -> String {
    let (images, blobs) = (there.store().images().unwrap().len(), there.blobs());
    let error = export::load(&there.snapshots, bytes, &[]).expect_err("it is refused");
    assert_eq!(
        there.store().images().unwrap().len(),
        images,
        "no image is left"
    );
    assert_eq!(there.blobs(), blobs, "no blob is left");
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}

#[track_caller]
fn check_refused(parts: &[Part], sentence: &str) {
    let there = Fixture::new();
    let refusal = refusal(&there, &archive(parts));
    assert!(refusal.starts_with(sentence), "{refusal}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let there = Fixture::new();
    let saved = {
        let here = Fixture::new();
        here.image();
        save(&here, &["app:v1"], None)
    };
    assert!(refusal(&there, b"").starts_with("this is no image archive"));
    assert!(
        refusal(&there, &b"hello, world. ".repeat(100)).starts_with("cannot read the archive: ")
    );
    assert!(refusal(&there, &saved[..saved.len() / 2]).starts_with("archive entry `blobs/sha256/"));
    assert!(refusal(&there, &rootfs()).starts_with("this is no image archive"));
    let packed = pack(
        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()),
        &saved,
        flate2::write::GzEncoder::finish,
    );
    assert!(refusal(&there, &packed[..packed.len() / 2]).starts_with("cannot read the archive: "));
}

#[test]
fn paths_that_lead_outside_are_refused() {
    check_refused(
        &[file("../escape", "x")],
        "archive entry `../escape` leaves the archive",
    );
    check_refused(
        &[file("/etc/passwd", "x")],
        "archive entry `/etc/passwd` leaves the archive",
    );
    let link = Part::Link("a/layer.tar".into(), "../../etc/shadow".into());
    check_refused(&[link], "archive entry `a/layer.tar` leaves the archive");
    let config = config(&[]);
    let manifest = |layer: &str| {
        json!([{ "Config": "c.json", "RepoTags": null, "Layers": [layer] }]).to_string()
    };
    let parts = [
        file("c.json", config.clone()),
        file("manifest.json", manifest("../../etc/shadow")),
    ];
    check_refused(
        &parts,
        "archive entry `../../etc/shadow` leaves the archive",
    );
    let parts = [
        file("c.json", config.clone()),
        Part::Link("loop".into(), "loop".into()),
        file("manifest.json", manifest("loop")),
    ];
    check_refused(
        &parts,
        "`manifest.json` names `loop`, which is not in the archive",
    );
    let parts = [
        file("c.json", config),
        file("manifest.json", manifest("l.tar")),
    ];
    check_refused(
        &parts,
        "`manifest.json` names `l.tar`, which is not in the archive",
    );
    check_refused(
        &[file("twice", "a"), file("twice", "b")],
        "archive entry `twice` comes twice",
    );
}

#[test]
fn blobs_that_are_not_what_they_are_called_are_refused() {
    let honest = Digest::of(b"honest").hex();
    let path = format!("blobs/sha256/{honest}");
    check_refused(
        &[file(&path, "forged")],
        &format!("`{path}` has the digest {}", Digest::of(b"forged")),
    );
    let parts = [
        file(&format!("{honest}.json"), "{}"),
        file(
            "manifest.json",
            json!([{
                "Config": format!("{honest}.json"), "RepoTags": null, "Layers": [],
            }])
            .to_string(),
        ),
    ];
    check_refused(
        &parts,
        &format!("`{honest}.json` has the digest {}", Digest::of(b"{}")),
    );
    let (parts, _) = layout(|it| json!({ "manifests": [with(it, "size", json!(7))] }));
    check_refused(&parts, "`blobs/sha256/");
    let (parts, _) = layout(
        |it| json!({ "manifests": [with(it, "digest", json!("sha256:../../../etc/passwd"))] }),
    );
    check_refused(
        &parts,
        "`index.json` cannot be read: digest `sha256:../../../etc/passwd` is not of the form",
    );
}

#[test]
fn documents_are_bounded_and_mean_one_thing() {
    let huge = vec![b' '; (4 << 20) + 1];
    check_refused(
        &[file("index.json", huge)],
        "`index.json` has 4194305 bytes, more than the 4194304",
    );
    let parts = [
        file("c.json", vec![b' '; (8 << 20) + 1]),
        file("manifest.json", r#"[{"Config":"c.json"}]"#),
    ];
    check_refused(&parts, "`c.json` has 8388609 bytes, more than the 8388608");
    check_refused(
        &[file("index.json", "{")],
        "`index.json` cannot be read: EOF",
    );
    check_refused(
        &[file("index.json", r#"{"manifests":[]}"#)],
        "the archive holds no image",
    );
    check_refused(
        &[file("index.json", "{}")],
        "`index.json` is refused: it is neither a manifest nor an index",
    );
    check_refused(
        &[file("manifest.json", "{}")],
        "`manifest.json` cannot be read",
    );
    let tar = layer("a", "a");
    let config = config(&[Digest::of(&tar)]);
    let both = json!({
        "config": descriptor(media_type::CONFIG, &config),
        "layers": [],
        "manifests": [descriptor(media_type::MANIFEST, b"x")],
    })
    .to_string();
    let index =
        json!({ "manifests": [descriptor(media_type::MANIFEST, both.as_bytes())] }).to_string();
    let parts = [
        file("index.json", index),
        blob(both.as_bytes()),
        blob(&config),
    ];
    let name = format!("blobs/sha256/{}", Digest::of(both.as_bytes()).hex());
    check_refused(
        &parts,
        &format!("`{name}` is refused: it is a manifest and an index at once"),
    );
}

#[test]
fn the_two_halves_of_an_archive_must_agree() {
    let (mut parts, _) = layout(|it| json!({ "manifests": [it] }));
    let other = config(&[]);
    parts.push(file("other.json", other.clone()));
    parts.push(file(
        "manifest.json",
        r#"[{"Config":"other.json","RepoTags":["trusted:1"],"Layers":[]}]"#,
    ));
    let id = Digest::of(&other);
    check_refused(
        &parts,
        &format!("`manifest.json` tells of image {id}, but `index.json` does not"),
    );
}

#[test]
fn bad_names_are_refused() {
    let parts = [
        file("c.json", config(&[])),
        file(
            "manifest.json",
            r#"[{"Config":"c.json","RepoTags":["../../UPPER:x"],"Layers":[]}]"#,
        ),
    ];
    check_refused(
        &parts,
        "`manifest.json` gives an image a bad name: invalid reference format",
    );
}

/// An archive of the first kind with one layer, whatever its config promises.
fn one_layer(tar: &[u8], promised: Digest) -> Vec<u8> {
    let manifest = r#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l.tar"]}]"#;
    archive(&[
        file("c.json", config(&[promised])),
        file("l.tar", tar),
        file("manifest.json", manifest),
    ])
}

#[test]
fn a_layer_that_is_not_what_the_config_promises_is_refused_whatever_came_before() {
    let (honest, forged) = (layer("a", "honest"), layer("a", "forged"));
    let promised = Digest::of(&honest);
    let sentence = format!(
        "layer `l.tar` is {} unpacked, but the config says {promised}",
        Digest::of(&forged)
    );
    let there = Fixture::new();
    assert_eq!(refusal(&there, &one_layer(&forged, promised)), sentence);
    export::load(&there.snapshots, &one_layer(&honest, promised)[..], &[]).unwrap();
    assert_eq!(refusal(&there, &one_layer(&forged, promised)), sentence);
}

#[test]
fn a_config_with_another_number_of_layers_is_refused() {
    let tar = layer("a", "a");
    let manifest = r#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}]"#;
    let twice = [Digest::of(&tar), Digest::of(&tar)];
    let parts = [
        file("c.json", config(&twice)),
        file("l.tar", tar),
        file("manifest.json", manifest),
    ];
    check_refused(&parts, "`manifest.json` has 1 layers, but its config has 2");
}

#[test]
fn a_layer_packed_as_no_reader_expects_is_kept_unpacked() {
    let tar = layer("a", "a");
    let xz = pack(liblzma::write::XzEncoder::new(Vec::new(), 1), &tar, |it| {
        it.finish()
    });
    let there = Fixture::new();
    let loaded =
        export::load(&there.snapshots, &one_layer(&xz, Digest::of(&tar))[..], &[]).unwrap();
    assert!(there.store().has_blob(&Digest::of(&tar)).unwrap());
    assert!(!there.store().has_blob(&Digest::of(&xz)).unwrap());
    let again = Fixture::new();
    assert_eq!(
        export::load(&again.snapshots, &save(&there, &["app:1"], None)[..], &[]).unwrap()[0].id,
        loaded[0].id
    );
}

#[test]
fn a_root_file_system_becomes_an_image_of_one_layer() {
    let there = Fixture::new();
    let changes = ["ENV A=b", "CMD [\"sh\"]", "LABEL x=y"].map(|it| Change::parse(it).unwrap());
    let options = ImportOptions {
        name: Some("base:1".parse().unwrap()),
        changes: changes.to_vec(),
        message: "from a test".to_owned(),
        ..ImportOptions::default()
    };
    let packed = pack(
        liblzma::write::XzEncoder::new(Vec::new(), 1),
        &rootfs(),
        liblzma::write::XzEncoder::finish,
    );
    let id = export::import(&there.snapshots, &packed[..], &options).unwrap();
    let config: ImageConfig =
        serde_json::from_reader(there.store().open_blob(&id).unwrap()).unwrap();
    assert_eq!(config.config.env, ["A=b"]);
    assert_eq!(config.history.len(), 1);
    assert_eq!(config.history[0].comment, "from a test");
    assert_eq!(config.platform(), oci::Platform::host());
    assert_eq!(there.store().resolve("base:1").unwrap().id, id);
    assert_eq!(
        there.blobs(),
        1,
        "the config only: the layer's bytes come from its files"
    );

    let again = export::import(&there.snapshots, &rootfs()[..], &ImportOptions::default()).unwrap();
    let layers = |id: &Digest| there.store().image(id).unwrap().unwrap().diff_ids;
    assert_eq!(layers(&id), layers(&again), "however it was packed");
}

#[test]
fn a_root_file_system_that_is_cut_short_is_no_image() {
    let there = Fixture::new();
    let tar = rootfs();
    assert!(
        export::import(
            &there.snapshots,
            &tar[..tar.len() / 2],
            &ImportOptions::default()
        )
        .is_err()
    );
    assert!(there.store().images().unwrap().is_empty());
}
