//! `image blame`: which layer, instruction and build put something into an image.

mod history;
mod layers;

use oci::{ImageConfig, Reference};
use serde_json::{Value, json};
use snapshot::Snapshots;
use store::{ImageRecord, Origins, Store};

use super::{ago, config, find};
use crate::args::BlameArgs;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::table::Format;

/// Prints who put the paths, variables, labels and fields into the image, the latest first.
pub(crate) fn blame(store: Store, args: &BlameArgs) -> Result<(), Fault> {
    Ok(print(&list(&Snapshots::new(store), args)?)?)
}

pub(super) fn list(snapshots: &Snapshots, args: &BlameArgs) -> Result<String, Fault> {
    let store = snapshots.store();
    let image = find(store, &args.image)?;
    let subject = Subject {
        config: config(store, &image)?,
        ancestors: ancestors(store, &image)?,
        image,
    };
    let mut rows = Vec::new();
    for word in &args.things {
        let deeds = match word.starts_with('/') {
            true => layers::deeds(snapshots, &subject, word)?,
            false => history::deeds(&subject, word)?,
        };
        for deed in deeds.iter().rev() {
            rows.push(subject.row(store, deed, args)?);
        }
    }
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    Ok(format.show(&headings(), &rows)?)
}

/// An image that is asked about.
pub(super) struct Subject {
    image: ImageRecord,
    config: ImageConfig,
    /// The images of the store whose history this one's begins with, the one with the shortest first;
    /// the last is the image itself.
    ancestors: Vec<Ancestor>,
}

struct Ancestor {
    image: ImageRecord,
    names: Vec<Reference>,
    entries: usize,
    origins: Option<Origins>,
}

/// Something that was done to what is asked about.
pub(super) struct Deed {
    /// What it is, as people know it.
    name: String,
    /// What was done.
    what: String,
    /// The entry of the history that did it, if there is one.
    entry: Option<usize>,
    /// The layer that did it, if it was one.
    layer: Option<usize>,
    /// How many bytes it has since.
    size: Option<u64>,
}

const COLUMNS: &str = "{{.Name}}\t{{.Change}}\t{{.Size}}\t{{.Layer}}\t{{.Image}}\t{{.Line}}\t{{.Build}}\t{{.CreatedSince}}\t{{.CreatedBy}}";

fn headings() -> Value {
    json!({
        "Build": "BUILD",
        "Change": "CHANGE",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "CreatedSince": "CREATED",
        "Image": "IMAGE",
        "Layer": "LAYER",
        "LayerID": "LAYER ID",
        "Line": "LINE",
        "Name": "NAME",
        "Size": "SIZE",
        "Step": "STEP",
    })
}

/// Columns of CREATED BY before it is cut.
const CREATED_BY: usize = 60;

impl Subject {
    fn row(&self, store: &Store, deed: &Deed, args: &BlameArgs) -> Result<Value, Fault> {
        let entry = deed.entry.and_then(|it| self.config.history.get(it));
        let ancestor = deed.entry.and_then(|entry| self.ancestor(entry));
        let maker = match deed.layer {
            Some(layer) => self.maker(store, layer)?,
            None => None,
        };
        let of_image = match ancestor {
            Some(ancestor) => store.first_build_of(&ancestor.image.id)?,
            None => None,
        };
        let build = maker.as_ref().map(|(build, _)| *build).or(of_image);
        let created_by = entry.map_or("(by no entry of the history)", |it| &it.created_by);
        let created_by = super::visible(created_by.as_bytes());
        let layer_id = deed.layer.and_then(|it| self.image.diff_ids.get(it));
        Ok(json!({
            "Build": build.map_or_else(String::new, |it| it.to_string()),
            "Change": deed.what,
            "CreatedAt": entry.and_then(|it| it.created).map_or_else(String::new, |it| it.to_string()),
            "CreatedBy": match args.no_trunc {
                true => created_by,
                false => super::ellipsis(&created_by, CREATED_BY),
            },
            "CreatedSince": entry.map_or_else(String::new, |it| ago(it.created)),
            "Image": ancestor.map_or_else(String::new, Ancestor::title),
            "Layer": deed.layer.map_or_else(String::new, |it| (it + 1).to_string()),
            "LayerID": layer_id,
            "Line": deed.entry.and_then(|it| self.line(it)).unwrap_or_default(),
            "Name": deed.name,
            "Size": deed.size.map_or_else(String::new, human::size),
            "Step": maker.map_or_else(String::new, |(_, step)| super::visible(step.name.as_bytes())),
        }))
    }

    /// The image in which an entry of the history was the first time.
    fn ancestor(&self, entry: usize) -> Option<&Ancestor> {
        self.ancestors.iter().find(|it| it.entries > entry)
    }

    /// `Dockerfile:3`, where somebody knows.
    fn line(&self, entry: usize) -> Option<String> {
        let known = self.ancestors.iter().filter(|it| it.entries > entry);
        let mut known = known.filter_map(|it| it.origins.as_ref());
        known.find_map(|origins| {
            let (first, _) = (*origins.lines.get(entry)?)?;
            Some(format!("{}:{first}", origins.file))
        })
    }

    fn maker(&self, store: &Store, layer: usize) -> Result<Option<(i64, store::RanStep)>, Fault> {
        let chain = super::chain(store, &self.image)?;
        Ok(match chain.get(layer) {
            Some(row) => store.maker_of(row.id)?,
            None => None,
        })
    }

    /// The entry of the history that a layer belongs to.
    fn entry_of(&self, layer: usize) -> Option<usize> {
        let entries = self.config.history.iter().enumerate();
        let mut layers = entries.filter(|(_, entry)| !entry.empty_layer);
        layers.nth(layer).map(|(position, _)| position)
    }
}

impl Ancestor {
    fn title(&self) -> String {
        let name = self.names.first();
        name.map_or_else(|| self.image.id.short(), Reference::familiar)
    }
}

fn ancestors(store: &Store, image: &ImageRecord) -> Result<Vec<Ancestor>, Fault> {
    let own = config(store, image)?;
    let mut found = Vec::new();
    for (other, names) in store.images()? {
        let is_below = image.diff_ids.starts_with(&other.diff_ids);
        // One whose config cannot be read is of no help.
        let Some(config) = is_below.then(|| config(store, &other).ok()).flatten() else {
            continue;
        };
        if !own.history.starts_with(&config.history) {
            continue;
        }
        found.push(Ancestor {
            entries: config.history.len(),
            origins: store.origins(&other.id)?,
            image: other,
            names,
        });
    }
    // Of several with the same history, the one that is asked about.
    found.sort_by_key(|it| (it.entries, it.image.id != image.id));
    found.retain(|it| it.entries < own.history.len() || it.image.id == image.id);
    if found.last().is_none_or(|it| it.image.id != image.id) {
        found.push(Ancestor {
            image: image.clone(),
            names: store.names(&image.id)?,
            entries: own.history.len(),
            origins: store.origins(&image.id)?,
        });
    }
    Ok(found)
}
