//! Why steps ran: each against the nearest earlier record of its like.
//!
//! Records keep what their keys were made from, and `solve::explain` says what of it differs. Where
//! that is the files of an input, the trees that the two copies made say which: nothing is written
//! down for it while a build runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dockerfile_parser::{Dockerfile, InstructionKind};
use jiff::Timestamp;
use llb::op::{FileChange, Source};
use llb::{Op, VertexId};
use oci::Reference;
use serde::Serialize;
use snapshot::{Change, Counting, Entry, How, SnapshotId, Snapshots, Tree};
use solve::explain::{Declared, Difference, Facts, Origin, differences, facts_of};
use solve::{InputKey, Step};
use store::{Alike, Failure, RanStep, Record, Store, StoreError};

use crate::{Engine, Job};

/// How many earlier records of each kind of likeness are compared.
const COMPARED: u32 = 8;

/// Why a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `[build 2/5] RUN make`
    pub step: String,
    /// Its first line in the Dockerfile.
    pub line: Option<u64>,
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
    /// How it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Why a step ran: the first thing that kept the cache from knowing its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cause {
    /// Something that has a name of its own.
    Plain(Plain),
    /// Something differs from the nearest earlier record.
    Changed(Difference),
    /// A file that it takes differs.
    File(FileCause),
}

/// A cause without particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Plain {
    /// It was asked for.
    NoCache,
    /// What is on record is older than `--cache-ttl` allows.
    Expired,
    /// No such step is on record.
    First,
    /// It is on record as it is, but what it made is gone.
    Gone,
    /// It failed before, and nothing differs since.
    FailedBefore,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename = "file")]
pub struct FileCause {
    /// Its path, as the Dockerfile would name it.
    pub path: String,
    /// `src/a.rs changed`
    pub what: String,
    /// The step whose file it is; empty for the build context.
    pub of: String,
    /// How many more files differ.
    pub more: usize,
}

impl Explanation {
    /// Why, in one sentence without a full stop.
    pub fn sentence(&self) -> String {
        match &self.cause {
            Cause::Plain(Plain::NoCache) => "the cache was not to be used".to_owned(),
            Cause::Plain(Plain::Expired) => "its result was older than --cache-ttl".to_owned(),
            Cause::Plain(Plain::First) => "no earlier run of it is on record".to_owned(),
            Cause::Plain(Plain::Gone) => {
                "nothing differs, but its result was not in the cache any more".to_owned()
            }
            Cause::Plain(Plain::FailedBefore) => {
                "it failed before, and nothing differs since".to_owned()
            }
            Cause::Changed(difference) => difference.to_string(),
            Cause::File(file) => {
                let of = match file.of.as_str() {
                    "" => String::new(),
                    of => format!(", of `{of}`"),
                };
                let more = match file.more {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                format!("{}{more}{of}", file.what)
            }
        }
    }
}

impl Engine {
    /// Why the steps that the build `id` ran did run; those of the latest build where `None`. `None`
    /// if there was no such build.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn explain(&self, id: Option<i64>) -> Result<Option<Vec<Explanation>>, StoreError> {
        let builds = self.store.builds(u32::MAX)?;
        let Some(row) = builds
            .into_iter()
            .find(|row| id.is_none_or(|id| row.id == id))
        else {
            return Ok(None);
        };
        let steps = self.store.ran_steps(row.id)?;
        let now = Now {
            since: row.build.started,
            project: row.build.project,
            build: row.id,
        };
        let explained = steps
            .iter()
            .map(|step| explain(&self.snapshots, step, &now));
        explained.collect::<Result<_, _>>().map(Some)
    }
}

/// The build in which a step ran.
pub(crate) struct Now {
    /// When it began: earlier records were made before.
    pub(crate) since: Timestamp,
    /// What it is a build of.
    pub(crate) project: String,
    /// Its number, or one that is larger than all others.
    pub(crate) build: i64,
}

/// Why `step`, which has run, did so: compares what is known of it with earlier records.
pub(crate) fn explain(
    snapshots: &Snapshots,
    step: &RanStep,
    now: &Now,
) -> Result<Explanation, StoreError> {
    let cause = match (step.why.as_str(), &step.failure) {
        (NO_CACHE, _) => Cause::Plain(Plain::NoCache),
        (EXPIRED, _) => Cause::Plain(Plain::Expired),
        (_, Some(failure)) => {
            if snapshots.store().failed_before(&step.key, now.build)? {
                Cause::Plain(Plain::FailedBefore)
            } else {
                compare(snapshots, &attempt(step, failure, now), now.since)?
            }
        }
        (_, None) => match snapshots.store().record_of(&step.key)? {
            None => Cause::Plain(Plain::Gone),
            Some(record) => compare(snapshots, &record, now.since)?,
        },
    };
    Ok(Explanation {
        step: step.name.clone(),
        line: step.line,
        cause,
        failed: step.failure.as_ref().map(|it| it.error.clone()),
    })
}

/// What would be on record of a step that failed.
fn attempt(step: &RanStep, failure: &Failure, now: &Now) -> Record {
    Record {
        key: step.key,
        kind: failure.kind.clone(),
        preimage: failure.preimage.clone(),
        outputs: Vec::new(),
        name: step.name.clone(),
        started: now.since,
        duration: step.duration.unwrap_or_default(),
        project: now.project.clone(),
        made: None,
        spent: None,
    }
}

/// [`RanStep::why`] of a step that was to run in any case.
pub(crate) const NO_CACHE: &str = "no-cache";
/// [`RanStep::why`] of a step whose result had outlived its time.
pub(crate) const EXPIRED: &str = "expired";
/// [`RanStep::why`] of any other step.
pub(crate) const MISSING: &str = "missing";

/// What is at a path of an input now, where that can be looked at.
pub(crate) type Look<'a> = &'a dyn Fn(usize, &str) -> Option<Vec<Entry>>;

/// The first thing in which a record differs from the nearest of those made before `since`.
fn compare(snapshots: &Snapshots, record: &Record, since: Timestamp) -> Result<Cause, StoreError> {
    compare_before(snapshots, record, since, &|_, _| None)
}

/// The same for the record of a step that did not run yet: what it would copy is looked at.
pub(crate) fn compare_before(
    snapshots: &Snapshots,
    record: &Record,
    since: Timestamp,
    look: Look<'_>,
) -> Result<Cause, StoreError> {
    let mut nearest: Option<(usize, Record, Vec<Difference>)> = None;
    for earlier in earlier(snapshots.store(), record, since)? {
        let found = differences(&earlier.preimage, &record.preimage);
        let apart = found.len()
            + if earlier.project == record.project {
                0
            } else {
                1000
            };
        if !found.is_empty() && nearest.as_ref().is_none_or(|(least, ..)| apart < *least) {
            nearest = Some((apart, earlier, found));
        }
    }
    let Some((_, earlier, found)) = nearest else {
        return Ok(Cause::Plain(Plain::First));
    };
    let first = found.into_iter().next().expect("only differences are kept");
    if let Difference::Files { path, of, input } = &first
        && let Some(file) = seen_file(&earlier, record, *input)
            .or_else(|| differing_file(snapshots, (&earlier, record), (*input, path)))
            .or_else(|| {
                let now = look(*input, path)?;
                unlike_file(snapshots, (&earlier, record), (*input, path), &now)
            })
    {
        return Ok(Cause::File(FileCause {
            of: of.clone(),
            ..file
        }));
    }
    Ok(Cause::Changed(first))
}

/// Records of steps like this one, the most alike first and among those the latest: of the same
/// name; at the same place of the same project's Dockerfile; of the same text elsewhere in it.
fn earlier(store: &Store, record: &Record, since: Timestamp) -> Result<Vec<Record>, StoreError> {
    let mut found = store.records_alike(Alike::Named(&record.name), since, COMPARED)?;
    let same_project = |it: &Record| it.project == record.project;
    if let Some((place, text)) = split_name(&record.name) {
        let at_place = store.records_alike(Alike::Beginning(place), since, COMPARED)?;
        found.extend(at_place.into_iter().filter(same_project));
        let elsewhere = store.records_alike(Alike::Ending(text), since, COMPARED)?;
        found.extend(elsewhere.into_iter().filter(same_project));
    }
    found.retain(|it| it.kind == record.kind && it.key != record.key);
    Ok(found)
}

/// Of `[build 2/5] RUN make`, the place `[build 2/` and the text `] RUN make`.
pub(crate) fn split_name(name: &str) -> Option<(&str, &str)> {
    let end = name.find("] ")?;
    let slash = name[..end].rfind('/')?;
    Some((&name[..=slash], &name[end..]))
}

/// The first file that differs between what two runs saw of a mounted input.
fn seen_file(old: &Record, new: &Record, input: usize) -> Option<FileCause> {
    let files = |record: &Record| {
        let origin = facts_of(&record.preimage).inputs.into_iter().nth(input)?;
        Some(origin.files).filter(|files| !files.is_empty())
    };
    let (old, new) = (files(old)?, files(new)?);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes: Vec<(&String, How, bool)> = paths
        .into_iter()
        .filter_map(|path| {
            let (how, directory) = match (old.get(path), new.get(path)) {
                (None, Some(new)) => (How::New, new.directory),
                (Some(old), None) => (How::Gone, old.directory),
                (Some(old), Some(new)) if old.content != new.content => {
                    (How::Content, new.directory)
                }
                (Some(old), Some(new)) if old.mode != new.mode => {
                    (How::Mode(old.mode, new.mode), new.directory)
                }
                _ => return None,
            };
            Some((path, how, directory))
        })
        .collect();
    first_of(&changes)
}

/// The first of the files that differ, each with how it does and whether it is a directory.
fn first_of(changes: &[(&String, How, bool)]) -> Option<FileCause> {
    let files = changes.iter().filter(|(.., directory)| !directory).count();
    // A directory is new because of what is in it.
    let first = changes.iter().find(|(.., directory)| !directory);
    let (path, how, _) = first.or(changes.first())?;
    let shown = if path.is_empty() { "/" } else { path };
    Some(FileCause {
        path: shown.to_owned(),
        what: how.sentence(shown),
        of: String::new(),
        more: files.saturating_sub(1),
    })
}

/// The first file that a copy made when it ran and that its source, as it is `now`, has otherwise.
fn unlike_file(
    snapshots: &Snapshots,
    (old, new): (&Record, &Record),
    (input, source): (usize, &str),
    now: &[Entry],
) -> Option<FileCause> {
    let copy = Copied::find(new, input, source).filter(|it| it.takes_all)?;
    let top = old.outputs.iter().rev().find_map(|it| *it)?;
    let tree = snapshots.tree(top).ok()?;
    let destination = copy.destination.trim_start_matches('/');
    let made: BTreeMap<String, &Entry> = tree
        .entries()
        .iter()
        .filter(|it| !it.is_directory() && it.path().starts_with(destination))
        .map(|it| (copy.source_of(it.path()), it))
        .collect();
    let there: BTreeMap<String, &Entry> = now
        .iter()
        .filter(|it| !it.is_directory())
        .map(|it| (it.path().display().to_string(), it))
        .collect();
    let paths: BTreeSet<&String> = made.keys().chain(there.keys()).collect();
    let content = |entry: &Entry| entry.digest(Counting::Neither);
    let changes: Vec<(&String, How, bool)> = paths
        .into_iter()
        .filter_map(|path| {
            let how = match (made.get(path), there.get(path)) {
                (None, Some(_)) => How::New,
                (Some(_), None) => How::Gone,
                (Some(old), Some(new)) if content(old) != content(new) => How::Content,
                (Some(old), Some(new)) if copy.keeps_modes && old.mode != new.mode => {
                    How::Mode(old.mode, new.mode)
                }
                _ => return None,
            };
            Some((path, how, false))
        })
        .collect();
    first_of(&changes)
}

/// The first file that differs between what two runs of a copy took from an input.
fn differing_file(
    snapshots: &Snapshots,
    (old, new): (&Record, &Record),
    (input, source): (usize, &str),
) -> Option<FileCause> {
    let top = |record: &Record| record.outputs.iter().rev().find_map(|it| *it);
    let tree = |id: SnapshotId| -> Option<Tree> { snapshots.tree(id).ok() };
    let changes = tree(top(old)?)?.changes(&tree(top(new)?)?);
    let copy = Copied::find(new, input, source)?;
    let below: Vec<&Change> = changes
        .iter()
        .filter(|it| {
            it.path
                .starts_with(copy.destination.trim_start_matches('/'))
        })
        .collect();
    // A directory is new because of what is in it.
    let first = below.iter().find(|it| !it.directory).or(below.first())?;
    let path = copy.source_of(&first.path);
    Some(FileCause {
        what: first.how.sentence(&path),
        path,
        of: String::new(),
        more: below
            .iter()
            .filter(|it| !it.directory)
            .count()
            .saturating_sub(1),
    })
}

/// What one source of a copy becomes.
struct Copied<'a> {
    source: &'a str,
    destination: String,
    wildcard: bool,
    /// Whether all that is at the source is taken, and as it is.
    takes_all: bool,
    /// Whether modes are.
    keeps_modes: bool,
}

impl<'a> Copied<'a> {
    fn find(record: &Record, input: usize, source: &'a str) -> Option<Self> {
        let op: Op = serde_json::from_value(record.preimage.get("op")?.clone()).ok()?;
        let Op::File(file) = op else { return None };
        let name = base_name(source);
        let copies = file.actions.into_iter().filter_map(|it| match it.change {
            FileChange::Copy(copy) if copy.from == llb::op::Tree::Input(input) => Some(copy),
            _ => None,
        });
        let copy = copies
            .into_iter()
            .find(|it| base_name(&it.source) == name)?;
        let wildcard = copy.wildcard && source.contains(['*', '?', '[']);
        Some(Self {
            source,
            destination: copy.destination,
            wildcard,
            takes_all: !wildcard && !copy.unpack && !copy.parents && copy.exclude.is_empty(),
            keeps_modes: copy.mode.is_none(),
        })
    }

    /// The path in the source of what came to be at `path`.
    fn source_of(&self, path: &Path) -> String {
        let source = self.source.trim_start_matches('/').trim_end_matches('/');
        let destination = self.destination.trim_start_matches('/');
        let inner = path.strip_prefix(destination).unwrap_or(path);
        let parent = Path::new(source).parent().unwrap_or(Path::new(""));
        let found = if inner.as_os_str().is_empty() {
            source.into()
        } else if self.wildcard {
            parent.join(inner)
        } else if inner == Path::new(base_name(source)) {
            // A file, which went into the directory under its own name.
            source.into()
        } else {
            Path::new(source).join(inner)
        };
        found.display().to_string()
    }
}

fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// What explanations say of a vertex besides what is in its keys.
pub(crate) fn facts(job: &Job<'_>, vertex: VertexId, step: &Step) -> Facts {
    let graph = &job.plan.graph;
    let vertex = graph.vertex(vertex);
    let seen = |position: usize| match step.inputs().get(position) {
        Some(InputKey::Content(parts)) => parts
            .iter()
            .flat_map(|(_, checksum)| job.begun.ledger.files(checksum))
            .collect(),
        _ => BTreeMap::new(),
    };
    let origin = |(position, input): (usize, &llb::Input)| {
        let vertex = graph.vertex(input.vertex);
        let image = match &vertex.op {
            Op::Source(Source::Image(image)) => Some(image),
            _ => None,
        };
        let familiar = |name: &String| {
            name.parse::<Reference>()
                .map_or_else(|_| name.clone(), |it| it.familiar())
        };
        Origin {
            name: vertex.metadata.name.clone(),
            image: image.map(|it| familiar(&it.reference)),
            id: image.map(|it| it.id.to_string()),
            local: matches!(vertex.op, Op::Source(Source::Local(_))),
            files: seen(position),
        }
    };
    let declared = match (&vertex.op, vertex.metadata.source) {
        (Op::Exec(exec), Some(lines)) => exec
            .env
            .iter()
            .filter_map(|it| it.split_once('='))
            .filter_map(|(name, _)| {
                let (by, line) = declaration(job.definition.dockerfile(), name, lines.first_line)?;
                let at = format!("{}:{line}", job.definition.name());
                Some((
                    name.to_owned(),
                    Declared {
                        by: by.to_owned(),
                        at,
                    },
                ))
            })
            .collect(),
        _ => BTreeMap::new(),
    };
    Facts {
        inputs: vertex.inputs.iter().enumerate().map(origin).collect(),
        declared,
    }
}

/// The last declaration of a variable above a line.
fn declaration(
    dockerfile: &Dockerfile,
    name: &str,
    before: usize,
) -> Option<(&'static str, usize)> {
    let above = dockerfile
        .instructions
        .iter()
        .rev()
        .filter(|it| it.span.first_line < before);
    for instruction in above {
        let by = match &instruction.kind {
            InstructionKind::Arg(args) if args.iter().any(|(it, _)| it == name) => "ARG",
            InstructionKind::Env(env) if env.pairs.iter().any(|(it, _)| it == name) => "ENV",
            _ => continue,
        };
        return Some((by, instruction.span.first_line));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(source: &str, destination: &str, wildcard: bool, path: &str) -> String {
        let copied = Copied {
            source,
            destination: destination.to_owned(),
            wildcard,
            takes_all: true,
            keeps_modes: true,
        };
        copied.source_of(Path::new(path))
    }

    #[test]
    fn a_path_of_the_result_is_named_as_in_the_source() {
        assert_eq!(source_of("/main.c", "/src/", false, "src/main.c"), "main.c");
        assert_eq!(
            source_of("/a/main.c", "/src/x.c", false, "src/x.c"),
            "a/main.c"
        );
        assert_eq!(source_of("/", "/src/", false, "src/a/b.rs"), "a/b.rs");
        assert_eq!(source_of("/lib", "/src", false, "src/a.rs"), "lib/a.rs");
        assert_eq!(
            source_of("/lib/*.rs", "/src/", true, "src/a.rs"),
            "lib/a.rs"
        );
    }

    #[test]
    fn a_name_has_a_place_and_a_text() {
        assert_eq!(
            split_name("[build 2/5] RUN make"),
            Some(("[build 2/", "] RUN make"))
        );
        assert_eq!(split_name("[2/5] COPY . ."), Some(("[2/", "] COPY . .")));
        assert_eq!(split_name("RUN make"), None);
    }

    #[test]
    fn a_variable_is_declared_by_the_last_word_above() {
        let text = b"ARG A=1\nFROM x\nARG A\nENV B=2\nRUN make\nARG A=3\n";
        let dockerfile = dockerfile_parser::parse(text).dockerfile;
        assert_eq!(declaration(&dockerfile, "A", 5), Some(("ARG", 3)));
        assert_eq!(declaration(&dockerfile, "B", 5), Some(("ENV", 4)));
        assert_eq!(declaration(&dockerfile, "PATH", 5), None);
    }
}
