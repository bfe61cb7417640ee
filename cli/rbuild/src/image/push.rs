//! `push`: images into registries, told as docker tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use export::{Engine, Given, PushError, PushState, PushWatch, Pushing, SaveOptions, There};
use oci::{Digest, Platform, Reference};
use registry::{Client, DockerConfig};
use snapshot::Snapshots;
use store::{ImageRecord, Store};

use super::board::{Audience, Board, Status};
use super::pull::is_bare;
use super::{config, engines};
use crate::args::PushArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::registries;

/// Gives images to their registry.
pub(crate) fn push(store: Store, args: &PushArgs) -> Result<Exit, Fault> {
    if let Some((engine, name)) = engine(&args.name) {
        return hand_over(store, &engine.find()?, name);
    }
    let named: Reference = args
        .name
        .parse()
        .map_err(|error| Fault::from(anyhow::Error::new(error)).exit(Exit::Usage))?;
    let is_bare = is_bare(&args.name);
    if args.all_tags && !is_bare {
        return Err(Fault::usage("tag can't be used with --all-tags/-a"));
    }
    if is_bare && !args.all_tags && !args.quiet {
        print("Using default tag: latest\n")?;
    }
    let platform: Option<Platform> = match &args.platform {
        Some(text) => Some(super::platform(Some(text))?),
        None => None,
    };
    let mut settings = registries::settings()?;
    for registry in &args.insecure {
        settings.allow_insecure(registry);
    }
    let snapshots = Snapshots::limited(store, settings.limits);
    let client = Arc::new(Client::new(settings, Box::new(DockerConfig)));
    let cancelled = Arc::new(AtomicBool::new(false));
    let give_up = Arc::clone(&cancelled);
    let interrupt = Interrupt::watch_briefly(move || give_up.store(true, Ordering::SeqCst))
        .map_err(anyhow::Error::new)?;
    if !args.quiet {
        print(&format!(
            "The push refers to repository [{}]\n",
            named.name()
        ))?;
    }
    let there = Arc::new(There::default());
    for reference in names(snapshots.store(), &named, args.all_tags)? {
        let images = match reference.digest() {
            Some(digest) => vec![of_digest(snapshots.store(), &reference, digest)?],
            None => images(snapshots.store(), &reference, platform.as_ref())?,
        };
        let audience = match args.quiet {
            true => Audience::Nobody,
            false => Audience::Output,
        };
        let watch = Watch(Board::new(audience, Arc::clone(&cancelled)));
        let pushing = Pushing {
            reference: &reference,
            images: &images,
            options: SaveOptions::default(),
            there: &there,
        };
        let pushed = match export::push(&snapshots, &client, &pushing, &watch) {
            Err(PushError::Cancelled) => return Ok(interrupt.exit().unwrap_or(Exit::Failure)),
            pushed => pushed?,
        };
        watch.0.finish()?;
        let digest = pushed.digest.to_string();
        let tag = reference.tag().unwrap_or(&digest);
        watch.0.line(&format!(
            "{tag}: digest: {} size: {}",
            pushed.digest, pushed.size
        ))?;
        if args.quiet {
            print(&format!("{reference}\n"))?;
        }
    }
    Ok(Exit::Success)
}

/// The engine on this machine that `docker-daemon:NAME` and the like name, and the image.
fn engine(text: &str) -> Option<(engines::Kind, &str)> {
    let (place, name) = text.split_once(':')?;
    Some((engines::Kind::of_transport(place)?, name))
}

/// Gives an image to another engine on this machine.
fn hand_over(store: Store, engine: &Engine, name: &str) -> Result<Exit, Fault> {
    let name: Reference = name
        .parse()
        .map_err(|error| Fault::from(anyhow::Error::new(error)).exit(Exit::Usage))?;
    if store.image_named(&name)?.is_none() {
        return Err(missing(&name.to_string()));
    }
    let interrupt = Interrupt::watch_briefly(|| {}).map_err(anyhow::Error::new)?;
    let snapshots = registries::snapshots(store)?;
    let said = engines::hand_over(&snapshots, Given::Named(&name), engine)?;
    if let Some(exit) = interrupt.exit() {
        return Ok(exit);
    }
    print(&said)?;
    Ok(Exit::Success)
}

/// What is pushed: one name, or all of its repository.
fn names(store: &Store, named: &Reference, all_tags: bool) -> Result<Vec<Reference>, Fault> {
    if !all_tags {
        return Ok(vec![named.clone()]);
    }
    let images = store.images()?;
    let mut names: Vec<Reference> = images
        .into_iter()
        .flat_map(|(_, names)| names)
        .filter(|name| name.name() == named.name() && name.tag().is_some())
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(missing(&named.name()));
    }
    Ok(names)
}

/// The image that registries know by a digest.
fn of_digest(store: &Store, name: &Reference, digest: &Digest) -> Result<ImageRecord, Fault> {
    let mut images = store.images()?.into_iter().map(|(image, _)| image);
    let known = images.find(|it| it.manifest == Some(*digest));
    known.ok_or_else(|| {
        Fault::from(anyhow::anyhow!(
            "An image does not exist locally with the digest: {}@{digest}",
            name.name()
        ))
        .hint("`rbuild images --digests` lists what there is")
    })
}

/// The images of a name: those of all platforms, or of one.
fn images(
    store: &Store,
    name: &Reference,
    platform: Option<&Platform>,
) -> Result<Vec<ImageRecord>, Fault> {
    let image = store
        .image_named(name)?
        .ok_or_else(|| missing(&name.to_string()))?;
    let mut images = Vec::new();
    for (_, id) in store.platforms(name)? {
        images.extend(store.image(&id)?);
    }
    if images.is_empty() {
        images.push(image);
    }
    let Some(wanted) = platform else {
        return Ok(images);
    };
    for image in images {
        if config(store, &image)?.platform() == *wanted {
            return Ok(vec![image]);
        }
    }
    Err(Fault::from(anyhow::anyhow!(
        "`{}` has no image for {wanted} here",
        name.familiar()
    )))
}

fn missing(name: &str) -> Fault {
    Fault::from(anyhow::anyhow!(
        "An image does not exist locally with the tag: {name}"
    ))
    .hint("`rbuild images` lists what there is, `rbuild tag` gives it the name to push")
}

struct Watch(Board);

impl PushWatch for Watch {
    fn layer(&self, diff_id: &Digest, state: PushState) {
        self.0.show(diff_id, status(state));
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What docker calls the state.
fn status(state: PushState) -> Status {
    match state {
        PushState::Preparing => Status::word("Preparing"),
        PushState::Waiting => Status::word("Waiting"),
        PushState::Pushing(current, total) => Status {
            word: "Pushing".to_owned(),
            bar: Some((current, total)),
        },
        PushState::Pushed => Status::word("Pushed"),
        PushState::Existed => Status::word("Layer already exists"),
        PushState::Mounted(repository) => Status::word(format!("Mounted from {repository}")),
    }
}
