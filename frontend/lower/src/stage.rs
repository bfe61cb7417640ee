//! The stages of a file as they are written, before anything is known of their content.

use std::collections::HashMap;

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
    /// The numbers of those with a name, by that in lower case.
    named: HashMap<String, Vec<usize>>,
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
        if stages.is_empty() {
            return Err(PlanError::nowhere(PlanErrorKind::Empty));
        }
        let mut named: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, stage) in stages.iter().enumerate() {
            if let Some(name) = stage.name {
                named
                    .entry(name.to_ascii_lowercase())
                    .or_default()
                    .push(index);
            }
        }
        Ok(Self {
            globals,
            stages,
            named,
        })
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
        let named = self.named(name);
        let earlier = named.partition_point(|it| *it < before);
        named[..earlier].last().copied()
    }

    /// The first stage from number `from` on whose name is `name`.
    pub(crate) fn named_later(&self, name: &str, from: usize) -> Option<usize> {
        self.named(name).iter().find(|it| **it >= from).copied()
    }

    fn named(&self, name: &str) -> &[usize] {
        let named = self.named.get(&name.to_ascii_lowercase());
        named.map_or(&[], Vec::as_slice)
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
}
