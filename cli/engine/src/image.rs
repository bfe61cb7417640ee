//! The config of an image, complete with its layers and times.

use jiff::Timestamp;
use lower::Plan;
use oci::{Digest, History, ImageConfig};

/// What BuildKit writes beside a layer that no instruction accounts for.
const NO_INSTRUCTION: &str = "buildkit.exporter.image.v0";

/// A layer as the config needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerTime {
    pub(crate) diff_id: Digest,
    /// When it was made: for a cached one, back then, so that the same result has the same id (G109).
    pub(crate) created: Timestamp,
}

/// The plan's config with the layers that came of it, lowest first. Nothing new in it is younger than
/// `epoch`, in seconds since 1970.
pub(crate) fn config(plan: &Plan, layers: &[LayerTime], epoch: Option<i64>) -> ImageConfig {
    let mut config = plan.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let latest = epoch.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let clamp = |time: Timestamp| latest.map_or(time, |latest| time.min(latest));
    date(&mut config.history, layers, clamp);
    config.created = config.history.last().and_then(|entry| entry.created);
    config
}

/// Gives each entry that has no time the time of its layer, or of the one before it; makes the
/// entries as many as the layers (G108).
fn date(history: &mut Vec<History>, layers: &[LayerTime], clamp: impl Fn(Timestamp) -> Timestamp) {
    let first_new = history
        .iter()
        .position(|entry| entry.created.is_none())
        .unwrap_or(history.len());
    let mut rest = layers.iter();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        match rest.next() {
            Some(layer) => entry.created = entry.created.or_else(|| Some(clamp(layer.created))),
            // A result that was first made another way may come in fewer layers.
            None => entry.empty_layer = true,
        }
    }
    history.extend(rest.map(|layer| History {
        created: Some(clamp(layer.created)),
        comment: NO_INSTRUCTION.into(),
        ..History::default()
    }));
    // What stands before the first new layer takes its time: the base's says nothing of it.
    let first_time = history[first_new.min(history.len())..]
        .iter()
        .find_map(|entry| entry.created);
    let mut time = first_time.or_else(|| history.iter().rev().find_map(|entry| entry.created));
    for entry in &mut history[first_new..] {
        entry.created = entry.created.or(time);
        time = entry.created;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws the entries of `history` (`a` a layer, `-` none, `@5` its time) once the layers of the
    /// given times are there.
    fn dated(history: &str, layers: &[i64], latest: Option<i64>) -> String {
        let mut entries: Vec<History> = history
            .split_whitespace()
            .map(|word| {
                let (name, time) = word.split_once('@').unwrap_or((word, ""));
                History {
                    created: time
                        .parse()
                        .ok()
                        .map(|seconds| Timestamp::from_second(seconds).unwrap()),
                    created_by: name.to_owned(),
                    empty_layer: name == "-",
                    ..History::default()
                }
            })
            .collect();
        let layer = |seconds: &i64| LayerTime {
            diff_id: Digest::of(&seconds.to_le_bytes()),
            created: Timestamp::from_second(*seconds).unwrap(),
        };
        let layers: Vec<LayerTime> = layers.iter().map(layer).collect();
        date(&mut entries, &layers, |time| {
            latest.map_or(time, |latest| {
                time.min(Timestamp::from_second(latest).unwrap())
            })
        });
        let draw = |entry: &History| {
            let name = if entry.comment == NO_INSTRUCTION {
                "extra"
            } else {
                &entry.created_by
            };
            let name = if entry.empty_layer { "-" } else { name };
            match entry.created {
                Some(time) => format!("{name}@{}", time.as_second()),
                None => name.to_owned(),
            }
        };
        entries.iter().map(draw).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_entry_has_the_time_of_its_layer_or_of_the_one_before() {
        assert_eq!(
            dated("base@1 - a - b -", &[0, 5, 7], None),
            "base@1 -@5 a@5 -@5 b@7 -@7"
        );
    }

    #[test]
    fn an_image_without_new_layers_is_as_old_as_its_base() {
        assert_eq!(dated("base@3 -@4 - -", &[0], None), "base@3 -@4 -@4 -@4");
        assert_eq!(dated("- -", &[], None), "- -");
        assert_eq!(dated("", &[], None), "");
    }

    #[test]
    fn a_result_in_more_or_fewer_layers_than_instructions_is_still_accounted_for() {
        assert_eq!(dated("base@1 a", &[0, 5, 7], None), "base@1 a@5 extra@7");
        assert_eq!(dated("base@1 a b", &[0, 5], None), "base@1 a@5 -@5");
    }

    #[test]
    fn source_date_epoch_limits_what_is_new() {
        assert_eq!(
            dated("base@9 a - b", &[0, 3, 8], Some(6)),
            "base@9 a@3 -@3 b@6"
        );
    }
}
