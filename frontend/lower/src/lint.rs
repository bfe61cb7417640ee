//! What is odd but no error: one rule a file, named as BuildKit names it.
//!
//! A rule looks at what it is given and pushes a [`Warning`]; whether the author wants to hear of it
//! ([`check`]) is decided in one place.

mod check;

mod consistent_instruction_casing;
mod copy_ignored_file;
mod duplicate_stage_name;
mod expose_invalid_format;
mod expose_proto_casing;
mod from_as_casing;
mod from_platform_flag_const_disallowed;
mod invalid_base_image_platform;
mod invalid_default_arg_in_from;
mod invalid_definition_description;
mod json_args_recommended;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod redundant_target_platform;
mod reserved_stage_name;
mod secrets_used_in_arg_or_env;
mod several_sources_to_one_file;
mod stage_name_casing;
mod undefined_arg_in_from;
mod undefined_var;
mod workdir_relative_path;

use std::collections::{BTreeSet, HashSet};

use check::Check;
pub use check::CheckError;
use dockerfile_parser::{Instruction, Span};

use crate::error::lines;
use crate::stage::Declarations;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, Warning};

/// A rule: something that is no error but should be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// As people name it, `StageNameCasing`.
    pub name: &'static str,
    /// Whether nobody hears of it who did not ask with `# check=experimental=`.
    pub is_experimental: bool,
    /// Whether BuildKit has it, and docker's documentation explains it.
    pub is_buildkits: bool,
    /// What it says and why, with an example and its remedy, as Markdown.
    pub page: &'static str,
}

/// All rules: BuildKit's in the order of its list, then our own.
pub const RULES: &[Rule] = &[
    rule("StageNameCasing", include_str!("lint/stage_name_casing.md")),
    rule("FromAsCasing", include_str!("lint/from_as_casing.md")),
    rule(
        "NoEmptyContinuation",
        include_str!("lint/no_empty_continuation.md"),
    ),
    rule(
        "ConsistentInstructionCasing",
        include_str!("lint/consistent_instruction_casing.md"),
    ),
    rule(
        "DuplicateStageName",
        include_str!("lint/duplicate_stage_name.md"),
    ),
    rule(
        "ReservedStageName",
        include_str!("lint/reserved_stage_name.md"),
    ),
    rule(
        "JSONArgsRecommended",
        include_str!("lint/json_args_recommended.md"),
    ),
    rule(
        "MaintainerDeprecated",
        include_str!("lint/maintainer_deprecated.md"),
    ),
    rule(
        "UndefinedArgInFrom",
        include_str!("lint/undefined_arg_in_from.md"),
    ),
    rule(
        "WorkdirRelativePath",
        include_str!("lint/workdir_relative_path.md"),
    ),
    rule("UndefinedVar", include_str!("lint/undefined_var.md")),
    rule(
        "MultipleInstructionsDisallowed",
        include_str!("lint/multiple_instructions_disallowed.md"),
    ),
    rule(
        "LegacyKeyValueFormat",
        include_str!("lint/legacy_key_value_format.md"),
    ),
    rule(
        "InvalidBaseImagePlatform",
        include_str!("lint/invalid_base_image_platform.md"),
    ),
    rule(
        "RedundantTargetPlatform",
        include_str!("lint/redundant_target_platform.md"),
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        include_str!("lint/secrets_used_in_arg_or_env.md"),
    ),
    rule(
        "InvalidDefaultArgInFrom",
        include_str!("lint/invalid_default_arg_in_from.md"),
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        include_str!("lint/from_platform_flag_const_disallowed.md"),
    ),
    rule("CopyIgnoredFile", include_str!("lint/copy_ignored_file.md")),
    rule(
        "ExposeProtoCasing",
        include_str!("lint/expose_proto_casing.md"),
    ),
    rule(
        "ExposeInvalidFormat",
        include_str!("lint/expose_invalid_format.md"),
    ),
    Rule {
        is_experimental: true,
        ..rule(
            "InvalidDefinitionDescription",
            include_str!("lint/invalid_definition_description.md"),
        )
    },
    Rule {
        is_buildkits: false,
        ..rule(
            "SeveralSourcesToOneFile",
            include_str!("lint/several_sources_to_one_file.md"),
        )
    },
];

const fn rule(name: &'static str, page: &'static str) -> Rule {
    Rule {
        name,
        is_experimental: false,
        is_buildkits: true,
        page,
    }
}

/// Whether a variable of this name holds a secret, as far as names say.
pub fn is_secret_name(name: &str) -> bool {
    rule::is_secret(name)
}

/// The rules that need to know what lowering knows.
pub(crate) mod rule {
    pub(crate) use super::copy_ignored_file::copy_ignored_file;
    pub(crate) use super::expose_invalid_format::expose_invalid_format;
    pub(crate) use super::expose_proto_casing::expose_proto_casing;
    pub(crate) use super::from_platform_flag_const_disallowed::from_platform_flag_const_disallowed;
    pub(crate) use super::invalid_base_image_platform::invalid_base_image_platform;
    pub(crate) use super::invalid_default_arg_in_from::invalid_default_arg_in_from;
    pub(crate) use super::json_args_recommended::json_args_recommended;
    pub(crate) use super::multiple_instructions_disallowed::multiple_instructions_disallowed;
    pub(crate) use super::redundant_target_platform::redundant_target_platform;
    pub(crate) use super::secrets_used_in_arg_or_env::{is_secret, secrets_used_in_arg_or_env};
    pub(crate) use super::several_sources_to_one_file::several_sources_to_one_file;
    pub(crate) use super::undefined_arg_in_from::undefined_arg_in_from;
    pub(crate) use super::workdir_relative_path::workdir_relative_path;
}

/// What was noticed so far.
#[derive(Debug)]
pub(crate) struct Lint {
    check: Check,
    /// What the comments above instructions say, with the lines that they speak of, in their order.
    waivers: Vec<(Span, Check)>,
    warnings: Vec<Warning>,
    /// The same, to find again: there may be one for every line.
    known: HashSet<Warning>,
}

/// The rules that need nothing but the text.
pub(crate) fn check_file(declared: &Declarations<'_>, lint: &mut Lint) {
    stage_name_casing::check(declared, lint);
    from_as_casing::check(declared, lint);
    duplicate_stage_name::check(declared, lint);
    reserved_stage_name::check(declared, lint);
    consistent_instruction_casing::check(declared, lint);
    invalid_definition_description::check(declared, lint);
    for stage in &declared.stages {
        for instruction in stage.instructions {
            maintainer_deprecated::check(instruction, lint);
            legacy_key_value_format::check(instruction, lint);
        }
    }
}

/// Whether a keyword is in capitals.
fn is_upper(word: &str) -> bool {
    !word.contains(char::is_lowercase)
}

/// Whether a keyword is without capitals.
fn is_lower(word: &str) -> bool {
    !word.contains(char::is_uppercase)
}

/// A warning that belongs to no rule.
pub(crate) fn unnamed(message: String, span: Option<Span>) -> Warning {
    Warning {
        rule: "",
        message,
        lines: span.map(lines),
    }
}

impl Lint {
    /// Listens as `check`, the text of a `# check=` directive that stands at `span`, says, and as
    /// the comments above `instructions` do.
    pub(crate) fn new(
        check: &str,
        span: Option<Span>,
        instructions: &[Instruction],
    ) -> Result<Self, PlanError> {
        let fail = |span: Option<Span>| {
            move |error| {
                let kind = PlanErrorKind::Check(error);
                span.map_or_else(
                    || PlanError::nowhere(kind.clone()),
                    |it| PlanError::at(it, kind.clone()),
                )
            }
        };
        let mut lint = Self {
            check: Check::parse(check).map_err(fail(span))?,
            waivers: Vec::new(),
            warnings: Vec::new(),
            known: HashSet::new(),
        };
        for instruction in instructions {
            let checks = instruction
                .comments
                .iter()
                .filter_map(|it| check::of_comment(it));
            for check in checks {
                let check = check.map_err(fail(Some(instruction.span)))?;
                lint.warn_of_unknown(&check, Some(instruction.span));
                lint.waivers.push((instruction.span, check));
            }
        }
        lint.warn_of_unknown(&lint.check.clone(), span);
        Ok(lint)
    }

    /// Listens to nothing.
    pub(crate) fn deaf() -> Self {
        Self {
            check: Check::parse("skip=all").unwrap_or_default(),
            waivers: Vec::new(),
            warnings: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn warn_of_unknown(&mut self, check: &Check, span: Option<Span>) {
        for (name, meant) in check.unknown() {
            let meant = meant.map_or(String::new(), |it| format!(" (did you mean {it}?)"));
            let message = format!("There is no check called {name:?}{meant}");
            self.push(unnamed(message, span));
        }
    }

    /// Takes a warning as it is.
    pub(crate) fn push(&mut self, warning: Warning) {
        if self.known.insert(warning.clone()) {
            self.warnings.push(warning);
        }
    }

    /// Takes what `rule` has to say of the lines of `span`, unless the file or a comment above them
    /// asks not to.
    pub(crate) fn warn(&mut self, rule: &'static str, span: Span, message: String) {
        if self.wants(rule, span.first_line) {
            self.push(Warning {
                rule,
                message,
                lines: Some(lines(span)),
            });
        }
    }

    fn wants(&self, rule: &str, line: usize) -> bool {
        let begun = self
            .waivers
            .partition_point(|(span, _)| span.first_line <= line);
        let mut waivers = self.waivers[..begun]
            .iter()
            .rev()
            .take_while(|(span, _)| span.last_line >= line);
        // Nobody asks for an experimental rule above an instruction, so only what is skipped counts.
        self.check.wants(rule) && !waivers.any(|(_, it)| it.skips(rule))
    }

    /// Takes what the parser noticed, as the file and the comments above its instructions want it.
    pub(crate) fn take_findings(&mut self, findings: &[Warning]) {
        for finding in findings {
            let line = finding.lines.map_or(0, |it| it.first_line);
            if self.wants(finding.rule, line) {
                self.push(finding.clone());
            }
        }
    }

    /// A variable of `step` that has no value.
    pub(crate) fn undefined_var(&mut self, name: &str, state: &State, step: &Step<'_>) {
        undefined_var::check(self, name, state, step);
    }

    /// All warnings in the order of the file.
    pub(crate) fn take_warnings(&mut self) -> Vec<Warning> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by_key(|it| it.lines.map_or(usize::MAX, |it| it.first_line));
        warnings
    }

    /// Fails where the file wants no warnings and there are some, at the first of them.
    pub(crate) fn fail_if_asked(&self) -> Result<(), PlanError> {
        let mut violations: Vec<&Warning> = self
            .warnings
            .iter()
            .filter(|it| !it.rule.is_empty())
            .collect();
        violations.sort_by_key(|it| it.lines.map_or(usize::MAX, |it| it.first_line));
        let (true, Some(first)) = (self.check.is_error, violations.first()) else {
            return Ok(());
        };
        let rules: BTreeSet<&str> = violations.iter().map(|it| it.rule).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        let kind = PlanErrorKind::Lint {
            rules: rules.join(", "),
            first: first.message.clone(),
            count: violations.len(),
        };
        Err(PlanError {
            lines: first.lines,
            ..PlanError::nowhere(kind)
        })
    }
}
