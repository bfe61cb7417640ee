//! What is wrong with a Dockerfile, and where.

use std::fmt;

use crate::Span;

/// Something the reader of a Dockerfile should be told.
///
/// Printed, an error reads as BuildKit says it: `dockerfile parse error on line 3: unknown
/// instruction: FORM (did you mean FROM?)`. `message` is the part behind the colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is. Empty for what no single line is to blame for.
    pub span: Span,
    /// Whether it stops the build.
    pub severity: Severity,
    /// What is wrong, in BuildKit's words, the suggestion included.
    pub message: String,
    /// What the author may have meant.
    pub suggestion: Option<String>,
}

/// Whether a [`Problem`] stops the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// A finding of the build check `rule`.
    Warning {
        /// The rule's name: `NoEmptyContinuation`.
        rule: &'static str,
    },
}

impl Problem {
    /// Whether it stops the build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            severity: Severity::Error,
            message: message.into(),
            suggestion: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_error() && self.span.start < self.span.end {
            write!(
                f,
                "dockerfile parse error on line {}: ",
                self.span.first_line
            )?;
        }
        f.write_str(&self.message)
    }
}
