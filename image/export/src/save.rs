//! Writing images as one archive that every reader takes.

mod archive;
pub(crate) mod layer;
mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::media_type::{self, Compression};
use oci::{Digest, ImageConfig, Platform, Reference};
use serde::Serialize;
use snapshot::{DiffError, Snapshots};
use store::{ImageRecord, ResolveError, SnapshotId, SnapshotRow, Store, StoreError};

use crate::manifest::{Descriptor, DockerEntry, Index, Manifest};
use archive::ArchiveWriter;

/// Why images could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A word leads to no image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The file could not be created.
    #[error("cannot create `{path}`")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody takes the bytes: a full disk, a closed pipe.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A layer could not be read.
    #[error("cannot read layer {snapshot}")]
    Diff {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// A stored layer could not be unpacked.
    #[error("cannot read layer {diff_id}")]
    Layer {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store has neither the layer's blob nor the files it was made from.
    #[error("the store has lost layer {0}")]
    LostLayer(Digest),
    /// The layer's files do not give the bytes the image promises.
    #[error("layer {snapshot} is {found}, but the image says {expected}")]
    Changed {
        /// Which.
        snapshot: SnapshotId,
        /// What the config says.
        expected: Digest,
        /// What was written.
        found: Digest,
    },
    /// The image's config is no config.
    #[error("the config of image {id} cannot be read")]
    Config {
        /// The image.
        id: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where an archive goes.
pub enum Output<'a> {
    /// A file, which is there whole or not at all.
    File(&'a Path),
    /// A pipe or the like.
    Stream(&'a mut dyn io::Write),
}

/// How an archive is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// How layers are packed. Without it they stay as the store has them, and those the store has
    /// as files are not packed, which is what docker does and the fastest.
    pub compression: Option<Compression>,
    /// How hard, see [`crate::Packer::new`].
    pub level: Option<i32>,
}

/// An image to be written, with the names it is written under.
struct Chosen {
    record: ImageRecord,
    names: Vec<Reference>,
    /// The names under which it is one of several, for their platforms.
    shared: Vec<Reference>,
}

/// An image written.
struct Written {
    chosen: Chosen,
    config: ImageConfig,
    manifest: Descriptor,
    layers: Vec<Descriptor>,
}

/// Writes the images that `words` mean into one archive. The same images and options give the same
/// bytes.
///
/// As with docker, a name with a tag is written under that name, a name without one under all tags
/// of its repository, and an id under none.
pub fn save(
    snapshots: &Snapshots,
    words: &[impl AsRef<str>],
    options: &SaveOptions,
    out: Output<'_>,
) -> Result<(), SaveError> {
    let images = choose(snapshots.store(), words)?;
    let mut archive = ArchiveWriter::create(snapshots.store(), out)?;
    let written = images
        .into_iter()
        .map(|it| write_image(snapshots, &mut archive, options, it))
        .collect::<Result<Vec<_>, _>>()?;
    write_indices(&mut archive, &written)?;
    archive.finish()
}

fn choose(store: &Store, words: &[impl AsRef<str>]) -> Result<Vec<Chosen>, SaveError> {
    let mut images: Vec<Chosen> = Vec::new();
    for word in words {
        for (record, name) in meant(store, word.as_ref())? {
            let platforms = name.as_ref().map(|name| store.platforms(name));
            let platforms = platforms.transpose()?.unwrap_or_default();
            for (_, id) in &platforms {
                if let Some(image) = store.image(id)? {
                    let shared = &mut chosen(&mut images, image).shared;
                    shared.extend(name.clone().filter(|name| !shared.contains(name)));
                }
            }
            if platforms.is_empty() {
                let names = &mut chosen(&mut images, record).names;
                names.extend(name.filter(|name| !names.contains(name)));
            }
        }
    }
    Ok(images)
}

fn chosen(images: &mut Vec<Chosen>, record: ImageRecord) -> &mut Chosen {
    let known = images.iter().position(|it| it.record.id == record.id);
    let index = known.unwrap_or_else(|| {
        images.push(Chosen {
            record,
            names: Vec::new(),
            shared: Vec::new(),
        });
        images.len() - 1
    });
    &mut images[index]
}

fn meant(store: &Store, word: &str) -> Result<Vec<(ImageRecord, Option<Reference>)>, SaveError> {
    if let Ok(name) = word.parse::<Reference>() {
        let has_tag = word.contains('@')
            || word
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains(':'));
        let mut found = Vec::new();
        for (image, names) in store.images()? {
            let meant = |it: &&Reference| {
                if has_tag {
                    **it == name
                } else {
                    it.name() == name.name()
                }
            };
            found.extend(
                names
                    .iter()
                    .filter(meant)
                    .map(|it| (image.clone(), Some(it.clone()))),
            );
        }
        if !found.is_empty() {
            found.sort_by(|(_, a), (_, b)| a.cmp(b));
            return Ok(found);
        }
    }
    Ok(vec![(store.resolve(word)?, None)])
}

fn write_image(
    snapshots: &Snapshots,
    archive: &mut ArchiveWriter<'_>,
    options: &SaveOptions,
    chosen: Chosen,
) -> Result<Written, SaveError> {
    let store = snapshots.store();
    let record = &chosen.record;
    let bytes = read_blob(store, &record.id)?;
    let config = serde_json::from_slice(&bytes).map_err(|source| SaveError::Config {
        id: record.id,
        source,
    })?;
    let rows = rows(store, record)?;
    // Somebody may remove the image meanwhile; its layers stay until they are written.
    let tops: Vec<SnapshotId> = rows.last().map(|row| row.id).into_iter().collect();
    let _lease = store.lease(&tops, &[record.id])?;
    let mut layers = Vec::new();
    for (index, diff_id) in record.diff_ids.iter().enumerate() {
        let files = rows.get(index).map(|row| row.id);
        layers.push(layer::write(
            snapshots,
            archive,
            options,
            layer::Wanted {
                diff_id: *diff_id,
                files,
            },
        )?);
    }
    let config_descriptor = archive.blob(media_type::CONFIG, &bytes)?;
    let manifest = match original_manifest(store, record, &layers)? {
        Some((media_type, bytes)) => archive.blob(&media_type, &bytes)?,
        None => {
            let manifest = Manifest {
                schema_version: 2,
                media_type: media_type::MANIFEST,
                config: config_descriptor,
                layers: layers.clone(),
            };
            archive.blob(media_type::MANIFEST, &json(&manifest))?
        }
    };
    Ok(Written {
        config,
        manifest,
        layers,
        chosen,
    })
}

/// The snapshots of the image's layers, as far as the store still has them.
pub(crate) fn rows(store: &Store, record: &ImageRecord) -> Result<Vec<SnapshotRow>, SaveError> {
    let Some(top) = record.top else {
        return Ok(Vec::new());
    };
    match store.ancestry(top) {
        Ok(rows) if rows.len() == record.diff_ids.len() => Ok(rows),
        Ok(_) | Err(StoreError::MissingSnapshot(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The manifest the image came with, if it fits the layers as they were written, so that its digest
/// stays.
pub(crate) fn original_manifest(
    store: &Store,
    record: &ImageRecord,
    layers: &[Descriptor],
) -> Result<Option<(String, Vec<u8>)>, SaveError> {
    let Some(digest) = record.manifest else {
        return Ok(None);
    };
    if !store.has_blob(&digest)? {
        return Ok(None);
    }
    let bytes = read_blob(store, &digest)?;
    let Ok(document) = serde_json::from_slice::<crate::manifest::Document>(&bytes) else {
        return Ok(None);
    };
    let fits = |it: &[Descriptor]| {
        it.iter()
            .map(|it| it.digest)
            .eq(layers.iter().map(|it| it.digest))
    };
    let fits = document.layers.as_deref().is_some_and(fits)
        && document
            .config
            .as_ref()
            .is_some_and(|config| config.digest == record.id);
    let media_type = document
        .media_type
        .unwrap_or_else(|| media_type::MANIFEST.to_owned());
    Ok(fits.then_some((media_type, bytes)))
}

pub(crate) fn read_blob(store: &Store, digest: &Digest) -> Result<Vec<u8>, SaveError> {
    let mut bytes = Vec::new();
    let read = store.open_blob(digest)?.read_to_end(&mut bytes);
    read.map_err(|source| StoreError::File {
        what: "read",
        path: store.root().to_owned(),
        source,
    })?;
    Ok(bytes)
}

fn write_indices(archive: &mut ArchiveWriter<'_>, images: &[Written]) -> Result<(), SaveError> {
    let mut manifests: Vec<Descriptor> = images.iter().flat_map(index_entries).collect();
    let shared: BTreeSet<&Reference> = images.iter().flat_map(|it| &it.chosen.shared).collect();
    for name in shared {
        let of_name = images.iter().filter(|it| it.chosen.shared.contains(name));
        let nested = Index {
            schema_version: 2,
            media_type: media_type::INDEX,
            manifests: of_name.map(index_entry).collect(),
        };
        let entry = archive.blob(media_type::INDEX, &json(&nested))?;
        manifests.push(named(&entry, name));
    }
    let index = Index {
        schema_version: 2,
        media_type: media_type::INDEX,
        manifests,
    };
    archive.file("index.json", &json(&index))?;
    let entries: Vec<DockerEntry> = images.iter().map(docker_entry).collect();
    archive.file("manifest.json", &json(&entries))?;
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let repositories = repositories(images);
    if !repositories.is_empty() {
        archive.file("repositories", &json(&repositories))?;
    }
    Ok(())
}

/// The image in `index.json`: once a name, so that readers can pick it by any.
fn index_entries(image: &Written) -> Vec<Descriptor> {
    let bare = index_entry(image);
    if image.chosen.names.is_empty() && image.chosen.shared.is_empty() {
        return vec![bare];
    }
    let names = image.chosen.names.iter();
    names.map(|name| named(&bare, name)).collect()
}

/// The image in an index, by its platform.
fn index_entry(image: &Written) -> Descriptor {
    let mut entry = image.manifest.clone();
    entry.platform = Some((&image.config.platform()).into());
    entry
}

fn named(entry: &Descriptor, name: &Reference) -> Descriptor {
    let mut entry = entry.clone();
    entry
        .annotations
        .insert("io.containerd.image.name".to_owned(), name.to_string());
    let short = name.tag().map_or_else(|| name.to_string(), str::to_owned);
    entry
        .annotations
        .insert("org.opencontainers.image.ref.name".to_owned(), short);
    entry
}

fn docker_entry(image: &Written) -> DockerEntry {
    // Docker's own list knows no platforms: there the host's image has the name.
    let is_hosts = image.config.platform() == Platform::host();
    let shared = image.chosen.shared.iter().filter(|_| is_hosts);
    let tags: Vec<String> = image
        .chosen
        .names
        .iter()
        .chain(shared)
        .filter(|name| name.tag().is_some())
        .map(Reference::familiar)
        .collect();
    DockerEntry {
        config: archive::blob_name(&image.chosen.record.id),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(
            image
                .layers
                .iter()
                .map(|layer| archive::blob_name(&layer.digest))
                .collect(),
        ),
        layer_sources: image
            .chosen
            .record
            .diff_ids
            .iter()
            .copied()
            .zip(image.layers.iter().cloned())
            .collect(),
    }
}

/// What docker read before there was `manifest.json`: name, tag, and the uppermost layer.
fn repositories(images: &[Written]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in images {
        let Some(top) = image.layers.last() else {
            continue;
        };
        for name in &image.chosen.names {
            if let Some(tag) = name.tag() {
                repositories
                    .entry(name.familiar_name())
                    .or_default()
                    .insert(tag.to_owned(), top.digest.hex());
            }
        }
    }
    repositories
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the documents hold nothing that JSON cannot")
}
