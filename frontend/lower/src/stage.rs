//! The stages of a file as they are written, before anything is known of their content.

use dockerfile_parser::{Dockerfile, Instruction, InstructionKind};

use crate::{PlanError, PlanErrorKind};

/// A `FROM` and the instructions behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared<'a> {
    /// The `FROM` itself.
    pub(crate) from: &'a Instruction,
    /// `--platform` as written.
    pub(crate) platform: Option<&'a str>,
    /// The image or stage as written.
    pub(crate) image: &'a str,
    /// The name as written.
    pub(crate) name: Option<&'a str>,
    /// The word `AS` as written.
    pub(crate) as_keyword: Option<&'a str>,
    /// What follows.
    pub(crate) instructions: &'a [Instruction],
}

/// What a file consists of.
#[derive(Debug)]
pub(crate) struct Declarations<'a> {
    /// The `ARG`s before the first `FROM`.
    pub(crate) globals: &'a [Instruction],
    /// The stages in their order, at least one.
    pub(crate) stages: Vec<Declared<'a>>,
}

impl<'a> Declarations<'a> {
    /// Cuts the file at its `FROM`s.
    pub(crate) fn of(dockerfile: &'a Dockerfile) -> Result<Self, PlanError> {
        let instructions = &dockerfile.instructions;
        let is_from = |it: &Instruction| matches!(it.kind, InstructionKind::From { .. });
        let starts: Vec<usize> = (0..instructions.len())
            .filter(|&it| is_from(&instructions[it]))
            .collect();
        let globals = &instructions[..starts.first().copied().unwrap_or(instructions.len())];
        if let Some(stray) = globals
            .iter()
            .find(|it| !matches!(it.kind, InstructionKind::Arg(_)))
        {
            return Err(PlanError::at(stray.span, PlanErrorKind::NoStage));
        }
        let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
        let stages: Vec<_> = starts
            .iter()
            .zip(ends)
            .filter_map(|(&start, end)| {
                Declared::of(&instructions[start], &instructions[start + 1..end])
            })
            .collect();
        match stages.is_empty() {
            true => Err(PlanError::nowhere(PlanErrorKind::Empty)),
            false => Ok(Self { globals, stages }),
        }
    }

    /// The stage that the person who builds wants: by name, by number, or the last (G28).
    pub(crate) fn target(&self, wanted: Option<&str>) -> Result<usize, PlanError> {
        let Some(wanted) = wanted.filter(|it| !it.is_empty()) else {
            return Ok(self.stages.len() - 1);
        };
        if let Some(index) = self.last_named(wanted, self.stages.len()) {
            return Ok(index);
        }
        match wanted.parse::<usize>() {
            Ok(index) if index < self.stages.len() => Ok(index),
            _ => {
                let error = PlanError::nowhere(PlanErrorKind::UnknownTarget(wanted.to_owned()));
                Err(error.suggest(wanted, self.stages.iter().filter_map(|it| it.name)))
            }
        }
    }

    /// The last stage before number `before` whose name is `name`, whatever the case (G26).
    pub(crate) fn last_named(&self, name: &str, before: usize) -> Option<usize> {
        self.stages[..before]
            .iter()
            .rposition(|it| it.is_named(name))
    }

    /// The first stage from number `from` on whose name is `name`.
    pub(crate) fn named_later(&self, name: &str, from: usize) -> Option<usize> {
        self.stages[from..]
            .iter()
            .position(|it| it.is_named(name))
            .map(|it| it + from)
    }

    /// Whether an `ARG` before the first `FROM` declares `name`.
    pub(crate) fn has_global(&self, name: &str) -> bool {
        let declares = |it: &Instruction| match &it.kind {
            InstructionKind::Arg(args) => args.iter().any(|(it, _)| it == name),
            _ => false,
        };
        self.globals.iter().any(declares)
    }

    /// How people call a stage: by its name, else `stage-N`.
    pub(crate) fn display_name(&self, index: usize) -> String {
        self.stages[index]
            .name
            .map_or_else(|| format!("stage-{index}"), str::to_lowercase)
    }
}

impl<'a> Declared<'a> {
    fn of(from: &'a Instruction, instructions: &'a [Instruction]) -> Option<Self> {
        let InstructionKind::From {
            platform,
            image,
            name,
            as_keyword,
        } = &from.kind
        else {
            return None;
        };
        Some(Self {
            from,
            platform: platform.as_deref(),
            image,
            name: name.as_deref(),
            as_keyword: as_keyword.as_deref(),
            instructions,
        })
    }

    /// Whether `name` means this stage.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name.is_some_and(|it| it.eq_ignore_ascii_case(name))
    }
}
