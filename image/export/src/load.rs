//! Reading images from archives of either kind, trusting nothing they say about themselves.

mod archive;
mod find;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::config::chain_ids;
use oci::media_type::Compression;
use oci::{Digest, ImageConfig, Platform, Reference, ReferenceError, Sha256};
use snapshot::{ApplyError, Snapshots};
use store::{ImageRecord, SnapshotId, Store, StoreError};

use crate::ahead::ahead;
use crate::compress::{Packing, decoder, decoder_within};
use archive::Archive;
use find::{Found, Group};

/// Why an archive was not loaded. Nothing of it is in the catalog then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The input ends early, is damaged, or is no tar.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// A file or directory could not be opened.
    #[error("cannot open `{path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Neither kind of archive.
    #[error("this is no image archive: it has neither an `index.json` nor a `manifest.json`")]
    NoArchive,
    /// A directory that is no layout.
    #[error("this is no OCI layout: it has no `index.json`")]
    NoLayout,
    /// A digest that nothing in a layout has.
    #[error("nothing in the layout has the digest {digest}")]
    NoDigest {
        /// The digest.
        digest: Digest,
    },
    /// A tag that no image of a layout has.
    #[error("no image of the layout has the tag `{tag}`: {}", tags(.known))]
    NoTag {
        /// The tag.
        tag: String,
        /// What its images are called.
        known: Vec<String>,
    },
    /// An archive without images.
    #[error("the archive holds no image")]
    NoImage,
    /// A path that leads outside.
    #[error("archive entry `{path}` leaves the archive")]
    Escapes {
        /// As written.
        path: String,
    },
    /// Two entries of one path.
    #[error("archive entry `{path}` comes twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// More than anyone would pack.
    #[error("the archive has more than {0} entries")]
    TooMany(u64),
    /// The archive ends within a file.
    #[error("archive entry `{path}` is cut short")]
    Short {
        /// The path.
        path: String,
    },
    /// Something is named that is not there.
    #[error("`{wanted_by}` names `{path}`, which is not in the archive")]
    Missing {
        /// The path looked for.
        path: String,
        /// Who names it.
        wanted_by: String,
    },
    /// A document larger than any honest one.
    #[error("`{path}` has {size} bytes, more than the {limit} a document may have")]
    TooLarge {
        /// The document.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A document that is not JSON of the expected form.
    #[error("`{path}` cannot be read")]
    Malformed {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A document with more than one meaning, or none.
    #[error("`{path}` is refused: {why}")]
    Ambiguous {
        /// The document.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// A file whose name promises other bytes.
    #[error("`{path}` has the digest {found}")]
    WrongDigest {
        /// The path.
        path: String,
        /// What its bytes are.
        found: Digest,
    },
    /// A file of another size than its descriptor says.
    #[error("`{path}` has {found} bytes, but its descriptor says {expected}")]
    WrongSize {
        /// The path.
        path: String,
        /// What the descriptor says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The config lists other layers than the manifest.
    #[error("`{path}` has {layers} layers, but its config has {diff_ids}")]
    LayerCount {
        /// The manifest.
        path: String,
        /// How many layers it lists.
        layers: usize,
        /// How many diff ids the config lists.
        diff_ids: usize,
    },
    /// More layers than an image may have.
    #[error("`{path}` has {layers} layers, more than the {limit} an image may have")]
    TooManyLayers {
        /// The manifest.
        path: String,
        /// How many layers it lists.
        layers: usize,
        /// How many there may be.
        limit: u64,
    },
    /// A layer that is not what the config promises.
    #[error("layer `{path}` is {found} unpacked, but the config says {expected}")]
    WrongDiffId {
        /// The layer.
        path: String,
        /// What the config says.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// The two halves of a hybrid archive tell of different images.
    #[error("`manifest.json` tells of image {id}, but `index.json` does not")]
    Disagree {
        /// The image only one tells of.
        id: Digest,
    },
    /// An image for other platforms only.
    #[error("`{path}` has no image for {platform}")]
    NoPlatform {
        /// The index.
        path: String,
        /// What was looked for.
        platform: Platform,
    },
    /// A name that is no image name.
    #[error("`{path}` gives an image a bad name")]
    Name {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer `{path}`")]
    Apply {
        /// The layer.
        path: String,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id; of several, for their platforms, the host's or the first.
    pub id: Digest,
    /// All of several.
    pub platforms: Vec<(Platform, Digest)>,
    /// The names it has been given.
    pub names: Vec<Reference>,
    /// Names that other images had before, with those images.
    pub taken: Vec<(Reference, Digest)>,
}

/// Loads the images of an archive, those for `platforms` or all: a tar of either kind, packed with
/// gzip, zstd, bzip2, xz or not.
///
/// Images enter the catalog when all of the archive has been verified: sizes and digests of all
/// blobs, and the digest of every layer unpacked.
pub fn load(
    snapshots: &Snapshots,
    input: impl Read + Send,
    platforms: &[Platform],
) -> Result<Vec<Loaded>, LoadError> {
    let (_, tar) = decoder_within(input, snapshots.limits()).map_err(LoadError::Read)?;
    load_archive(snapshots, &Archive::read(snapshots, tar)?, platforms)
}

/// Loads all images of an OCI layout that is a directory.
pub fn load_directory(snapshots: &Snapshots, directory: &Path) -> Result<Vec<Loaded>, LoadError> {
    load_archive(
        snapshots,
        &Archive::read_directory(snapshots, directory)?,
        &[],
    )
}

/// Which image of a layout.
#[derive(Debug, Clone)]
pub struct Pick<'a> {
    /// What the layout's index calls it; `latest`, or the only image, where `None`.
    pub tag: Option<&'a str>,
    /// What its manifest is, or an index that leads to it: then the tag says nothing.
    pub digest: Option<Digest>,
    /// On what it runs, where there are several.
    pub platform: &'a Platform,
}

/// An image whose layers are in the store, and that is not in the catalog.
#[derive(Debug, Clone)]
pub struct Uncatalogued {
    /// Its id.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Option<Digest>,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers; kept until the store is closed, unless something comes to need them.
    pub top: Option<SnapshotId>,
}

/// Brings one image of an OCI layout into the store, verified as [`load`] does, for whoever builds on
/// it: it gets no name and is not in the catalog.
pub fn load_layout(
    snapshots: &Snapshots,
    directory: &Path,
    pick: &Pick<'_>,
) -> Result<Uncatalogued, LoadError> {
    let archive = Archive::read_directory(snapshots, directory)?;
    let found = find::image(&archive, pick)?;
    let verified = verify(snapshots, &found)?;
    Ok(Uncatalogued {
        id: found.id,
        manifest: found.manifest,
        config: verified.config,
        top: verified.record.top,
    })
}

fn tags(known: &[String]) -> String {
    match known {
        [] => "none has any".to_owned(),
        known => format!("there are {}", known.join(", ")),
    }
}

fn load_archive(
    snapshots: &Snapshots,
    archive: &Archive<'_>,
    platforms: &[Platform],
) -> Result<Vec<Loaded>, LoadError> {
    let store = snapshots.store();
    let found = find::images(archive, platforms)?;
    let mut verified = Vec::new();
    for group in &found {
        let images = group.images.iter().map(|it| verify(snapshots, it));
        verified.push(images.collect::<Result<Vec<_>, _>>()?);
    }
    let mut loaded = Vec::new();
    for (group, verified) in found.iter().zip(&verified) {
        for (image, verified) in group.images.iter().zip(verified) {
            enter(store, image, verified)?;
        }
        match (&group.names[..], &verified[..]) {
            // Without a name that they share, they are images like others.
            ([], images) => loaded.extend(images.iter().map(|it| Loaded::nameless(it.record.id))),
            (_, images) => loaded.push(name(store, group, images)?),
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn nameless(id: Digest) -> Self {
        Self {
            id,
            platforms: Vec::new(),
            names: Vec::new(),
            taken: Vec::new(),
        }
    }
}

/// Gives the images of a group their names.
fn name(store: &Store, group: &Group, images: &[Verified]) -> Result<Loaded, LoadError> {
    let mut platforms: Vec<(Platform, Digest)> = Vec::new();
    for image in images {
        let platform = image.config.platform();
        if platforms.iter().all(|(known, _)| *known != platform) {
            platforms.push((platform, image.record.id));
        }
    }
    let host = Platform::host();
    let of_host = platforms.iter().find(|(platform, _)| *platform == host);
    let (_, id) = of_host.unwrap_or(&platforms[0]);
    let mut loaded = Loaded {
        names: group.names.clone(),
        ..Loaded::nameless(*id)
    };
    for name in &group.names {
        let before = store.image_named(name)?.filter(|before| before.id != *id);
        loaded
            .taken
            .extend(before.map(|before| (name.clone(), before.id)));
        if let [(_, id)] = &platforms[..] {
            store.tag(name, id)?;
            continue;
        }
        store.tag_platforms(name, &platforms)?;
        if let Some(index) = &group.index {
            store.keep_index(name, index)?;
        }
    }
    if platforms.len() > 1 {
        loaded.platforms = platforms;
    }
    Ok(loaded)
}

/// An image all of whose bytes are what the config promises.
struct Verified {
    record: ImageRecord,
    config: ImageConfig,
    /// The layers as blobs: diff id, compression, blob.
    blobs: Vec<(Digest, Compression, Digest)>,
}

fn verify(snapshots: &Snapshots, image: &Found) -> Result<Verified, LoadError> {
    let limit = snapshots.limits().layers;
    if image.layers.len() as u64 > limit {
        return Err(LoadError::TooManyLayers {
            path: image.manifest_path.clone(),
            layers: image.layers.len(),
            limit,
        });
    }
    let config: ImageConfig =
        serde_json::from_slice(&image.config).map_err(|source| LoadError::Malformed {
            path: image.config_path.clone(),
            source,
        })?;
    let diff_ids = config.rootfs.diff_ids.clone();
    if diff_ids.len() != image.layers.len() {
        let (path, layers, diff_ids) = (
            image.manifest_path.clone(),
            image.layers.len(),
            diff_ids.len(),
        );
        return Err(LoadError::LayerCount {
            path,
            layers,
            diff_ids,
        });
    }
    let mut top = None;
    let mut blobs = Vec::new();
    let mut size = 0;
    let chain_ids = chain_ids(&diff_ids);
    for (index, layer) in image.layers.iter().enumerate() {
        let layer = Layer {
            path: &layer.path,
            blob: layer.digest,
            diff_id: diff_ids[index],
            chain_id: chain_ids[index],
        };
        let (snapshot, compression, blob) = layer.unpack(snapshots, top)?;
        size += snapshots.store().snapshot(snapshot)?.size;
        blobs.push((layer.diff_id, compression, blob));
        top = Some(snapshot);
    }
    let record = ImageRecord {
        id: image.id,
        top,
        diff_ids,
        manifest: image.manifest,
        created: config.created,
        size,
    };
    Ok(Verified {
        record,
        config,
        blobs,
    })
}

/// A layer to be unpacked.
struct Layer<'a> {
    path: &'a str,
    blob: Digest,
    diff_id: Digest,
    chain_id: Digest,
}

impl Layer<'_> {
    /// Makes the layer a snapshot on top of `parent`, or finds it. Returns it with the blob that
    /// holds the layer.
    fn unpack(
        &self,
        snapshots: &Snapshots,
        parent: Option<SnapshotId>,
    ) -> Result<(SnapshotId, Compression, Digest), LoadError> {
        let store = snapshots.store();
        let packed = store.open_blob(&self.blob)?;
        let (packing, tar) = decoder_within(packed, snapshots.limits()).map_err(LoadError::Read)?;
        let snapshot = match store.snapshot_by_chain_id(&self.chain_id)? {
            Some(row) => {
                ahead(tar, |tar| self.compare(store, packing, tar))?;
                row.id
            }
            None => ahead(tar, |tar| self.apply(snapshots, parent, tar))?,
        };
        let (compression, blob) = match packing.layer() {
            Some(compression) => (compression, self.blob),
            None => (Compression::None, self.repack(store)?),
        };
        Ok((snapshot, compression, blob))
    }

    fn apply(
        &self,
        snapshots: &Snapshots,
        parent: Option<SnapshotId>,
        tar: &mut dyn Read,
    ) -> Result<SnapshotId, LoadError> {
        snapshots
            .apply(parent, tar, Some(self.diff_id))
            .map_err(|error| match error {
                ApplyError::WrongDiffId { expected, found } => LoadError::WrongDiffId {
                    path: self.path.to_owned(),
                    expected,
                    found,
                },
                source => LoadError::Apply {
                    path: self.path.to_owned(),
                    source,
                },
            })
    }

    /// The layer is there already, from another archive: these bytes still have to be those that
    /// the config promises, or a wrong image would load or not depending on what came before.
    fn compare(
        &self,
        store: &Store,
        packing: Packing,
        tar: &mut dyn Read,
    ) -> Result<(), LoadError> {
        if let Some(compression) = packing.layer()
            && store
                .layer_blob(&self.diff_id, compression)?
                .is_some_and(|(blob, _)| blob == self.blob)
        {
            return Ok(());
        }
        let mut hash = Sha256::default();
        io::copy(tar, &mut hash).map_err(LoadError::Read)?;
        match hash.finish() {
            found if found == self.diff_id => Ok(()),
            found => Err(LoadError::WrongDiffId {
                path: self.path.to_owned(),
                expected: self.diff_id,
                found,
            }),
        }
    }

    /// Layers are kept only in packings that every reader of images knows.
    fn repack(&self, store: &Store) -> Result<Digest, LoadError> {
        let (_, mut tar) = decoder(store.open_blob(&self.blob)?).map_err(LoadError::Read)?;
        let mut writer = store.blob_writer()?;
        archive::fill(&mut writer, &mut tar)?;
        writer.commit_expected(&self.diff_id)?;
        Ok(self.diff_id)
    }
}

/// Puts an image into the catalog.
fn enter(store: &Store, image: &Found, verified: &Verified) -> Result<(), LoadError> {
    for (diff_id, compression, blob) in &verified.blobs {
        store.record_layer_blob(diff_id, *compression, blob)?;
    }
    // One that came with a manifest keeps it when it comes again without.
    let known = store.image(&image.id)?.and_then(|it| it.manifest);
    let record = ImageRecord {
        manifest: verified.record.manifest.or(known),
        ..verified.record.clone()
    };
    Ok(store.put_image(&record, &[])?)
}
