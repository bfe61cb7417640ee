//! Which images an archive holds.

use std::collections::BTreeMap;

use oci::{Digest, Platform, Reference};
use serde::de::DeserializeOwned;

use super::archive::Archive;
use super::{LoadError, Pick};
use crate::manifest::{Descriptor, DockerEntry, Document, Meaning};

/// Indices within indices; docker writes two levels.
const MAX_DEPTH: usize = 4;

/// An image of an archive. Its blobs are there and of the right size; that the layers are what the
/// config promises is not known yet.
pub(super) struct Found {
    pub(super) id: Digest,
    pub(super) config: Vec<u8>,
    pub(super) config_path: String,
    pub(super) manifest: Option<Digest>,
    pub(super) manifest_path: String,
    pub(super) layers: Vec<FoundLayer>,
    pub(super) names: Vec<Reference>,
}

/// A layer of an image of an archive.
pub(super) struct FoundLayer {
    pub(super) path: String,
    pub(super) digest: Digest,
}

/// The images of an archive. If it is of both kinds, `index.json` says what there is and
/// `manifest.json` may add names, but no other image.
pub(super) fn images(archive: &Archive<'_>) -> Result<Vec<Found>, LoadError> {
    let index = archive.document("index.json");
    let docker = archive.document("manifest.json");
    let mut found = match (index, docker) {
        (Some(index), _) => from_index(archive, index)?,
        (None, Some(docker)) => from_docker(archive, docker)?,
        (None, None) => return Err(LoadError::NoArchive),
    };
    if let (Some(_), Some(docker)) = (index, docker) {
        for other in from_docker(archive, docker)? {
            let known = found.iter_mut().find(|it| it.id == other.id);
            add_names(
                known.ok_or(LoadError::Disagree { id: other.id })?,
                other.names,
            );
        }
    }
    if found.is_empty() {
        return Err(LoadError::NoImage);
    }
    Ok(found)
}

fn from_index(archive: &Archive<'_>, bytes: &[u8]) -> Result<Vec<Found>, LoadError> {
    let path = "index.json";
    let document: Document = parse(path, bytes)?;
    let Meaning::Index(entries) = meaning(path, document)? else {
        return Err(LoadError::Ambiguous {
            path: path.to_owned(),
            why: "it is a manifest instead of an index",
        });
    };
    let mut found: Vec<Found> = Vec::new();
    for entry in entries.iter().filter(|it| !it.is_attestation()) {
        let mut image = from_descriptor(archive, entry, path, (1, &Platform::host()))?;
        add_names(&mut image, name_of(entry)?);
        match found.iter_mut().find(|it| it.id == image.id) {
            Some(known) => add_names(known, image.names),
            None => found.push(image),
        }
    }
    Ok(found)
}

/// The image a descriptor leads to, through an index to the one that runs on `platform`.
fn from_descriptor(
    archive: &Archive<'_>,
    descriptor: &Descriptor,
    wanted_by: &str,
    (depth, platform): (usize, &Platform),
) -> Result<Found, LoadError> {
    let (path, _) = blob_of(archive, descriptor, wanted_by)?;
    let (digest, bytes) = archive.small_blob(&path, wanted_by)?;
    match meaning(&path, parse(&path, &bytes)?)? {
        Meaning::Manifest { config, layers } => {
            let (config_path, id) = blob_of(archive, &config, &path)?;
            let (_, config) = archive.small_blob(&config_path, &path)?;
            let layer = |it: &Descriptor| {
                let (path, digest) = blob_of(archive, it, &path)?;
                Ok(FoundLayer { path, digest })
            };
            let layers = layers.iter().map(layer).collect::<Result<_, LoadError>>()?;
            let manifest = Some(digest);
            Ok(Found {
                id,
                config,
                config_path,
                manifest,
                manifest_path: path,
                layers,
                names: Vec::new(),
            })
        }
        Meaning::Index(_) if depth == MAX_DEPTH => Err(LoadError::Ambiguous {
            path,
            why: "indices are nested too deep",
        }),
        Meaning::Index(entries) => {
            let entry = choose(&path, &entries, platform)?;
            from_descriptor(archive, entry, &path, (depth + 1, platform))
        }
    }
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

fn from_docker(archive: &Archive<'_>, bytes: &[u8]) -> Result<Vec<Found>, LoadError> {
    let path = "manifest.json";
    let entries: Vec<DockerEntry> = parse(path, bytes)?;
    let mut found: Vec<Found> = Vec::new();
    for entry in entries {
        let (id, config) = archive.small_blob(&entry.config, path)?;
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
        let mut image = Found {
            id,
            config,
            config_path: entry.config,
            manifest: None,
            manifest_path: path.to_owned(),
            layers,
            names: Vec::new(),
        };
        add_names(&mut image, names);
        match found.iter_mut().find(|it| it.id == id) {
            Some(known) => add_names(known, image.names),
            None => found.push(image),
        }
    }
    Ok(found)
}

fn add_names(image: &mut Found, names: impl IntoIterator<Item = Reference>) {
    for name in names {
        if !image.names.contains(&name) {
            image.names.push(name);
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
