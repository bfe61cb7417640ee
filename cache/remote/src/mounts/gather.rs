//! From the files of a cache mount to its index and to packs of what is new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use export::Packer;
use oci::media_type::Compression;
use oci::{Digest, Key};
use snapshot::{Kind, Root, Tree, content_key, survey};
use store::{KeyLock, Sharing};

use super::MountError;
use super::index::{Index, Pack, Place};
use super::piece::Pieces;
use crate::{Backend, BackendError, Blob, ExportError, ExportWatch, Exporter, MountEntry, Source};

/// How much goes into one pack, before it is packed.
const PACK: usize = 8 << 20;
/// A pack smaller than this is a small one, and so many of them are made one.
const SMALL: u64 = 1 << 20;
const MOST_SMALL: usize = 16;
/// How long at most a mount that a step holds is left alone before it is looked at again.
const PATIENCE: Duration = Duration::from_millis(50);

impl Exporter {
    /// Sends what is new of a cache mount; `None` if there is no such mount, here or in the caches.
    /// `sources` are where the build imports from: a mount that is not here stays as it is there.
    ///
    /// # Errors
    /// If it cannot be read or sent.
    pub fn mount(
        &self,
        id: &str,
        sources: &[Arc<Source>],
        watch: &dyn ExportWatch,
    ) -> Result<Option<MountEntry>, ExportError> {
        let failed = |source: MountError| ExportError::Mount {
            id: id.to_owned(),
            source: source.into(),
        };
        let own = self.before().and_then(|it| it.mount(id));
        let Some((tree, root, _lock)) = self.here(id, watch).map_err(failed)? else {
            return self.carry_over(own, id, (sources, watch));
        };
        let known = own.and_then(|entry| {
            let backend = self.before()?.backend();
            self.usable(&**backend, entry)
        });
        if let (Some(index), Some(entry)) = (&known, own)
            && index.tree == tree
        {
            return Ok(Some(entry.clone()));
        }
        let mut gathering = Gathering::new(self, tree, &known.unwrap_or_default(), watch);
        gathering.read_files(&root).map_err(|error| match error {
            Failure::Mount(error) => failed(error),
            Failure::Export(error) => error,
        })?;
        let index = gathering.finish()?;
        let bytes = index.encode();
        let blob = blob_of(&bytes);
        self.send("cache mount", blob, &mut Cursor::new(&bytes), watch)?;
        Ok(Some(MountEntry {
            id: id.to_owned(),
            index: blob,
            packs: index.packs.iter().map(|it| it.blob).collect(),
        }))
    }

    /// The files of a mount that is here and has some, held until that is dropped.
    fn here(
        &self,
        id: &str,
        watch: &dyn ExportWatch,
    ) -> Result<Option<(Tree, Root, KeyLock)>, MountError> {
        let store = self.store();
        let Some(mount) = store.cache_mounts()?.into_iter().find(|it| it.id == id) else {
            return Ok(None);
        };
        let mut pause = Duration::from_millis(1);
        let lock = loop {
            if let Some(lock) = store.try_lock_cache_mount(id, Sharing::Locked)? {
                break lock;
            }
            if watch.is_cancelled() {
                return Err(MountError::Cancelled);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PATIENCE);
        };
        let tree = survey(&mount.path)?;
        // The mount's own directory is its first entry.
        if tree.entries().len() <= 1 {
            return Ok(None);
        }
        let root = Root::open(&mount.path).map_err(MountError::file("open", Path::new("")))?;
        Ok(Some((tree, root, lock)))
    }

    /// The index of before, if it can be read and its packs are all there.
    fn usable(&self, backend: &dyn Backend, entry: &MountEntry) -> Option<Index> {
        let index = Index::read(backend, &entry.index)
            .inspect_err(|error| tracing::debug!(%error, id = entry.id, "not built upon"))
            .ok()?;
        let there = |pack: &Pack| self.to().backend.has(&pack.blob).unwrap_or(false);
        index.packs.iter().all(there).then_some(index)
    }

    /// A mount that is not here: as the destination has it, or as another cache does.
    fn carry_over(
        &self,
        own: Option<&MountEntry>,
        id: &str,
        (sources, watch): (&[Arc<Source>], &dyn ExportWatch),
    ) -> Result<Option<MountEntry>, ExportError> {
        if own.is_some() {
            return Ok(own.cloned());
        }
        let other = sources
            .iter()
            .find_map(|it| Some((it.backend(), it.mount(id)?)));
        let Some((backend, entry)) = other else {
            return Ok(None);
        };
        for blob in entry.packs.iter().chain([&entry.index]) {
            if self.to().backend.has(blob)? {
                continue;
            }
            let mut content = Vec::new();
            let read = backend
                .open(blob)?
                .take(blob.size)
                .read_to_end(&mut content);
            read.map_err(|source| BackendError::Content {
                blob: blob.digest,
                source,
            })?;
            self.send("cache mount", *blob, &mut Cursor::new(content), watch)?;
        }
        Ok(Some(entry.clone()))
    }
}

/// Files on their way into packs.
struct Gathering<'a> {
    exporter: &'a Exporter,
    watch: &'a dyn ExportWatch,
    index: Index,
    /// Where every piece is that need not be sent.
    places: HashMap<Key, Place>,
    /// The pack under way.
    open: Vec<u8>,
    open_pieces: Vec<(Key, u32)>,
}

enum Failure {
    Mount(MountError),
    Export(ExportError),
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        Self::Export(error)
    }
}

impl<'a> Gathering<'a> {
    fn new(exporter: &'a Exporter, tree: Tree, before: &Index, watch: &'a dyn ExportWatch) -> Self {
        let index = keep_what_is_used(tree, before);
        let places = index.places();
        Self {
            exporter,
            watch,
            index,
            places,
            open: Vec::new(),
            open_pieces: Vec::new(),
        }
    }

    /// Reads the files whose pieces are not all known.
    fn read_files(&mut self, root: &Root) -> Result<(), Failure> {
        let tree = std::mem::take(&mut self.index.tree);
        for entry in tree.entries() {
            let Kind::File { size, content, .. } = &entry.kind else {
                continue;
            };
            if self.index.pieces(content, *size, &self.places).is_some() {
                continue;
            }
            let failed = MountError::file("read", entry.path());
            let pieces = match root.open_file(entry.path()) {
                Ok(file) => self.read_file(file.take(*size), entry.path())?,
                Err(error) => return Err(Failure::Mount(failed(error))),
            };
            if pieces.len() > 1 {
                self.index.files.insert(*content, pieces);
            }
        }
        self.index.tree = tree;
        Ok(())
    }

    fn read_file(&mut self, file: impl Read, path: &Path) -> Result<Vec<Place>, Failure> {
        let mut pieces = Pieces::new(file);
        let mut made_of = Vec::new();
        loop {
            let next = pieces.next_piece();
            let failed = |error| Failure::Mount(MountError::file("read", path)(error));
            let Some(piece) = next.map_err(failed)? else {
                return Ok(made_of);
            };
            made_of.push(self.add(piece)?);
        }
    }

    fn add(&mut self, piece: &[u8]) -> Result<Place, ExportError> {
        let key = content_key(piece);
        if let Some(place) = self.places.get(&key) {
            return Ok(*place);
        }
        if !self.open.is_empty() && self.open.len() + piece.len() > PACK {
            self.close_pack()?;
        }
        let number = |count: usize| u32::try_from(count).expect("a mount has not so many pieces");
        let place = (
            number(self.index.packs.len()),
            number(self.open_pieces.len()),
        );
        self.open.extend_from_slice(piece);
        self.open_pieces.push((key, number(piece.len())));
        self.places.insert(key, place);
        Ok(place)
    }

    fn close_pack(&mut self) -> Result<(), ExportError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut packer = Packer::new(Vec::new(), Compression::Zstd, None)
            .expect("a packer into memory can be made");
        packer
            .write_all(&self.open)
            .expect("memory takes all bytes");
        let bytes = packer.finish().expect("memory takes all bytes");
        let blob = blob_of(&bytes);
        self.exporter
            .send("cache mount", blob, &mut Cursor::new(&bytes), self.watch)?;
        self.index.packs.push(Pack {
            blob,
            pieces: std::mem::take(&mut self.open_pieces),
        });
        self.open.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Index, ExportError> {
        self.close_pack()?;
        Ok(self.index)
    }
}

/// An index of `tree` with those packs of before that are worth keeping: at least half of what is in
/// them is still used, and there are not too many small ones.
fn keep_what_is_used(tree: Tree, before: &Index) -> Index {
    let places = before.places();
    let mut used: BTreeSet<Place> = BTreeSet::new();
    let mut files: BTreeMap<Key, Vec<Place>> = BTreeMap::new();
    for entry in tree.entries() {
        let Kind::File { size, content, .. } = &entry.kind else {
            continue;
        };
        if let Some(pieces) = before.pieces(content, *size, &places) {
            used.extend(&pieces);
            if pieces.len() > 1 {
                files.insert(*content, pieces);
            }
        }
    }
    let mut used_bytes = vec![0_u64; before.packs.len()];
    for place in &used {
        let (_, length) = before.piece(*place).expect("the index was checked");
        used_bytes[place.0 as usize] += u64::from(*length);
    }
    let is_small = |pack: &Pack| pack.blob.size < SMALL;
    let merge_small = before.packs.iter().filter(|it| is_small(it)).count() > MOST_SMALL;
    let mut index = Index {
        tree,
        ..Index::default()
    };
    // Where each kept pack came to be.
    let mut moved: HashMap<u32, u32> = HashMap::new();
    for ((number, pack), used) in (0..).zip(&before.packs).zip(used_bytes) {
        let all: u64 = pack.pieces.iter().map(|(_, it)| u64::from(*it)).sum();
        if used * 2 >= all && used > 0 && !(merge_small && is_small(pack)) {
            let place = u32::try_from(index.packs.len()).expect("there are no more than before");
            moved.insert(number, place);
            index.packs.push(pack.clone());
        }
    }
    for (content, pieces) in files {
        let pieces: Option<Vec<Place>> = pieces
            .iter()
            .map(|(pack, at)| Some((*moved.get(pack)?, *at)))
            .collect();
        index.files.extend(pieces.map(|it| (content, it)));
    }
    index
}

fn blob_of(bytes: &[u8]) -> Blob {
    Blob {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    }
}
