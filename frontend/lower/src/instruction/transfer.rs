//! What `COPY` and `ADD` have in common.

use dockerfile_parser::ignore::Patterns;
use dockerfile_parser::{Heredoc, Transfer, TransferSource};
use llb::op::{Copy, File, FileAction, FileChange, ModeChange, Owner, OwnerNames, Tree};
use llb::{Input, Op};

use crate::flags::Flags;
use crate::lint::rule;
use crate::lowering::Lowering;
use crate::scope::Expander;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, mode, owner, path};

/// The permissions of a file from a heredoc.
const HEREDOC_MODE: u32 = 0o644;

/// What the two instructions do differently.
pub(super) struct Transferred {
    pub(super) keyword: &'static str,
    pub(super) origin: Origin,
    /// Whether archives are unpacked.
    pub(super) unpack: bool,
    /// `--parents`
    pub(super) parents: bool,
}

/// Where sources are looked for.
pub(super) enum Origin {
    /// The build context.
    Context,
    /// A root file system; `None` is scratch.
    Root(Option<Input>),
}

/// Sources and destination, expanded.
pub(super) struct Paths {
    pub(super) sources: Vec<TransferSource>,
    destination: String,
}

/// Something that is not on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// An address.
    Http,
    /// A repository.
    Git,
}

/// Whether `path` means something that is not on this machine (G86).
pub(super) fn remote(path: &str) -> Option<Remote> {
    if path.starts_with("git@") || path.starts_with("ssh://") || path.starts_with("git://") {
        return Some(Remote::Git);
    }
    let rest = path
        .strip_prefix("http://")
        .or_else(|| path.strip_prefix("https://"))?;
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    match rest[..end].contains('/') && rest[..end].ends_with(".git") {
        true => Some(Remote::Git),
        false => Some(Remote::Http),
    }
}

/// Expands sources, heredocs and destination.
pub(super) fn paths(
    lowering: &mut Lowering<'_>,
    state: &State,
    step: &Step<'_>,
    transfer: &Transfer,
) -> Result<Paths, PlanError> {
    let mut sources = Vec::with_capacity(transfer.sources.len());
    for source in &transfer.sources {
        sources.push(match source {
            TransferSource::Path(path) => TransferSource::Path(lowering.expand(state, step, path)?),
            TransferSource::Heredoc(body) if body.expand => {
                let expanded = Expander {
                    env: &state.env,
                    escape: step.escape,
                }
                .heredoc(&body.content)
                .map_err(|error| PlanError::at(step.span, PlanErrorKind::Expand(error)))?;
                TransferSource::Heredoc(Heredoc {
                    content: expanded.text,
                    ..body.clone()
                })
            }
            TransferSource::Heredoc(body) => TransferSource::Heredoc(body.clone()),
        });
    }
    Ok(Paths {
        sources,
        destination: lowering.expand(state, step, &transfer.destination)?,
    })
}

/// What the flags say of every file.
struct Attributes {
    chown: Option<String>,
    owner: Option<Owner>,
    chmod: Option<String>,
    mode: Option<ModeChange>,
    exclude: Vec<String>,
    link: bool,
}

/// Lowers a `COPY` or an `ADD` to one vertex, or to two for `--link`.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    flags: &Flags<'_>,
    (transferred, paths): (Transferred, Paths),
) -> Result<(), PlanError> {
    let attributes = attributes(lowering, state, step, flags)?;
    rule::copy_several_to_one(
        &mut lowering.lint,
        step,
        transferred.keyword,
        paths.sources.len(),
        &paths.destination,
    );
    // On an empty stage a linked layer is the same as any other.
    let link = attributes.link && state.root.is_some();
    let mut vertex = Vertex {
        inputs: if link {
            Vec::new()
        } else {
            state.root.into_iter().collect()
        },
        actions: Vec::new(),
        base: if link || state.root.is_none() {
            Tree::Scratch
        } else {
            Tree::Input(0)
        },
    };
    let attributes = if link {
        vertex.look_up_names(attributes, state)
    } else {
        attributes
    };
    let destination = path::join_destination(&state.image.config.working_dir, &paths.destination);
    for source in &paths.sources {
        match source {
            TransferSource::Path(path) => {
                let copy = vertex.copy(
                    lowering,
                    step,
                    path,
                    (&transferred, &attributes, &destination),
                );
                vertex.push(FileChange::Copy(copy));
            }
            TransferSource::Heredoc(body) => {
                vertex.push(make_file(body, &attributes, &destination));
            }
        }
    }
    let text = history(&transferred, &attributes, &paths);
    let step_text = lowering.step_text(state, step, None);
    let metadata = state.step_name(&step_text);
    let metadata = state.metadata(metadata, step);
    let (op, inputs) = vertex.finish();
    let mut output = Input {
        vertex: lowering.graph.add(op, inputs, metadata),
        output: 0,
    };
    if let (true, Some(root)) = (link, state.root) {
        let metadata = state.metadata(state.same_step_name(&format!("LINK {step_text}")), step);
        output = Input {
            vertex: lowering.graph.add(Op::Merge, vec![root, output], metadata),
            output: 0,
        };
    }
    state.commit(output, text);
    Ok(())
}

fn attributes(
    lowering: &mut Lowering<'_>,
    state: &State,
    step: &Step<'_>,
    flags: &Flags<'_>,
) -> Result<Attributes, PlanError> {
    let fail = |kind| PlanError::at(step.span, kind);
    let chown = flags
        .text("chown")?
        .map(|it| lowering.expand(state, step, it))
        .transpose()?;
    let chown = chown.filter(|it| !it.is_empty());
    let chmod = flags
        .text("chmod")?
        .map(|it| lowering.expand(state, step, it))
        .transpose()?;
    let chmod = chmod.filter(|it| !it.is_empty());
    let exclude: Vec<String> = flags
        .texts("exclude")?
        .into_iter()
        .map(str::to_owned)
        .collect();
    for pattern in &exclude {
        Patterns::new([pattern]).map_err(|_| fail(PlanErrorKind::Exclude(pattern.clone())))?;
    }
    Ok(Attributes {
        owner: chown
            .as_deref()
            .map(|it| owner::parse(it, OwnerNames::Changed))
            .transpose()
            .map_err(fail)?,
        mode: chmod
            .as_deref()
            .map(mode::parse)
            .transpose()
            .map_err(fail)?,
        chown,
        chmod,
        exclude,
        link: flags.switch("link")?.unwrap_or(false),
    })
}

fn make_file(body: &Heredoc, attributes: &Attributes, destination: &str) -> FileChange {
    FileChange::MakeFile {
        path: destination.to_owned(),
        data: body.content.clone().into_bytes(),
        mode: attributes
            .mode
            .as_ref()
            .map_or(HEREDOC_MODE, |it| mode::apply(it, HEREDOC_MODE)),
        owner: attributes.owner.clone(),
        name: Some(body.name.clone()),
    }
}

/// The file op under way: each action builds on the one before.
struct Vertex {
    inputs: Vec<Input>,
    actions: Vec<FileAction>,
    base: Tree,
}

impl Vertex {
    fn push(&mut self, change: FileChange) {
        let base = match self.actions.len() {
            0 => self.base,
            made => Tree::Action(made - 1),
        };
        self.actions.push(FileAction {
            base,
            change,
            output: false,
        });
    }

    fn finish(mut self) -> (Op, Vec<Input>) {
        if let Some(last) = self.actions.last_mut() {
            last.output = true;
        }
        (
            Op::File(File {
                actions: self.actions,
            }),
            self.inputs,
        )
    }

    fn input(&mut self, input: Input) -> usize {
        self.inputs.push(input);
        self.inputs.len() - 1
    }

    /// A linked layer knows no names; those of the stage are looked up (decision 5).
    fn look_up_names(&mut self, mut attributes: Attributes, state: &State) -> Attributes {
        if let (Some(owner), Some(root)) = (
            attributes.owner.as_mut().filter(|it| owner::has_name(it)),
            state.root,
        ) {
            owner.names = OwnerNames::Input(self.input(root));
        }
        attributes
    }

    fn copy(
        &mut self,
        lowering: &mut Lowering<'_>,
        step: &Step<'_>,
        written: &str,
        (transferred, attributes, destination): (&Transferred, &Attributes, &str),
    ) -> Copy {
        let source = match (transferred.parents, written.split_once("/./")) {
            (true, Some((above, below))) => {
                format!(
                    "{}/.{}",
                    path::join("/", above).trim_end_matches('/'),
                    path::join("/", below)
                )
            }
            _ => path::join("/", written),
        };
        let from = match transferred.origin {
            Origin::Context => {
                rule::copy_ignored_file(
                    &mut lowering.lint,
                    step,
                    transferred.keyword,
                    written,
                    &lowering.options.ignore,
                );
                Some(lowering.context(&path::join("/", &source)))
            }
            Origin::Root(root) => root,
        };
        let known = from.and_then(|it| {
            self.inputs
                .iter()
                .skip(self.own_inputs())
                .position(|known| *known == it)
        });
        let from = match (from, known) {
            (None, _) => Tree::Scratch,
            (Some(_), Some(known)) => Tree::Input(known + self.own_inputs()),
            (Some(input), None) => Tree::Input(self.input(input)),
        };
        Copy {
            from,
            destination: destination.to_owned(),
            owner: attributes.owner.clone(),
            mode: attributes.mode.clone(),
            wildcard: path::has_wildcards(&source),
            unpack: transferred.unpack,
            exclude: attributes.exclude.clone(),
            parents: transferred.parents,
            source,
        }
    }

    /// How many inputs there are that nothing is copied from.
    fn own_inputs(&self) -> usize {
        usize::from(self.base != Tree::Scratch)
    }
}

/// G80
fn history(transferred: &Transferred, attributes: &Attributes, paths: &Paths) -> String {
    let mut text = transferred.keyword.to_owned();
    if transferred.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &attributes.chown), ("chmod", &attributes.chmod)] {
        if let Some(value) = value {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    let path = |it: &&TransferSource| matches!(it, TransferSource::Path(_));
    let (files, bodies): (Vec<_>, Vec<_>) = paths.sources.iter().partition(path);
    for source in files.into_iter().chain(bodies) {
        match source {
            TransferSource::Path(path) => text.push_str(&format!(" {path}")),
            TransferSource::Heredoc(body) => text.push_str(&format!(" <<{}", body.name)),
        }
    }
    format!("{text} {} # buildkit", paths.destination)
}
