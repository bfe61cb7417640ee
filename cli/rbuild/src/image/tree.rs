//! `image tree`: images by the layers that they share.

use oci::{Digest, Reference};
use serde_json::{Value, json};
use store::{ImageRecord, Store, StoreError};

use super::find;
use crate::args::{TreeArgs, TreeFormat};
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::align;

/// Prints the images, each below the one on whose layers it stands.
pub(crate) fn tree(store: &Store, args: &TreeArgs) -> Result<(), Fault> {
    Ok(print(&drawn(store, args)?)?)
}

pub(super) fn drawn(store: &Store, args: &TreeArgs) -> Result<String, Fault> {
    let wanted = args.images.iter().map(|word| find(store, word));
    let wanted = wanted
        .map(|image| image.map(|it| it.id))
        .collect::<Result<Vec<_>, _>>()?;
    let mut roots = Vec::new();
    for (record, names) in store.images()? {
        let image = Image {
            sizes: sizes(store, &record)?,
            names,
            record,
        };
        plant(&mut roots, image, 0);
    }
    if !wanted.is_empty() {
        roots.retain(|root| root.has_any(&wanted));
    }
    sort(&mut roots);
    match args.format {
        Some(TreeFormat::Json) => {
            let roots: Vec<Value> = roots.iter().map(Node::document).collect();
            Ok(format!("{}\n", Value::from(roots)))
        }
        Some(TreeFormat::Table) | None => {
            let mut lines = vec!["IMAGE\tIMAGE ID\tLAYERS\tADDS\tSIZE".to_owned()];
            for root in &roots {
                root.draw(&mut lines, "", "");
            }
            Ok(align(&lines))
        }
    }
}

/// An image with the bytes of each of its layers, lowest first.
#[derive(Debug)]
struct Image {
    record: ImageRecord,
    names: Vec<Reference>,
    sizes: Vec<u64>,
}

/// Layers that all images at and below this node have, and none beside it.
#[derive(Debug, Default)]
struct Node {
    layers: Vec<Digest>,
    /// How many layers, and bytes, there are below these.
    above: (usize, u64),
    /// Bytes of these layers.
    size: u64,
    /// The images that have these layers and no more.
    images: Vec<Image>,
    children: Vec<Node>,
}

/// Puts an image into the forest; its first `depth` layers are those on the way here.
fn plant(nodes: &mut Vec<Node>, image: Image, depth: usize) {
    let rest = &image.record.diff_ids[depth..];
    // Images without layers have nothing in common.
    let shares = |node: &&mut Node| match (node.layers.first(), rest.first()) {
        (Some(theirs), Some(ours)) => theirs == ours,
        (None, None) => node.images.iter().any(|it| it.record.id == image.record.id),
        _ => false,
    };
    let Some(node) = nodes.iter_mut().find(shares) else {
        nodes.push(Node {
            layers: rest.to_vec(),
            above: (depth, image.sizes[..depth].iter().sum()),
            size: image.sizes[depth..].iter().sum(),
            images: vec![image],
            children: Vec::new(),
        });
        return;
    };
    let pairs = node.layers.iter().zip(rest);
    let common = pairs.take_while(|(theirs, ours)| theirs == ours).count();
    if common < node.layers.len() {
        node.split(common, &image.sizes);
    }
    if depth + common == image.record.diff_ids.len() {
        node.images.push(image);
    } else {
        plant(&mut node.children, image, depth + common);
    }
}

impl Node {
    /// Leaves the first `count` layers here and moves the others, with all that stands on them, down.
    fn split(&mut self, count: usize, sizes: &[u64]) {
        let upper = self.layers.split_off(count);
        let depth = self.above.0;
        let size = sizes[depth..depth + count].iter().sum();
        let child = Self {
            layers: upper,
            above: (depth + count, self.above.1 + size),
            size: self.size.saturating_sub(size),
            images: std::mem::take(&mut self.images),
            children: std::mem::take(&mut self.children),
        };
        self.size = size;
        self.children.push(child);
    }

    fn has_any(&self, ids: &[Digest]) -> bool {
        self.images.iter().any(|it| ids.contains(&it.record.id))
            || self.children.iter().any(|it| it.has_any(ids))
    }

    fn total(&self) -> u64 {
        self.above.1 + self.size
    }

    fn draw(&self, lines: &mut Vec<String>, lead: &str, below: &str) {
        let plus = if self.above.0 == 0 { "" } else { "+" };
        let numbers = format!(
            "{plus}{}\t{plus}{}\t{}",
            self.layers.len(),
            human::size(self.size),
            human::size(self.total())
        );
        if self.images.is_empty() {
            lines.push(format!("{lead}(no image)\t\t{numbers}"));
        }
        for (position, image) in self.images.iter().enumerate() {
            let (lead, numbers) = match position {
                0 => (lead.to_owned(), numbers.as_str()),
                // It has the very same layers.
                _ => (
                    format!(
                        "{below}{}",
                        if self.children.is_empty() {
                            ""
                        } else {
                            "│  "
                        }
                    ),
                    "=\t\t",
                ),
            };
            let id = image.record.id.short();
            lines.push(format!("{lead}{}\t{id}\t{numbers}", image.title()));
        }
        for (position, child) in self.children.iter().enumerate() {
            let (branch, trunk) = match position + 1 == self.children.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            child.draw(
                lines,
                &format!("{below}{branch}"),
                &format!("{below}{trunk}"),
            );
        }
    }

    fn document(&self) -> Value {
        let images = self.images.iter().map(|image| {
            json!({
                "ID": image.record.id,
                "Names": image.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
            })
        });
        json!({
            "Images": images.collect::<Vec<_>>(),
            "Layers": self.layers,
            "Size": self.size,
            "Total": self.total(),
            "Children": self.children.iter().map(Self::document).collect::<Vec<_>>(),
        })
    }
}

impl Image {
    fn title(&self) -> String {
        match &self.names[..] {
            [] => "<none>".to_owned(),
            names => {
                let names: Vec<String> = names.iter().map(Reference::familiar).collect();
                names.join(", ")
            }
        }
    }
}

/// By name, those without one behind the others.
fn sort(nodes: &mut [Node]) {
    for node in nodes.iter_mut() {
        node.images.sort_by_key(by_name);
        sort(&mut node.children);
    }
    nodes.sort_by_key(first_name);
}

fn by_name(image: &Image) -> (bool, String, Digest) {
    (image.names.is_empty(), image.title(), image.record.id)
}

fn first_name(node: &Node) -> Option<(bool, String, Digest)> {
    let own = node.images.first().map(by_name);
    own.or_else(|| node.children.first().and_then(first_name))
}

/// The bytes of an image's layers; zeros where the store does not have their files.
fn sizes(store: &Store, image: &ImageRecord) -> Result<Vec<u64>, StoreError> {
    let rows = match image.top.map(|top| store.ancestry(top)) {
        None | Some(Err(StoreError::MissingSnapshot(_))) => Vec::new(),
        Some(rows) => rows?,
    };
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.size).collect();
    sizes.resize(image.diff_ids.len(), 0);
    Ok(sizes)
}
