//! Images that skopeo pushed to the reference registry, pulled.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use export::{
    ImportOptions, LayerState, Output, PullError, PullWatch, SaveOptions, import, pull, save,
};
use kit::busybox::write_rootfs_to;
use kit::docker_registry::{Access, Server};
use oci::{Digest, Platform, Reference};
use registry::{Client, RegistryError, Settings};
use snapshot::Snapshots;
use store::Store;

/// Remembers what was told, and may give up.
#[derive(Default)]
struct Watch {
    told: Mutex<Vec<LayerState>>,
    gives_up: bool,
}

impl PullWatch for Watch {
    fn layer(&self, _digest: &Digest, state: LayerState) {
        if !matches!(state, LayerState::Downloading(..)) {
            self.told.lock().unwrap().push(state);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.gives_up
    }
}

/// A store with the busybox image, and the registry to which skopeo took it as `app:v1`.
struct Pushed {
    server: Server,
    id: Digest,
    name: Reference,
    directory: tempfile::TempDir,
}

impl Pushed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = open(&directory.path().join("source"));
        let tar = directory.path().join("busybox.tar");
        write_rootfs_to(&tar).unwrap();
        let options = ImportOptions {
            name: Some("app:v1".parse().unwrap()),
            ..ImportOptions::default()
        };
        let id = import(&snapshots, fs::File::open(&tar).unwrap(), &options).unwrap();
        let archive = directory.path().join("app.tar");
        save(
            &snapshots,
            &["app:v1".to_owned()],
            &SaveOptions::default(),
            Output::File(&archive),
        )
        .unwrap();
        let server = Server::start(Access::Everybody);
        let copied = Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/app:v1", server.address()))
            .status()
            .expect("this test needs Debian's package skopeo");
        assert!(copied.success());
        let name = format!("{}/app:v1", server.address()).parse().unwrap();
        Self {
            server,
            id,
            name,
            directory,
        }
    }

    fn target(&self) -> Snapshots {
        open(&self.directory.path().join("target"))
    }
}

fn open(root: &Path) -> Snapshots {
    Snapshots::new(Store::open(root).unwrap())
}

fn client() -> Client {
    Client::new(Settings::default(), Box::new(()))
}

#[test]
fn what_skopeo_pushed_is_the_same_image_here_needing_root() {
    let pushed = Pushed::new();
    let target = pushed.target();
    let watch = Watch::default();
    let pulled = pull(&target, &client(), &pushed.name, &Platform::host(), &watch).unwrap();
    assert_eq!((pulled.id, pulled.up_to_date), (pushed.id, false));
    assert_eq!(
        target
            .store()
            .image_named(&pushed.name)
            .unwrap()
            .unwrap()
            .id,
        pushed.id
    );
    let told = watch.told.into_inner().unwrap();
    assert_eq!(
        told,
        [
            LayerState::Wanted,
            LayerState::Verifying,
            LayerState::Downloaded,
            LayerState::Extracting,
            LayerState::Complete
        ]
    );

    let again = pull(
        &target,
        &client(),
        &pushed.name,
        &Platform::host(),
        &Watch::default(),
    )
    .unwrap();
    assert!(again.up_to_date);
    assert_eq!(again.digest, pulled.digest);

    let by_digest = format!("{}@{}", pushed.name.name(), pulled.digest)
        .parse()
        .unwrap();
    let same = pull(
        &target,
        &client(),
        &by_digest,
        &Platform::host(),
        &Watch::default(),
    )
    .unwrap();
    assert_eq!(same.id, pushed.id);
}

#[test]
fn giving_up_leaves_no_name_needing_root() {
    let pushed = Pushed::new();
    let target = pushed.target();
    let watch = Watch {
        gives_up: true,
        ..Watch::default()
    };
    let error = pull(&target, &client(), &pushed.name, &Platform::host(), &watch).unwrap_err();
    assert!(matches!(error, PullError::Cancelled), "{error}");
    assert!(target.store().image_named(&pushed.name).unwrap().is_none());
    assert!(target.store().images().unwrap().is_empty());
}

#[test]
fn a_name_that_is_not_there_is_said_needing_root() {
    let pushed = Pushed::new();
    let missing = format!("{}/app:v2", pushed.server.address())
        .parse()
        .unwrap();
    let error = pull(
        &pushed.target(),
        &client(),
        &missing,
        &Platform::host(),
        &Watch::default(),
    )
    .unwrap_err();
    assert!(
        matches!(error, PullError::Registry(RegistryError::NotFound { .. })),
        "{error}"
    );
}
