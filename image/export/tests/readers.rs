//! The other programs that read and write images, as installed: skopeo, umoci, podman.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use export::{Compression, ImportOptions, Output, SaveOptions};
use oci::Digest;
use serde_json::Value;
use support::{Fixture, files};

/// Runs a program that has to succeed; returns what it prints.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn save(fixture: &Fixture, words: &[&str], compression: Option<Compression>) -> PathBuf {
    let path = fixture.path("image.tar");
    let options = SaveOptions {
        compression,
        level: Some(1),
        ..SaveOptions::default()
    };
    export::save(&fixture.snapshots, words, &options, Output::File(&path)).unwrap();
    path
}

fn load(fixture: &Fixture, path: &Path) -> Digest {
    let loaded = export::load(&fixture.snapshots, fs::File::open(path).unwrap(), &[]).unwrap();
    assert_eq!(loaded.len(), 1);
    loaded[0].id
}

const COMPRESSIONS: [Option<Compression>; 3] =
    [None, Some(Compression::Gzip), Some(Compression::Zstd)];

#[test]
fn skopeo_reads_both_halves_of_what_is_saved() {
    let here = Fixture::new();
    let id = here.image();
    for compression in COMPRESSIONS {
        let path = save(&here, &["app:v1"], compression);
        for transport in ["docker-archive", "oci-archive"] {
            let source = format!("{transport}:{}", path.display());
            let seen: Value = serde_json::from_str(&run("skopeo", &["inspect", &source])).unwrap();
            assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
            assert_eq!(seen["Os"], "linux");
            let config = run("skopeo", &["inspect", "--config", "--raw", &source]);
            assert_eq!(
                Digest::of(config.as_bytes()),
                id,
                "{transport} {compression:?}"
            );
            // Copying reads and verifies every layer.
            let copy = here.path("copy");
            run(
                "skopeo",
                &[
                    "copy",
                    "--insecure-policy",
                    &source,
                    &format!("dir:{}", copy.display()),
                ],
            );
            assert!(
                files(&copy).contains(&id.hex()),
                "{transport} {compression:?}"
            );
            fs::remove_dir_all(copy).unwrap();
        }
    }
}

#[test]
fn what_skopeo_writes_is_loaded() {
    let here = Fixture::new();
    let id = here.image();
    let source = format!(
        "docker-archive:{}",
        save(&here, &["app:v1"], None).display()
    );
    for (transport, name) in [
        ("docker-archive", "app:copy"),
        ("oci-archive", "docker.io/library/app:copy"),
    ] {
        let path = here.path("copy.tar");
        let target = format!("{transport}:{}:{name}", path.display());
        run("skopeo", &["copy", "--insecure-policy", &source, &target]);
        let there = Fixture::new();
        assert_eq!(load(&there, &path), id);
        assert_eq!(
            there.store().resolve("app:copy").unwrap().id,
            id,
            "{transport}"
        );
        fs::remove_file(path).unwrap();
    }
    let layout = here.path("layout");
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            &source,
            &format!("oci:{}:v1", layout.display()),
        ],
    );
    let there = Fixture::new();
    assert_eq!(
        export::load_directory(&there.snapshots, &layout).unwrap()[0].id,
        id
    );
}

#[test]
fn as_root_umoci_unpacks_what_is_saved() {
    let here = Fixture::new();
    here.image();
    for compression in [None, Some(Compression::Gzip)] {
        let layout = here.path("layout");
        fs::create_dir(&layout).unwrap();
        let archive = save(&here, &["app:v1"], compression);
        run(
            "tar",
            &[
                "-xf",
                archive.to_str().unwrap(),
                "-C",
                layout.to_str().unwrap(),
            ],
        );
        let bundle = here.path("bundle");
        let image = format!("{}:v1", layout.display());
        run(
            "umoci",
            &["unpack", "--image", &image, bundle.to_str().unwrap()],
        );
        let root = bundle.join("rootfs");
        assert_eq!(
            files(&root),
            ["added", "big", "bin"],
            "the upper layer's removal counts"
        );
        assert_eq!(fs::read_to_string(root.join("bin/ash")).unwrap(), "#!/no\n");
        fs::remove_dir_all(layout).unwrap();
        fs::remove_dir_all(bundle).unwrap();
    }
}

/// podman with a store of its own.
fn podman(home: &Path, args: &[&str]) -> String {
    let [root, run_root, tmp] =
        ["root", "run", "tmp"].map(|it| home.join(it).to_str().unwrap().to_owned());
    let own = [
        "--root",
        &root,
        "--runroot",
        &run_root,
        "--tmpdir",
        &tmp,
        "--storage-driver",
        "vfs",
    ];
    run("podman", &[&own[..], args].concat())
}

#[test]
fn as_root_podman_loads_what_is_saved_and_saves_what_is_loaded() {
    let here = Fixture::new();
    let id = here.image();
    for compression in COMPRESSIONS {
        let home = tempfile::tempdir().unwrap();
        let archive = save(&here, &["app:v1", "base"], compression);
        let said = podman(
            home.path(),
            &["load", "--quiet", "--input", archive.to_str().unwrap()],
        );
        // Which registry a short name means is podman's to say; of archives it says `localhost`.
        assert!(
            said.contains("localhost/app:v1") && said.contains("localhost/base:latest"),
            "{said}"
        );
        let seen = podman(
            home.path(),
            &["image", "inspect", "--format", "{{.Id}}", "app:v1"],
        );
        assert_eq!(seen.trim(), id.hex(), "{compression:?}");
    }
    let home = tempfile::tempdir().unwrap();
    let archive = save(&here, &["app:v1"], None);
    podman(
        home.path(),
        &["load", "--quiet", "--input", archive.to_str().unwrap()],
    );
    for format in ["docker-archive", "oci-archive"] {
        let path = home.path().join(format);
        podman(
            home.path(),
            &[
                "save",
                "--quiet",
                "--format",
                format,
                "--output",
                path.to_str().unwrap(),
                "app:v1",
            ],
        );
        let there = Fixture::new();
        let loaded = load(&there, &path);
        let image = there.store().image(&loaded).unwrap().unwrap();
        assert_eq!(
            image.diff_ids,
            here.store().image(&id).unwrap().unwrap().diff_ids,
            "{format}"
        );
        let names = there.store().names(&loaded).unwrap();
        let names: Vec<_> = names.iter().map(oci::Reference::familiar).collect();
        // An archive of one image podman reads as OCI's, and keeps the full name.
        assert_eq!(names, ["app:v1"], "{format}");
    }
}

/// Limits of its own, because podman would raise those of its caller; `runc`, because `crun` gives
/// up where cgroups are of both versions.
#[test]
fn as_root_podman_runs_what_is_saved() {
    let here = Fixture::new();
    let mut rootfs = Vec::new();
    kit::busybox::write_rootfs(&mut rootfs).unwrap();
    let options = ImportOptions {
        name: Some("busybox:1".parse().unwrap()),
        ..ImportOptions::default()
    };
    export::import(&here.snapshots, &rootfs[..], &options).unwrap();
    let home = tempfile::tempdir().unwrap();
    let archive = save(&here, &["busybox:1"], Some(Compression::Gzip));
    podman(
        home.path(),
        &["load", "--quiet", "--input", archive.to_str().unwrap()],
    );
    let run = "--runtime runc --cgroup-manager cgroupfs run --rm --network none \
        --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 busybox:1 echo hello";
    let words: Vec<&str> = run.split_whitespace().collect();
    assert_eq!(podman(home.path(), &words), "hello\n");
}
