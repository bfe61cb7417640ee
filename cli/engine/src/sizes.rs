//! How large an image is and what each step adds to it; and whether that is more than was allowed.

use std::collections::HashMap;
use std::fmt;

use lower::Plan;
use oci::{Bytes, ImageConfig, Platform};
use snapshot::Effect;
use store::{ImageRecord, SnapshotRow, StoreError};

use crate::{ExportError, Job};

/// How many of the latest builds are looked through for one to compare with.
const LATEST_BUILDS: u32 = 1000;

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SizeLimits {
    /// `--max-size`: the files of all layers together.
    pub image: Option<Bytes>,
    /// `--max-layer-growth`: how much more than in the image of before the layer of a step may have.
    pub growth: Option<Growth>,
}

/// How much something may grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Growth {
    /// By so many bytes.
    Bytes(Bytes),
    /// By so many hundredths of what it was.
    Percent(f64),
}

/// How large an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSize {
    /// What it is for.
    pub platform: Platform,
    /// How many layers the base image has, and their bytes.
    pub base: (usize, u64),
    /// What the steps added, the first first.
    pub layers: Vec<LayerSize>,
}

/// The layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSize {
    /// `[build 2/5] RUN make`
    pub step: String,
    /// Its files' bytes.
    pub bytes: u64,
    /// What it did to the layers below.
    pub effect: Effect,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl ImageSize {
    /// The bytes of all layers.
    pub fn total(&self) -> u64 {
        self.base.1 + self.layers.iter().map(|it| it.bytes).sum::<u64>()
    }

    /// How many of them nobody sees, because a later layer has the file again or removed it.
    pub fn wasted(&self) -> u64 {
        self.layers.iter().map(|it| it.effect.wasted).sum()
    }
}

/// An image's layers, of which the last were made by the steps of its plan.
pub(crate) struct Stack<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) target: &'a Plan,
    pub(crate) chain: &'a [SnapshotRow],
}

impl Stack<'_> {
    /// How many of the layers are the base image's.
    pub(crate) fn base(&self) -> usize {
        self.chain.len().saturating_sub(self.target.layers.len())
    }

    /// The layers that steps made, with their places in the chain.
    pub(crate) fn own(&self) -> impl Iterator<Item = (usize, &SnapshotRow)> {
        self.chain.iter().enumerate().skip(self.base())
    }

    /// The step that made a layer, and where it stands.
    pub(crate) fn step(&self, position: usize) -> (String, Option<crate::Place>) {
        let own = position.checked_sub(self.base());
        let Some(layer) = own.and_then(|it| self.target.layers.get(it)) else {
            return ("the base image".to_owned(), None);
        };
        let vertex = self.job.plan.graph.vertex(layer.output.vertex);
        let place = self.job.definition.place(vertex.metadata.source);
        (vertex.metadata.name.clone(), place)
    }

    /// Refuses an image that is larger than it may be.
    pub(crate) fn check(&self, config: &ImageConfig) -> Result<(), ExportError> {
        let limits = self.job.request.size_limits;
        if let Some(limit) = limits.image {
            self.check_size(limit)?;
        }
        match limits.growth {
            Some(limit) => self.check_growth(config, limit),
            None => Ok(()),
        }
    }

    /// The step to blame is the one with which the image became too large.
    fn check_size(&self, limit: Bytes) -> Result<(), ExportError> {
        let total: u64 = self.chain.iter().map(|row| row.size).sum();
        if total <= limit.0 {
            return Ok(());
        }
        let mut sum = 0;
        let crossing = self.chain.iter().position(|row| {
            sum += row.size;
            sum > limit.0
        });
        let position = crossing.unwrap_or(0);
        let (step, place) = self.step(position);
        Err(ExportError::TooLarge {
            size: Bytes(total),
            limit,
            step,
            adds: Bytes(self.chain.get(position).map_or(0, |row| row.size)),
            place: place.map(Box::new),
        })
    }

    fn check_growth(&self, config: &ImageConfig, limit: Growth) -> Result<(), ExportError> {
        let known = self
            .before(&config.platform())
            .map_err(ExportError::Image)?;
        let Some((before, sizes)) = known else {
            return Ok(());
        };
        let now = created_by(config);
        let then = created_by(&before);
        let pairs = pairs(&now, &then);
        for (position, row) in self.own() {
            let old = pairs.get(&position).and_then(|old| sizes.get(*old));
            let Some(&old) = old.filter(|old| is_more(row.size, **old, limit)) else {
                continue;
            };
            let (step, place) = self.step(position);
            return Err(ExportError::Grown {
                step,
                before: Bytes(old),
                now: Bytes(row.size),
                limit,
                place: place.map(Box::new),
            });
        }
        Ok(())
    }

    /// The image to compare with, and the bytes of its layers: what has the first of the names now, or
    /// else what the latest build of the same thing gave.
    fn before(&self, platform: &Platform) -> Result<Option<(ImageConfig, Vec<u64>)>, StoreError> {
        let request = self.job.request;
        let store = &self.job.engine.store;
        if let Some(name) = request.tags.first() {
            let platforms = store.platforms(name)?;
            let of_platform = platforms.iter().find(|(it, _)| it == platform);
            let named = match of_platform {
                Some((_, id)) => store.image(id)?,
                None => store.image_named(name)?,
            };
            if let Some(image) = named {
                return self.layers_of(&image);
            }
        }
        let (project, title) = (request.project(), request.title());
        for row in store.builds(LATEST_BUILDS)? {
            if row.build.project == project
                && row.build.name == title
                && let Some(id) = row.build.image
                && let Some(image) = store.image(&id)?
            {
                return self.layers_of(&image);
            }
        }
        Ok(None)
    }

    fn layers_of(
        &self,
        image: &ImageRecord,
    ) -> Result<Option<(ImageConfig, Vec<u64>)>, StoreError> {
        let store = &self.job.engine.store;
        let Some(top) = image.top else {
            return Ok(None);
        };
        let bytes = std::io::read_to_string(store.open_blob(&image.id)?).unwrap_or_default();
        let Ok(config) = serde_json::from_str(&bytes) else {
            return Ok(None);
        };
        let sizes = store.ancestry(top)?;
        let sizes = sizes.iter().map(|row| row.size).collect();
        Ok(Some((config, sizes)))
    }

    /// What each step added.
    pub(crate) fn size(&self) -> Result<ImageSize, ExportError> {
        let snapshots = &self.job.engine.snapshots;
        let base = self.base();
        let top = base.checked_sub(1).map(|it| self.chain[it].id);
        let failed = |source| ExportError::Looking(Box::new(source));
        let mut below = snapshots.merged(top).map_err(failed)?;
        let mut layers = Vec::new();
        for (position, row) in self.own() {
            let with = snapshots.merged(Some(row.id)).map_err(failed)?;
            layers.push(LayerSize {
                step: self.step(position).0,
                bytes: row.size,
                effect: with.effect(&below),
            });
            below = with;
        }
        Ok(ImageSize {
            platform: self.target.config.platform(),
            base: (base, self.chain[..base].iter().map(|row| row.size).sum()),
            layers,
        })
    }
}

/// What made each of an image's layers, as its history says.
fn created_by(config: &ImageConfig) -> Vec<&str> {
    let layers = config.history.iter().filter(|entry| !entry.empty_layer);
    layers.map(|entry| entry.created_by.as_str()).collect()
}

/// Which layer of before each layer of now is: the one that the same instruction made, or else the one
/// at the same place, where that is nobody else's.
fn pairs(now: &[&str], then: &[&str]) -> HashMap<usize, usize> {
    let mut pairs = HashMap::new();
    let mut free: Vec<bool> = vec![true; then.len()];
    for (position, text) in now.iter().enumerate() {
        let same = (0..then.len()).find(|old| free[*old] && then[*old] == *text);
        if let Some(old) = same {
            free[old] = false;
            pairs.insert(position, old);
        }
    }
    for position in 0..now.len() {
        if !pairs.contains_key(&position) && free.get(position) == Some(&true) {
            pairs.insert(position, position);
        }
    }
    pairs
}

fn is_more(now: u64, before: u64, limit: Growth) -> bool {
    let grown = now.saturating_sub(before);
    match limit {
        Growth::Bytes(limit) => grown > limit.0,
        Growth::Percent(limit) => grown as f64 * 100.0 > before as f64 * limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_compared_with_those_of_the_same_instruction_or_place() {
        let check = |now: &str, then: &str, expected: &[(usize, usize)]| {
            let now: Vec<&str> = now.split(' ').collect();
            let then: Vec<&str> = then.split(' ').collect();
            let mut found: Vec<(usize, usize)> = pairs(&now, &then).into_iter().collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{now:?} {then:?}");
        };
        check("base a b", "base a b", &[(0, 0), (1, 1), (2, 2)]);
        check("base a2 b", "base a b", &[(0, 0), (1, 1), (2, 2)]);
        check("base new a b", "base a b", &[(0, 0), (2, 1), (3, 2)]);
        check("base b", "base a b", &[(0, 0), (1, 2)]);
        check("base a a", "base a", &[(0, 0), (1, 1)]);
    }

    #[test]
    fn growth_is_counted_in_bytes_or_hundredths() {
        let five = Growth::Percent(5.0);
        assert!(!is_more(105, 100, five));
        assert!(is_more(106, 100, five));
        assert!(!is_more(0, 0, five));
        assert!(is_more(1, 0, five));
        assert!(!is_more(90, 100, Growth::Percent(0.0)));
        assert!(!is_more(110, 100, Growth::Bytes(Bytes(10))));
        assert!(is_more(111, 100, Growth::Bytes(Bytes(10))));
    }
}
