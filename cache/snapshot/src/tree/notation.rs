//! Layers from text, for tests.

use std::sync::Arc;

use super::{Entry, Kind, Tree, content_key};

/// A layer from a small notation: `dir/`, `dir/!` (opaque), `file:SIZE`, `file:SIZE:LINK`, `file-`
/// (whiteout).
pub(super) fn layer(text: &str) -> Arc<Tree> {
    let entries = text.split_whitespace().map(|word| {
        let (path, kind) = if let Some(path) = word.strip_suffix("/!") {
            (path, Kind::Directory { opaque: true })
        } else if let Some(path) = word.strip_suffix('/') {
            (path, Kind::Directory { opaque: false })
        } else if let Some(path) = word.strip_suffix('-') {
            (path, Kind::Whiteout)
        } else {
            let mut fields = word.split(':');
            let path = fields.next().unwrap();
            let mut number = || fields.next().map_or(0, |it| it.parse().unwrap());
            let (size, link) = (number(), number() as u32);
            let content = content_key(word.as_bytes());
            (
                path,
                Kind::File {
                    size,
                    content,
                    link,
                },
            )
        };
        Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
        }
    });
    Arc::new(Tree::new(entries.collect()))
}
