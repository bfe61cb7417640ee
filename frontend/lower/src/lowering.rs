//! The whole of a build while it is lowered: stages that are done, the graph, what was noticed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use dockerfile_parser::ignore::Patterns;
use dockerfile_parser::words::Expansion;
use dockerfile_parser::{Dockerfile, InstructionKind, Span, words};
use llb::op::{LocalSource, Source};
use llb::{Graph, Input, Metadata, Op};
use oci::{Platform, Reference};

use crate::call::Met;
use crate::instruction::{self, from};
use crate::lint::{self, Lint, rule};
use crate::scope::{self, Env, Expander};
use crate::stage::Declarations;
use crate::state::{State, Step};
use crate::{
    BaseImage, Images, Layout, LocalUse, NamedContext, Options, Plan, PlanError, PlanErrorKind,
    SOURCE_DATE_EPOCH, frontend,
};

/// References through variables that may stand in each other: each is a recursion.
const MAX_NESTING: usize = 32;

/// How many bytes variables and history come to, counted wherever they are repeated: in every `RUN`, and
/// in every stage that begins with another one.
const MAX_REPEATED: usize = 256 << 20;

/// The session's name for the build context.
pub(crate) const CONTEXT: &str = "context";

/// A build while it is lowered.
pub(crate) struct Lowering<'a> {
    /// What the person chose.
    pub(crate) options: &'a Options,
    /// The file's stages.
    pub(crate) declared: Declarations<'a>,
    /// The file's escape character.
    pub(crate) escape: char,
    /// What `FROM` can use: global `ARG`s and the platforms.
    pub(crate) globals: Env,
    /// The vertices so far.
    pub(crate) graph: Graph,
    /// What was noticed.
    pub(crate) lint: Lint,
    /// What somebody else can or must give.
    pub(crate) met: Met,
    /// The names that some `ARG` declares.
    pub(crate) declared_args: BTreeSet<String>,
    images: &'a dyn Images,
    bases: HashMap<(String, Platform), BaseImage>,
    froms: Vec<from::From>,
    done: Vec<Option<State>>,
    /// What `.dockerignore` keeps out.
    pub(crate) ignored: Patterns,
    /// What is needed of the directories that the session lends, by their names there.
    local_paths: BTreeMap<String, BTreeSet<String>>,
    /// The build context, once something needs it.
    context: Option<Input>,
    nesting: usize,
    /// See [`Self::spend`].
    spent: usize,
    /// Whether the file may use what only rbuild has.
    pub(crate) labs: bool,
}

/// What a name behind `from` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// An earlier stage.
    Stage(usize),
    /// The stage itself or a later one.
    Later(usize),
    /// A number of no earlier stage.
    NoStage,
    /// The empty file system.
    Scratch,
    /// An image.
    Image,
}

impl<'a> Lowering<'a> {
    /// Finds the stages; nothing is expanded or lowered yet.
    pub(crate) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a Options,
        images: &'a dyn Images,
    ) -> Result<Self, PlanError> {
        let declared = Declarations::of(dockerfile)?;
        let escape = dockerfile.directives.escape;
        let given = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        let written = dockerfile.directives.check.as_ref();
        let (check, span) = match (given, written) {
            (Some(given), _) => (given.as_str(), None),
            (None, Some((text, span))) => (text.as_str(), Some(*span)),
            (None, None) => ("", None),
        };
        let mut lint = Lint::new(check, span, &dockerfile.instructions)?;
        lint.take_findings(&options.findings);
        frontend::warn_of_newer(dockerfile, options, &mut lint);
        lint::check_file(&declared, &mut lint);
        let mut declared_args = BTreeSet::new();
        for instruction in &dockerfile.instructions {
            if let InstructionKind::Arg(args) = &instruction.kind {
                declared_args.extend(args.iter().map(|(name, _)| name.clone()));
            }
        }
        let stages = declared.stages.len();
        Ok(Self {
            options,
            declared,
            escape,
            globals: Env::default(),
            met: Met::default(),
            graph: Graph::default(),
            lint,
            declared_args,
            images,
            bases: HashMap::new(),
            froms: Vec::with_capacity(stages),
            done: vec![None; stages],
            // A rule that is no rule is reported by whoever read the file.
            ignored: Patterns::new(&options.ignore).unwrap_or_default(),
            local_paths: BTreeMap::new(),
            context: None,
            nesting: 0,
            spent: 0,
            labs: frontend::is_labs(dockerfile, options),
        })
    }

    /// Lowers the target and what it needs, and says which stage that is.
    pub(crate) fn run(&mut self) -> Result<usize, PlanError> {
        self.globals =
            instruction::arg::globals(&self.declared, self.options, self.escape, &mut self.lint)?;
        for index in 0..self.declared.stages.len() {
            let from = from::read(self, index)?;
            self.froms.push(from);
        }
        let target = self.declared.target(self.options.target.as_deref())?;
        self.lower_all(target)?;
        Ok(target)
    }

    /// The plan of stage `target`, after [`Self::run`].
    pub(crate) fn finish(&mut self, target: usize) -> Result<Plan, PlanError> {
        let state = self.done[target].take().expect("it is lowered");
        let state = state.finished();
        let mut image = state.image;
        image.config.labels.extend(self.options.labels.clone());
        let used_build_args = self.used_build_args()?;
        let source_date_epoch = self.source_date_epoch()?;
        self.lint.fail_if_asked()?;
        let locals = std::mem::take(&mut self.local_paths).into_iter();
        let locals = locals.map(|(name, paths)| LocalUse {
            name,
            paths: paths.into_iter().collect(),
        });
        Ok(Plan {
            graph: std::mem::take(&mut self.graph),
            root: state.root,
            platform: state.platform,
            config: image,
            layers: state.layers,
            origins: state.origins,
            warnings: self.lint.take_warnings(),
            used_build_args,
            target: self.declared.stages[target].name.map(str::to_lowercase),
            locals: locals.collect(),
            source_date_epoch,
        })
    }

    /// Lowers stage `target` after those that it names. What it names through a variable, or through
    /// a trigger of its base, is lowered when it comes up.
    fn lower_all(&mut self, target: usize) -> Result<(), PlanError> {
        let mut stack = vec![target];
        while let Some(&index) = stack.last() {
            let waiting = match self.done[index] {
                Some(_) => Vec::new(),
                None => self.needs(index),
            };
            let waiting: Vec<usize> = waiting
                .into_iter()
                .filter(|&it| self.done[it].is_none())
                .collect();
            if !waiting.is_empty() {
                stack.extend(waiting);
                continue;
            }
            if self.done[index].is_none() {
                self.done[index] = Some(self.lower_stage(index)?);
            }
            stack.pop();
        }
        Ok(())
    }

    fn lower_stage(&mut self, index: usize) -> Result<State, PlanError> {
        let from = self.froms[index].clone();
        self.met.used.extend(from.args.iter().cloned());
        let mut state = from::begin(self, index, &from)?;
        if matches!(from.base, from::Base::Replaced(_)) {
            state.originate(None);
            return Ok(state);
        }
        state.originate(None);
        instruction::onbuild::run_triggers(self, &mut state, index)?;
        state.originate(Some(self.declared.stages[index].from.span));
        for instruction in self.declared.stages[index].instructions {
            let step = Step {
                instruction,
                span: instruction.span,
                escape: self.escape,
                is_trigger: false,
            };
            instruction::lower(self, &mut state, &step)?;
            state.originate(Some(instruction.span));
        }
        Ok(state)
    }

    /// The earlier stages that stage `index` names without a variable.
    fn needs(&self, index: usize) -> Vec<usize> {
        let mut needs = match self.froms[index].base {
            from::Base::Stage(base) => vec![base],
            from::Base::Replaced(_) => return Vec::new(),
            _ => Vec::new(),
        };
        for instruction in self.declared.stages[index].instructions {
            for name in instruction::literal_references(instruction) {
                if let Named::Stage(stage) = self.named(name, index)
                    && self.replaced(stage).is_none()
                {
                    needs.push(stage);
                }
            }
        }
        needs
    }

    /// What `name` means to an instruction of stage `current`, as a `from` of `COPY` or of a mount.
    pub(crate) fn named(&self, name: &str, current: usize) -> Named {
        if let Ok(number) = name.parse::<usize>() {
            return if number < current {
                Named::Stage(number)
            } else {
                Named::NoStage
            };
        }
        if let Some(stage) = self.declared.last_named(name, current) {
            return Named::Stage(stage);
        }
        match self.declared.named_later(name, current) {
            Some(stage) => Named::Later(stage),
            None if name == "scratch" => Named::Scratch,
            None => Named::Image,
        }
    }

    /// Stage `index`, lowered if it is not yet.
    pub(crate) fn stage(&mut self, index: usize) -> Result<&State, PlanError> {
        if self.done[index].is_none() {
            if self.nesting == MAX_NESTING {
                let span = self.declared.stages[index].from.span;
                return Err(PlanError::at(span, PlanErrorKind::Nesting(MAX_NESTING)));
            }
            self.nesting += 1;
            self.lower_all(index)?;
            self.nesting -= 1;
        }
        Ok(self.done[index].as_ref().expect("it was just lowered"))
    }

    /// The image that `name` means on `platform`, asked for once. Stage `current` wants it at `span`.
    pub(crate) fn image(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
        current: usize,
    ) -> Result<BaseImage, PlanError> {
        let reference: Reference = name.parse().map_err(|error: oci::ReferenceError| {
            let kind = PlanErrorKind::Reference {
                name: name.to_owned(),
                why: error.to_string(),
            };
            PlanError {
                suggestion: nearest_reference(name),
                ..PlanError::at(span, kind)
            }
        })?;
        let key = (reference.to_string(), platform.clone());
        if let Some(known) = self.bases.get(&key) {
            return Ok(known.clone());
        }
        let image = self
            .images
            .resolve(&reference, platform)
            .map_err(|source| {
                let error = PlanError::at(span, PlanErrorKind::BaseImage(reference.to_string()));
                // It may be a stage that is misspelt.
                let stages = self.declared.stages[..current]
                    .iter()
                    .filter_map(|it| it.name);
                error.because(source).suggest(name, stages)
            })?;
        require_linux(&image, name, span)?;
        self.bases.insert(key, image.clone());
        Ok(image)
    }

    /// The image of an OCI layout, asked for once, which `name` stands for at `span`.
    pub(crate) fn layout(
        &mut self,
        layout: &Layout,
        platform: &Platform,
        (name, span): (&str, Span),
    ) -> Result<BaseImage, PlanError> {
        let key = (format!("oci-layout://{layout:?}"), platform.clone());
        if let Some(known) = self.bases.get(&key) {
            return Ok(known.clone());
        }
        let image = self.images.layout(layout, platform).map_err(|source| {
            PlanError::at(span, PlanErrorKind::BaseImage(name.to_owned())).because(source)
        })?;
        require_linux(&image, name, span)?;
        self.bases.insert(key, image.clone());
        Ok(image)
    }

    /// The build context, of which `path` is needed.
    pub(crate) fn context(&mut self, path: &str) -> Input {
        let input = self.context.unwrap_or_else(|| {
            let source = LocalSource {
                name: CONTEXT.to_owned(),
                ignore: self.options.ignore.clone(),
            };
            let name = "[internal] load build context";
            self.source(Source::Local(source), name, None)
        });
        self.context = Some(input);
        self.need(CONTEXT, path);
        input
    }

    /// A directory that the session lends, of which `path` is needed, as a vertex called `name`.
    pub(crate) fn local(&mut self, source: LocalSource, path: &str, name: &str) -> Input {
        self.need(&source.name, path);
        self.source(Source::Local(source), name, None)
    }

    /// Notes that `path` is needed of the directory that the session calls `name`.
    fn need(&mut self, name: &str, path: &str) {
        if !self.local_paths.contains_key(name) {
            self.local_paths.insert(name.to_owned(), BTreeSet::new());
        }
        if let Some(paths) = self.local_paths.get_mut(name) {
            paths.insert(path.to_owned());
        }
    }

    /// What comes from outside as a vertex called `name`, which `span` asks for.
    pub(crate) fn source(&mut self, source: Source, name: &str, span: Option<Span>) -> Input {
        let metadata = Metadata {
            name: name.to_owned(),
            source: span.map(crate::error::lines),
            ignore_cache: false,
        };
        let vertex = self.graph.add(Op::Source(source), Vec::new(), metadata);
        Input { vertex, output: 0 }
    }

    /// The named context that stands for `name` on `platform`, if there is one, under the name that
    /// it has there (G36).
    pub(crate) fn named_context(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Option<(String, NamedContext)> {
        let found = self.options.contexts.find(name, platform);
        found.map(|(name, context)| (name.to_owned(), context.clone()))
    }

    /// The named context that stands for stage `index` itself, if there is one, with its name and
    /// the stage's platform.
    pub(crate) fn replaced(&self, index: usize) -> Option<(String, NamedContext, Platform)> {
        let from = &self.froms[index];
        let from::Base::Replaced(name) = &from.base else {
            return None;
        };
        let (key, context) = self.named_context(name, &from.platform)?;
        Some((key, context, from.platform.clone()))
    }

    /// `word` of `step`, expanded in the scope of `state`; unknown variables are noticed.
    pub(crate) fn expand(
        &mut self,
        state: &State,
        step: &Step<'_>,
        word: &str,
    ) -> Result<String, PlanError> {
        let expander = Expander {
            env: &state.env,
            escape: step.escape,
        };
        let expanded = expander
            .word(word)
            .map_err(|error| PlanError::at(step.span, PlanErrorKind::Expand(error)))?;
        for name in &expanded.unset {
            self.lint.undefined_var(name, state, step);
        }
        Ok(expanded.text)
    }

    /// What a step's name says behind the brackets: the instruction as written, with the variables
    /// that have a value, and `summary` in parentheses.
    pub(crate) fn step_text(
        &self,
        state: &State,
        step: &Step<'_>,
        summary: Option<&str>,
    ) -> String {
        let text = self.shown(state, step);
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let trigger = if step.is_trigger { "ONBUILD " } else { "" };
        let length = summary.map_or(0, |it| it.len() + 3);
        let mut name = String::with_capacity(trigger.len() + text.len() + length);
        name.push_str(trigger);
        name.extend(keyword.chars().flat_map(char::to_uppercase));
        name.push(' ');
        name.push_str(rest.trim());
        if let Some(summary) = summary {
            name.extend([" (", summary, ")"]);
        }
        name
    }

    /// What `step` says, with the variables that have a value; what names say is a secret is not shown.
    fn shown<'b>(&self, state: &State, step: &Step<'b>) -> Cow<'b, str> {
        let written = step.instruction.original.as_str();
        if !written.contains('$') {
            return Cow::Borrowed(written);
        }
        let value = |name: &str| {
            let masked = rule::is_secret(name).then(|| "xxxxx".to_owned());
            state
                .env
                .get(name)
                .map(|it| masked.unwrap_or_else(|| it.to_owned()))
        };
        let expanded = words::expand_for_display(written, &value, step.escape);
        expanded.map_or(Cow::Borrowed(written), |it| Cow::Owned(it.text))
    }

    /// Counts `bytes` that `span` makes of what stood before it: a few lines can come to far more than
    /// a machine has.
    pub(crate) fn spend(&mut self, bytes: usize, span: Span) -> Result<(), PlanError> {
        self.spent += bytes;
        match self.spent > MAX_REPEATED {
            true => Err(PlanError::at(
                span,
                PlanErrorKind::TooMuch(MAX_REPEATED >> 20),
            )),
            false => Ok(()),
        }
    }

    /// `word` of `step`, which names a stage or an image: global `ARG`s are in its scope too.
    pub(crate) fn expand_from(
        &mut self,
        state: &State,
        step: &Step<'_>,
        word: &str,
    ) -> Result<String, PlanError> {
        if !word.contains(['$', '"', '\'', '\\']) {
            return Ok(word.to_owned());
        }
        let value = |name: &str| {
            let value = state.env.get(name).or_else(|| self.globals.get(name));
            value.map(str::to_owned)
        };
        let expanded = words::expand(word, &value, step.escape)
            .map_err(|error| PlanError::at(step.span, PlanErrorKind::Expand(error)))?;
        for name in &expanded.unset {
            self.lint.undefined_var(name, state, step);
        }
        match expanded.text.is_empty() {
            true => Err(self.blank_base(word, &expanded, step.span)),
            false => Ok(expanded.text),
        }
    }

    /// The error for the name `word`, of which nothing is left.
    pub(crate) fn blank_base(&self, word: &str, expanded: &Expansion, span: Span) -> PlanError {
        let names = expanded.unset.iter().chain(&expanded.used);
        let empty = names
            .map(|it| (it.clone(), self.declared.has_global(it)))
            .collect();
        let kind = PlanErrorKind::BlankBase {
            name: word.to_owned(),
            empty,
        };
        PlanError::at(span, kind)
    }

    /// The build-args that mean something; the others are a warning or an error (decision 4).
    fn used_build_args(&mut self) -> Result<BTreeMap<String, String>, PlanError> {
        let platform = scope::platform_args(self.options);
        let means_something = |name: &str| {
            self.declared_args.contains(name)
                || scope::is_proxy(name)
                || scope::is_control(name)
                || platform.get(name).is_some()
        };
        let (used, unused): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .options
            .build_args
            .clone()
            .into_iter()
            .partition(|(name, _)| means_something(name));
        let unused: Vec<String> = unused.into_keys().collect();
        if !unused.is_empty() && self.options.strict_args {
            let first = unused[0].clone();
            let error = PlanError::nowhere(PlanErrorKind::UnusedBuildArgs(unused));
            return Err(error.suggest(&first, self.declared_args.iter().map(String::as_str)));
        }
        if !unused.is_empty() {
            let message = format!(
                "One or more build-args [{}] were not consumed",
                unused.join(" ")
            );
            self.lint.push(lint::unnamed(message, None));
        }
        Ok(used)
    }

    fn source_date_epoch(&self) -> Result<Option<i64>, PlanError> {
        let name = SOURCE_DATE_EPOCH;
        let given = self.options.build_args.get(name).map(String::as_str);
        let Some(text) = given.or(self.globals.get(name)).filter(|it| !it.is_empty()) else {
            return Ok(None);
        };
        if text == CONTEXT {
            return Ok(self.options.context_epoch);
        }
        let stages = self.declared.stages.len();
        if self.declared.last_named(text, stages).is_some() {
            let kind = PlanErrorKind::NotSupported(format!("{name}={text}"));
            return Err(PlanError::nowhere(kind));
        }
        match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(PlanError::nowhere(PlanErrorKind::SourceDateEpoch(
                text.to_owned(),
            ))),
        }
    }
}

/// The reference that was probably meant by a `name` that is an address, or has capitals in it.
fn nearest_reference(name: &str) -> Option<String> {
    let bare = name.split_once("://").map_or(name, |(_, bare)| bare);
    let last = bare.rfind('/').map_or(0, |it| it + 1);
    // Tags may have capitals.
    let end = bare[last..]
        .find([':', '@'])
        .map_or(bare.len(), |it| last + it);
    let meant = format!("{}{}", bare[..end].to_lowercase(), &bare[end..]);
    (meant != name && meant.parse::<Reference>().is_ok()).then_some(meant)
}

/// Refuses an image that no step could run on.
fn require_linux(image: &BaseImage, name: &str, span: Span) -> Result<(), PlanError> {
    if matches!(image.config.os.as_str(), "" | "linux") {
        return Ok(());
    }
    let kind = PlanErrorKind::NotLinux {
        image: name.to_owned(),
        os: image.config.os.clone(),
    };
    Err(PlanError::at(span, kind))
}
