//! Layers that are written anew with a table of what is in them, and found again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use oci::media_type::{Compression, MediaTypes};
use oci::{Digest, KeyHasher};
use snapshot::Snapshots;
use store::{KeyLock, Store};

use super::estargz::{self, ListError, Listed, TABLE_DIGEST, UNPACKED_SIZE};
use super::layer::{Layer, Wanted, find, produce, stored};
use super::{SaveError, SaveOptions};
use crate::manifest::Descriptor;

/// The layer as a blob of the store of which single files can be fetched.
pub(super) fn listed(
    snapshots: &Snapshots,
    options: &SaveOptions,
    wanted: Wanted,
) -> Result<Layer, SaveError> {
    let store = snapshots.store();
    let typed =
        |(digest, size)| Descriptor::new(MediaTypes::Oci.layer(Compression::Gzip), digest, size);
    if let Some(blob) = store.layer_blob(&wanted.diff_id, Compression::Gzip)?
        && let Some(table) = table_of(store, &wanted, &blob.0)?
    {
        let mut descriptor = typed(blob);
        descriptor.annotations = BTreeMap::from([(TABLE_DIGEST.to_owned(), table.to_string())]);
        return Ok(Layer::of(&wanted, descriptor));
    }
    let memory = Memory::of(store, options, &wanted)?;
    let (listed, blob) = match memory.recall(store)? {
        Some(known) => known,
        None => {
            let made = list(snapshots, options, &wanted)?;
            memory.note(&made);
            made
        }
    };
    let mut descriptor = typed(blob);
    descriptor.annotations = BTreeMap::from([
        (TABLE_DIGEST.to_owned(), listed.table.to_string()),
        (UNPACKED_SIZE.to_owned(), listed.unpacked.to_string()),
    ]);
    Ok(Layer {
        descriptor,
        diff_id: listed.diff_id,
    })
}

/// The digest of the table that a blob of the store has, if it has one.
fn table_of(store: &Store, wanted: &Wanted, blob: &Digest) -> Result<Option<Digest>, SaveError> {
    let table = estargz::table_of(&mut store.open_blob(blob)?);
    table.map_err(|source| SaveError::Layer {
        diff_id: wanted.diff_id,
        source,
    })
}

/// Writes the layer anew, with a table.
fn list(
    snapshots: &Snapshots,
    options: &SaveOptions,
    wanted: &Wanted,
) -> Result<Remembered, SaveError> {
    let store = snapshots.store();
    let unpacked = SaveOptions {
        compression: Some(Compression::None),
        ..SaveOptions::default()
    };
    let source = find(store, &unpacked, wanted)?;
    let (listed, blob) = stored(store, |blob| {
        let (tar, mut out) = io::pipe().map_err(SaveError::Write)?;
        std::thread::scope(|threads| {
            let produced =
                threads.spawn(move || produce(snapshots, &source, &wanted.diff_id, &mut out));
            let listed = estargz::write(tar, blob, options.level);
            let produced = produced
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (listed, produced) {
                (Ok(listed), Ok(())) => Ok(listed),
                // Whoever reads no more is why the other cannot go on, and the reverse.
                (Err(ListError::Write(error)), _) => Err(SaveError::Write(error)),
                (_, Err(error)) if !is_broken_pipe(&error) => Err(error),
                (Err(error), _) => Err(SaveError::Layer {
                    diff_id: wanted.diff_id,
                    source: io::Error::other(error),
                }),
                (Ok(_), Err(error)) => Err(error),
            }
        })
    })?;
    store.record_layer_blob(&listed.diff_id, Compression::Gzip, &blob.0)?;
    Ok((listed, blob))
}

fn is_broken_pipe(error: &SaveError) -> bool {
    matches!(error, SaveError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

/// A layer with a table, its blob, and how long that is.
type Remembered = (Listed, (Digest, u64));

/// Which blob a layer became when it was given a table. It is only ever a hint: the blob may be gone.
struct Memory {
    path: PathBuf,
    _lock: KeyLock,
}

impl Memory {
    fn of(store: &Store, options: &SaveOptions, wanted: &Wanted) -> Result<Self, SaveError> {
        let key = KeyHasher::new("layer with a table")
            .text(&wanted.diff_id.to_string())
            .text(&options.level.map_or(String::new(), |it| it.to_string()))
            .finish();
        let _lock = store.lock_key(&key)?;
        Ok(Self {
            path: store.source_directory(&key)?.join("blob"),
            _lock,
        })
    }

    fn recall(&self, store: &Store) -> Result<Option<Remembered>, SaveError> {
        let Some((listed, blob)) = self.read() else {
            return Ok(None);
        };
        let recorded = store.layer_blob(&listed.diff_id, Compression::Gzip)?;
        Ok(recorded.filter(|it| it.0 == blob).map(|it| (listed, it)))
    }

    fn read(&self) -> Option<(Listed, Digest)> {
        let text = fs::read_to_string(&self.path).ok()?;
        let mut words = text.split_whitespace();
        let listed = Listed {
            diff_id: words.next()?.parse().ok()?,
            table: words.next()?.parse().ok()?,
            unpacked: words.next()?.parse().ok()?,
        };
        Some((listed, words.next()?.parse().ok()?))
    }

    /// That it cannot be remembered is no reason to fail.
    fn note(&self, (listed, (blob, _)): &Remembered) {
        let Listed {
            diff_id,
            table,
            unpacked,
        } = listed;
        let text = format!("{diff_id} {table} {unpacked} {blob}\n");
        if let Err(error) = fs::write(&self.path, text) {
            tracing::debug!(%error, "the layer with a table is not remembered");
        }
    }
}
