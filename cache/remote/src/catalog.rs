//! The catalog of a cache: which key stands for which layers.
//!
//! It is the config of an OCI image manifest, under a media type of its own; the manifest's layers
//! are all blobs that the catalog speaks of, so that a registry keeps them as long as the manifest.
//! BuildKit's form (`application/vnd.buildkit.cacheconfig.v0`) is not used: it names steps by links
//! between digests of BuildKit's own ops, which mean nothing here, as our keys mean nothing there;
//! and it has no place for when a step ran, how long it took, and for cache mounts.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use oci::media_type::{self, Compression};
use oci::{Digest, Key};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The media type of a catalog.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.rbuild.cache.config.v1+json";
/// The media type of the index of a cache mount.
pub(crate) const MOUNT_INDEX: &str = "application/vnd.rbuild.cache.mount.v1+zstd";
/// The media type of a pack of pieces of files of a cache mount.
pub(crate) const MOUNT_PACK: &str = "application/vnd.rbuild.cache.pack.v1+zstd";

/// The largest catalog that is read.
pub(crate) const MAX_CATALOG: u64 = 64 << 20;
/// The kernel mounts no more layers over each other.
const MOST_LAYERS: u32 = 500;
const VERSION: u64 = 1;

/// What a cache has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// All layers, each on top of one that stands before it.
    pub layers: Vec<Layer>,
    /// What the steps of keys made.
    pub records: Vec<Record>,
    /// Cache mounts.
    pub mounts: Vec<MountEntry>,
    /// How many entries made no sense and were left out.
    pub malformed: usize,
}

/// Bytes that a backend keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Their name.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

/// A layer on top of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// As it is kept.
    pub blob: Blob,
    /// How that is packed, as the media type of an OCI layer.
    pub media_type: String,
    /// The layer below, by its place in the catalog; none for the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// When it was made: images show that.
    pub created: Timestamp,
}

/// What the step of a key made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What it is found by.
    pub key: Key,
    /// Which kind of key, `definition` or `content`.
    pub kind: String,
    /// The uppermost layer of each output, by its place in the catalog; `null` is the empty tree.
    pub outputs: Vec<Option<usize>>,
    /// The step as the build showed it.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in microseconds.
    pub duration: u64,
    /// When the oldest of those steps ran that have a time to live and that this was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountEntry {
    /// Its id.
    pub id: String,
    /// The index of its files.
    pub index: Blob,
    /// The packs that the index speaks of.
    pub packs: Vec<Blob>,
}

/// Why bytes are no catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// They are no JSON, or not that of a catalog.
    #[error("its catalog cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// A later rbuild wrote it.
    #[error("its catalog has version {0}, and this rbuild knows no later one than {VERSION}")]
    Version(u64),
}

/// As it is written. Entries are read one by one, so that one that makes no sense costs no other.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    #[serde(default)]
    layers: Vec<Value>,
    #[serde(default)]
    records: Vec<Value>,
    #[serde(default)]
    mounts: Vec<Value>,
}

/// A layer of a chain, with what it is found by in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLayer {
    /// The layer.
    pub layer: Layer,
    /// OCI's name of it and all below it.
    pub chain_id: Digest,
}

impl Catalog {
    /// Reads a catalog. What makes no sense in it is left out, with all that depends on it.
    pub fn parse(bytes: &[u8]) -> Result<Self, CatalogError> {
        let document: Document = serde_json::from_slice(bytes)?;
        if document.version != VERSION {
            return Err(CatalogError::Version(document.version));
        }
        let mut catalog = Self::default();
        let places = catalog.take_layers(document.layers);
        for value in document.records {
            match serde_json::from_value::<Record>(value)
                .ok()
                .and_then(|it| placed(it, &places))
            {
                Some(record) => catalog.records.push(record),
                None => catalog.malformed += 1,
            }
        }
        for value in document.mounts {
            match serde_json::from_value(value) {
                Ok(mount) => catalog.mounts.push(mount),
                Err(_) => catalog.malformed += 1,
            }
        }
        Ok(catalog)
    }

    /// Takes the layers that make sense; tells of each where it came to be.
    fn take_layers(&mut self, values: Vec<Value>) -> Vec<Option<usize>> {
        let mut places: Vec<Option<usize>> = Vec::with_capacity(values.len());
        let mut depths: Vec<u32> = Vec::new();
        for value in values {
            let layer = serde_json::from_value::<Layer>(value)
                .ok()
                .filter(|it| media_type::layer_compression(&it.media_type).is_some());
            let stands = layer.and_then(|mut layer| {
                let depth = match layer.parent {
                    None => 1,
                    Some(parent) => {
                        // Only what stands before it: there are no circles.
                        let place = (*places.get(parent)?)?;
                        layer.parent = Some(place);
                        depths[place] + 1
                    }
                };
                (depth <= MOST_LAYERS).then_some((layer, depth))
            });
            match stands {
                Some((layer, depth)) => {
                    places.push(Some(self.layers.len()));
                    self.layers.push(layer);
                    depths.push(depth);
                }
                None => {
                    places.push(None);
                    self.malformed += 1;
                }
            }
        }
        places
    }

    /// The catalog's bytes: the same for the same catalog.
    pub fn to_json(&self) -> Vec<u8> {
        fn values<T: Serialize>(all: &[T]) -> Vec<Value> {
            let value = |it| serde_json::to_value(it);
            all.iter()
                .map(|it| value(it).expect("a catalog holds nothing that JSON cannot"))
                .collect()
        }
        let document = Document {
            version: VERSION,
            layers: values(&self.layers),
            records: values(&self.records),
            mounts: values(&self.mounts),
        };
        serde_json::to_vec(&document).expect("a catalog holds nothing that JSON cannot")
    }

    /// The layers of a chain, lowest first, given the place of the uppermost.
    pub fn chain(&self, top: usize) -> Vec<ChainLayer> {
        let mut layers = Vec::new();
        let mut next = Some(top);
        while let Some(layer) = next.and_then(|it| self.layers.get(it)) {
            layers.push(layer.clone());
            next = layer.parent;
        }
        layers.reverse();
        let diff_ids: Vec<Digest> = layers.iter().map(|it| it.diff_id).collect();
        let chain_ids = oci::config::chain_ids(&diff_ids);
        layers
            .into_iter()
            .zip(chain_ids)
            .map(|(layer, chain_id)| ChainLayer { layer, chain_id })
            .collect()
    }

    /// All blobs that it speaks of with their media types, each once, in a steady order.
    pub(crate) fn blobs(&self) -> Vec<(Blob, String)> {
        let mut seen = HashSet::new();
        let layers = self
            .layers
            .iter()
            .map(|it| (it.blob, it.media_type.clone()));
        let mounts = self.mounts.iter().flat_map(|mount| {
            let index = (mount.index, MOUNT_INDEX.to_owned());
            let packs = mount.packs.iter().map(|it| (*it, MOUNT_PACK.to_owned()));
            packs.chain([index])
        });
        layers
            .chain(mounts)
            .filter(|(blob, _)| seen.insert(blob.digest))
            .collect()
    }
}

impl Layer {
    /// How its blob is packed.
    pub fn compression(&self) -> Compression {
        media_type::layer_compression(&self.media_type).unwrap_or(Compression::Gzip)
    }
}

impl From<&store::Record> for Record {
    /// Without outputs: they are other numbers in a store.
    fn from(record: &store::Record) -> Self {
        Self {
            key: record.key,
            kind: record.kind.clone(),
            outputs: Vec::new(),
            name: record.name.clone(),
            started: record.started,
            duration: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
            made: record.made,
        }
    }
}

/// A record whose layers are all there.
fn placed(mut record: Record, places: &[Option<usize>]) -> Option<Record> {
    for output in record.outputs.iter_mut().flatten() {
        *output = (*places.get(*output)?)?;
    }
    Some(record)
}

/// The layers of each output, lowest first; `None` is the empty tree.
type Chains = Vec<Option<Vec<Layer>>>;

/// A catalog under construction. Records of the same keys and chains make the same catalog, in
/// whichever order they come.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    records: BTreeMap<Key, (Record, Chains)>,
    /// The chains of all records: what is on top of what, by chain id.
    chains: HashSet<Digest>,
}

impl Builder {
    /// Adds a record with the chains of its outputs, in place of an earlier one of its key.
    pub(crate) fn add(&mut self, record: &Record, chains: Chains) {
        for chain in chains.iter().flatten() {
            let diff_ids: Vec<Digest> = chain.iter().map(|it| it.diff_id).collect();
            self.chains.extend(oci::config::chain_ids(&diff_ids));
        }
        self.records.insert(record.key, (record.clone(), chains));
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.records.contains_key(key)
    }

    /// Whether all layers of a chain are there.
    pub(crate) fn has_chain(&self, chain: &[ChainLayer]) -> bool {
        chain.iter().all(|it| self.chains.contains(&it.chain_id))
    }

    /// The catalog: chains that begin alike share their layers.
    pub(crate) fn finish(self, mounts: Vec<MountEntry>) -> Catalog {
        let mut catalog = Catalog {
            mounts,
            ..Catalog::default()
        };
        let mut places = HashMap::new();
        for (record, chains) in self.records.into_values() {
            let outputs = chains
                .iter()
                .map(|chain| place(&mut catalog.layers, &mut places, chain.as_deref()?))
                .collect();
            catalog.records.push(Record { outputs, ..record });
        }
        catalog
    }
}

/// The place of a chain's uppermost layer, with all its layers placed.
fn place(
    layers: &mut Vec<Layer>,
    places: &mut HashMap<(Option<usize>, Digest), usize>,
    chain: &[Layer],
) -> Option<usize> {
    let mut below = None;
    for layer in chain {
        let place = *places.entry((below, layer.diff_id)).or_insert_with(|| {
            layers.push(Layer {
                parent: below,
                ..layer.clone()
            });
            layers.len() - 1
        });
        below = Some(place);
    }
    below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(name: &str) -> Layer {
        Layer {
            diff_id: Digest::of(name.as_bytes()),
            blob: Blob {
                digest: Digest::of(format!("packed {name}").as_bytes()),
                size: 7,
            },
            media_type: media_type::LAYER_GZIP.to_owned(),
            parent: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    fn record(key: u8) -> Record {
        Record {
            key: Key::from_bytes([key; 32]),
            kind: "definition".to_owned(),
            outputs: Vec::new(),
            name: format!("[{key}/9] RUN make"),
            started: Timestamp::UNIX_EPOCH,
            duration: 1_500_000,
            made: None,
        }
    }

    fn sample() -> Catalog {
        let mut builder = Builder::default();
        builder.add(&record(1), vec![Some(vec![layer("base"), layer("a")])]);
        builder.add(
            &record(2),
            vec![Some(vec![layer("base"), layer("b")]), None],
        );
        builder.finish(Vec::new())
    }

    #[test]
    fn chains_that_begin_alike_share_their_layers() {
        let catalog = sample();
        let parents: Vec<Option<usize>> = catalog.layers.iter().map(|it| it.parent).collect();
        assert_eq!(parents, [None, Some(0), Some(0)]);
        assert_eq!(catalog.records[0].outputs, [Some(1)]);
        assert_eq!(catalog.records[1].outputs, [Some(2), None]);
        let chain = catalog.chain(2);
        assert_eq!(chain.len(), 2);
        let diff_ids = [chain[0].layer.diff_id, chain[1].layer.diff_id];
        assert_eq!(chain[1].chain_id, oci::config::chain_ids(&diff_ids)[1]);
    }

    #[test]
    fn the_order_in_which_records_come_does_not_show() {
        let mut builder = Builder::default();
        builder.add(
            &record(2),
            vec![Some(vec![layer("base"), layer("b")]), None],
        );
        builder.add(&record(1), vec![None]);
        builder.add(&record(1), vec![Some(vec![layer("base"), layer("a")])]);
        assert_eq!(builder.finish(Vec::new()), sample());
    }

    #[test]
    fn a_catalog_survives_its_bytes() {
        let catalog = sample();
        assert_eq!(Catalog::parse(&catalog.to_json()).unwrap(), catalog);
    }

    #[test]
    fn what_makes_no_sense_is_left_out_with_what_depends_on_it() {
        let mut document: Value = serde_json::from_slice(&sample().to_json()).unwrap();
        document["layers"][1]["diffId"] = "sha256:short".into();
        let catalog = Catalog::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!((catalog.layers.len(), catalog.malformed), (2, 2));
        let keys: Vec<Key> = catalog.records.iter().map(|it| it.key).collect();
        assert_eq!(keys, [record(2).key]);
        assert_eq!(
            catalog.chain(catalog.records[0].outputs[0].unwrap()).len(),
            2
        );
    }

    #[test]
    fn a_layer_stands_on_nothing_that_comes_after_it() {
        let mut document: Value = serde_json::from_slice(&sample().to_json()).unwrap();
        document["layers"][0]["parent"] = 1.into();
        let catalog = Catalog::parse(document.to_string().as_bytes()).unwrap();
        assert!(catalog.layers.is_empty() && catalog.records.is_empty());
    }

    #[test]
    fn a_later_version_is_not_guessed_at() {
        let error = Catalog::parse(br#"{"version":2}"#).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert!(Catalog::parse(b"[]").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fall(text in r#"[{}\[\]",:a-z0-9]{0,80}"#) {
            let _ = Catalog::parse(text.as_bytes());
            let _ = Catalog::parse(format!(r#"{{"version":1,"layers":[{text}]}}"#).as_bytes());
        }
    }
}
