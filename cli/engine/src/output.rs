//! What a build leaves behind: an image in the store, and files that tell of it.

mod attest;
mod clamped;
mod files;

use std::fs;
use std::path::Path;

use export::{Attestations, Described, PullWatch, PushState, PushWatch, Pushing, SaveOptions};
use lower::Plan;
use oci::{Digest, ImageConfig, Platform, Reference};
use ops::Ref;
use store::{ImageRecord, Origins, SnapshotId, SnapshotRow, StoreError};

pub(crate) use attest::fetched;

use crate::image::{self, LayerTime};
use crate::images;
use crate::late;
use crate::layers::{Layers, LayersError};
use crate::report::Errand;
use crate::sizes::Stack;
use crate::solving::Solved;
use crate::{BuildError, ExportError, ImageSize, Job, Output, Request, Verified};

/// What a build came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image's id, the digest of its config; `None` where no image was asked for.
    pub image: Option<Digest>,
    /// The images of all platforms, by their ids, if it was asked for images.
    pub images: Vec<(Platform, Digest)>,
    /// The names that it has got.
    pub names: Vec<Reference>,
    /// What registries call it, where it was given to one.
    pub pushed: Option<Described>,
    /// How large the images are, where that was asked for.
    pub sizes: Vec<ImageSize>,
    /// How many steps there were.
    pub steps: u32,
    /// How many of them were cached.
    pub cached: u32,
    /// Its number in the history, if it is there.
    pub number: Option<i64>,
    /// How it came out when all of it ran again, if that was asked for.
    pub verified: Option<Verified>,
    /// What is said about its images.
    pub attestations: Attestations,
}

/// Refuses at once what could only fail at the end.
pub(crate) fn check(request: &Request) -> Result<(), ExportError> {
    request.outputs.iter().try_for_each(|output| match output {
        Output::Image | Output::CacheOnly => Ok(()),
        Output::Push(push) if push.names.is_empty() && request.tags.is_empty() => {
            Err(ExportError::NoTag)
        }
        Output::Push(_) => Ok(()),
        Output::Tar(_) if request.platforms.len() > 1 => Err(ExportError::SeveralInTar),
        Output::Local(_) | Output::Tar(_) => Ok(()),
    })
}

/// Makes of the result what the request asks for.
pub(crate) fn export(
    job: &Job<'_>,
    solved: &Solved,
    layers: &Layers<'_, '_>,
) -> Result<Built, BuildError> {
    let request = job.request;
    let is_image = |output: &Output| matches!(output, Output::Image | Output::Push(_));
    let wants_image = request.outputs.is_empty() || request.outputs.iter().any(is_image);
    let mut built = Built {
        image: None,
        images: Vec::new(),
        names: Vec::new(),
        pushed: None,
        sizes: Vec::new(),
        steps: solved.steps,
        cached: solved.cached,
        number: None,
        verified: None,
        attestations: Attestations::default(),
    };
    if wants_image {
        job.reporter.errand("exporting to image", |errand| {
            export_images(job, solved, (layers, errand), &mut built)?;
            let predicates = attest::predicates(job, solved, &built.images, errand)?;
            built.attestations = attest::attestations(&built.images, &predicates);
            for (_, id) in &built.images {
                let said = built.attestations.of(id);
                let kept = export::keep_attestations(&job.engine.store, id, said);
                kept.map_err(ExportError::Image)?;
            }
            built.pushed = push(job, &built, (layers, errand))?;
            Ok::<(), ExportError>(())
        })?;
        let host = Platform::host();
        let of_host = built.images.iter().find(|(platform, _)| *platform == host);
        built.image = of_host.or(built.images.first()).map(|(_, id)| *id);
        built.names.clone_from(&request.tags);
    }
    files::export(job, solved)?;
    tell_files(request, &built)?;
    Ok(built)
}

/// Makes the image of each platform, and gives all of them the request's names.
fn export_images(
    job: &Job<'_>,
    solved: &Solved,
    (layers, errand): (&Layers<'_, '_>, &Errand<'_>),
    built: &mut Built,
) -> Result<(), ExportError> {
    for (target, output) in job.targets.iter().zip(&solved.outputs) {
        let chain = chain(job, output.as_ref(), errand)?;
        let stack = Stack {
            job,
            target,
            chain: &chain,
        };
        let id = export_image(&stack, layers, errand)?;
        built.images.push((target.config.platform(), id));
        if job.request.report_sizes {
            built.sizes.push(stack.size()?);
        }
    }
    let index = index(job, &built.images)?;
    for name in &job.request.tags {
        let named = errand.part(
            &format!("naming to {name}"),
            || put_name(job, name, (&built.images, index)),
            |_| 0,
        );
        named.map_err(ExportError::Image)?;
    }
    Ok(())
}

/// What is to be said of an image for several platforms, as an index.
fn index(job: &Job<'_>, images: &[(Platform, Digest)]) -> Result<Option<Digest>, ExportError> {
    if images.len() < 2 {
        return Ok(None);
    }
    let (engine, options) = (job.engine, &job.request.stored);
    let index = export::annotated_index(&engine.snapshots, &records(job, images)?, options);
    index.map_err(|source| ExportError::Annotate(Box::new(source)))
}

fn records(job: &Job<'_>, images: &[(Platform, Digest)]) -> Result<Vec<ImageRecord>, ExportError> {
    let mut records = Vec::new();
    for (_, id) in images {
        records.extend(job.engine.store.image(id).map_err(ExportError::Image)?);
    }
    Ok(records)
}

/// The layers of a result, all of them there.
fn chain(
    job: &Job<'_>,
    output: Option<&late::Output>,
    errand: &Errand<'_>,
) -> Result<Vec<SnapshotRow>, ExportError> {
    let store = &job.engine.store;
    let chain = top(job, output, errand)?
        .map_or(Ok(Vec::new()), |top| store.ancestry(top))
        .map_err(ExportError::Image)?;
    // A build that is cached to the end looks at nothing else of its layers.
    for row in &chain {
        if !store.has_layer(row.id) {
            store.drop_snapshot(row.id).map_err(ExportError::Image)?;
            return Err(ExportError::Image(StoreError::MissingSnapshot(row.id)));
        }
    }
    Ok(chain)
}

fn export_image(
    stack: &Stack<'_>,
    layers: &Layers<'_, '_>,
    errand: &Errand<'_>,
) -> Result<Digest, ExportError> {
    let Stack { job, target, .. } = *stack;
    let chain = &clamped::chain(job, target, stack.chain.to_vec(), errand)?[..];
    let digests = errand.part("exporting layers", || layers.digests(chain), |_| 0);
    let digests = digests.map_err(|error| unexported(&Stack { chain, ..*stack }, error))?;
    let times: Vec<LayerTime> = digests
        .iter()
        .zip(chain)
        .map(|(diff_id, row)| LayerTime {
            diff_id: *diff_id,
            created: row.created,
        })
        .collect();
    let config = image::config(target, &times, job.epoch(target));
    stack.check(&config)?;
    stack.check_leaks(&config)?;
    let bytes = match job.request.inline_cache {
        // The cache finds layers by what is in them, which times are no part of.
        true => with_cache(job, &config, stack.chain).map_err(ExportError::Image)?,
        false => config.to_json(),
    };
    let id = Digest::of(&bytes);
    let stored = errand.part(
        &format!("writing image {id}"),
        || put(job, (target, &config), &bytes, chain),
        |_| 0,
    );
    stored.map_err(ExportError::Image)?;
    annotate(job, &id)?;
    Ok(id)
}

/// Gives the image in the store the annotations that are asked for, or none, and the media types.
fn annotate(job: &Job<'_>, id: &Digest) -> Result<(), ExportError> {
    let image = job.engine.store.image(id).map_err(ExportError::Image)?;
    let Some(image) = image else {
        return Ok(());
    };
    let annotated = export::annotate(&job.engine.snapshots, &image, &job.request.stored);
    annotated.map_err(|source| ExportError::Annotate(Box::new(source)))
}

/// A result's uppermost layer, which may have to be brought in; `None` is scratch.
fn top(
    job: &Job<'_>,
    output: Option<&late::Output>,
    errand: &Errand<'_>,
) -> Result<Option<SnapshotId>, ExportError> {
    let result = output.map(|it| it.bring(job, errand.vertex(), &job.request.cancel));
    match result.transpose() {
        Ok(Some(Ref::Snapshot(top))) => Ok(top),
        Ok(Some(Ref::Local(_)) | None) => Ok(None),
        Err(error) => Err(ExportError::Result(Box::new(error))),
    }
}

/// The config with the cache of the image's layers in it.
fn with_cache(
    job: &Job<'_>,
    config: &ImageConfig,
    chain: &[SnapshotRow],
) -> Result<Vec<u8>, StoreError> {
    let store = &job.engine.store;
    let mut records = Vec::new();
    for (below, row) in chain.iter().enumerate() {
        for key in store.keys_of(row.id)? {
            let record = store.record_of(&key)?;
            // One with more outputs is not the image alone.
            records.extend(
                record
                    .filter(|it| it.outputs == [Some(row.id)])
                    .map(|it| (remote::Record::from(&it), below + 1)),
            );
        }
    }
    let mut value = serde_json::to_value(config).expect("a config holds nothing that JSON cannot");
    value[remote::INLINE_KEY] = remote::inline(&records);
    Ok(serde_json::to_vec(&value).expect("a config holds nothing that JSON cannot"))
}

/// Gives the images to the registries that the request names, under each of their names.
fn push(
    job: &Job<'_>,
    built: &Built,
    (layers, errand): (&Layers<'_, '_>, &Errand<'_>),
) -> Result<Option<Described>, ExportError> {
    let (engine, request) = (job.engine, job.request);
    let records = records(job, &built.images)?;
    let pushes = request.outputs.iter().filter_map(|output| match output {
        Output::Push(push) => Some(push),
        _ => None,
    });
    let mut pushed = None;
    for push in pushes {
        let names = match &push.names[..] {
            [] => &request.tags,
            names => names,
        };
        for name in names {
            let options = SaveOptions {
                attestations: Some(built.attestations.clone()),
                ..push.options.clone()
            };
            let send = || {
                let pushing = Pushing {
                    reference: name,
                    images: &records,
                    options,
                    there: layers.settle(),
                };
                let watch = Watch(images::Watch::new(
                    job.reporter,
                    errand.vertex(),
                    &request.cancel,
                ));
                export::push(&engine.snapshots, &engine.registries, &pushing, &watch)
            };
            let image = errand.part(&format!("pushing layers for {name}"), send, |_| 0);
            let image = image.map_err(|source| ExportError::Push {
                name: name.clone(),
                source: Box::new(source),
            })?;
            let manifest = format!("pushing manifest for {}", name.pinned(image.digest));
            errand.part(&manifest, || (), |()| 0);
            pushed = Some(image);
        }
    }
    Ok(pushed)
}

/// Tells of layers that could not be sent before there was an image.
struct Watch<'a>(images::Watch<'a>);

impl PushWatch for Watch<'_> {
    fn layer(&self, diff_id: &Digest, state: PushState) {
        match state {
            PushState::Pushing(sent, size) => self.0.moved(diff_id.to_string(), sent, size),
            PushState::Pushed => self.0.ended(&diff_id.to_string()),
            PushState::Waiting
            | PushState::Preparing
            | PushState::Existed
            | PushState::Mounted(_) => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Stores an image; nothing is written if it is there.
fn put(
    job: &Job<'_>,
    (target, config): (&Plan, &ImageConfig),
    bytes: &[u8],
    chain: &[SnapshotRow],
) -> Result<(), StoreError> {
    let store = &job.engine.store;
    let top = chain.last().map(|row| row.id);
    let id = Digest::of(bytes);
    if store
        .image(&id)?
        .is_some_and(|known| known.top.is_some() == top.is_some())
        && store.blob_is_whole(&id)?
    {
        return Ok(());
    }
    store.put_blob(bytes)?;
    let image = ImageRecord {
        id,
        top,
        diff_ids: config.rootfs.diff_ids.clone(),
        manifest: None,
        created: config.created,
        size: chain.iter().map(|row| row.size).sum(),
    };
    store.put_image(&image, &[])?;
    let line = |line| u32::try_from(line).unwrap_or(u32::MAX);
    let lines = target
        .origins
        .iter()
        .map(|origin| origin.map(|range| (line(range.first_line), line(range.last_line))));
    let origins = Origins {
        file: job.definition.name().to_owned(),
        lines: lines.collect(),
    };
    store.put_origins(&id, &origins)
}

fn put_name(
    job: &Job<'_>,
    name: &Reference,
    (images, index): (&[(Platform, Digest)], Option<Digest>),
) -> Result<(), StoreError> {
    let store = &job.engine.store;
    let known = store.platforms(name)?;
    let [(_, id)] = images else {
        let is_known = |image| known.contains(image);
        let is_same = known.len() == images.len() && images.iter().all(is_known);
        if !is_same || store.index(name)? != index {
            store.tag_platforms(name, images)?;
            index.map_or(Ok(()), |index| store.keep_index(name, &index))?;
        }
        return Ok(());
    };
    if !known.is_empty() || store.image_named(name)?.is_none_or(|known| known.id != *id) {
        store.tag(name, id)?;
    }
    Ok(())
}

fn unexported(stack: &Stack<'_>, error: LayersError) -> ExportError {
    match error {
        LayersError::Store(error) => ExportError::Image(error),
        LayersError::Diff(id, source) => {
            let position = stack.chain.iter().position(|row| row.id == id);
            let (name, _) = stack.step(position.unwrap_or(0));
            ExportError::Layer { name, source }
        }
    }
}

/// Writes the file that tells scripts what was built.
fn tell_files(request: &Request, built: &Built) -> Result<(), ExportError> {
    if let (Some(path), Some(id)) = (&request.iidfile, &built.image) {
        write(path, id.to_string().as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    fs::write(path, content).map_err(|source| ExportError::Write {
        path: path.to_owned(),
        source,
    })
}
