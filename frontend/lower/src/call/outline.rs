//! What a target takes from whoever builds it.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile_parser::{Dockerfile, Instruction, InstructionKind, Span};
use llb::SourceRange;

use super::description;
use crate::error::lines;
use crate::lowering::Lowering;
use crate::{Images, Options, PlanError, check_frontend};

/// What a target takes from whoever builds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name; `None` for a stage without one.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// The `ARG`s that it or what it needs declares, in the order of the file.
    pub args: Vec<Given>,
    /// The secrets that its `RUN`s mount, in the order of the build.
    pub secrets: Vec<Lent>,
    /// The ssh agents that its `RUN`s mount.
    pub agents: Vec<Lent>,
    /// The cache mounts of its `RUN`s; none is required.
    pub caches: Vec<Lent>,
}

/// A build-arg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// What it is worth in this build; `None` where nothing gives it a value.
    pub value: Option<String>,
    /// What the comment above its `ARG` says.
    pub description: Option<String>,
    /// Where it is declared.
    pub lines: SourceRange,
}

/// Something that a `RUN` mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// Its id.
    pub id: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// Where it is first asked for.
    pub lines: SourceRange,
}

/// What `dockerfile`'s target, with all that it needs, takes from whoever builds it.
///
/// # Errors
/// As [`crate::plan`].
pub fn outline(
    dockerfile: &Dockerfile,
    options: &Options,
    images: &dyn Images,
) -> Result<Outline, PlanError> {
    check_frontend(dockerfile, options)?;
    let mut lowering = Lowering::new(dockerfile, options, images)?;
    let target = lowering.run()?;
    let stage = lowering.declared.stages[target];
    let met = std::mem::take(&mut lowering.met);
    let mut known = globals(&lowering);
    known.extend(met.args);
    let mut args: Vec<Given> = known
        .into_values()
        .filter(|it| met.used.contains(&it.name))
        .collect();
    args.sort_by_key(|it| it.lines.first_line);
    Ok(Outline {
        name: stage.name.map(str::to_lowercase),
        description: stage.name.and_then(|it| description(stage.from, it)),
        args,
        secrets: met.secrets,
        agents: met.agents,
        caches: met.caches,
    })
}

/// The `ARG`s before the first stage.
fn globals(lowering: &Lowering<'_>) -> BTreeMap<String, Given> {
    let mut known = BTreeMap::new();
    for instruction in lowering.declared.globals {
        let InstructionKind::Arg(args) = &instruction.kind else {
            continue;
        };
        for (name, _) in args {
            let given = Given::of(instruction, name, lowering.globals.get(name));
            known.insert(name.clone(), given);
        }
    }
    known
}

impl Given {
    /// The `ARG` `name` of `instruction`.
    pub(crate) fn of(instruction: &Instruction, name: &str, value: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            description: description(instruction, name),
            lines: lines(instruction.span),
        }
    }
}

/// What was met, while stages were lowered, that somebody else can or must give.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// The `ARG`s of stages that have a value of their own or none at all.
    pub(crate) args: BTreeMap<String, Given>,
    /// The names of all `ARG`s that a `FROM` uses or a stage declares.
    pub(crate) used: BTreeSet<String>,
    secrets: Vec<Lent>,
    agents: Vec<Lent>,
    caches: Vec<Lent>,
}

impl Met {
    /// A `RUN` at `span` mounts the secret `id`.
    pub(crate) fn secret(&mut self, id: &str, required: bool, span: Span) {
        add(&mut self.secrets, id, required, span);
    }

    /// A `RUN` at `span` mounts the ssh agent `id`.
    pub(crate) fn agent(&mut self, id: &str, required: bool, span: Span) {
        add(&mut self.agents, id, required, span);
    }

    /// A `RUN` at `span` mounts the cache `id`.
    pub(crate) fn cache(&mut self, id: &str, span: Span) {
        add(&mut self.caches, id, false, span);
    }
}

/// One is required if any that asks for it requires it.
fn add(known: &mut Vec<Lent>, id: &str, required: bool, span: Span) {
    match known.iter_mut().find(|it| it.id == id) {
        Some(known) => known.required |= required,
        None => known.push(Lent {
            id: id.to_owned(),
            required,
            lines: lines(span),
        }),
    }
}
