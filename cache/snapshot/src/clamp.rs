//! Chains whose files are no younger than a given time, as `SOURCE_DATE_EPOCH` wants them.

use std::io::{self, BufReader, BufWriter, Write};
use std::thread;

use oci::Digest;
use store::{SnapshotId, SnapshotRow};

use crate::apply::ApplyError;
use crate::diff::{DiffError, looks_like};
use crate::snapshots::{SnapshotError, Snapshots};
use crate::tree::{Entry, Kind};

/// Bytes that change hands at once.
const BUFFER: usize = 256 << 10;

/// Why a chain could not be made anew.
#[derive(Debug, thiserror::Error)]
pub enum ClampError {
    /// A layer has no tar.
    #[error("cannot pack layer {snapshot}")]
    Diff {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// A layer's tar could not be made a layer again.
    #[error("cannot unpack layer {snapshot}")]
    Apply {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The bytes found no way from one end to the other.
    #[error("cannot open a pipe")]
    Pipe(#[source] io::Error),
}

impl Snapshots {
    /// A chain that shows what the one below `top` shows, with no file younger than `latest`, in
    /// seconds since 1970, in its layers above the lowest `base`, which stay as they are.
    ///
    /// The chain itself, where no file in it is. Else the layers are copied from the first on that has
    /// such a file, and dated back to when they were first made.
    pub fn clamp(
        &self,
        top: SnapshotId,
        base: usize,
        latest: i64,
    ) -> Result<SnapshotId, ClampError> {
        let chain = self.store.ancestry(top).map_err(SnapshotError::from)?;
        let mut same = 0;
        for row in &chain {
            if same >= base && self.is_younger(row.id, latest)? {
                break;
            }
            same += 1;
        }
        let mut parent = same.checked_sub(1).map(|it| chain[it].id);
        for row in &chain[same..] {
            parent = Some(self.clamp_layer(parent, row, latest)?);
        }
        Ok(parent.unwrap_or(top))
    }

    /// Whether the tar of this one layer has a file that is younger than `latest`.
    fn is_younger(&self, id: SnapshotId, latest: i64) -> Result<bool, SnapshotError> {
        let tree = self.tree(id)?;
        let root_below = self.root_below(id)?;
        // What is not in the tar, or only as a mark, has no time there.
        let is_dated = |it: &Entry| match it.kind {
            Kind::Whiteout | Kind::Socket => false,
            _ => !it.path.is_empty() || !looks_like(it, root_below),
        };
        let dated = tree.entries().iter().filter(|it| is_dated(it));
        Ok(dated.map(|it| it.mtime.0).any(|it| it > latest))
    }

    /// The layer on top of another parent, with its files dated back.
    fn clamp_layer(
        &self,
        parent: Option<SnapshotId>,
        row: &SnapshotRow,
        latest: i64,
    ) -> Result<SnapshotId, ClampError> {
        let snapshot = row.id;
        let failed = |source| ClampError::Diff { snapshot, source };
        // Read twice: so it is known whether the layer is there already, and whether all of it came.
        let digest = self
            .diff_until(snapshot, Some(latest), &mut io::sink())
            .map_err(failed)?
            .diff_id;
        let made = self.copy_layer(parent, (snapshot, latest), digest)?;
        self.store
            .set_created(made, row.created)
            .map_err(SnapshotError::from)?;
        Ok(made)
    }

    fn copy_layer(
        &self,
        parent: Option<SnapshotId>,
        (snapshot, latest): (SnapshotId, i64),
        digest: Digest,
    ) -> Result<SnapshotId, ClampError> {
        let (reader, writer) = io::pipe().map_err(ClampError::Pipe)?;
        thread::scope(|threads| {
            let packing = threads.spawn(move || {
                let mut out = BufWriter::with_capacity(BUFFER, writer);
                self.diff_until(snapshot, Some(latest), &mut out)?;
                out.flush().map_err(DiffError::Write)
            });
            let mut tar = BufReader::with_capacity(BUFFER, reader);
            let applied = self.apply(parent, &mut tar, Some(digest));
            drop(tar);
            let packed = packing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (applied, packed) {
                // Where the layer is known, nobody reads it to its end.
                (Ok(made), Ok(()) | Err(DiffError::Write(_))) => Ok(made),
                (_, Err(source)) if !matches!(source, DiffError::Write(_)) => {
                    Err(ClampError::Diff { snapshot, source })
                }
                (Err(source), _) => Err(ClampError::Apply { snapshot, source }),
                (Ok(_), Err(source)) => Err(ClampError::Diff { snapshot, source }),
            }
        })
    }
}
