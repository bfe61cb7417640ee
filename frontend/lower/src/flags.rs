//! Flags in front of an instruction's words (G8, G9).

use dockerfile_parser::{Flag, Span};

use crate::{PlanError, PlanErrorKind};

/// The flags of one instruction, each read once by its name.
pub(crate) struct Flags<'a> {
    flags: &'a [Flag],
    span: Span,
}

impl<'a> Flags<'a> {
    /// Checks that every flag is among `once` or `often`, and those of `once` stand once.
    pub(crate) fn new(
        flags: &'a [Flag],
        span: Span,
        once: &[&str],
        often: &[&str],
    ) -> Result<Self, PlanError> {
        for (index, flag) in flags.iter().enumerate() {
            let name = flag.name;
            if !once.contains(&name) && !often.contains(&name) {
                let known = once.iter().chain(often).copied();
                let kind = PlanErrorKind::UnknownFlag(flag.name.to_owned());
                let error = PlanError::at(span, kind).suggest(name, known);
                return Err(PlanError {
                    suggestion: error.suggestion.map(|it| format!("--{it}")),
                    ..error
                });
            }
            if once.contains(&name) && flags[..index].iter().any(|it| it.name == name) {
                return Err(PlanError::at(
                    span,
                    PlanErrorKind::DuplicateFlag(flag.name.to_owned()),
                ));
            }
        }
        Ok(Self { flags, span })
    }

    /// What stands behind `--name=`.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, PlanError> {
        Ok(self.texts(name)?.pop())
    }

    /// What stands behind each `--name=`.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, PlanError> {
        texts(self.flags, name, self.span).collect()
    }

    /// Whether the switch `--name` is on; `None` where it is not written.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, PlanError> {
        let Some(flag) = self.flags.iter().find(|it| it.name == name) else {
            return Ok(None);
        };
        let kind = match flag.value.as_deref() {
            None => return Ok(Some(true)),
            Some("") => PlanErrorKind::FlagWithoutValue(name.to_owned()),
            Some(value) if value.eq_ignore_ascii_case("true") => return Ok(Some(true)),
            Some(value) if value.eq_ignore_ascii_case("false") => return Ok(Some(false)),
            Some(value) => PlanErrorKind::FlagNotBoolean {
                flag: name.to_owned(),
                value: value.to_owned(),
            },
        };
        Err(PlanError::at(self.span, kind))
    }
}

/// What stands behind each `--name=` among `flags`.
pub(crate) fn texts<'a>(
    flags: &'a [Flag],
    name: &str,
    span: Span,
) -> impl Iterator<Item = Result<&'a str, PlanError>> {
    let named = flags.iter().filter(move |it| it.name == name);
    named.map(move |it| value(it, span))
}

/// What stands behind the `=` of a flag that must have one.
pub(crate) fn value(flag: &Flag, span: Span) -> Result<&str, PlanError> {
    match flag.value.as_deref() {
        None | Some("") => Err(PlanError::at(
            span,
            PlanErrorKind::FlagWithoutValue(flag.name.to_owned()),
        )),
        Some(value) => Ok(value),
    }
}
