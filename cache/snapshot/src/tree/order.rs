//! The order of paths in a manifest: by component, so that a directory and all below it are neighbours.

use std::cmp::Ordering;

/// Compares as if `/` came before every other byte.
pub(crate) fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    match a.iter().zip(b).position(|(a, b)| a != b) {
        None => a.len().cmp(&b.len()),
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
    }
}

/// Whether `path` is strictly below `directory`.
pub(crate) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

fn rank(byte: u8) -> u16 {
    if byte == b'/' { 0 } else { u16::from(byte) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_directory_follows_it() {
        let mut paths = ["a.b", "a/c", "a", "", "a/b/c", "a b", "b"].map(str::as_bytes);
        paths.sort_by(|a, b| compare_paths(a, b));
        assert_eq!(
            paths,
            ["", "a", "a/b/c", "a/c", "a b", "a.b", "b"].map(str::as_bytes)
        );
    }

    #[test]
    fn a_longer_name_is_not_below() {
        assert!(is_below(b"usr/lib", b"usr"));
        assert!(is_below(b"usr", b""));
        assert!(!is_below(b"usr2/lib", b"usr"));
        assert!(!is_below(b"usr", b"usr"));
    }
}
