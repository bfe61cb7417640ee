//! What is odd but no error: one rule a file, named as BuildKit names it.
//!
//! A rule looks at what it is given and pushes a [`Warning`]; whether the author wants to hear of it
//! ([`check`]) is decided in one place.

mod check;

mod consistent_instruction_casing;
mod copy_ignored_file;
mod copy_several_to_one;
mod duplicate_stage_name;
mod expose_invalid_format;
mod expose_proto_casing;
mod from_as_casing;
mod from_platform_flag_const_disallowed;
mod invalid_base_image_platform;
mod invalid_default_arg_in_from;
mod json_args_recommended;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod redundant_target_platform;
mod reserved_stage_name;
mod secrets_used_in_arg_or_env;
mod stage_name_casing;
mod undefined_arg_in_from;
mod undefined_var;
mod workdir_relative_path;

use std::collections::BTreeSet;

use check::Check;
use dockerfile_parser::{Instruction, Span};

use crate::error::lines;
use crate::stage::Declarations;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, Warning};

/// The rules that need to know what lowering knows.
pub(crate) mod rule {
    pub(crate) use super::copy_ignored_file::copy_ignored_file;
    pub(crate) use super::copy_several_to_one::copy_several_to_one;
    pub(crate) use super::expose_invalid_format::expose_invalid_format;
    pub(crate) use super::expose_proto_casing::expose_proto_casing;
    pub(crate) use super::from_platform_flag_const_disallowed::from_platform_flag_const_disallowed;
    pub(crate) use super::invalid_base_image_platform::invalid_base_image_platform;
    pub(crate) use super::invalid_default_arg_in_from::invalid_default_arg_in_from;
    pub(crate) use super::json_args_recommended::json_args_recommended;
    pub(crate) use super::multiple_instructions_disallowed::multiple_instructions_disallowed;
    pub(crate) use super::redundant_target_platform::redundant_target_platform;
    pub(crate) use super::secrets_used_in_arg_or_env::{is_secret, secrets_used_in_arg_or_env};
    pub(crate) use super::undefined_arg_in_from::undefined_arg_in_from;
    pub(crate) use super::workdir_relative_path::workdir_relative_path;
}

/// What was noticed so far.
#[derive(Debug)]
pub(crate) struct Lint {
    check: Check,
    warnings: Vec<Warning>,
}

/// The rules that need nothing but the text.
pub(crate) fn check_file(declared: &Declarations<'_>, lint: &mut Lint) {
    stage_name_casing::check(declared, lint);
    from_as_casing::check(declared, lint);
    duplicate_stage_name::check(declared, lint);
    reserved_stage_name::check(declared, lint);
    consistent_instruction_casing::check(declared, lint);
    for stage in &declared.stages {
        for instruction in stage.instructions {
            maintainer_deprecated::check(instruction, lint);
            legacy_key_value_format::check(instruction, lint);
        }
    }
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
    /// Listens as `check`, the text of a `# check=` directive, says.
    pub(crate) fn new(check: &str) -> Self {
        Self {
            check: Check::parse(check),
            warnings: Vec::new(),
        }
    }

    /// Takes a warning as it is.
    pub(crate) fn push(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes what `rule` has to say of `instruction`, unless the file or a comment above it asks not to.
    pub(crate) fn warn(
        &mut self,
        rule: &'static str,
        instruction: &Instruction,
        span: Span,
        message: String,
    ) {
        let asked_not_to = instruction.comments.iter().any(|it| check::skips(it, rule));
        if !asked_not_to && !self.check.skips(rule) {
            self.push(Warning {
                rule,
                message,
                lines: Some(lines(span)),
            });
        }
    }

    /// Takes what the parser noticed, as the file and the comments above its instructions want it.
    pub(crate) fn take_findings(&mut self, findings: &[Warning], instructions: &[Instruction]) {
        for finding in findings {
            let line = finding.lines.map_or(0, |it| it.first_line);
            let around =
                |it: &&Instruction| (it.span.first_line..=it.span.last_line).contains(&line);
            let instruction = instructions.iter().find(around);
            let asked_not_to = instruction
                .is_some_and(|it| it.comments.iter().any(|it| check::skips(it, finding.rule)));
            if !asked_not_to && !self.check.skips(finding.rule) {
                self.push(finding.clone());
            }
        }
    }

    /// A variable of `step` that has no value.
    pub(crate) fn undefined_var(&mut self, name: &str, state: &State, step: &Step<'_>) {
        undefined_var::check(self, name, state, step);
    }

    /// All warnings in the order of the file.
    pub(crate) fn finish(mut self) -> Result<Vec<Warning>, PlanError> {
        self.warnings
            .sort_by_key(|it| it.lines.map_or(usize::MAX, |it| it.first_line));
        let rules: BTreeSet<&str> = self
            .warnings
            .iter()
            .map(|it| it.rule)
            .filter(|it| !it.is_empty())
            .collect();
        if self.check.is_error && !rules.is_empty() {
            let rules: Vec<&str> = rules.into_iter().collect();
            return Err(PlanError::nowhere(PlanErrorKind::Lint(rules.join(", "))));
        }
        Ok(self.warnings)
    }
}
