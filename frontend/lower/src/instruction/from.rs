//! `FROM`: what a stage starts with.

use std::collections::BTreeSet;

use dockerfile_parser::Span;
use dockerfile_parser::words::Expansion;
use indexmap::IndexMap;
use llb::op::{Copy, File, FileAction, FileChange, ImageSource, Source, Tree};
use llb::{Input, Metadata, Op};
use oci::{ImageConfig, Platform};

use crate::lint::rule;
use crate::lowering::{Lowering, Named};
use crate::scope::{Env, Expander};
use crate::state::{Own, State, Step};
use crate::{
    BaseImage, NamedContext, NoCache, PlanError, PlanErrorKind, history, instruction, remote,
};

/// What the environment of an image without `PATH` gets (G33).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A `FROM`, expanded.
#[derive(Debug, Clone)]
pub(crate) struct From {
    /// What the stage starts with.
    pub(crate) base: Base,
    /// On what it runs, where it is no child of another stage.
    pub(crate) platform: Platform,
    /// The `ARG`s that it names.
    pub(crate) args: BTreeSet<String>,
}

/// What a stage starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, by its name.
    Image(String),
    /// The named context that stands for the image of that name (G36).
    Context(String),
    /// The named context that stands for the stage itself, whose instructions count for nothing then.
    Replaced(String),
}

/// Reads the `FROM` of stage `index`. Done for every stage, needed or not (G27).
pub(crate) fn read(lowering: &mut Lowering<'_>, index: usize) -> Result<From, PlanError> {
    let declared = lowering.declared.stages[index];
    let span = declared.from.span;
    if declared
        .name
        .is_some_and(|it| !is_stage_name(&it.to_lowercase()))
    {
        let name = declared.name.unwrap_or_default().to_owned();
        return Err(PlanError::at(span, PlanErrorKind::StageName(name)));
    }
    let expanded = expand(lowering, index, declared.image)?;
    if expanded.text.is_empty() {
        return Err(lowering.blank_base(declared.image, &expanded, span));
    }
    let (image, mut args) = (expanded.text, expanded.used);
    let platform = match declared.platform {
        Some(written) => read_platform(lowering, index, written, &mut args)?,
        None => lowering.options.platform.clone(),
    };
    rule::invalid_default_arg_in_from(
        &mut lowering.lint,
        &declared,
        lowering.escape,
        &lowering.declared,
        lowering.options,
    );
    let is_context = |name: &str| lowering.options.contexts.find(name, &platform).is_some();
    let base = match (declared.name, lowering.declared.last_named(&image, index)) {
        (Some(name), _) if is_context(&name.to_lowercase()) => Base::Replaced(name.to_lowercase()),
        (_, Some(stage)) => Base::Stage(stage),
        (_, None) if image == "scratch" => Base::Scratch,
        (_, None) if is_context(&image) => Base::Context(image),
        (_, None) => Base::Image(image),
    };
    Ok(From {
        base,
        platform,
        args,
    })
}

fn read_platform(
    lowering: &mut Lowering<'_>,
    index: usize,
    written: &str,
    args: &mut BTreeSet<String>,
) -> Result<Platform, PlanError> {
    let declared = lowering.declared.stages[index];
    let expanded = expand(lowering, index, written)?;
    args.extend(expanded.used.iter().cloned());
    let text = expanded.text.as_str();
    let fail = |why: String| {
        PlanError::at(
            declared.from.span,
            PlanErrorKind::Platform {
                platform: written.to_owned(),
                why,
            },
        )
    };
    if text.is_empty() {
        return Err(fail(format!(
            "empty platform value from expression {written}"
        )));
    }
    let platform: Platform = text
        .parse()
        .map_err(|error: oci::PlatformError| fail(error.to_string()))?;
    rule::redundant_target_platform(
        &mut lowering.lint,
        &declared,
        written,
        &expanded,
        &lowering.globals,
    );
    rule::from_platform_flag_const_disallowed(&mut lowering.lint, &declared, written, &platform);
    Ok(platform)
}

/// A word of a `FROM`, expanded with the global `ARG`s (G29).
fn expand(lowering: &mut Lowering<'_>, index: usize, word: &str) -> Result<Expansion, PlanError> {
    let span = lowering.declared.stages[index].from.span;
    let expanded = Expander {
        env: &lowering.globals,
        escape: lowering.escape,
    }
    .word(word)
    .map_err(|error| PlanError::at(span, PlanErrorKind::Expand(error)))?;
    for name in &expanded.unset {
        rule::undefined_arg_in_from(
            &mut lowering.lint,
            &lowering.declared,
            index,
            name,
            &lowering.globals,
        );
    }
    Ok(expanded)
}

/// `[a-z][a-z0-9-_.]*` (G1)
fn is_stage_name(name: &str) -> bool {
    let is_symbol = |it: u8| matches!(it, b'-' | b'_' | b'.');
    name.starts_with(|it: char| it.is_ascii_lowercase())
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || is_symbol(it))
}

/// The state in which the instructions of stage `index` find the image.
pub(crate) fn begin(
    lowering: &mut Lowering<'_>,
    index: usize,
    from: &From,
) -> Result<State, PlanError> {
    let own = own(lowering, index, from);
    let mut state = match &from.base {
        Base::Stage(stage) => {
            let base = lowering.stage(*stage)?;
            let mut state = base.clone();
            lowering.spend(state.size(), lowering.declared.stages[index].from.span)?;
            state.own = own;
            state
        }
        Base::Scratch => scratch(&from.platform, own),
        Base::Image(name) => {
            let span = lowering.declared.stages[index].from.span;
            let base = lowering.image(name, &from.platform, span, index)?;
            let text = format!("FROM {}", base.pinned);
            image(lowering, index, (from, name, &base), own, |state| {
                state.step_name(&text)
            })
        }
        Base::Context(name) | Base::Replaced(name) => context(lowering, index, from, name, own)?,
    };
    let has_path = state.image_env().iter().any(|it| it.starts_with("PATH="));
    match &mut state.image_env {
        _ if has_path => {}
        Some(env) => env.set("PATH", DEFAULT_PATH),
        None => state.image.config.env.push(format!("PATH={DEFAULT_PATH}")),
    }
    // What the image says wins over an ARG that an earlier stage set.
    let mut env = std::mem::take(&mut state.env);
    for line in state.image_env() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if env.get(key) != Some(value) {
            env.set(key, value);
        }
    }
    state.env = env;
    state.own.platform_label = platform_label(lowering, &state.platform);
    Ok(state)
}

fn own(lowering: &Lowering<'_>, index: usize, from: &From) -> Own {
    let declared = &lowering.declared.stages[index];
    let name = lowering.declared.display_name(index);
    let ignore_cache = match &lowering.options.no_cache {
        NoCache::Off => false,
        NoCache::All => true,
        NoCache::Stages(names) => names.iter().any(|it| it.to_lowercase() == name),
    };
    let own_steps = declared
        .instructions
        .iter()
        .filter(|it| instruction::is_step(it))
        .count();
    Own {
        stage: index,
        label: if lowering.declared.stages.len() == 1 {
            String::new()
        } else {
            name
        },
        steps: own_steps + usize::from(matches!(from.base, Base::Image(_))),
        ignore_cache,
        ..Own::default()
    }
}

/// `linux/amd64 ` in step names, or `linux/amd64->arm64 ` where the stage runs on another platform than the target.
fn platform_label(lowering: &Lowering<'_>, platform: &Platform) -> String {
    let target = &lowering.options.platform;
    if !lowering.options.name_platform {
        return String::new();
    }
    if platform == target {
        return format!("{platform} ");
    }
    match platform.os == target.os {
        true => {
            let target = target.to_string();
            let (_, architecture) = target.split_once('/').unwrap_or(("", &target));
            format!("{platform}->{architecture} ")
        }
        false => format!("{platform}->{target} "),
    }
}

fn scratch(platform: &Platform, own: Own) -> State {
    let mut image = ImageConfig::empty(platform);
    "/".clone_into(&mut image.config.working_dir);
    state_of(None, image, platform.clone(), own)
}

fn image(
    lowering: &mut Lowering<'_>,
    index: usize,
    (from, name, base): (&From, &str, &BaseImage),
    own: Own,
    vertex_name: impl FnOnce(&mut State) -> String,
) -> State {
    let declared = lowering.declared.stages[index];
    let found = platform_of(base, &from.platform);
    if found != from.platform {
        rule::invalid_base_image_platform(
            &mut lowering.lint,
            &declared,
            name,
            &found,
            &from.platform,
        );
    }
    let mut image = base.config.clone();
    image.created = None;
    if image.architecture.is_empty() || image.os.is_empty() {
        let Platform {
            os,
            architecture,
            variant,
        } = found.clone();
        (image.os, image.architecture, image.variant) = (os, architecture, variant);
    }
    history::normalise(&mut image);
    let own = Own {
        platform_label: platform_label(lowering, &found),
        ..own
    };
    let mut state = state_of(None, image, found, own);
    let vertex_name = vertex_name(&mut state);
    state.root = add_image(lowering, base, &vertex_name, declared.from.span);
    state
}

/// A stage that starts with what goes by `name`.
fn context(
    lowering: &mut Lowering<'_>,
    index: usize,
    from: &From,
    name: &str,
    own: Own,
) -> Result<State, PlanError> {
    let span = lowering.declared.stages[index].from.span;
    let found = lowering.named_context(name, &from.platform);
    let (key, found) = found.expect("it was found when the FROM was read");
    let base = match &found {
        NamedContext::Image(reference) => {
            lowering.image(&reference.to_string(), &from.platform, span, index)?
        }
        NamedContext::Layout(layout) => lowering.layout(layout, &from.platform, (&key, span))?,
        NamedContext::Scratch => return Ok(scratch(&from.platform, own)),
        NamedContext::Directory(_) | NamedContext::Remote(_) => {
            let mut state = scratch(&from.platform, own);
            let tree = context_root(lowering, (&key, &found), &from.platform, span, index)?;
            let tree = match (tree, &found) {
                (Some(tree), NamedContext::Directory(_)) => settled(lowering, tree, &key, span),
                (tree, _) => tree.expect("only scratch has no tree"),
            };
            state.commit(tree, format!("FROM {key} # buildkit"));
            return Ok(state);
        }
    };
    Ok(image(lowering, index, (from, name, &base), own, |_| {
        context_name(&key, &base.pinned)
    }))
}

/// The root file system of the named context `key`; `None` for the empty one.
fn context_root(
    lowering: &mut Lowering<'_>,
    (key, found): (&str, &NamedContext),
    platform: &Platform,
    span: Span,
    current: usize,
) -> Result<Option<Input>, PlanError> {
    let base = match found {
        NamedContext::Scratch => return Ok(None),
        NamedContext::Directory(local) => {
            let name = context_name(key, "load from client");
            return Ok(Some(lowering.local(local.clone(), "/", &name)));
        }
        NamedContext::Remote(source) => {
            let name = context_name(key, &remote::shown(source));
            return Ok(Some(lowering.source(source.clone(), &name, Some(span))));
        }
        NamedContext::Image(reference) => {
            lowering.image(&reference.to_string(), platform, span, current)?
        }
        NamedContext::Layout(layout) => lowering.layout(layout, platform, (key, span))?,
    };
    let name = context_name(key, &base.pinned);
    Ok(add_image(lowering, &base, &name, span))
}

/// How people are told of what is done for the named context `key`.
fn context_name(key: &str, what: &str) -> String {
    format!("[context {key}] {what}")
}

/// A directory that the session lends as a tree that steps can build on: a copy, as it is now.
fn settled(lowering: &mut Lowering<'_>, directory: Input, key: &str, span: Span) -> Input {
    let copy = FileChange::Copy(Copy {
        from: Tree::Input(0),
        source: "/".to_owned(),
        destination: "/".to_owned(),
        owner: None,
        mode: None,
        wildcard: false,
        unpack: false,
        exclude: Vec::new(),
        parents: false,
    });
    let op = Op::File(File {
        actions: vec![FileAction {
            base: Tree::Scratch,
            change: copy,
            output: true,
        }],
    });
    let metadata = Metadata {
        name: context_name(key, "copy / /"),
        source: Some(crate::error::lines(span)),
        ignore_cache: false,
    };
    Input {
        vertex: lowering.graph.add(op, vec![directory], metadata),
        output: 0,
    }
}

/// The platform that the image's config names; the wanted one where it names none.
fn platform_of(base: &BaseImage, wanted: &Platform) -> Platform {
    match base.config.os.is_empty() || base.config.architecture.is_empty() {
        true => wanted.clone(),
        false => base.config.platform(),
    }
}

/// The root file system of `base` as a vertex called `name`; `None` for an image without layers (G34).
fn add_image(
    lowering: &mut Lowering<'_>,
    base: &BaseImage,
    name: &str,
    span: Span,
) -> Option<Input> {
    let diff_ids = base.config.rootfs.diff_ids.clone();
    if diff_ids.is_empty() {
        return None;
    }
    let source = ImageSource {
        reference: base.pinned.clone(),
        id: base.id,
        diff_ids,
    };
    Some(lowering.source(Source::Image(source), name, Some(span)))
}

fn state_of(root: Option<Input>, image: ImageConfig, platform: Platform, own: Own) -> State {
    State {
        root,
        image,
        env: Env::default(),
        image_env: None,
        args: IndexMap::new(),
        layers: Vec::new(),
        origins: Vec::new(),
        platform,
        workdir_set: false,
        own,
    }
}

/// What a `from` of `COPY` or of a mount means: the root file system of a stage or an image. `later`
/// says what is wrong if it is a stage that comes later.
pub(super) fn root_of(
    lowering: &mut Lowering<'_>,
    name: &str,
    state: &State,
    step: &Step<'_>,
    later: impl FnOnce() -> PlanErrorKind,
) -> Result<Option<Input>, PlanError> {
    let current = state.own.stage;
    let named = lowering.named(name, current);
    if let Named::Stage(stage) = named
        && let Some((key, context, platform)) = lowering.replaced(stage)
    {
        // A directory need not be settled for being copied from.
        return context_root(lowering, (&key, &context), &platform, step.span, current);
    }
    if matches!(named, Named::Image | Named::Later(_)) {
        let platform = lowering.options.platform.clone();
        if let Some((key, context)) = lowering.named_context(name, &platform) {
            return context_root(lowering, (&key, &context), &platform, step.span, current);
        }
    }
    let kind = match named {
        Named::Stage(stage) => return Ok(lowering.stage(stage)?.root),
        Named::Scratch => return Ok(None),
        Named::Image => {
            let platform = lowering.options.platform.clone();
            let base = lowering.image(name, &platform, step.span, current)?;
            let text = format!("FROM {}", base.pinned);
            return Ok(add_image(lowering, &base, &text, step.span));
        }
        Named::Later(stage) if stage == current => {
            PlanErrorKind::Circular(lowering.declared.display_name(stage))
        }
        Named::Later(_) => later(),
        Named::NoStage => PlanErrorKind::StageIndex {
            index: name.to_owned(),
            stages: current,
        },
    };
    Err(PlanError::at(step.span, kind))
}
