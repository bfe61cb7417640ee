//! The history in an image's config (G108).

use oci::{History, ImageConfig};

/// An entry for an instruction of the Dockerfile; its time is filled in when it is known.
pub(crate) fn entry(created_by: String, empty_layer: bool) -> History {
    History {
        created_by,
        comment: "buildkit.dockerfile.v0".into(),
        empty_layer,
        ..History::default()
    }
}

/// Makes the entries of a base image that stand for layers as many as its layers: what is too much
/// becomes empty, what is missing is added, as BuildKit does when it writes an image.
pub(crate) fn normalise(image: &mut ImageConfig) {
    let layers = image.rootfs.diff_ids.len();
    let mut entries = 0;
    for entry in image.history.iter_mut().filter(|it| !it.empty_layer) {
        entry.empty_layer = entries >= layers;
        entries += usize::from(!entry.empty_layer);
    }
    let missing = History {
        comment: "buildkit.exporter.image.v0".into(),
        ..History::default()
    };
    image
        .history
        .extend(std::iter::repeat_n(missing, layers - entries));
}

#[cfg(test)]
mod tests {
    use super::{entry, normalise};
    use oci::{Digest, ImageConfig};

    fn check(layers: usize, entries: &[bool], expected: &[bool]) {
        let mut image = ImageConfig::default();
        image.rootfs.diff_ids = vec![Digest::of(b""); layers];
        image.history = entries
            .iter()
            .map(|&empty| entry(String::new(), empty))
            .collect();
        normalise(&mut image);
        assert_eq!(
            image
                .history
                .iter()
                .map(|it| it.empty_layer)
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn as_many_entries_as_layers() {
        check(1, &[false, true], &[false, true]);
        check(1, &[false, true, false], &[false, true, true]);
        check(2, &[true], &[true, false, false]);
        check(0, &[], &[]);
    }
}
