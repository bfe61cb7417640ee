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
use crate::build::{SYNC_LIMIT, default_platform};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::registries;

/// Brings an image in from its registry, or all of a repository.
pub(crate) fn pull(store: Store, args: &PullArgs) -> Result<Exit, Fault> {
    let reference: Reference = args.name.parse().map_err(usage::<oci::ReferenceError>)?;
    let is_bare = is_bare(&args.name);
    if args.all_tags && !is_bare {
        return Err(Fault::usage("tag can't be used with --all-tags/-a"));
    }
    let mut settings = registries::settings()?;
    for registry in &args.insecure {
        settings.allow_insecure(registry);
    }
    let snapshots = Snapshots::limited(store, settings.limits);
    let client = Client::new(settings, Box::new(DockerConfig));
    let audience = match args.quiet {
        true => Audience::Nobody,
        false => Audience::Output,
    };
    if is_bare && !args.all_tags && !args.quiet {
        print("Using default tag: latest\n")?;
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let give_up = Arc::clone(&cancelled);
    let interrupt = Interrupt::watch_briefly(move || give_up.store(true, Ordering::SeqCst))
        .map_err(anyhow::Error::new)?;
    let references = match args.all_tags {
        true => all_tags(&client, &reference)?,
        false => vec![reference.clone()],
    };
    let platform = platform(args.platform.as_deref())?;
    let mut is_news = false;
    for reference in &references {
        let wanted = Wanted {
            client: &client,
            reference,
            platform: platform.clone(),
            audience,
        };
        match tell(&snapshots, &wanted, Arc::clone(&cancelled))? {
            Some(pulled) => is_news |= !pulled.up_to_date,
            None => return Ok(interrupt.exit().unwrap_or(Exit::Failure)),
        }
    }
    let name = match args.all_tags {
        true => (reference.familiar_name(), reference.name()),
        false => (reference.familiar(), reference.to_string()),
    };
    if !args.quiet {
        print(&status_line(&name.0, is_news))?;
    }
    print(&format!("{}\n", name.1))?;
    snapshots.store().mark_synced(SYNC_LIMIT)?;
    Ok(Exit::Success)
}

/// Whether a name says neither tag nor digest.
pub(super) fn is_bare(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    !last.contains([':', '@'])
}

/// All tags of a repository.
fn all_tags(client: &Client, reference: &Reference) -> Result<Vec<Reference>, Fault> {
    let tags = client.tags(reference)?;
    if tags.is_empty() {
        return Err(Fault::from(anyhow::anyhow!(
            "`{}` has no tags",
            reference.familiar_name()
        )));
    }
    Ok(tags.iter().map(|tag| reference.with_tag(tag)).collect())
}

/// The platform that `text` names, or the environment does, or this machine's.
pub(crate) fn platform(text: Option<&str>) -> Result<Platform, Fault> {
    Ok(chosen_platform(text)?.unwrap_or_else(Platform::host))
}

/// The same where somebody chose one.
pub(crate) fn chosen_platform(text: Option<&str>) -> Result<Option<Platform>, Fault> {
    match text {
        Some(text) => Ok(Some(text.parse().map_err(usage::<oci::PlatformError>)?)),
        None => default_platform(|name| std::env::var(name).ok()),
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
    let board = Board::new(wanted.audience, Arc::clone(&cancelled));
    let pulled = tell(snapshots, wanted, cancelled)?;
    if let Some(pulled) = &pulled {
        let line = status_line(&wanted.reference.familiar(), !pulled.up_to_date);
        board.line(line.trim_end())?;
    }
    Ok(pulled)
}

fn status_line(name: &str, is_news: bool) -> String {
    let status = match is_news {
        true => "Downloaded newer image",
        false => "Image is up to date",
    };
    format!("Status: {status} for {name}\n")
}

/// The same but for what came of it.
fn tell(
    snapshots: &Snapshots,
    wanted: &Wanted<'_>,
    cancelled: Arc<AtomicBool>,
) -> Result<Option<Pulled>, Fault> {
    let reference = wanted.reference;
    let watch = Watch(Board::new(wanted.audience, cancelled));
    let what = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => tag.to_owned(),
        _ => reference.to_string(),
    };
    watch
        .0
        .line(&format!("{what}: Pulling from {}", repository(reference)))?;
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
    watch.0.line(&format!("Digest: {}", pulled.digest))?;
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
        LayerState::Wanted => Status::word("Pulling fs layer"),
        LayerState::Waiting => Status::word("Waiting"),
        LayerState::Downloading(current, total) => Status {
            word: "Downloading".to_owned(),
            bar: Some((current, total)),
        },
        LayerState::Verifying => Status::word("Verifying Checksum"),
        LayerState::Downloaded => Status::word("Download complete"),
        LayerState::Extracting => Status::word("Extracting"),
        LayerState::Complete => Status::word("Pull complete"),
        LayerState::Exists => Status::word("Already exists"),
    }
}
