//! Paths in an image: always `/`-separated, cleaned as Go's `path.Clean` does.

/// How long a path can be that the kernel is given, its terminating zero not counted.
pub(crate) const LONGEST: usize = 4095;

/// `path` below `directory` unless it is absolute, cleaned: no `.`, no `..`, no `/` at the end.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let below = if path.starts_with('/') { "" } else { directory };
    let mut joined = String::with_capacity(below.len() + path.len() + 2);
    for part in below.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => joined.truncate(joined.rfind('/').unwrap_or(0)),
            part => joined.extend(["/", part]),
        }
    }
    if joined.is_empty() {
        joined.push('/');
    }
    joined
}

/// Like [`join`], and a `/` at the end of `path` stays: it says that a directory is meant (G55).
pub(crate) fn join_destination(directory: &str, path: &str) -> String {
    let mut joined = join(directory, path);
    let is_directory = path.ends_with('/') || matches!(path, "" | ".") || path.ends_with("/.");
    if is_directory && !joined.ends_with('/') {
        joined.push('/');
    }
    joined
}

/// Whether Go's `filepath.Match` sees anything but letters in `path`.
pub(crate) fn has_wildcards(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    false
}

/// The last part of `path`.
pub(crate) fn base(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{has_wildcards, join, join_destination};

    #[test]
    fn nothing_leaves_the_root() {
        assert_eq!(join("/a", "../../../b/./c//"), "/b/c");
        assert_eq!(join("/a", "/"), "/");
        assert_eq!(join("", "b"), "/b");
    }

    #[test]
    fn a_slash_at_the_end_says_directory() {
        let table = [
            ("b", "/a/b"),
            ("b/", "/a/b/"),
            (".", "/a/"),
            ("", "/a/"),
            ("b/.", "/a/b/"),
            ("/", "/"),
            ("..", "/"),
        ];
        for (path, expected) in table {
            assert_eq!(join_destination("/a", path), expected, "{path:?}");
        }
    }

    #[test]
    fn an_escaped_star_is_none() {
        assert!(has_wildcards("a*") && has_wildcards("[ab]") && has_wildcards(r"\\?"));
        assert!(!has_wildcards(r"a\*b") && !has_wildcards("a"));
    }
}
