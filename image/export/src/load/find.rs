//! Which images an archive holds.

use std::collections::{BTreeMap, HashSet};

use oci::{Digest, ImageConfig, Platform, Reference};
use serde::de::DeserializeOwned;

use super::archive::Archive;
use super::{LoadError, Pick};
use crate::manifest::{Descriptor, DockerEntry, Document, Meaning};

/// An image of an archive. Its blobs are there and of the right size; that the layers are what the
/// config promises is not known yet.
pub(super) struct Found {
    pub(super) id: Digest,
    pub(super) config: Vec<u8>,
    pub(super) config_path: String,
    pub(super) manifest: Option<Digest>,
    pub(super) manifest_path: String,
    pub(super) layers: Vec<FoundLayer>,
}

/// Images that an archive gives the same names: one, or one for each of several platforms.
pub(super) struct Group {
    pub(super) images: Vec<Found>,
    pub(super) names: Vec<Reference>,
    /// The index that led to them, where one did.
    pub(super) index: Option<Digest>,
}

impl Group {
    fn is_of(&self, images: &[Found]) -> bool {
        self.images.len() == images.len()
            && self.images.iter().zip(images).all(|(a, b)| a.id == b.id)
    }
}

/// A layer of an image of an archive.
pub(super) struct FoundLayer {
    pub(super) path: String,
    pub(super) digest: Digest,
}

/// The images of an archive that are for `platforms`, or all. If it is of both kinds, `index.json`
/// says what there is and `manifest.json` may add names, but no other image.
pub(super) fn images(
    archive: &Archive<'_>,
    platforms: &[Platform],
) -> Result<Vec<Group>, LoadError> {
    let index = archive.document("index.json");
    let docker = archive.document("manifest.json");
    let mut found = match (index, docker) {
        (Some(index), _) => from_index(archive, index)?,
        (None, Some(docker)) => from_docker(archive, docker)?,
        (None, None) => return Err(LoadError::NoArchive),
    };
    if let (Some(_), Some(docker)) = (index, docker) {
        for other in from_docker(archive, docker)? {
            join(&mut found, other)?;
        }
    }
    if found.is_empty() {
        return Err(LoadError::NoImage);
    }
    if let Some(wanted) = platforms.first() {
        for group in &mut found {
            keep(group, platforms)?;
        }
        found.retain(|it| !it.images.is_empty());
        if found.is_empty() {
            return Err(LoadError::NoPlatform {
                path: "index.json".to_owned(),
                platform: wanted.clone(),
            });
        }
    }
    Ok(found)
}

/// Leaves the images for some platforms.
fn keep(group: &mut Group, platforms: &[Platform]) -> Result<(), LoadError> {
    let before = group.images.len();
    let mut kept = Vec::new();
    for image in group.images.drain(..) {
        let config: ImageConfig = parse(&image.config_path, &image.config)?;
        if platforms.contains(&config.platform()) {
            kept.push(image);
        }
    }
    group.images = kept;
    if group.images.len() < before {
        group.index = None;
    }
    Ok(())
}

/// Adds the names that Docker's list has for an image that is known.
fn join(found: &mut Vec<Group>, other: Group) -> Result<(), LoadError> {
    for image in other.images {
        let has = |it: &&mut Group| it.images.iter().any(|known| known.id == image.id);
        let known = found.iter_mut().find(has);
        let known = known.ok_or(LoadError::Disagree { id: image.id })?;
        if let [_] = known.images[..] {
            add_names(known, other.names.iter().cloned());
            continue;
        }
        // There, an image for several platforms is that of the host.
        let names = other.names.iter();
        let names: Vec<_> = names
            .filter(|it| !known.names.contains(it))
            .cloned()
            .collect();
        if !names.is_empty() {
            found.push(Group {
                images: vec![image],
                names,
                index: None,
            });
        }
    }
    Ok(())
}

fn from_index(archive: &Archive<'_>, bytes: &[u8]) -> Result<Vec<Group>, LoadError> {
    let path = "index.json";
    let document: Document = parse(path, bytes)?;
    let Meaning::Index(entries) = meaning(path, document)? else {
        return Err(LoadError::Ambiguous {
            path: path.to_owned(),
            why: "it is a manifest instead of an index",
        });
    };
    let mut found: Vec<Group> = Vec::new();
    for entry in entries.iter().filter(|it| !it.is_attestation()) {
        let mut all = All {
            archive,
            images: Vec::new(),
            seen: HashSet::new(),
        };
        all.add(entry, path, 1)?;
        let images = all.images;
        let name = name_of(entry)?;
        match found.iter_mut().find(|it| it.is_of(&images)) {
            Some(known) => add_names(known, name),
            None => found.push(Group {
                index: (images[0].manifest != Some(entry.digest)).then_some(entry.digest),
                images,
                names: name.into_iter().collect(),
            }),
        }
    }
    Ok(found)
}

/// All images that a descriptor leads to.
struct All<'a> {
    archive: &'a Archive<'a>,
    images: Vec<Found>,
    /// What was looked at: what comes again says nothing new.
    seen: HashSet<Digest>,
}

impl All<'_> {
    fn add(
        &mut self,
        descriptor: &Descriptor,
        wanted_by: &str,
        depth: u64,
    ) -> Result<(), LoadError> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let (path, _) = blob_of(self.archive, descriptor, wanted_by)?;
        let limit = self.archive.limits().manifest;
        let (digest, bytes) = self.archive.small_blob(&path, wanted_by, limit)?;
        let entries = match meaning(&path, parse(&path, &bytes)?)? {
            Meaning::Manifest { config, layers } => {
                let image = image_of(self.archive, (path, digest), &config, &layers)?;
                if self.images.iter().all(|it| it.id != image.id) {
                    self.images.push(image);
                }
                return Ok(());
            }
            Meaning::Index(_) if depth >= self.archive.limits().indices => {
                return Err(LoadError::Ambiguous {
                    path,
                    why: "indices are nested too deep",
                });
            }
            Meaning::Index(entries) => entries,
        };
        let before = self.images.len();
        let images = entries.iter().filter(|it| !it.is_attestation());
        // Whoever saves one platform of several leaves the others in the index.
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            images.partition(|it| self.archive.has(&it.digest));
        for entry in &here {
            self.add(entry, &path, depth + 1)?;
        }
        match elsewhere.first() {
            Some(missing) if self.images.len() == before => {
                blob_of(self.archive, missing, &path).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// The image a descriptor leads to, through an index to the one that runs on `platform`.
fn from_descriptor(
    archive: &Archive<'_>,
    descriptor: &Descriptor,
    wanted_by: &str,
    (depth, platform): (u64, &Platform),
) -> Result<Found, LoadError> {
    let (path, _) = blob_of(archive, descriptor, wanted_by)?;
    let limit = archive.limits().manifest;
    let (digest, bytes) = archive.small_blob(&path, wanted_by, limit)?;
    match meaning(&path, parse(&path, &bytes)?)? {
        Meaning::Manifest { config, layers } => image_of(archive, (path, digest), &config, &layers),
        Meaning::Index(_) if depth >= archive.limits().indices => Err(LoadError::Ambiguous {
            path,
            why: "indices are nested too deep",
        }),
        Meaning::Index(entries) => {
            let entry = choose(&path, &entries, platform)?;
            from_descriptor(archive, entry, &path, (depth + 1, platform))
        }
    }
}

/// The image of a manifest.
fn image_of(
    archive: &Archive<'_>,
    (path, digest): (String, Digest),
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Found, LoadError> {
    let (config_path, id) = blob_of(archive, config, &path)?;
    let (_, config) = archive.small_blob(&config_path, &path, archive.limits().config)?;
    let layer = |it: &Descriptor| {
        let (path, digest) = blob_of(archive, it, &path)?;
        Ok(FoundLayer { path, digest })
    };
    let layers = layers.iter().map(layer).collect::<Result<_, LoadError>>()?;
    Ok(Found {
        id,
        config,
        config_path,
        manifest: Some(digest),
        manifest_path: path,
        layers,
    })
}

/// The entry for `platform`, or the only one.
fn choose<'a>(
    path: &str,
    entries: &'a [Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, LoadError> {
    let images: Vec<&Descriptor> = entries.iter().filter(|it| !it.is_attestation()).collect();
    let fits = |it: &&&Descriptor| it.runs_on().as_ref() == Some(platform);
    match images[..] {
        [only] => Ok(only),
        _ => {
            let fitting = images.iter().find(fits).copied();
            fitting.ok_or_else(|| LoadError::NoPlatform {
                path: path.to_owned(),
                platform: platform.clone(),
            })
        }
    }
}

/// The one image of a layout that `pick` says.
pub(super) fn image(archive: &Archive<'_>, pick: &Pick<'_>) -> Result<Found, LoadError> {
    let path = "index.json";
    let bytes = archive.document(path).ok_or(LoadError::NoLayout)?;
    let Meaning::Index(entries) = meaning(path, parse(path, bytes)?)? else {
        return Err(LoadError::Ambiguous {
            path: path.to_owned(),
            why: "it is a manifest instead of an index",
        });
    };
    let entries: Vec<&Descriptor> = entries.iter().filter(|it| !it.is_attestation()).collect();
    let by_digest = pick.digest.map(|digest| {
        let known = entries.iter().find(|it| it.digest == digest);
        known.map_or_else(|| unlisted(archive, digest), |it| Ok((*it).clone()))
    });
    let entry = match by_digest {
        Some(entry) => entry?,
        None => tagged(&entries, pick.tag)?.clone(),
    };
    from_descriptor(archive, &entry, path, (1, pick.platform))
}

/// A manifest that the index does not name, but another index may.
fn unlisted(archive: &Archive<'_>, digest: Digest) -> Result<Descriptor, LoadError> {
    let path = format!("blobs/sha256/{}", digest.hex());
    let found = archive.blob(&path, "a digest");
    let (_, size) = found.map_err(|_| LoadError::NoDigest { digest })?;
    Ok(Descriptor {
        media_type: String::new(),
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    })
}

/// The entry with that tag; `latest` or the only one where none is asked for.
fn tagged<'a>(
    entries: &[&'a Descriptor],
    wanted: Option<&str>,
) -> Result<&'a Descriptor, LoadError> {
    let tag = wanted.unwrap_or("latest");
    let names = |it: &Descriptor| -> Vec<String> {
        let keys = [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ];
        let named = keys.iter().filter_map(|key| it.annotations.get(*key));
        named.cloned().collect()
    };
    let is_tagged = |name: &String| {
        name == tag
            || name
                .parse::<Reference>()
                .is_ok_and(|it| name.contains(':') && it.tag() == Some(tag))
    };
    if let Some(found) = entries.iter().find(|it| names(it).iter().any(is_tagged)) {
        return Ok(found);
    }
    match (entries, wanted) {
        ([], _) => Err(LoadError::NoImage),
        ([only], None) => Ok(only),
        _ => Err(LoadError::NoTag {
            tag: tag.to_owned(),
            known: entries.iter().flat_map(|it| names(it)).collect(),
        }),
    }
}

/// Path and digest of the blob a descriptor names, which has to be of the size it says.
fn blob_of(
    archive: &Archive<'_>,
    descriptor: &Descriptor,
    wanted_by: &str,
) -> Result<(String, Digest), LoadError> {
    let path = format!("blobs/sha256/{}", descriptor.digest.hex());
    let (found, size) = archive.blob(&path, wanted_by)?;
    if found != descriptor.digest {
        return Err(LoadError::WrongDigest { path, found });
    }
    if size != descriptor.size {
        return Err(LoadError::WrongSize {
            path,
            expected: descriptor.size,
            found: size,
        });
    }
    Ok((path, found))
}

/// The name an entry of `index.json` gives. A bare tag, as some write it, names no image.
fn name_of(entry: &Descriptor) -> Result<Option<Reference>, LoadError> {
    let annotation = |key: &str| entry.annotations.get(key);
    let full = annotation("io.containerd.image.name");
    let short =
        annotation("org.opencontainers.image.ref.name").filter(|it| it.contains(['/', ':']));
    full.or(short)
        .map(|text| name("index.json", text))
        .transpose()
}

fn from_docker(archive: &Archive<'_>, bytes: &[u8]) -> Result<Vec<Group>, LoadError> {
    let path = "manifest.json";
    let entries: Vec<DockerEntry> = parse(path, bytes)?;
    let mut found: Vec<Group> = Vec::new();
    for entry in entries {
        let (id, config) = archive.small_blob(&entry.config, path, archive.limits().config)?;
        let promised = entry.config.rsplit('/').next().unwrap_or_default();
        let promised = promised.strip_suffix(".json").unwrap_or(promised);
        if format!("sha256:{promised}")
            .parse::<Digest>()
            .is_ok_and(|promised| promised != id)
        {
            return Err(LoadError::WrongDigest {
                path: entry.config,
                found: id,
            });
        }
        let layer = |layer: String| {
            let (digest, _) = archive.blob(&layer, path)?;
            Ok(FoundLayer {
                path: layer,
                digest,
            })
        };
        let layers = entry
            .layers
            .unwrap_or_default()
            .into_iter()
            .map(layer)
            .collect::<Result<_, LoadError>>()?;
        let names = entry.repo_tags.unwrap_or_default();
        let names = names
            .iter()
            .map(|it| name(path, it))
            .collect::<Result<Vec<_>, _>>()?;
        let images = vec![Found {
            id,
            config,
            config_path: entry.config,
            manifest: None,
            manifest_path: path.to_owned(),
            layers,
        }];
        let known = found.iter().position(|it| it.is_of(&images));
        let at = known.unwrap_or_else(|| {
            found.push(Group {
                images,
                names: Vec::new(),
                index: None,
            });
            found.len() - 1
        });
        add_names(&mut found[at], names);
    }
    Ok(found)
}

fn add_names(group: &mut Group, names: impl IntoIterator<Item = Reference>) {
    for name in names {
        if !group.names.contains(&name) {
            group.names.push(name);
        }
    }
}

fn name(path: &str, text: &str) -> Result<Reference, LoadError> {
    text.parse().map_err(|source| LoadError::Name {
        path: path.to_owned(),
        source,
    })
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|source| LoadError::Malformed {
        path: path.to_owned(),
        source,
    })
}

fn meaning(path: &str, document: Document) -> Result<Meaning, LoadError> {
    document.meaning().map_err(|why| LoadError::Ambiguous {
        path: path.to_owned(),
        why,
    })
}
