//! What a build leaves behind: an image in the store, and files that tell of it.

mod files;

use std::fs;
use std::path::Path;

use oci::{Digest, ImageConfig, Reference};
use ops::Ref;
use serde_json::json;
use store::{ImageRecord, SnapshotId, SnapshotRow, StoreError};

use crate::image::{self, LayerTime};
use crate::layers::{Layers, LayersError};
use crate::report::Errand;
use crate::solving::Solved;
use crate::{BuildError, ExportError, Job, Output, Request};

/// What a build came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image's id, the digest of its config; `None` where no image was asked for.
    pub image: Option<Digest>,
    /// The names that it has got.
    pub names: Vec<Reference>,
    /// How many steps there were.
    pub steps: u32,
    /// How many of them were cached.
    pub cached: u32,
}

/// Makes of the result what the request asks for.
pub(crate) fn export(
    job: &Job<'_>,
    solved: &Solved,
    layers: &Layers<'_, '_>,
) -> Result<Built, BuildError> {
    let request = job.request;
    let wants_image = request.outputs.is_empty() || request.outputs.contains(&Output::Image);
    let mut built = Built {
        image: None,
        names: Vec::new(),
        steps: solved.steps,
        cached: solved.cached,
    };
    if wants_image {
        let export = |errand: &Errand<'_>| export_image(job, solved, layers, errand);
        built.image = Some(job.reporter.errand("exporting to image", export)?);
        built.names.clone_from(&request.tags);
    }
    files::export(job, solved)?;
    tell_files(request, &built)?;
    Ok(built)
}

fn export_image(
    job: &Job<'_>,
    solved: &Solved,
    layers: &Layers<'_, '_>,
    errand: &Errand<'_>,
) -> Result<Digest, ExportError> {
    let store = &job.engine.store;
    let chain = top(job, solved, errand)?
        .map_or(Ok(Vec::new()), |top| store.ancestry(top))
        .map_err(ExportError::Image)?;
    let digests = errand.part("exporting layers", || layers.digests(&chain), |_| 0);
    let digests = digests.map_err(|error| unexported(job, &chain, error))?;
    let times: Vec<LayerTime> = digests
        .iter()
        .zip(&chain)
        .map(|(diff_id, row)| LayerTime {
            diff_id: *diff_id,
            created: row.created,
        })
        .collect();
    let config = image::config(job.plan, &times);
    let bytes = match job.request.inline_cache {
        true => with_cache(job, &config, &chain).map_err(ExportError::Image)?,
        false => config.to_json(),
    };
    let id = Digest::of(&bytes);
    let stored = errand.part(
        &format!("writing image {id}"),
        || put(job, &config, &bytes, &chain),
        |_| 0,
    );
    stored.map_err(ExportError::Image)?;
    for name in &job.request.tags {
        let named = errand.part(
            &format!("naming to {name}"),
            || put_name(job, name, &id),
            |_| 0,
        );
        named.map_err(ExportError::Image)?;
    }
    Ok(id)
}

/// The result's uppermost layer, which may have to be brought in; `None` is scratch.
fn top(
    job: &Job<'_>,
    solved: &Solved,
    errand: &Errand<'_>,
) -> Result<Option<SnapshotId>, ExportError> {
    let result = solved.output.as_ref();
    let result = result.map(|it| it.bring(job, errand.vertex(), &job.request.cancel));
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

/// Stores an image; nothing is written if it is there.
fn put(
    job: &Job<'_>,
    config: &ImageConfig,
    bytes: &[u8],
    chain: &[SnapshotRow],
) -> Result<(), StoreError> {
    let store = &job.engine.store;
    let top = chain.last().map(|row| row.id);
    let id = Digest::of(bytes);
    if store
        .image(&id)?
        .is_some_and(|known| known.top.is_some() == top.is_some())
        && store.has_blob(&id)?
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
    store.put_image(&image, &[])
}

fn put_name(job: &Job<'_>, name: &Reference, id: &Digest) -> Result<(), StoreError> {
    let store = &job.engine.store;
    if store.image_named(name)?.is_none_or(|known| known.id != *id) {
        store.tag(name, id)?;
    }
    Ok(())
}

fn unexported(job: &Job<'_>, chain: &[SnapshotRow], error: LayersError) -> ExportError {
    match error {
        LayersError::Store(error) => ExportError::Image(error),
        LayersError::Diff(id, source) => {
            let base = chain.len().saturating_sub(job.plan.layers.len());
            let position = chain
                .iter()
                .position(|row| row.id == id)
                .and_then(|it| it.checked_sub(base));
            let layer = position.and_then(|it| job.plan.layers.get(it));
            let name = layer.map(|it| {
                job.plan
                    .graph
                    .vertex(it.output.vertex)
                    .metadata
                    .name
                    .clone()
            });
            ExportError::Layer {
                name: name.unwrap_or_else(|| "the base image".to_owned()),
                source,
            }
        }
    }
}

/// Writes the files that tell scripts what was built.
fn tell_files(request: &Request, built: &Built) -> Result<(), ExportError> {
    if let (Some(path), Some(id)) = (&request.iidfile, &built.image) {
        write(path, id.to_string().as_bytes())?;
    }
    if let Some(path) = &request.metadata_file {
        write(path, metadata(built).as_bytes())?;
    }
    Ok(())
}

fn metadata(built: &Built) -> String {
    let mut fields = serde_json::Map::new();
    if let Some(id) = &built.image {
        fields.insert(
            "containerimage.config.digest".to_owned(),
            json!(id.to_string()),
        );
        // An image in the store has no manifest; Docker's own store names it by its config too.
        fields.insert("containerimage.digest".to_owned(), json!(id.to_string()));
    }
    if !built.names.is_empty() {
        let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
        fields.insert("image.name".to_owned(), json!(names.join(",")));
    }
    format!("{:#}\n", serde_json::Value::Object(fields))
}

fn write(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    fs::write(path, content).map_err(|source| ExportError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_file_names_the_image() {
        let built = Built {
            image: Some(Digest::of(b"")),
            names: vec!["demo".parse().unwrap(), "demo:2".parse().unwrap()],
            steps: 1,
            cached: 0,
        };
        let text = metadata(&built);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read["image.name"],
            "docker.io/library/demo:latest,docker.io/library/demo:2"
        );
        assert_eq!(
            read["containerimage.config.digest"],
            Digest::of(b"").to_string()
        );
    }
}
