//! Writing images as one archive that every reader takes.

mod archive;
mod estargz;
pub(crate) mod layer;
mod layout;
mod listed;
mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::media_type::{self, Compression, MediaTypes};
use oci::{Digest, ImageConfig, Platform, Reference};
use serde::Serialize;
use serde_json::Value;
use snapshot::{DiffError, Snapshots};
use store::{ImageRecord, ResolveError, SnapshotId, SnapshotRow, Store, StoreError};

use crate::annotations::{Annotated, Annotations};
use crate::attest::{self, Attestations, Predicate, Subject};
use crate::manifest::{Described, Descriptor, DockerEntry, Document, Index, Manifest};
use archive::ArchiveWriter;
use layer::Layer;
use layout::REF_NAME;

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
    /// An image that is not there for a platform.
    #[error("`{word}` has no image for {platform} here")]
    NoPlatform {
        /// What was to be written.
        word: String,
        /// For what.
        platform: Platform,
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
    /// A directory with an OCI layout; images of other names that are in it stay.
    Layout(&'a Path),
}

/// How an archive is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// How layers are packed. Without it they stay as the store has them, and those the store has
    /// as files are not packed, which is what docker does and the fastest.
    pub compression: Option<Compression>,
    /// How hard, see [`crate::Packer::new`].
    pub level: Option<i32>,
    /// Whether layers packed with gzip are such that single files of them can be fetched (eStargz).
    /// They are other layers then, and the image is another, with another id, in the archive or the
    /// registry.
    pub estargz: bool,
    /// The annotations on all that is written; where `None`, images keep those of their manifests.
    pub annotations: Option<Annotations>,
    /// Whose media types are written; where `None`, images keep those of their manifests, and new
    /// ones have OCI's.
    pub media_types: Option<MediaTypes>,
    /// The platforms of which images are written; all where there is none.
    pub platforms: Vec<Platform>,
    /// Blobs, and layers by their diff ids, that the reader has: they are named and not written.
    pub known: BTreeSet<Digest>,
    /// What is said about the images; where `None`, what is kept with them.
    pub attestations: Option<Attestations>,
}

impl SaveOptions {
    /// What stands on manifests of this platform, or their descriptors.
    pub(crate) fn of_image(&self, of: Annotated, config: &ImageConfig) -> BTreeMap<String, String> {
        let annotations = self.annotations.as_ref();
        annotations.map_or_else(BTreeMap::new, |it| it.of_image(of, &config.platform()))
    }

    /// Whose media types what is new has.
    pub(crate) fn types(&self) -> MediaTypes {
        self.media_types.unwrap_or_default()
    }

    /// What stands on an index, or its descriptor.
    pub(crate) fn of_index(&self, of: Annotated) -> BTreeMap<String, String> {
        let annotations = self.annotations.as_ref();
        annotations.map_or_else(BTreeMap::new, |it| it.of_index(of))
    }
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
    /// Its id, which is another one where its layers are others.
    id: Digest,
    config: ImageConfig,
    manifest: Descriptor,
    manifest_bytes: Vec<u8>,
    layers: Vec<Layer>,
    /// What is said about it.
    attested: Option<Descriptor>,
}

/// Writes the images that `words` mean into one archive. The same images and options give the same
/// bytes.
///
/// As with docker, a name with a tag is written under that name, a name without one under all tags
/// of its repository, and an id under none.
///
/// Gives the descriptor of the image, or of the index of one for several platforms; `None` where
/// several images were written.
pub fn save(
    snapshots: &Snapshots,
    words: &[impl AsRef<str>],
    options: &SaveOptions,
    out: Output<'_>,
) -> Result<Option<Described>, SaveError> {
    let images = choose(snapshots.store(), words, &options.platforms)?;
    let mut archive = ArchiveWriter::create(snapshots.store(), out)?;
    let written = images
        .into_iter()
        .map(|it| write_image(snapshots, &mut archive, options, it))
        .collect::<Result<Vec<_>, _>>()?;
    let described = write_indices(&mut archive, options, &written)?;
    archive.finish()?;
    Ok(described)
}

/// Gives an image of the store these annotations and media types, in a manifest like the one that
/// [`save`](save()) writes: it is kept with the image, and whoever saves or pushes the image writes
/// them again. An image with no annotations keeps no manifest that has some.
///
/// # Errors
/// If the image or its layers cannot be read.
pub fn annotate(
    snapshots: &Snapshots,
    image: &ImageRecord,
    options: &SaveOptions,
) -> Result<(), SaveError> {
    let store = snapshots.store();
    let config: ImageConfig = config(image, &read_blob(store, &image.id)?)?;
    let wanted = options.of_image(Annotated::Manifest, &config);
    let known = known_manifest(store, image)?.map(|(document, _)| document);
    let types = known.as_ref().map(Document::types).unwrap_or_default();
    let has_types = options.media_types.is_none_or(|it| it == types);
    let has = known.and_then(|it| it.annotations).unwrap_or_default();
    if has == wanted && has_types {
        return Ok(());
    }
    let manifest = match wanted.is_empty() && options.types() == MediaTypes::Oci {
        true => None,
        false => Some(unwritten_manifest(snapshots, image, options)?),
    };
    let annotated = ImageRecord {
        manifest,
        ..image.clone()
    };
    Ok(store.put_image(&annotated, &[])?)
}

/// Stores an index of an image for several platforms that says what `options` say of it and of its images, to
/// be kept with its name; `None` where they say nothing of the kind.
///
/// # Errors
/// If the images or their layers cannot be read.
pub fn annotated_index(
    snapshots: &Snapshots,
    images: &[ImageRecord],
    options: &SaveOptions,
) -> Result<Option<Digest>, SaveError> {
    let store = snapshots.store();
    let annotations = options.of_index(Annotated::Index);
    let mut manifests = Vec::new();
    for image in images {
        let config: ImageConfig = config(image, &read_blob(store, &image.id)?)?;
        let said = options.of_image(Annotated::ManifestDescriptor, &config);
        manifests.push((image, config, said));
    }
    if annotations.is_empty() && manifests.iter().all(|(.., said)| said.is_empty()) {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for (image, config, said) in manifests {
        let digest = match image.manifest {
            Some(known) if store.has_blob(&known)? => known,
            _ => unwritten_manifest(snapshots, image, options)?,
        };
        let size = store.blob_size(&digest)?;
        let mut entry = Descriptor::new(options.types().manifest(), digest, size);
        entry.annotations = said;
        entry.platform = Some((&config.platform()).into());
        entries.push(entry);
    }
    let index = Index {
        schema_version: 2,
        media_type: options.types().index(),
        manifests: entries,
        annotations,
    };
    Ok(Some(store.put_blob(&json(&index))?))
}

/// Stores the manifest that an archive of this image would have.
fn unwritten_manifest(
    snapshots: &Snapshots,
    image: &ImageRecord,
    options: &SaveOptions,
) -> Result<Digest, SaveError> {
    let mut nowhere = io::sink();
    let mut archive = ArchiveWriter::create(snapshots.store(), Output::Stream(&mut nowhere))?;
    let chosen = Chosen {
        record: image.clone(),
        names: Vec::new(),
        shared: Vec::new(),
    };
    let alone = SaveOptions {
        attestations: Some(Attestations::default()),
        ..options.clone()
    };
    let written = write_image(snapshots, &mut archive, &alone, chosen)?;
    Ok(snapshots.store().put_blob(&written.manifest_bytes)?)
}

fn choose(
    store: &Store,
    words: &[impl AsRef<str>],
    platforms: &[Platform],
) -> Result<Vec<Chosen>, SaveError> {
    let mut images: Vec<Chosen> = Vec::new();
    for word in words {
        let word = word.as_ref();
        let before = images.len();
        choose_meant(store, word, &mut images)?;
        if platforms.is_empty() {
            continue;
        }
        let mut kept = images.split_off(before);
        let mut at = 0;
        while let Some(image) = kept.get(at) {
            let config = config(&image.record, &read_blob(store, &image.record.id)?)?;
            match platforms.contains(&config.platform()) {
                true => at += 1,
                false => drop(kept.remove(at)),
            }
        }
        if kept.is_empty() {
            return Err(SaveError::NoPlatform {
                word: word.to_owned(),
                platform: platforms[0].clone(),
            });
        }
        images.append(&mut kept);
    }
    Ok(images)
}

/// Adds the images that a word means.
fn choose_meant(store: &Store, word: &str, images: &mut Vec<Chosen>) -> Result<(), SaveError> {
    for (record, name) in meant(store, word)? {
        let platforms = name.as_ref().map(|name| store.platforms(name));
        let platforms = platforms.transpose()?.unwrap_or_default();
        for (_, id) in &platforms {
            if let Some(image) = store.image(id)? {
                let shared = &mut chosen(images, image).shared;
                shared.extend(name.clone().filter(|name| !shared.contains(name)));
            }
        }
        if platforms.is_empty() {
            let names = &mut chosen(images, record).names;
            names.extend(name.filter(|name| !names.contains(name)));
        }
    }
    Ok(())
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
    let bytes = promising(record, bytes, &layers)?;
    let config = config(record, &bytes)?;
    let config_descriptor = archive.blob(media_type::CONFIG, &bytes)?;
    let id = config_descriptor.digest;
    let made = Made {
        config: (&config, config_descriptor),
        layers: &layers,
    };
    let (media_type, manifest_bytes) = manifest(store, record, options, made)?;
    let mut manifest = archive.blob(&media_type, &manifest_bytes)?;
    manifest.annotations = options.of_image(Annotated::ManifestDescriptor, &config);
    let names = [&chosen.names[..], &chosen.shared].concat();
    let subject = Subject {
        manifest: &manifest,
        names: &names,
        platform: &config.platform(),
    };
    let attestations = Attestations::wanted(store, options, [record])?;
    let attested = write_attestations(archive, attestations.of(&record.id), &subject)?;
    Ok(Written {
        attested,
        id,
        config,
        manifest,
        manifest_bytes,
        layers,
        chosen,
    })
}

/// Writes what is said about an image, and gives what stands for it in the index.
fn write_attestations(
    archive: &mut ArchiveWriter<'_>,
    predicates: &[Predicate],
    subject: &Subject<'_>,
) -> Result<Option<Descriptor>, SaveError> {
    let Some(documents) = attest::documents(predicates, subject) else {
        return Ok(None);
    };
    for (media_type, bytes) in &documents.blobs {
        archive.blob(media_type, bytes)?;
    }
    archive.blob(&documents.descriptor.media_type, &documents.manifest)?;
    Ok(Some(documents.descriptor))
}

pub(crate) fn config(record: &ImageRecord, bytes: &[u8]) -> Result<ImageConfig, SaveError> {
    serde_json::from_slice(bytes).map_err(|source| SaveError::Config {
        id: record.id,
        source,
    })
}

/// The config of an image whose layers were written as these: as it is, or with other diff ids.
pub(crate) fn promising(
    record: &ImageRecord,
    config: Vec<u8>,
    layers: &[Layer],
) -> Result<Vec<u8>, SaveError> {
    let diff_ids = layers.iter().map(|it| it.diff_id);
    if record.diff_ids.iter().copied().eq(diff_ids.clone()) {
        return Ok(config);
    }
    let failed = |source| SaveError::Config {
        id: record.id,
        source,
    };
    let mut document: Value = serde_json::from_slice(&config).map_err(failed)?;
    document["rootfs"]["diff_ids"] = diff_ids.map(|it| it.to_string()).collect();
    Ok(json(&document))
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

/// What an image's manifest is made of.
pub(crate) struct Made<'a> {
    pub(crate) config: (&'a ImageConfig, Descriptor),
    pub(crate) layers: &'a [Layer],
}

/// The image's manifest with its media type: the one it came with, if that fits the layers as they
/// were written and says what it is to say, so that its digest stays; else a new one.
pub(crate) fn manifest(
    store: &Store,
    record: &ImageRecord,
    options: &SaveOptions,
    made: Made<'_>,
) -> Result<(String, Vec<u8>), SaveError> {
    let (config, descriptor) = made.config;
    let wanted = options.annotations.as_ref();
    let wanted = wanted.map(|it| it.of_image(Annotated::Manifest, &config.platform()));
    let mut kept = BTreeMap::new();
    if let Some((document, bytes)) = known_manifest(store, record)? {
        let types = document.types();
        kept = document.annotations.unwrap_or_default();
        let layers = document.layers.unwrap_or_default();
        let digests = layers.iter().map(|it| it.digest);
        let fits = digests.eq(made.layers.iter().map(|it| it.descriptor.digest));
        let fits = fits && descriptor.digest == record.id;
        let fits = fits && options.media_types.is_none_or(|it| it == types);
        if fits && wanted.as_ref().is_none_or(|wanted| *wanted == kept) {
            let media_type = document.media_type;
            let media_type = media_type.unwrap_or_else(|| media_type::MANIFEST.to_owned());
            return Ok((media_type, bytes));
        }
    }
    let types = options.types();
    let layers = made.layers.iter();
    let manifest = Manifest {
        schema_version: 2,
        media_type: types.manifest(),
        config: Descriptor {
            media_type: types.config().to_owned(),
            ..descriptor
        },
        layers: layers.map(|it| it.descriptor.typed(types)).collect(),
        annotations: wanted.unwrap_or(kept),
    };
    Ok((types.manifest().to_owned(), json(&manifest)))
}

/// The index of the images of a name with its media type: the one that was kept, if it leads to these
/// images and no others, so that its digest stays; else a new one that says what else that one said.
pub(crate) fn index(
    store: &Store,
    name: &Reference,
    options: &SaveOptions,
    mut entries: Vec<Descriptor>,
) -> Result<(String, Vec<u8>), SaveError> {
    let mut annotations = BTreeMap::new();
    if let Some((document, bytes)) = known_index(store, name)? {
        let kept = document.manifests.unwrap_or_default();
        let digests = |of: &[Descriptor]| of.iter().map(|it| it.digest).collect::<BTreeSet<_>>();
        if digests(&kept) == digests(&entries) {
            let media_type = document.media_type;
            let media_type = media_type.unwrap_or_else(|| media_type::INDEX.to_owned());
            return Ok((media_type, bytes));
        }
        annotations = document.annotations.unwrap_or_default();
        for entry in &mut entries {
            // Packed in another way, an image has another manifest, of which is said what was said of it.
            let same = |it: &&Descriptor| it.digest == entry.digest;
            let known = kept.iter().find(same);
            let of_platform = |it: &&Descriptor| it.platform == entry.platform;
            let known = known.or_else(|| kept.iter().find(of_platform));
            if let Some(known) = known.filter(|_| !entry.is_attestation()) {
                entry.annotations.clone_from(&known.annotations);
            }
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: options.types().index(),
        manifests: entries,
        annotations,
    };
    Ok((index.media_type.to_owned(), json(&index)))
}

/// The index that the store has of a name.
fn known_index(store: &Store, name: &Reference) -> Result<Option<(Document, Vec<u8>)>, SaveError> {
    let Some(digest) = store.index(name)? else {
        return Ok(None);
    };
    if !store.has_blob(&digest)? {
        return Ok(None);
    }
    let bytes = read_blob(store, &digest)?;
    let document = serde_json::from_slice::<Document>(&bytes).ok();
    let document = document.filter(|it| it.manifests.is_some());
    Ok(document.map(|document| (document, bytes)))
}

/// The manifest that the store has of the image.
fn known_manifest(
    store: &Store,
    record: &ImageRecord,
) -> Result<Option<(Document, Vec<u8>)>, SaveError> {
    let Some(digest) = record.manifest else {
        return Ok(None);
    };
    if !store.has_blob(&digest)? {
        return Ok(None);
    }
    let bytes = read_blob(store, &digest)?;
    let Ok(document) = serde_json::from_slice::<Document>(&bytes) else {
        return Ok(None);
    };
    let config = document.config.as_ref();
    let is_its = document.layers.is_some() && config.is_some_and(|it| it.digest == record.id);
    Ok(is_its.then_some((document, bytes)))
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

fn write_indices(
    archive: &mut ArchiveWriter<'_>,
    options: &SaveOptions,
    images: &[Written],
) -> Result<Option<Described>, SaveError> {
    let mut manifests: Vec<Descriptor> = images.iter().flat_map(index_entries).collect();
    let mut described = match images {
        [image] => Some(Described::from(&image.manifest)),
        _ => None,
    };
    let shared: BTreeSet<&Reference> = images.iter().flat_map(|it| &it.chosen.shared).collect();
    for name in &shared {
        let of_name = images.iter().filter(|it| it.chosen.shared.contains(*name));
        let of_name: Vec<_> = of_name.collect();
        let entry = if options.annotations.is_none() {
            let entries = index_entries_of(&of_name);
            let (media_type, nested) = index(archive.store(), name, options, entries)?;
            archive.blob(&media_type, &nested)?
        } else {
            nest(archive, options, &of_name)?
        };
        described = Some(Described::from(&entry));
        manifests.push(named(&entry, name));
    }
    for image in images.iter().filter(|it| it.has_own_index()) {
        let entry = nest(archive, options, &[image])?;
        described = described.map(|_| Described::from(&entry));
        manifests.extend(under_names(image, &entry));
    }
    let mut index = Index {
        schema_version: 2,
        media_type: media_type::INDEX,
        manifests,
        // Where the images have no name that they share, this is their index.
        annotations: match shared.is_empty() {
            true => options.of_index(Annotated::Index),
            false => BTreeMap::new(),
        },
    };
    if let Some(layout) = archive.layout() {
        let others = layout.others(&index.manifests)?;
        index.manifests.splice(0..0, others);
        layout.finish(&index)?;
        return Ok(described);
    }
    archive.file("index.json", &json(&index))?;
    let entries: Vec<DockerEntry> = images.iter().map(docker_entry).collect();
    archive.file("manifest.json", &json(&entries))?;
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let repositories = repositories(images);
    if !repositories.is_empty() {
        archive.file("repositories", &json(&repositories))?;
    }
    Ok(described)
}

/// Writes an index of images, and behind them of what is said about them.
fn nest(
    archive: &mut ArchiveWriter<'_>,
    options: &SaveOptions,
    images: &[&Written],
) -> Result<Descriptor, SaveError> {
    let nested = Index {
        schema_version: 2,
        media_type: options.types().index(),
        manifests: index_entries_of(images),
        annotations: options.of_index(Annotated::Index),
    };
    let mut entry = archive.blob(nested.media_type, &json(&nested))?;
    entry.annotations = options.of_index(Annotated::IndexDescriptor);
    Ok(entry)
}

/// Images in an index of theirs, and behind them what is said about them.
fn index_entries_of(images: &[&Written]) -> Vec<Descriptor> {
    let runnable = images.iter().map(|image| index_entry(image));
    let attested = images.iter().filter_map(|image| image.attested.clone());
    runnable.chain(attested).collect()
}

/// The image in `index.json`, where it stands there itself.
fn index_entries(image: &Written) -> Vec<Descriptor> {
    match image.has_own_index() {
        true => Vec::new(),
        false => under_names(image, &index_entry(image)),
    }
}

/// What stands for the image in `index.json`: once a name, so that readers can pick it by any.
fn under_names(image: &Written, entry: &Descriptor) -> Vec<Descriptor> {
    if image.chosen.names.is_empty() && image.chosen.shared.is_empty() {
        return vec![entry.clone()];
    }
    let names = image.chosen.names.iter();
    names.map(|name| named(entry, name)).collect()
}

impl Written {
    /// Whether an index of its own holds the image and what is said about it. One of several platforms
    /// is in the index of all of them.
    fn has_own_index(&self) -> bool {
        self.attested.is_some() && self.chosen.shared.is_empty()
    }
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
    entry.annotations.insert(REF_NAME.to_owned(), short);
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
        config: archive::blob_name(&image.id),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(
            image
                .layers
                .iter()
                .map(|layer| archive::blob_name(&layer.descriptor.digest))
                .collect(),
        ),
        layer_sources: image
            .layers
            .iter()
            .map(|layer| (layer.diff_id, layer.descriptor.clone()))
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
                    .insert(tag.to_owned(), top.descriptor.digest.hex());
            }
        }
    }
    repositories
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the documents hold nothing that JSON cannot")
}
