//! A store, a context and a base image for one test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use engine::progress::{Progress, VertexError};
use engine::{BuildError, Built, Engine, Request};
use oci::{Digest, History, ImageConfig, Key, Platform, Reference};
use snapshot::Snapshots;
use store::{ImageRecord, Store};

/// A store, a context and what was told of the last build.
pub(crate) struct Room {
    pub(crate) engine: Engine,
    home: tempfile::TempDir,
    told: Mutex<Vec<Progress>>,
}

impl Room {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("context")).unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        Self {
            engine: Engine::new(store),
            home,
            told: Mutex::default(),
        }
    }

    /// A room whose context has this Dockerfile.
    pub(crate) fn with(dockerfile: &str) -> Self {
        let room = Self::new();
        room.write("Dockerfile", dockerfile);
        room
    }

    /// A room with this Dockerfile and the image `busybox`. Needs root, for the files' owners.
    pub(crate) fn with_base(dockerfile: &str) -> Self {
        let room = Self::with(dockerfile);
        room.import_busybox();
        room
    }

    /// Another process's view of the same store, as far as a process can have one of itself.
    pub(crate) fn second_engine(&self) -> Engine {
        Engine::new(Store::open(&self.home.path().join("store")).unwrap())
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.home.path().join("context")
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn request(&self) -> Request {
        // Nothing here needs a network, and namespaces with one take their time.
        Request {
            network: llb::op::Network::None,
            ..Request::new(self.context())
        }
    }

    pub(crate) fn build(&self) -> Result<Built, BuildError> {
        self.build_as(&self.request())
    }

    pub(crate) fn build_as(&self, request: &Request) -> Result<Built, BuildError> {
        self.told.lock().unwrap().clear();
        engine::build(&self.engine, request, &|progress| {
            self.told.lock().unwrap().push(progress);
        })
    }

    /// How each vertex of the last build ended, in the order in which they did.
    pub(crate) fn story(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let ends = told.iter().filter_map(|progress| match progress {
            Progress::Vertex(vertex) if vertex.completed.is_some() => Some(vertex),
            _ => None,
        });
        ends.map(|vertex| {
            let end = match &vertex.error {
                Some(VertexError::Failed(why)) => format!("ERROR {why}"),
                Some(VertexError::Canceled) => "CANCELED".to_owned(),
                None if vertex.cached => "CACHED".to_owned(),
                None => "DONE".to_owned(),
            };
            format!("{}: {end}", vertex.name)
        })
        .collect()
    }

    /// The same without the engine's own errands.
    pub(crate) fn steps(&self) -> Vec<String> {
        let errand =
            |line: &String| line.starts_with("[internal]") || line.starts_with("exporting");
        self.story()
            .into_iter()
            .filter(|line| !errand(line))
            .collect()
    }

    /// What processes wrote in the last build.
    pub(crate) fn log(&self) -> String {
        let told = self.told.lock().unwrap();
        let data = told.iter().filter_map(|progress| match progress {
            Progress::Log(log) => Some(String::from_utf8_lossy(&log.data).into_owned()),
            _ => None,
        });
        data.collect()
    }

    /// Every event of the last build must make sense on its own terms: a vertex starts before it
    /// ends, and nothing of it comes after its end.
    pub(crate) fn check_order(&self) {
        let mut ended: BTreeMap<Key, bool> = BTreeMap::new();
        for progress in self.told.lock().unwrap().iter() {
            match progress {
                Progress::Vertex(vertex) => {
                    let over = ended.insert(vertex.digest, vertex.completed.is_some());
                    assert_ne!(over, Some(true), "{} goes on after its end", vertex.name);
                    assert!(vertex.completed.is_none() || vertex.started.is_some());
                }
                Progress::Transfer(transfer) => {
                    assert_eq!(ended.get(&transfer.vertex), Some(&false));
                }
                Progress::Log(log) => assert_eq!(ended.get(&log.vertex), Some(&false)),
                Progress::Warning(_) => {}
            }
        }
    }

    pub(crate) fn config(&self, id: &Digest) -> ImageConfig {
        let path = self.engine.store().blob_path(id).unwrap();
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// The files of an image's chain, merged: paths to contents, directories ending in `/`.
    pub(crate) fn files(&self, id: &Digest) -> Vec<String> {
        let image = self.engine.store().image(id).unwrap().unwrap();
        let snapshots = Snapshots::new(self.engine.store().clone());
        let merged = snapshots.merged(image.top).unwrap();
        merged
            .iter()
            .map(|entry| entry.path().display().to_string())
            .collect()
    }

    fn import_busybox(&self) {
        let store = self.engine.store();
        let mut tar = Vec::new();
        kit::busybox::write_rootfs(&mut tar).unwrap();
        let top = Snapshots::new(store.clone())
            .apply(None, &mut tar.as_slice(), None)
            .unwrap();
        let row = store.snapshot(top).unwrap();
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        config.rootfs.diff_ids = vec![row.diff_id.unwrap()];
        config.created = Some("2024-01-02T03:04:05Z".parse().unwrap());
        config.history = vec![History {
            created: config.created,
            ..History::default()
        }];
        let image = ImageRecord {
            id: store.put_blob(&config.to_json()).unwrap(),
            top: Some(top),
            diff_ids: config.rootfs.diff_ids.clone(),
            manifest: None,
            created: config.created,
            size: row.size,
        };
        store
            .put_image(&image, &["busybox".parse::<Reference>().unwrap()])
            .unwrap();
    }
}
