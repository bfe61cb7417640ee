//! One layer of an archive: copied, repacked or made from its files.

use std::fs::File;
use std::io::{self, Write};

use oci::Digest;
use oci::media_type::{Compression, MediaTypes};
use snapshot::{DiffError, Snapshots};
use store::{BlobWriter, SnapshotId, Store, StoreError};

use super::archive::ArchiveWriter;
use super::listed::listed;
use super::pipe::pump;
use super::{SaveError, SaveOptions};
use crate::compress::{Packer, decoder};
use crate::manifest::Descriptor;

/// A layer to be written.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) diff_id: Digest,
    /// The layer's files, where the store has them.
    pub(crate) files: Option<SnapshotId>,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its blob.
    pub(crate) descriptor: Descriptor,
    /// What the blob unpacks to.
    pub(crate) diff_id: Digest,
}

/// What a layer is written from.
pub(super) enum Source {
    /// A blob as it is.
    Blob(Digest, Compression),
    /// A blob, unpacked.
    Repack(Digest),
    /// The files.
    Files(SnapshotId),
}

pub(super) fn write(
    snapshots: &Snapshots,
    archive: &mut ArchiveWriter<'_>,
    options: &SaveOptions,
    wanted: Wanted,
) -> Result<Layer, SaveError> {
    if let Some(there) = archive.layers.get(&wanted.diff_id) {
        return Ok(there.clone());
    }
    if options.estargz {
        let layer = listed(snapshots, options, wanted)?;
        archive.stored_blob(&layer.descriptor.digest)?;
        archive.layers.insert(wanted.diff_id, layer.clone());
        return Ok(layer);
    }
    let compression = options.compression.unwrap_or(Compression::None);
    if options.known.contains(&wanted.diff_id) {
        return measured(snapshots, &wanted);
    }
    let descriptor = match find(snapshots.store(), options, &wanted)? {
        Source::Blob(digest, compression) => {
            let size = match options.known.contains(&digest) {
                true => snapshots.store().blob_size(&digest)?,
                false => archive.stored_blob(&digest)?,
            };
            Descriptor::new(MediaTypes::Oci.layer(compression), digest, size)
        }
        source => {
            // An unpacked layer is what its diff id says; whoever makes it has compared that.
            let known = (compression == Compression::None).then_some(wanted.diff_id);
            let (digest, size) = archive.produced_blob(known, &mut |out| {
                let mut packer =
                    Packer::new(out, compression, options.level).map_err(SaveError::Write)?;
                produce(snapshots, &source, &wanted.diff_id, &mut packer)?;
                packer.finish().map(|_| ()).map_err(SaveError::Write)
            })?;
            Descriptor::new(MediaTypes::Oci.layer(compression), digest, size)
        }
    };
    let layer = Layer::of(&wanted, descriptor);
    archive.layers.insert(wanted.diff_id, layer.clone());
    Ok(layer)
}

/// The layer unpacked, as a reader knows it who has it: only its length has to be found out.
fn measured(snapshots: &Snapshots, wanted: &Wanted) -> Result<Layer, SaveError> {
    let unpacked = SaveOptions {
        compression: Some(Compression::None),
        ..SaveOptions::default()
    };
    let source = find(snapshots.store(), &unpacked, wanted)?;
    let (digest, size) = pump(&mut io::sink(), Some(wanted.diff_id), &mut |out| {
        produce(snapshots, &source, &wanted.diff_id, out)
    })?;
    let media_type = MediaTypes::Oci.layer(Compression::None);
    Ok(Layer::of(wanted, Descriptor::new(media_type, digest, size)))
}

/// The layer as a packed blob of the store, made now if there is none: with gzip, unless `options`
/// says otherwise or there is one that is packed in another way.
pub(crate) fn packed(
    snapshots: &Snapshots,
    options: &SaveOptions,
    wanted: Wanted,
) -> Result<Layer, SaveError> {
    if options.estargz {
        return listed(snapshots, options, wanted);
    }
    let store = snapshots.store();
    let layer = |compression, (digest, size)| {
        let media_type = MediaTypes::Oci.layer(compression);
        Layer::of(&wanted, Descriptor::new(media_type, digest, size))
    };
    let usual = [Compression::Gzip, Compression::Zstd];
    let accepted = options.compression.map_or(usual.to_vec(), |it| vec![it]);
    for compression in accepted {
        if let Some(blob) = store.layer_blob(&wanted.diff_id, compression)? {
            return Ok(layer(compression, blob));
        }
    }
    let compression = options.compression.unwrap_or(Compression::Gzip);
    let only = SaveOptions {
        compression: Some(compression),
        ..SaveOptions::default()
    };
    let source = find(store, &only, &wanted)?;
    let blob = pack(store, (compression, options.level), &mut |out| {
        produce(snapshots, &source, &wanted.diff_id, out)
    })?;
    store.record_layer_blob(&wanted.diff_id, compression, &blob.0)?;
    Ok(layer(compression, blob))
}

/// The layer of a snapshot whose diff id nobody knows yet, packed in one go: what it is unpacked, and the
/// blob.
pub(crate) fn pack_new(
    snapshots: &Snapshots,
    options: &SaveOptions,
    snapshot: SnapshotId,
    is_over: &dyn Fn() -> bool,
) -> Result<(Digest, Descriptor), SaveError> {
    let store = snapshots.store();
    let compression = options.compression.unwrap_or(Compression::Gzip);
    let mut unpacked = None;
    let (digest, size) = pack(store, (compression, options.level), &mut |out| {
        let mut out = UntilOver { out, is_over };
        unpacked = Some(diff(snapshots, snapshot, &mut out)?);
        Ok(())
    })?;
    let diff_id = unpacked.expect("what ended well was written");
    store.record_layer_blob(&diff_id, compression, &digest)?;
    let media_type = MediaTypes::Oci.layer(compression);
    Ok((diff_id, Descriptor::new(media_type, digest, size)))
}

/// Makes a blob of what `produce` writes, packed.
fn pack(
    store: &Store,
    (compression, level): (Compression, Option<i32>),
    produce: &mut dyn FnMut(&mut dyn Write) -> Result<(), SaveError>,
) -> Result<(Digest, u64), SaveError> {
    // The writer of the blob finds out what its digest is.
    let unasked = Some(Digest::of(b""));
    let (_, blob) = stored(store, |blob| {
        pump(blob, unasked, &mut |out| {
            let mut packer = Packer::new(out, compression, level).map_err(SaveError::Write)?;
            produce(&mut packer)?;
            packer.finish().map(|_| ()).map_err(SaveError::Write)
        })
    })?;
    Ok(blob)
}

/// Has a blob of the store written; gives what the writing gave, and the blob.
pub(super) fn stored<T>(
    store: &Store,
    write: impl FnOnce(&mut Blob) -> Result<T, SaveError>,
) -> Result<(T, (Digest, u64)), SaveError> {
    let mut blob = Blob {
        writer: store.blob_writer()?,
        failure: None,
    };
    let written = write(&mut blob);
    if let Some(failure) = blob.failure {
        return Err(failure.into());
    }
    Ok((written?, blob.writer.commit()?))
}

/// Takes bytes until nobody wants them any more.
struct UntilOver<'a> {
    out: &'a mut dyn Write,
    is_over: &'a dyn Fn() -> bool,
}

impl Write for UntilOver<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_over)() {
            return Err(io::Error::other("nobody wants the layer any more"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A blob that is written to, which remembers why it could not be.
pub(super) struct Blob {
    writer: BlobWriter,
    failure: Option<StoreError>,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.append(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the blob cannot be written"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer {
    /// A layer that unpacks to what it is.
    pub(super) fn of(wanted: &Wanted, descriptor: Descriptor) -> Self {
        Self {
            descriptor,
            diff_id: wanted.diff_id,
        }
    }
}

pub(super) fn find(
    store: &Store,
    options: &SaveOptions,
    wanted: &Wanted,
) -> Result<Source, SaveError> {
    const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];
    let mut stored = None;
    for compression in ALL {
        if let Some((digest, _)) = store.layer_blob(&wanted.diff_id, compression)? {
            if options.compression.is_none_or(|it| it == compression) {
                return Ok(Source::Blob(digest, compression));
            }
            stored.get_or_insert(digest);
        }
    }
    // A blob's bytes are what the diff id promises. Files give those only if rbuild made the layer.
    match (stored, wanted.files) {
        (Some(digest), _) => Ok(Source::Repack(digest)),
        (None, Some(files)) => Ok(Source::Files(files)),
        (None, None) => Err(SaveError::LostLayer(wanted.diff_id)),
    }
}

pub(super) fn produce(
    snapshots: &Snapshots,
    source: &Source,
    diff_id: &Digest,
    out: &mut dyn Write,
) -> Result<(), SaveError> {
    match source {
        Source::Blob(digest, _) | Source::Repack(digest) => {
            let blob = snapshots.store().open_blob(digest)?;
            unpack(blob, out).map_err(|source| SaveError::Layer {
                diff_id: *diff_id,
                source,
            })
        }
        Source::Files(snapshot) => {
            let found = diff(snapshots, *snapshot, out)?;
            if found != *diff_id {
                return Err(SaveError::Changed {
                    snapshot: *snapshot,
                    expected: *diff_id,
                    found,
                });
            }
            Ok(())
        }
    }
}

/// Writes a layer's tar from its files, and gives its digest.
fn diff(
    snapshots: &Snapshots,
    snapshot: SnapshotId,
    out: &mut dyn Write,
) -> Result<Digest, SaveError> {
    let info = snapshots.diff(snapshot, out).map_err(|error| match error {
        DiffError::Write(source) => SaveError::Write(source),
        source => SaveError::Diff { snapshot, source },
    })?;
    Ok(info.diff_id)
}

fn unpack(blob: File, mut out: &mut dyn Write) -> io::Result<()> {
    let (_, mut reader) = decoder(blob)?;
    io::copy(&mut reader, &mut out)?;
    Ok(())
}
