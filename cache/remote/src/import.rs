//! Reading what a cache has: its catalog, and nothing else.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Key};
use serde::Deserialize;

use crate::catalog::{MAX_CATALOG, MEDIA_TYPE};
use crate::{
    Backend, BackendError, Blob, Catalog, CatalogError, Chain, ChainLayer, MountEntry, Record,
    inline,
};

/// How often a cache may fail to have what it says it has before nothing of it is believed.
const FORGIVEN: u32 = 2;

/// A cache whose catalog was read. Threads may use it at once.
#[derive(Debug)]
pub struct Source {
    backend: Arc<dyn Backend>,
    manifest: Vec<u8>,
    catalog: Catalog,
    by_key: HashMap<Key, usize>,
    spoilt: Mutex<Spoilt>,
}

/// What turned out not to be there.
#[derive(Debug, Default)]
struct Spoilt {
    keys: HashSet<Key>,
    /// How often something was not.
    times: u32,
}

/// A result that a cache has.
#[derive(Debug, Clone)]
pub struct Hit {
    /// What is known of the step.
    pub record: Record,
    /// The layers of each output; `None` is the empty tree.
    pub outputs: Vec<Option<Chain>>,
}

/// Why a cache cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is none.
    #[error("{0}: not found")]
    Missing(String),
    /// The backend does not answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What is there is no manifest.
    #[error("{name}: its manifest cannot be read")]
    Manifest {
        /// The cache.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What is there is something else.
    #[error("{name} is no cache of rbuild: {why}")]
    Foreign {
        /// The cache.
        name: String,
        /// What it is.
        why: String,
    },
    /// The catalog could not be read to its end, or has other bytes than the manifest says.
    #[error("{name}: catalog `{blob}` cannot be fetched: {why}")]
    Catalog {
        /// The cache.
        name: String,
        /// Which.
        blob: Digest,
        /// Why.
        why: String,
    },
    /// The catalog is none.
    #[error("{name}")]
    Malformed {
        /// The cache.
        name: String,
        /// Why.
        #[source]
        source: CatalogError,
    },
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(crate) media_type: String,
    #[serde(flatten)]
    pub(crate) blob: Blob,
}

impl Source {
    /// Reads the catalog of a cache: of one that stands for itself, or of an image that has it inline.
    pub fn read(backend: Arc<dyn Backend>) -> Result<Self, ImportError> {
        let name = backend.name();
        let Some(kept) = backend.manifest()? else {
            return Err(ImportError::Missing(name));
        };
        let manifest: Manifest = serde_json::from_slice(&kept.bytes).map_err(|source| {
            let name = name.clone();
            ImportError::Manifest { name, source }
        })?;
        let config = config(&*backend, &manifest.config.blob)?;
        let catalog = if manifest.config.media_type == MEDIA_TYPE {
            Catalog::parse(&config).map_err(|source| ImportError::Malformed { name, source })?
        } else {
            inline::catalog(&config, &manifest.layers)
                .map_err(|why| ImportError::Foreign { name, why })?
        };
        Ok(Self::new(backend, kept.bytes, catalog))
    }

    fn new(backend: Arc<dyn Backend>, manifest: Vec<u8>, catalog: Catalog) -> Self {
        let by_key = catalog
            .records
            .iter()
            .enumerate()
            .map(|(at, record)| (record.key, at))
            .collect();
        Self {
            backend,
            manifest,
            catalog,
            by_key,
            spoilt: Mutex::default(),
        }
    }

    /// Which cache it is, as people named it.
    pub fn name(&self) -> String {
        self.backend.name()
    }

    /// Who keeps it.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Its manifest, as it came.
    pub(crate) fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// What it has.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The result that the cache has under a key.
    pub fn find(&self, key: &Key) -> Option<Hit> {
        let record = &self.catalog.records[*self.by_key.get(key)?];
        {
            let spoilt = self.spoilt();
            if spoilt.times >= FORGIVEN || spoilt.keys.contains(key) {
                return None;
            }
        }
        let chain = |top: &Option<usize>| {
            top.map(|top| Chain {
                layers: self.catalog.chain(top),
                backend: Arc::clone(&self.backend),
            })
        };
        Some(Hit {
            record: record.clone(),
            outputs: record.outputs.iter().map(chain).collect(),
        })
    }

    /// All records with the outputs of `record`, itself among them.
    pub fn alike(&self, record: &Record) -> Vec<&Record> {
        let alike = |it: &&Record| it.outputs == record.outputs;
        self.catalog.records.iter().filter(alike).collect()
    }

    /// What the record says cannot be had: it is not found any more, nor is what stands on the same
    /// layers. The second time nothing is found any more.
    pub fn spoil(&self, record: &Record) {
        let tops: Vec<usize> = record.outputs.iter().flatten().copied().collect();
        let stands_on = |it: &&Record| {
            it.outputs.iter().flatten().any(|output| {
                let mut next = Some(*output);
                std::iter::from_fn(|| {
                    let at = next?;
                    next = self.catalog.layers.get(at)?.parent;
                    Some(at)
                })
                .any(|at| tops.contains(&at))
            })
        };
        let keys = self.catalog.records.iter().filter(stands_on);
        let mut spoilt = self.spoilt();
        spoilt.keys.extend(keys.map(|it| it.key));
        spoilt.times += 1;
    }

    /// What the cache has of a cache mount.
    pub fn mount(&self, id: &str) -> Option<&MountEntry> {
        self.catalog.mounts.iter().find(|it| it.id == id)
    }

    /// The layers of all chains, by diff id.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &crate::Layer> {
        self.catalog.layers.iter()
    }

    /// All records with the chains of their outputs.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Record, Vec<Option<Vec<ChainLayer>>>)> {
        let chains = |record: &Record| {
            let chain = |top: &Option<usize>| top.map(|top| self.catalog.chain(top));
            record.outputs.iter().map(chain).collect()
        };
        self.catalog
            .records
            .iter()
            .map(move |record| (record, chains(record)))
    }

    fn spoilt(&self) -> std::sync::MutexGuard<'_, Spoilt> {
        self.spoilt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(backend: &dyn Backend, blob: &Blob) -> Result<Vec<u8>, ImportError> {
    let failed = |why: String| ImportError::Catalog {
        name: backend.name(),
        blob: blob.digest,
        why,
    };
    if blob.size > MAX_CATALOG {
        return Err(failed(format!("it has more than {MAX_CATALOG} bytes")));
    }
    let mut bytes = Vec::new();
    let read = backend
        .open(blob)?
        .take(blob.size + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if Digest::of(&bytes) != blob.digest {
        return Err(failed("it has other bytes than its digest says".to_owned()));
    }
    Ok(bytes)
}
