//! A cache inside an image: records in its config, whose layers are the image's own.

use jiff::Timestamp;
use oci::{ImageConfig, Key};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::import::Descriptor;
use crate::{Catalog, Layer, Record};

/// The field of an image's config that holds the records.
pub const INLINE_KEY: &str = "rbuild.cache.v1";

/// A record whose result is the image up to a certain layer.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: Key,
    kind: String,
    name: String,
    /// How many of the image's layers belong to it.
    layers: usize,
    started: Timestamp,
    duration: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    image: ImageConfig,
    #[serde(rename = "rbuild.cache.v1")]
    cache: Option<Vec<Value>>,
}

/// What [`INLINE_KEY`] is to hold: of `records`, those with one output, each with the number of the
/// image's layers that it is made of.
pub fn inline(records: &[(Record, usize)]) -> Value {
    let entries: Vec<Entry> = records
        .iter()
        .map(|(record, layers)| Entry {
            key: record.key,
            kind: record.kind.clone(),
            name: record.name.clone(),
            layers: *layers,
            started: record.started,
            duration: record.duration,
            made: record.made,
        })
        .collect();
    serde_json::to_value(entries).expect("records hold nothing that JSON cannot")
}

/// The catalog of an image, from its config and the layers of its manifest; else what it is.
pub(crate) fn catalog(config: &[u8], layers: &[Descriptor]) -> Result<Catalog, String> {
    let config: Config =
        serde_json::from_slice(config).map_err(|error| format!("its config is none: {error}"))?;
    let Some(cache) = config.cache else {
        return Err("it is an image without a cache in it".to_owned());
    };
    let diff_ids = &config.image.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err("it has other layers than its config says".to_owned());
    }
    let times: Vec<Timestamp> = config
        .image
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created.unwrap_or_default())
        .collect();
    let mut catalog = Catalog::default();
    for (at, (diff_id, descriptor)) in diff_ids.iter().zip(layers).enumerate() {
        catalog.layers.push(Layer {
            diff_id: *diff_id,
            blob: descriptor.blob,
            media_type: descriptor.media_type.clone(),
            parent: at.checked_sub(1),
            created: times.get(at).copied().unwrap_or_default(),
        });
    }
    for value in cache {
        match serde_json::from_value::<Entry>(value) {
            Ok(entry) if entry.layers <= layers.len() => catalog.records.push(Record {
                key: entry.key,
                kind: entry.kind,
                outputs: vec![entry.layers.checked_sub(1)],
                name: entry.name,
                started: entry.started,
                duration: entry.duration,
                made: entry.made,
            }),
            _ => catalog.malformed += 1,
        }
    }
    Ok(catalog)
}
