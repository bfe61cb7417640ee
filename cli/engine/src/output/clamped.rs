//! Images whose new layers have no file that is younger than `SOURCE_DATE_EPOCH`.

use std::time::Instant;

use jiff::Timestamp;
use llb::{Key, KeyHasher};
use lower::Plan;
use store::{Record, SnapshotId, SnapshotRow, StoreError};

use crate::report::Errand;
use crate::{ExportError, Job};

/// The chain that the image is made of: `chain`, or one like it whose new layers are dated back. What
/// was made once is found again.
pub(super) fn chain(
    job: &Job<'_>,
    target: &Plan,
    chain: Vec<SnapshotRow>,
    errand: &Errand<'_>,
) -> Result<Vec<SnapshotRow>, ExportError> {
    let epoch = job.epoch(target).filter(|_| job.request.rewrite_timestamp);
    let (Some(epoch), Some(top)) = (epoch, chain.last()) else {
        return Ok(chain);
    };
    let clamping = Clamping {
        job,
        top: top.id,
        // The base's layers are another's, and stay as they are.
        base: target.config.rootfs.diff_ids.len(),
        epoch,
        key: key(top, target.config.rootfs.diff_ids.len(), epoch),
    };
    let clamped = match clamping.known().map_err(ExportError::Image)? {
        Some(known) => known,
        None => errand.part(&clamping.name(), || clamping.make(), |_| 0)?,
    };
    job.engine
        .store
        .ancestry(clamped)
        .map_err(ExportError::Image)
}

/// A chain that is being dated back.
struct Clamping<'a> {
    job: &'a Job<'a>,
    top: SnapshotId,
    base: usize,
    epoch: i64,
    key: Key,
}

impl Clamping<'_> {
    /// In BuildKit's words.
    fn name(&self) -> String {
        let time =
            Timestamp::from_second(self.epoch).map_or_else(|_| "?".to_owned(), |it| it.to_string());
        format!(
            "rewriting layers with source-date-epoch {} ({time})",
            self.epoch
        )
    }

    fn known(&self) -> Result<Option<SnapshotId>, StoreError> {
        let store = &self.job.engine.store;
        let found = store.result(&self.key)?;
        let clamped = found.and_then(|it| it.outputs.first().copied().flatten());
        // As with the image's own layers, whose files may have gone without anybody's knowledge.
        let is_whole = |id: &SnapshotId| {
            store
                .ancestry(*id)
                .is_ok_and(|chain| chain.iter().all(|it| store.has_layer(it.id)))
        };
        Ok(clamped.filter(is_whole))
    }

    fn make(&self) -> Result<SnapshotId, ExportError> {
        let engine = self.job.engine;
        let (started, begun) = (Timestamp::now(), Instant::now());
        let clamped = engine
            .snapshots
            .clamp(self.top, self.base, self.epoch)
            .map_err(|source| ExportError::Clamp(Box::new(source)))?;
        let record = Record {
            key: self.key,
            kind: "content".to_owned(),
            preimage: serde_json::json!({ "clamped": self.top.0, "base": self.base, "epoch": self.epoch }),
            outputs: vec![Some(clamped)],
            name: self.name(),
            started,
            duration: begun.elapsed(),
            project: self.job.request.project(),
            made: None,
            spent: None,
        };
        engine.store.record(&record).map_err(ExportError::Image)?;
        Ok(clamped)
    }
}

/// Times are no part of a chain's content, so its number has to be: it is never given twice.
fn key(top: &SnapshotRow, base: usize, epoch: i64) -> Key {
    KeyHasher::new("clamped")
        .key(&top.content)
        .number(top.id.0.cast_unsigned())
        .number(base as u64)
        .number(epoch.cast_unsigned())
        .finish()
}
