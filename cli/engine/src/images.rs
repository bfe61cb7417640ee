//! Base images: from the store, or from the registries that their names name.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use export::{Asking, LayerState, Pick, PullError, PullWatch, RemoteImage};
use lower::{BaseImage, Images, Layout, ResolveError};
use oci::{Digest, ImageConfig, Key, Platform, Reference};
use solve::progress::TransferStatus;
use store::{ImageRecord, Lease, SnapshotId, StoreError};

use crate::report::Reporter;
use crate::{Cancel, Engine, ImageError, Pull, Request};

/// The images of a build, as the frontend asks for them, and as they are brought in where a step
/// needs their files.
pub(crate) struct Bases<'a> {
    engine: &'a Engine,
    request: &'a Request,
    reporter: &'a Reporter<'a>,
    /// The images whose layers are in registries, by their id.
    remote: Mutex<HashMap<Digest, RemoteImage>>,
    /// What keeps the layers of images that are not in the catalog.
    leases: Mutex<Vec<Lease>>,
}

/// An image of the store.
struct Stored {
    record: ImageRecord,
    config: ImageConfig,
}

impl Images for Bases<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        let label = match self.request.platforms.len() {
            0 | 1 => "internal".to_owned(),
            _ => format!("{platform} internal"),
        };
        let errand = format!("[{label}] load metadata for {reference}");
        let found = self
            .reporter
            .errand(&errand, |_| self.find(reference, platform));
        Ok(found?)
    }

    fn layout(&self, layout: &Layout, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let shown = shown(layout);
        let errand = format!("[internal] load metadata for {shown}");
        let laid_out = || self.laid_out(layout, platform, shown.clone());
        Ok(self.reporter.errand(&errand, |_| laid_out())?)
    }
}

impl<'a> Bases<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        request: &'a Request,
        reporter: &'a Reporter<'a>,
    ) -> Self {
        Self {
            engine,
            request,
            reporter,
            remote: Mutex::default(),
            leases: Mutex::default(),
        }
    }

    /// As docker does: what the store has counts, unless the person wants to know what the registry has.
    fn find(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, ImageError> {
        if self.request.pull == Pull::Always {
            return self.ask(reference, platform);
        }
        let stored = self.stored(reference, platform)?;
        match stored {
            Some(stored) if stored.fits(platform) => Ok(stored.into_base(reference)),
            // One for another platform is better than none.
            Some(stored) => match self.ask(reference, platform) {
                Err(ImageError::Cancelled) => Err(ImageError::Cancelled),
                Ok(asked) => Ok(asked),
                Err(_) => Ok(stored.into_base(reference)),
            },
            None => self.ask(reference, platform),
        }
    }

    /// The image of the store that goes by this name, if all of it is there.
    fn stored(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Stored>, ImageError> {
        let store = &self.engine.store;
        // Of several that go by the name, the one for the platform is meant.
        let platforms = store.platforms(reference)?;
        let record = match platforms.iter().find(|(it, _)| it == platform) {
            Some((_, id)) => store.image(id)?,
            None => store.image_named(reference)?,
        };
        let Some(record) = record else {
            return Ok(None);
        };
        if record.top.is_none() && !record.diff_ids.is_empty() {
            return Ok(None);
        }
        let bytes = match store.read_blob(&record.id) {
            Ok(bytes) => bytes,
            // Damaged: as if it were not there.
            Err(StoreError::MissingBlob(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let config = serde_json::from_slice(&bytes).map_err(|source| ImageError::Config {
            reference: reference.clone(),
            source,
        })?;
        Ok(Some(Stored { record, config }))
    }

    /// An image of a layout, which comes into the store with its layers but gets no name there.
    fn laid_out(
        &self,
        layout: &Layout,
        platform: &Platform,
        shown: String,
    ) -> Result<BaseImage, ImageError> {
        let pick = Pick {
            tag: layout.tag.as_deref(),
            digest: layout.digest,
            platform,
        };
        let image = export::load_layout(&self.engine.snapshots, &layout.directory, &pick);
        let image = image.map_err(|source| ImageError::Layout {
            directory: layout.directory.clone(),
            source: Box::new(source),
        })?;
        if let Some(top) = image.top {
            let lease = self.engine.store.lease(&[top], &[])?;
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            leases.push(lease);
        }
        let pin = image.manifest.map(|it| format!("@{it}"));
        Ok(BaseImage {
            id: image.id,
            config: image.config,
            pinned: match layout.digest {
                Some(_) => shown,
                None => format!("{shown}{}", pin.unwrap_or_default()),
            },
        })
    }

    /// The image that the registry has under this name.
    fn ask(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, ImageError> {
        let asking = match self.request.pull {
            Pull::Never => Asking::Nobody,
            Pull::Missing | Pull::Always => Asking::Registry,
        };
        let store = self.engine.store.clone();
        let client = self.engine.registries.clone();
        let (name, platform) = (reference.clone(), platform.clone());
        let resolve = move || export::resolve(&store, &client, (&name, &platform), asking);
        let image = unless_cancelled(&self.request.cancel, resolve)
            .ok_or(ImageError::Cancelled)?
            .map_err(|source| ImageError::Registry {
                reference: reference.clone(),
                source: Box::new(source),
            })?;
        let base = BaseImage {
            id: *image.id(),
            config: image.config().clone(),
            pinned: image.reference().to_string(),
        };
        self.remote().insert(base.id, image);
        Ok(base)
    }

    /// Brings in the layers of an image that is in a registry, told as what the vertex `of` does.
    /// `None` for an image of which no registry was asked.
    pub(crate) fn bring(
        &self,
        id: &Digest,
        of: Key,
        cancel: &Cancel,
    ) -> Option<Result<Option<SnapshotId>, PullError>> {
        let image = self.remote().get(id)?.clone();
        let watch = Watch::new(self.reporter, of, cancel);
        let resolved = watch.status(format!("resolve {}", image.reference()), 0);
        watch.tell(&resolved, resolved.started.into());
        let (snapshots, registries) = (&self.engine.snapshots, &self.engine.registries);
        Some(export::fetch(snapshots, registries, &image, &watch))
    }

    fn remote(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, RemoteImage>> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    /// Whether it runs on `platform`, or does not say on what it does.
    fn fits(&self, platform: &Platform) -> bool {
        let says_nothing = self.config.os.is_empty() || self.config.architecture.is_empty();
        says_nothing || self.config.platform() == *platform
    }

    fn into_base(self, reference: &Reference) -> BaseImage {
        BaseImage {
            id: self.record.id,
            config: self.config,
            pinned: reference.to_string(),
        }
    }
}

/// What `question` comes to; `None` once the person gives up, and then nobody waits for it: a server
/// that says nothing may take a minute to do so.
pub(crate) fn unless_cancelled<T: Send + 'static>(
    cancel: &Cancel,
    question: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = crossbeam_channel::bounded(1);
    let (give_up, given_up) = crossbeam_channel::bounded(1);
    let _watch = cancel.on_cancel(move || {
        // Whoever asked may have its answer already.
        let _ = give_up.send(());
    });
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = answer.send(question());
    });
    crossbeam_channel::select! {
        recv(answered) -> answer => Some(answer.expect("a question that panics is a bug")),
        recv(given_up) -> _ => None,
    }
}

/// Tells of layers as of what their vertex moves.
pub(crate) struct Watch<'a> {
    reporter: &'a Reporter<'a>,
    vertex: Key,
    cancel: &'a Cancel,
    begun: Mutex<HashMap<String, TransferStatus>>,
}

impl PullWatch for Watch<'_> {
    fn layer(&self, digest: &Digest, state: LayerState) {
        let extracting = || format!("extracting {digest}");
        match state {
            LayerState::Wanted
            | LayerState::Waiting
            | LayerState::Verifying
            | LayerState::Exists => {}
            LayerState::Downloading(current, total) => {
                self.moved(digest.to_string(), current, total);
            }
            LayerState::Downloaded => self.ended(&digest.to_string()),
            LayerState::Extracting => self.moved(extracting(), 0, 0),
            LayerState::Complete => self.ended(&extracting()),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl<'a> Watch<'a> {
    /// Of what the vertex `vertex` does.
    pub(crate) fn new(reporter: &'a Reporter<'a>, vertex: Key, cancel: &'a Cancel) -> Self {
        Self {
            reporter,
            vertex,
            cancel,
            begun: Mutex::default(),
        }
    }

    /// So many bytes of something were moved.
    pub(crate) fn moved(&self, name: String, current: u64, total: u64) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let status = begun
            .entry(name.clone())
            .or_insert_with(|| self.status(name, total));
        status.current = current;
        self.tell(status, None);
    }

    /// All of it is there.
    pub(crate) fn ended(&self, name: &str) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // What was there from another time is not told.
        if let Some(mut status) = begun.remove(name) {
            status.current = status.total;
            self.tell(&status, Some(SystemTime::now()));
        }
    }

    fn status(&self, name: String, total: u64) -> TransferStatus {
        TransferStatus {
            vertex: self.vertex,
            name,
            current: 0,
            total,
            started: SystemTime::now(),
            completed: None,
        }
    }

    fn tell(&self, status: &TransferStatus, completed: Option<SystemTime>) {
        self.reporter.transfer(TransferStatus {
            completed,
            ..status.clone()
        });
    }
}

/// A layout's image as people write it.
fn shown(layout: &Layout) -> String {
    let mut shown = format!("oci-layout://{}", layout.directory.display());
    if let Some(tag) = &layout.tag {
        shown.push_str(&format!(":{tag}"));
    }
    if let Some(digest) = &layout.digest {
        shown.push_str(&format!("@{digest}"));
    }
    shown
}
