//! What `COPY` and `ADD` have in common.

use std::collections::BTreeMap;

use dockerfile_parser::ignore::Patterns;
use dockerfile_parser::{Heredoc, Transfer, TransferSource};
use llb::op::{Copy, File, FileAction, FileChange, ModeChange, Owner, OwnerNames, Source, Tree};
use llb::{Input, Metadata, Op};

use crate::flags::Flags;
use crate::lint::rule;
use crate::lowering::Lowering;
use crate::scope::Expander;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, RemoteError, mode, owner, path, remote};

/// The permissions of a file from a heredoc.
const HEREDOC_MODE: u32 = 0o644;

/// What the two instructions do differently.
pub(super) struct Transferred {
    pub(super) keyword: &'static str,
    pub(super) origin: Origin,
    /// Whether archives are unpacked.
    pub(super) unpack: Unpack,
    /// `--parents`
    pub(super) parents: bool,
    /// What, and where to.
    pub(super) paths: Paths,
    /// Those of the sources that are not on this machine, by their position.
    pub(super) remotes: BTreeMap<usize, Source>,
}

/// Whether archives are unpacked (G82, G83).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpack {
    /// None.
    Never,
    /// Those of the context.
    Local,
    /// Those of the web too.
    All,
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

/// What `source` names that is not on this machine.
pub(super) fn remote(source: &TransferSource) -> Option<Result<Source, RemoteError>> {
    match source {
        TransferSource::Path(path) => remote::remote(path),
        TransferSource::Heredoc(_) => None,
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
    transferred: &Transferred,
) -> Result<(), PlanError> {
    let attributes = attributes(lowering, state, step, flags)?;
    warn(lowering, step, transferred);
    let destination = &transferred.paths.destination;
    let destination = path::join_destination(&state.image.config.working_dir, destination);
    let text = history(transferred, &attributes);
    let step_text = without_credentials(lowering.step_text(state, step, None), transferred);
    let name = state.step_name(&step_text);
    // On an empty stage a linked layer is the same as any other.
    let below = state.root.filter(|_| attributes.link);
    let mut vertex = match below {
        Some(root) => Vertex::linked(root, attributes),
        None => Vertex::on(state.root, attributes),
    };
    vertex
        .actions
        .reserve_exact(transferred.paths.sources.len());
    for (position, source) in transferred.paths.sources.iter().enumerate() {
        let remote = transferred.remotes.get(&position);
        let change = match (source, remote) {
            (_, Some(remote)) => vertex.fetch(lowering, step, transferred, (remote, &destination)),
            (TransferSource::Path(path), None) => {
                vertex.copy(lowering, transferred, path, &destination)
            }
            (TransferSource::Heredoc(body), None) => vertex.make_file(body, &destination),
        };
        vertex.add(change);
    }
    let output = vertex.finish(lowering, state.metadata(name, step));
    let output = match below {
        Some(root) => {
            let name = state.same_step_name(&format!("LINK {step_text}"));
            let metadata = state.metadata(name, step);
            let vertex = lowering.graph.add(Op::Merge, vec![root, output], metadata);
            Input { vertex, output: 0 }
        }
        None => output,
    };
    state.commit(output, text);
    Ok(())
}

fn warn(lowering: &mut Lowering<'_>, step: &Step<'_>, transferred: &Transferred) {
    let Transferred {
        keyword,
        origin,
        paths,
        ..
    } = transferred;
    let (count, destination) = (paths.sources.len(), &paths.destination);
    rule::several_sources_to_one_file(&mut lowering.lint, step, keyword, count, destination);
    if !matches!(origin, Origin::Context) {
        return;
    }
    for source in paths.sources.iter().filter(|it| remote(it).is_none()) {
        if let TransferSource::Path(path) = source {
            let ignored = &lowering.ignored;
            rule::copy_ignored_file(&mut lowering.lint, step, keyword, path, ignored);
        }
    }
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

/// The file op under way: each action builds on the one before.
struct Vertex {
    attributes: Attributes,
    inputs: Vec<Input>,
    actions: Vec<FileAction>,
    /// What the first action builds on.
    base: Tree,
}

impl Vertex {
    /// An op that changes `root`.
    fn on(root: Option<Input>, attributes: Attributes) -> Self {
        let base = root.map_or(Tree::Scratch, |_| Tree::Input(0));
        Self {
            attributes,
            inputs: root.into_iter().collect(),
            actions: Vec::new(),
            base,
        }
    }

    /// An op that makes a layer of its own. Where that names owners, `root` says who they are
    /// (decision 5).
    fn linked(root: Input, mut attributes: Attributes) -> Self {
        let mut inputs = Vec::new();
        if let Some(owner) = attributes.owner.as_mut().filter(|it| owner::has_name(it)) {
            owner.names = OwnerNames::Input(0);
            inputs.push(root);
        }
        Self {
            attributes,
            inputs,
            actions: Vec::new(),
            base: Tree::Scratch,
        }
    }

    fn add(&mut self, change: FileChange) {
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

    fn finish(mut self, lowering: &mut Lowering<'_>, metadata: Metadata) -> Input {
        if let Some(last) = self.actions.last_mut() {
            last.output = true;
        }
        let op = Op::File(File {
            actions: self.actions,
        });
        Input {
            vertex: lowering.graph.add(op, self.inputs, metadata),
            output: 0,
        }
    }

    fn make_file(&self, body: &Heredoc, destination: &str) -> FileChange {
        let mode = self.attributes.mode.as_ref();
        FileChange::MakeFile {
            path: destination.to_owned(),
            data: body.content.clone().into_bytes(),
            mode: mode.map_or(HEREDOC_MODE, |it| mode::apply(it, HEREDOC_MODE)),
            owner: self.attributes.owner.clone(),
            name: Some(body.name.clone()),
        }
    }

    fn copy(
        &mut self,
        lowering: &mut Lowering<'_>,
        transferred: &Transferred,
        written: &str,
        destination: &str,
    ) -> FileChange {
        let source = source_path(written, transferred.parents);
        let from = match transferred.origin {
            Origin::Context => Some(lowering.context(&path::join("/", &source))),
            Origin::Root(root) => root,
        };
        FileChange::Copy(Copy {
            from: from.map_or(Tree::Scratch, |it| self.input(it)),
            destination: destination.to_owned(),
            owner: self.attributes.owner.clone(),
            mode: self.attributes.mode.clone(),
            wildcard: path::has_wildcards(&source),
            unpack: transferred.unpack != Unpack::Never,
            exclude: self.attributes.exclude.clone(),
            parents: transferred.parents,
            source,
        })
    }

    /// A file of the web, or the files of a repository.
    fn fetch(
        &mut self,
        lowering: &mut Lowering<'_>,
        step: &Step<'_>,
        transferred: &Transferred,
        (remote, destination): (&Source, &str),
    ) -> FileChange {
        let (source, unpack) = match remote {
            Source::Http(http) => {
                let unpack = transferred.unpack == Unpack::All;
                (format!("/{}", http.filename), unpack)
            }
            Source::Git(_) => ("/".to_owned(), false),
            Source::Image(_) | Source::Local(_) => unreachable!("these are on this machine"),
        };
        let name = remote::shown(remote);
        let input = lowering.source(remote.clone(), &name, Some(step.span));
        FileChange::Copy(Copy {
            from: self.input(input),
            source,
            destination: destination.to_owned(),
            owner: self.attributes.owner.clone(),
            mode: self.attributes.mode.clone(),
            wildcard: false,
            unpack,
            exclude: self.attributes.exclude.clone(),
            parents: false,
        })
    }

    /// `input` as something to copy from; never the tree that is changed, even if it is the same.
    fn input(&mut self, input: Input) -> Tree {
        let changed = usize::from(self.base != Tree::Scratch);
        let known = self.inputs.iter().skip(changed).position(|it| *it == input);
        match known {
            Some(known) => Tree::Input(known + changed),
            None => {
                self.inputs.push(input);
                Tree::Input(self.inputs.len() - 1)
            }
        }
    }
}

/// A source as it is found in its tree; with `--parents` it may hold a `/./` (G72).
fn source_path(written: &str, parents: bool) -> String {
    match written.split_once("/./").filter(|_| parents) {
        Some((above, below)) => {
            let above = path::join("/", above);
            format!(
                "{}/.{}",
                above.trim_end_matches('/'),
                path::join("/", below)
            )
        }
        None => path::join("/", written),
    }
}

/// `text`, which names the sources, without the passwords in their addresses.
fn without_credentials(text: String, transferred: &Transferred) -> String {
    let sources = &transferred.paths.sources;
    sources.iter().fold(text, |text, source| match source {
        TransferSource::Path(path) if remote(source).is_some() => {
            text.replace(path.as_str(), &llb::without_credentials(path))
        }
        _ => text,
    })
}

/// G80
fn history(transferred: &Transferred, attributes: &Attributes) -> String {
    let paths = &transferred.paths;
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
            TransferSource::Path(path) => {
                text.push_str(&format!(" {}", llb::without_credentials(path)));
            }
            TransferSource::Heredoc(body) => text.push_str(&format!(" <<{}", body.name)),
        }
    }
    format!("{text} {} # buildkit", paths.destination)
}
