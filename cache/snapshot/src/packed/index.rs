//! From what a layer's tar says, and what is below the layer, to its manifest and its index.

use std::collections::HashMap;

use super::contents::{Contents, Named, Node, What};
use crate::erofs::{self, Body, Inode};
use crate::tree::{Entry, Kind, Merged, Tree, Xattr};
use crate::walk::joined;

/// The manifest and the index of a layer with these contents on top of what `below` shows, over a tar of
/// `tar` bytes. Nothing where that is more than an index can address.
pub(crate) fn of(contents: &Contents, below: Option<&Merged>, tar: u64) -> Option<(Tree, Vec<u8>)> {
    let opaque = Xattr {
        name: b"trusted.overlay.opaque".as_slice().into(),
        value: b"y".as_slice().into(),
    };
    let layer = Dressed::of(contents, below);
    let mut inodes: Vec<Inode<'_>> = Vec::with_capacity(layer.things.len());
    for thing in &layer.things {
        let mut inode = thing.inode();
        if thing.is_opaque() {
            inode.xattrs.push(&opaque);
        }
        inodes.push(inode);
    }
    for (number, parent, name) in &layer.names {
        if let Body::Directory { names, .. } = &mut inodes[*parent].body {
            names.push((name, *number));
        }
        if layer.things[*number].is_directory() {
            inodes[*parent].links += 1;
        }
    }
    let index = erofs::image(&inodes, tar)?;
    Some((layer.tree(), index))
}

/// A layer with all that is to be known of it.
struct Dressed<'a> {
    /// By number of inode: the top directory first.
    things: Vec<Thing<'a>>,
    /// Number, number of the directory, and name in it.
    names: Vec<(usize, usize, &'a [u8])>,
    /// Paths, and the number of what they name.
    paths: Vec<(Box<[u8]>, usize)>,
}

/// An inode.
enum Thing<'a> {
    Node {
        node: &'a Node,
        /// The directory that it is in.
        parent: usize,
        mode: u32,
        owner: (u32, u32),
        mtime: (i64, u32),
        xattrs: Vec<Xattr>,
    },
    Whiteout,
}

/// A directory whose names are still to be looked at.
struct Waiting<'a> {
    node: &'a Node,
    number: usize,
    path: Box<[u8]>,
    /// Whether the directory at the same path below shows through.
    shows: bool,
}

impl<'a> Dressed<'a> {
    fn of(contents: &'a Contents, below: Option<&Merged>) -> Self {
        let mut layer = Self {
            things: Vec::new(),
            names: Vec::new(),
            paths: Vec::new(),
        };
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let top = &contents.nodes[0];
        let mut waiting = vec![layer.directory(top, (0, Box::default()), below)];
        while let Some(directory) = waiting.pop() {
            let What::Directory { names, .. } = &directory.node.what else {
                continue;
            };
            let below = below.filter(|_| directory.shows);
            for (name, named) in names {
                let path = joined(&directory.path, name);
                let Named::Node(at) = named else {
                    // Overlayfs lists whiteouts that hide nothing.
                    if below.is_some_and(|it| it.get(&path).is_some()) {
                        layer.things.push(Thing::Whiteout);
                        layer.add(&directory, name, path, layer.things.len() - 1);
                    }
                    continue;
                };
                let node = &contents.nodes[*at];
                if let What::Directory { .. } = node.what {
                    let child = layer.directory(node, (directory.number, path), below);
                    layer.names.push((child.number, directory.number, name));
                    waiting.push(child);
                    continue;
                }
                let number = *numbers.entry(*at).or_insert_with(|| {
                    layer.things.push(Thing::plain(node, directory.number));
                    layer.things.len() - 1
                });
                layer.add(&directory, name, path, number);
            }
        }
        layer
    }

    fn add(&mut self, directory: &Waiting<'_>, name: &'a [u8], path: Box<[u8]>, number: usize) {
        self.names.push((number, directory.number, name));
        self.paths.push((path, number));
    }

    /// A directory looks like the one below where the layer says nothing of it.
    fn directory(
        &mut self,
        node: &'a Node,
        (parent, path): (usize, Box<[u8]>),
        below: Option<&Merged>,
    ) -> Waiting<'a> {
        let number = self.things.len();
        let under = below
            .and_then(|it| it.get(&path))
            .filter(|it| it.is_directory());
        let mut thing = Thing::plain(node, parent);
        if let (
            Some(under),
            Thing::Node {
                mode,
                owner,
                mtime,
                xattrs,
                ..
            },
        ) = (under, &mut thing)
        {
            if !node.is_said {
                (*mode, *owner, *mtime) = (under.mode, (under.uid, under.gid), under.mtime);
            }
            if node.began_unsaid {
                let more = under.xattrs.iter().filter(|it| erofs::holds(&it.name));
                let new: Vec<Xattr> = more
                    .filter(|it| !xattrs.iter().any(|own| own.name == it.name))
                    .cloned()
                    .collect();
                xattrs.extend(new);
            }
        }
        let shows = under.is_some() && !thing.is_opaque();
        self.things.push(thing);
        self.paths.push((path.clone(), number));
        Waiting {
            node,
            number,
            path,
            shows,
        }
    }

    fn tree(&self) -> Tree {
        let mut paths: Vec<&(Box<[u8]>, usize)> = self.paths.iter().collect();
        paths.sort_unstable_by(|a, b| crate::tree::compare_paths(&a.0, &b.0));
        let mut links: HashMap<usize, u32> = HashMap::new();
        let entries = paths.into_iter().map(|(path, number)| {
            let thing = &self.things[*number];
            let link = match thing {
                Thing::Node { node, .. } if node.names > 1 => {
                    let next = links.len() as u32 + 1;
                    *links.entry(*number).or_insert(next)
                }
                _ => 0,
            };
            thing.entry(path.clone(), link)
        });
        Tree::new(entries.collect())
    }
}

impl<'a> Thing<'a> {
    fn plain(node: &'a Node, parent: usize) -> Self {
        Self::Node {
            node,
            parent,
            mode: match node.what {
                What::Symlink(_) => 0o777,
                _ => node.mode,
            },
            owner: node.owner,
            mtime: node.mtime,
            xattrs: node.xattrs.clone(),
        }
    }

    fn is_directory(&self) -> bool {
        matches!(self, Self::Node { node, .. } if matches!(node.what, What::Directory { .. }))
    }

    fn is_opaque(&self) -> bool {
        matches!(self, Self::Node { node, .. } if matches!(node.what, What::Directory { opaque: true, .. }))
    }

    fn inode(&self) -> Inode<'_> {
        let Self::Node {
            node,
            parent,
            mode,
            owner,
            mtime,
            xattrs,
        } = self
        else {
            return Inode {
                mode: 0,
                owner: (0, 0),
                mtime: (0, 0),
                links: 1,
                xattrs: Vec::new(),
                body: Body::Character(0, 0),
            };
        };
        Inode {
            mode: *mode,
            owner: *owner,
            mtime: *mtime,
            // A directory has its own two, and one from each directory in it.
            links: if self.is_directory() { 2 } else { node.names },
            xattrs: xattrs.iter().collect(),
            body: match &node.what {
                What::File { at, size, .. } => Body::File {
                    at: *at,
                    size: *size,
                },
                What::Directory { .. } => Body::Directory {
                    parent: *parent,
                    names: Vec::new(),
                },
                What::Symlink(text) => Body::Symlink(text),
                What::Character(major, minor) => Body::Character(*major, *minor),
                What::Block(major, minor) => Body::Block(*major, *minor),
                What::Fifo => Body::Fifo,
            },
        }
    }

    fn entry(&self, path: Box<[u8]>, link: u32) -> Entry {
        let Self::Node {
            node,
            mode,
            owner: (uid, gid),
            mtime,
            xattrs,
            ..
        } = self
        else {
            return Entry {
                path,
                kind: Kind::Whiteout,
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: (0, 0),
                xattrs: Vec::new(),
            };
        };
        let mut xattrs = xattrs.clone();
        xattrs.sort_unstable();
        Entry {
            path,
            kind: kind(&node.what, link),
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: *mtime,
            xattrs,
        }
    }
}

fn kind(what: &What, link: u32) -> Kind {
    match what {
        What::File { size, content, .. } => Kind::File {
            size: *size,
            content: *content,
            link,
        },
        What::Directory { opaque, .. } => Kind::Directory { opaque: *opaque },
        What::Symlink(text) => Kind::Symlink(text.clone()),
        What::Character(major, minor) => Kind::Character(*major, *minor),
        What::Block(major, minor) => Kind::Block(*major, *minor),
        What::Fifo => Kind::Fifo,
    }
}
