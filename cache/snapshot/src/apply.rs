//! From an OCI layer tar to a snapshot.

use std::io::{self, Read};
use std::path::Path;

use oci::{Digest, Sha256};
use store::SnapshotId;

use crate::archive::Archive;
use crate::snapshots::{SnapshotError, Snapshots};
use crate::unpack::{Rules, Unpack, UnpackError, UnpackLimits, unpack};

/// Why a layer tar could not be made a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The bytes are not those that were announced.
    #[error("the layer's diff_id is {found}, but its config says {expected}")]
    WrongDiffId {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The layer is not one that can be unpacked.
    #[error("cannot unpack the layer")]
    Unpack(#[from] UnpackError),
    /// The layer could not be prepared or committed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Snapshots {
    /// Makes a snapshot on top of `parent` from an uncompressed layer tar, which is read to its end,
    /// and checks its diff id where one is expected.
    ///
    /// A chain that is there already is found by its chain id and not made anew. Nothing of a layer
    /// that is refused remains.
    pub fn apply(
        &self,
        parent: Option<SnapshotId>,
        tar: &mut dyn Read,
        expected: Option<Digest>,
    ) -> Result<SnapshotId, ApplyError> {
        self.apply_within(parent, tar, expected, UnpackLimits::from(self.limits()))
    }

    pub(crate) fn apply_within(
        &self,
        parent: Option<SnapshotId>,
        tar: &mut dyn Read,
        expected: Option<Digest>,
        limits: UnpackLimits,
    ) -> Result<SnapshotId, ApplyError> {
        if let Some(known) = expected
            .map(|it| self.known_chain(parent, &it))
            .transpose()?
            .flatten()
        {
            return Ok(known);
        }
        if self.packs() {
            return self.receive_within(tar, expected, limits)?.place(parent);
        }
        let is_as = Known::After(expected);
        self.unpack_on(parent, tar, (is_as, limits))
    }

    /// Unpacks a layer tar into a layer of its own.
    pub(crate) fn unpack_on(
        &self,
        parent: Option<SnapshotId>,
        tar: &mut dyn Read,
        (known, limits): (Known, UnpackLimits),
    ) -> Result<SnapshotId, ApplyError> {
        let active = self.prepare(parent)?;
        let layer = active.layer()?;
        let mut archive = Archive::new(Hashing {
            input: tar,
            hash: known.is_after().then(Sha256::default),
        });
        let how = Unpack {
            into: Path::new(""),
            rules: Rules::Layer,
            owner: None,
            limits,
        };
        unpack(&mut archive, &layer, &how)?;
        archive.drain().map_err(UnpackError::from)?;
        drop(layer);
        let diff_id = known.confirm(archive.into_input().hash)?;
        Ok(active.commit_as(Some(diff_id))?)
    }

    /// The snapshot of the chain with this layer on top, if it is there.
    pub(crate) fn known_chain(
        &self,
        parent: Option<SnapshotId>,
        diff_id: &Digest,
    ) -> Result<Option<SnapshotId>, SnapshotError> {
        let Some(chain) = self.chain_id_on(parent, diff_id)? else {
            return Ok(None);
        };
        Ok(self.store.snapshot_by_chain_id(&chain)?.map(|row| row.id))
    }
}

/// When it is known what a layer tar's digest is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    /// It was hashed before.
    Before(Digest),
    /// Once it was read; then it should be the one that is expected.
    After(Option<Digest>),
}

impl Known {
    fn is_after(self) -> bool {
        matches!(self, Self::After(_))
    }

    fn confirm(self, hash: Option<Sha256>) -> Result<Digest, ApplyError> {
        match self {
            Self::Before(diff_id) => Ok(diff_id),
            Self::After(expected) => {
                let found = hash.unwrap_or_default().finish();
                match expected.filter(|expected| *expected != found) {
                    Some(expected) => Err(ApplyError::WrongDiffId { expected, found }),
                    None => Ok(found),
                }
            }
        }
    }
}

/// Hashes what is read, where that is to be known.
struct Hashing<'a> {
    input: &'a mut dyn Read,
    hash: Option<Sha256>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&out[..length]);
        }
        Ok(length)
    }
}
