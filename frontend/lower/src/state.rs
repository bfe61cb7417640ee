//! What is known of a stage while its instructions are lowered one after the other.

use std::fmt::Write;

use dockerfile_parser::{Instruction, Span};
use indexmap::IndexMap;
use llb::{Input, Metadata, SourceRange};
use oci::{ImageConfig, Platform};

use crate::error::lines;
use crate::scope::Env;
use crate::{Layer, history};

/// A stage, as it is after the instructions so far.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The root file system; `None` is scratch.
    pub(crate) root: Option<Input>,
    /// The image that the stage would be if it ended here.
    pub(crate) image: ImageConfig,
    /// The environment of `RUN` and of expansion: the image's, and the `ARG`s in scope (G37).
    pub(crate) env: Env,
    /// The variables of the image, once an `ENV` has changed them; [`Self::finished`] puts them into it.
    pub(crate) image_env: Option<Env>,
    /// The `ARG`s in scope, in their order, for the history of `RUN` (G41).
    pub(crate) args: IndexMap<String, Option<String>>,
    /// The layers on top of the base image.
    pub(crate) layers: Vec<Layer>,
    /// Where the entries of the image's history stand; `None` for those of the base image.
    pub(crate) origins: Vec<Option<SourceRange>>,
    /// What it runs on.
    pub(crate) platform: Platform,
    /// Whether a `WORKDIR` was absolute, or is not the first.
    pub(crate) workdir_set: bool,
    /// What children do not inherit.
    pub(crate) own: Own,
}

/// What belongs to one stage and not to those built `FROM` it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// Its number.
    pub(crate) stage: usize,
    /// What step names call it; empty in a file with one stage.
    pub(crate) label: String,
    /// What step names say of the platform, `linux/amd64 `; mostly empty.
    pub(crate) platform_label: String,
    /// How many steps were named.
    pub(crate) step: usize,
    /// How many there are.
    pub(crate) steps: usize,
    /// Whether its steps run even if the cache knows their results.
    pub(crate) ignore_cache: bool,
    /// Where the last `CMD` is.
    pub(crate) cmd: Option<Span>,
    /// Where the last `ENTRYPOINT` is.
    pub(crate) entrypoint: Option<Span>,
    /// Where the last `HEALTHCHECK` is.
    pub(crate) healthcheck: Option<Span>,
}

/// The instruction that is lowered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// What it says.
    pub(crate) instruction: &'a Instruction,
    /// Which lines are to blame for it: its own, or those of the `FROM` that brought it in.
    pub(crate) span: Span,
    /// The escape character in it.
    pub(crate) escape: char,
    /// Whether it is a trigger of the base image.
    pub(crate) is_trigger: bool,
}

impl State {
    /// The variables that the image has, `KEY=value`.
    pub(crate) fn image_env(&self) -> &[String] {
        match &self.image_env {
            Some(env) => env.lines(),
            None => &self.image.config.env,
        }
    }

    /// The image that the stage is if it ends here.
    pub(crate) fn finished(mut self) -> Self {
        if let Some(env) = self.image_env.take() {
            self.image.config.env = env.lines().to_vec();
        }
        self
    }

    /// About how many bytes there are to be copied where another stage begins with this one.
    pub(crate) fn size(&self) -> usize {
        let history = self.image.history.iter();
        let history: usize = history.map(|it| it.created_by.len() + 100).sum();
        history + 2 * self.env.size()
    }

    /// A name for the next step, `[build  2/10] `, in front of `text`.
    pub(crate) fn step_name(&mut self, text: &str) -> String {
        if self.own.steps == 0 {
            return text.to_owned();
        }
        self.own.step += 1;
        self.same_step_name(text)
    }

    /// A further name for the step that was named last.
    pub(crate) fn same_step_name(&self, text: &str) -> String {
        let Own {
            platform_label,
            label,
            step,
            steps,
            ..
        } = &self.own;
        if *steps == 0 {
            return text.to_owned();
        }
        let width = steps.ilog10() as usize + 1;
        let gap = if label.is_empty() { "" } else { " " };
        let brackets = platform_label.len() + label.len() + 2 * width;
        let mut name = String::with_capacity(brackets + 6 + text.len());
        // Writing to a text never fails.
        let _ = write!(
            name,
            "[{platform_label}{label}{gap}{step:>width$}/{steps}] {text}"
        );
        name
    }

    /// What people are told of a vertex that `step` makes.
    pub(crate) fn metadata(&self, name: String, step: &Step<'_>) -> Metadata {
        Metadata {
            name,
            source: Some(lines(step.span)),
            ignore_cache: self.own.ignore_cache,
        }
    }

    /// The history's entries that have no origin yet have this one.
    pub(crate) fn originate(&mut self, origin: Option<Span>) {
        let entries = self.image.history.len();
        self.origins.resize(entries, origin.map(lines));
    }

    /// Writes an instruction that changes no files into the history.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.image.history.push(history::entry(text.into(), true));
    }

    /// Writes an instruction into the history that made `output` from the root file system so far.
    pub(crate) fn commit(&mut self, output: Input, text: impl Into<String>) {
        self.layers.push(Layer {
            output,
            history: self.image.history.len(),
        });
        self.image.history.push(history::entry(text.into(), false));
        self.root = Some(output);
    }
}
