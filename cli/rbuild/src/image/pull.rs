//! `image pull`: images from registries, told as docker tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use export::{LayerState, PullError, PullWatch, Pulled};
use oci::{Digest, Platform, Reference};
use registry::{Client, DockerConfig};
use snapshot::Snapshots;
use store::Store;

use super::board::{Audience, Board, Status};
use crate::args::PullArgs;
use crate::build::SYNC_LIMIT;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::registries;

/// Brings an image in from its registry.
pub(crate) fn pull(store: Store, args: &PullArgs) -> Result<Exit, Fault> {
    let reference = args.name.parse().map_err(usage::<oci::ReferenceError>)?;
    let mut settings = registries::settings()?;
    for registry in &args.insecure {
        settings.allow_insecure(registry);
    }
    let wanted = Wanted {
        client: &Client::new(settings, Box::new(DockerConfig)),
        reference: &reference,
        platform: platform(args.platform.as_deref())?,
        audience: match args.quiet {
            true => Audience::Nobody,
            false => Audience::Output,
        },
    };
    let snapshots = Snapshots::new(store);
    let cancelled = Arc::new(AtomicBool::new(false));
    let give_up = Arc::clone(&cancelled);
    let interrupt = Interrupt::watch(move || give_up.store(true, Ordering::SeqCst))
        .map_err(anyhow::Error::new)?;
    match bring(&snapshots, &wanted, cancelled)? {
        Some(_) => print(&format!("{reference}\n"))?,
        None => return Ok(interrupt.exit().unwrap_or(Exit::Failure)),
    }
    snapshots.store().mark_synced(SYNC_LIMIT)?;
    Ok(Exit::Success)
}

/// The platform that `text` names, or this machine's.
pub(crate) fn platform(text: Option<&str>) -> Result<Platform, Fault> {
    match text {
        Some(text) => text.parse().map_err(usage::<oci::PlatformError>),
        None => Ok(Platform::host()),
    }
}

fn usage<E: std::error::Error + Send + Sync + 'static>(error: E) -> Fault {
    Fault::from(error).exit(Exit::Usage)
}

/// An image to bring in.
pub(crate) struct Wanted<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reference: &'a Reference,
    pub(crate) platform: Platform,
    pub(crate) audience: Audience,
}

/// Brings an image in and tells of it; `None` once it is not wanted any more.
pub(crate) fn bring(
    snapshots: &Snapshots,
    wanted: &Wanted<'_>,
    cancelled: Arc<AtomicBool>,
) -> Result<Option<Pulled>, Fault> {
    let reference = wanted.reference;
    let watch = Watch(Board::new(wanted.audience, cancelled));
    if let Some(tag) = reference.tag() {
        watch
            .0
            .line(&format!("{tag}: Pulling from {}", repository(reference)))?;
    }
    let pulled = export::pull(
        snapshots,
        wanted.client,
        reference,
        &wanted.platform,
        &watch,
    );
    let pulled = match pulled {
        Err(PullError::Cancelled) => return Ok(None),
        pulled => pulled?,
    };
    watch.0.finish()?;
    let status = if pulled.up_to_date {
        "Image is up to date"
    } else {
        "Downloaded newer image"
    };
    watch.0.line(&format!(
        "Digest: {}\nStatus: {status} for {}",
        pulled.digest,
        reference.familiar()
    ))?;
    Ok(Some(pulled))
}

/// The repository as docker says it here: Docker Hub's without its registry.
pub(super) fn repository(reference: &Reference) -> String {
    match reference.registry() {
        "docker.io" => reference.repository().to_owned(),
        _ => reference.name(),
    }
}

struct Watch(Board);

impl PullWatch for Watch {
    fn layer(&self, digest: &Digest, state: LayerState) {
        self.0.show(digest, status(state));
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What docker calls the state.
fn status(state: LayerState) -> Status {
    match state {
        LayerState::Waiting => Status::word("Pulling fs layer"),
        LayerState::Downloading(current, total) => Status {
            word: "Downloading".to_owned(),
            bar: Some((current, total)),
        },
        LayerState::Downloaded => Status::word("Download complete"),
        LayerState::Extracting => Status::word("Extracting"),
        LayerState::Complete => Status::word("Pull complete"),
        LayerState::Exists => Status::word("Already exists"),
    }
}
