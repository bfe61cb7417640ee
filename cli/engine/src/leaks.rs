//! Secrets where they should not be: in the files of an image, in its config, in its history.
//!
//! What is looked for are the values that the person lent to the build, as they are and as they are
//! often written: in base64 and percent-encoded; and, where that is asked for, keys that are known by how
//! they look. Nothing is searched where there is nothing to look for, and only what the steps of this
//! Dockerfile made. Whatever the size of the layers, each thread has one buffer.

mod needles;
mod tokens;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::Path;

use oci::ImageConfig;
use rayon::prelude::*;
use snapshot::{Entry, Kind, SnapshotId, Snapshots};

use crate::sizes::Stack;
use crate::{Cancel, ExportError, Place};
pub(crate) use needles::Needles;
use needles::{Needle, Searcher};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

/// What becomes of an image in which a secret is (`--secret-leaks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaks {
    /// There is none.
    #[default]
    Refuse,
    /// The person is told.
    Warn,
    /// Nobody looks.
    Ignore,
}

/// A secret that somebody can read who has the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What people call it: `secret "npm"`, `build argument TOKEN`.
    pub secret: String,
    /// Whether it is one for sure, and not only called as if.
    pub is_certain: bool,
    /// How it is written there: empty, or ` in base64`.
    pub written: &'static str,
    /// Where: `/root/.npmrc`, `the variable TOKEN`.
    pub at: String,
    /// The step that put it there, if one did.
    pub step: Option<String>,
    /// Where that stands.
    pub place: Option<Box<Place>>,
}

impl Stack<'_> {
    /// Refuses an image in which a secret can be read, or tells of it.
    pub(crate) fn check_leaks(&self, config: &ImageConfig) -> Result<(), ExportError> {
        let request = self.job.request;
        if request.leaks == Leaks::Ignore {
            return Ok(());
        }
        let mut found = Vec::new();
        if let Some(needles) = Needles::of(request) {
            found.extend(self.in_config(config, &needles));
            found.extend(self.in_layers(Search::Values(&needles))?);
        }
        if request.known_tokens {
            found.extend(self.in_layers(Search::Tokens)?);
        }
        let (certain, others): (Vec<Leak>, Vec<Leak>) =
            found.into_iter().partition(|leak| leak.is_certain);
        let warn = |leaks: &[Leak]| {
            for leak in leaks {
                self.job.begun.caches.warn(leak.sentence());
            }
        };
        warn(&others);
        if request.leaks == Leaks::Warn {
            warn(&certain);
            return Ok(());
        }
        let more = certain.len().saturating_sub(1);
        match certain.into_iter().next() {
            Some(first) => Err(ExportError::Leak {
                leak: Box::new(first),
                more,
            }),
            None => Ok(()),
        }
    }

    /// In what the config says for itself; what the base image brought is not this build's.
    fn in_config(&self, config: &ImageConfig, needles: &Needles) -> Vec<Leak> {
        let mut found = Vec::new();
        let mut look = |text: &str, at: String, entry: Option<usize>| {
            let mut searcher = needles.searcher();
            searcher.take(text.as_bytes());
            let origin = entry.and_then(|it| self.target.origins.get(it).copied().flatten());
            let place = self.job.definition.place(origin).map(Box::new);
            found.extend(searcher.found().map(|needle| Leak {
                at: at.clone(),
                step: None,
                place: place.clone(),
                ..needle.leak()
            }));
        };
        for line in &config.config.env {
            let name = line.split('=').next().unwrap_or_default();
            look(line, format!("the variable {name}"), None);
        }
        for (name, value) in &config.config.labels {
            look(value, format!("the label {name}"), None);
        }
        let words = |field: &Option<Vec<String>>| field.clone().unwrap_or_default().join(" ");
        look(&words(&config.config.cmd), "CMD".to_owned(), None);
        look(
            &words(&config.config.entrypoint),
            "ENTRYPOINT".to_owned(),
            None,
        );
        let health = config.config.healthcheck.iter().flat_map(|it| &it.test);
        let health: Vec<&str> = health.map(String::as_str).collect();
        look(&health.join(" "), "HEALTHCHECK".to_owned(), None);
        for (position, entry) in config.history.iter().enumerate() {
            if self
                .target
                .origins
                .get(position)
                .is_some_and(Option::is_some)
            {
                let keyword = entry.created_by.split(' ').next().unwrap_or_default();
                let at = format!("the history, where it tells of {keyword}");
                look(&entry.created_by, at, Some(position));
            }
        }
        found
    }

    fn in_layers(&self, search: Search<'_>) -> Result<Vec<Leak>, ExportError> {
        let mut found = Vec::new();
        for (position, row) in self.own() {
            let cancel = &self.job.request.cancel;
            let leaks = in_layer(&self.job.engine.snapshots, row.id, search, cancel)?;
            let (step, place) = self.step(position);
            found.extend(leaks.into_iter().map(|leak| Leak {
                step: Some(step.clone()),
                place: place.clone().map(Box::new),
                ..leak
            }));
        }
        Ok(found)
    }
}

/// What is looked for in layers.
#[derive(Clone, Copy)]
pub(crate) enum Search<'a> {
    /// What the person lent.
    Values(&'a Needles),
    /// What looks like a key.
    Tokens,
}

/// In the files of one layer.
pub(crate) fn in_layer(
    snapshots: &Snapshots,
    layer: SnapshotId,
    search: Search<'_>,
    cancel: &Cancel,
) -> Result<Vec<Leak>, ExportError> {
    let tree = snapshots.tree(layer);
    let tree = tree.map_err(|source| ExportError::Looking(Box::new(source)))?;
    let root = snapshots.layer_root(layer);
    let root = root.map_err(|source| ExportError::Looking(Box::new(source)))?;
    let mut links = HashSet::new();
    let searched = tree.entries().iter().filter(|entry| match entry.kind {
        Kind::File { size, link, .. } => {
            search.sizes().contains(&size) && (link == 0 || links.insert(link))
        }
        Kind::Symlink(_) => true,
        _ => false,
    });
    let searched: Vec<&Entry> = searched.collect();
    let leaks: Vec<Vec<Leak>> = searched
        .par_iter()
        .map_init(
            || vec![0; BUFFER],
            |buffer, entry| {
                let path = entry.path();
                let leaks = match &entry.kind {
                    Kind::Symlink(target) => Ok(search.in_text(target)),
                    _ => {
                        let file = root.open_file(path);
                        file.and_then(|file| search.in_file(file, buffer, cancel))
                    }
                };
                let leaks = leaks.map_err(|source| ExportError::Unsearched {
                    path: path.to_owned(),
                    source,
                })?;
                let at = Path::new("/").join(path);
                let at = at.display().to_string().escape_debug().to_string();
                let leaks = leaks.into_iter().map(|leak| Leak {
                    at: at.clone(),
                    ..leak
                });
                Ok(leaks.collect())
            },
        )
        .collect::<Result<_, ExportError>>()?;
    Ok(leaks.into_iter().flatten().collect())
}

impl Search<'_> {
    /// How long files are in which it may be.
    fn sizes(self) -> RangeInclusive<u64> {
        match self {
            Self::Values(needles) => needles.shortest()..=u64::MAX,
            Self::Tokens => tokens::SHORTEST..=tokens::LARGEST,
        }
    }

    fn in_text(self, text: &[u8]) -> Vec<Leak> {
        match self {
            Self::Values(needles) => {
                let mut searcher = needles.searcher();
                searcher.take(text);
                searcher.found().map(Needle::leak).collect()
            }
            Self::Tokens => known(text),
        }
    }

    fn in_file(self, file: File, buffer: &mut [u8], cancel: &Cancel) -> std::io::Result<Vec<Leak>> {
        match self {
            Self::Values(needles) => {
                let mut searcher = needles.searcher();
                search(file, buffer, &mut searcher, cancel)?;
                Ok(searcher.found().map(Needle::leak).collect())
            }
            Self::Tokens if cancel.is_cancelled() => Ok(Vec::new()),
            Self::Tokens => {
                let mut bytes = Vec::new();
                file.take(tokens::LARGEST).read_to_end(&mut bytes)?;
                Ok(known(&bytes))
            }
        }
    }
}

/// The keys in some bytes that are known by how they look. Nobody knows whether they are good for anything.
fn known(bytes: &[u8]) -> Vec<Leak> {
    let titles = tokens::found(bytes).into_iter();
    let leaks = titles.map(|title| Leak {
        secret: title.to_owned(),
        is_certain: false,
        written: "",
        at: String::new(),
        step: None,
        place: None,
    });
    leaks.collect()
}

fn search(
    mut file: File,
    buffer: &mut [u8],
    searcher: &mut Searcher<'_>,
    cancel: &Cancel,
) -> std::io::Result<()> {
    loop {
        if cancel.is_cancelled() || searcher.has_all() {
            return Ok(());
        }
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => searcher.take(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Leak {
    /// What is the matter, in one sentence without a full stop.
    pub fn sentence(&self) -> String {
        let step = match &self.step {
            Some(step) => format!(", put there by {step}"),
            None => String::new(),
        };
        format!(
            "{} can be read in the image: it is in {}{}{step}",
            self.secret, self.at, self.written
        )
    }
}
