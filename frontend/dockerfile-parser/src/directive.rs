//! The `# key=value` comments at the top of a file.

use crate::{Directives, Problem, Span};

/// Reads directives line by line until something else comes.
#[derive(Debug, Default)]
pub(crate) struct DirectiveReader {
    pub(crate) directives: Directives,
    seen: Vec<&'static str>,
    done: bool,
}

/// What a line was to the [`DirectiveReader`].
pub(crate) enum Heard {
    /// A directive.
    Directive,
    /// Not one, nor is any line after it.
    Other,
    /// One that is wrong.
    Problem(Problem),
}

impl DirectiveReader {
    /// A reader to which no line is a directive.
    pub(crate) fn closed() -> Self {
        Self {
            done: true,
            ..Self::default()
        }
    }

    /// Hears the next line, without the blanks in front of it.
    pub(crate) fn hear(&mut self, line: &str, span: Span) -> Heard {
        if self.done {
            return Heard::Other;
        }
        // `#!/usr/bin/env rbuild` in the first line is not the end of the directives.
        if span.first_line == 1 && line.starts_with("#!") {
            return Heard::Other;
        }
        let Some((key, value)) = line.strip_prefix('#').and_then(key_and_value) else {
            self.done = true;
            return Heard::Other;
        };
        if self.seen.contains(&key) {
            return Heard::Problem(Problem::error(
                span,
                format!("only one {key} parser directive can be used: take this one out"),
            ));
        }
        self.seen.push(key);
        match key {
            "syntax" => {
                let image = value.split(' ').next().unwrap_or_default();
                self.directives.syntax = Some((image.to_owned(), span));
            }
            "check" => self.directives.check = Some((value.to_owned(), span)),
            _ => match value {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                _ => {
                    let message = format!("invalid escape token '{value}' does not match ` or \\");
                    return Heard::Problem(Problem::error(span, message));
                }
            },
        }
        Heard::Directive
    }
}

/// The parts of a directive that is known.
fn key_and_value(text: &str) -> Option<(&'static str, &str)> {
    let (key, value) = text.trim_start().split_once('=')?;
    let key = key.trim_end();
    let known = ["syntax", "escape", "check"]
        .into_iter()
        .find(|it| it.eq_ignore_ascii_case(key))?;
    let value = value.trim();
    if value.is_empty() {
        None
    } else {
        Some((known, value))
    }
}

/// The `syntax` that a file of another language asks for: `// syntax=image` or `{"syntax": "image"}`.
///
/// Such a file is no Dockerfile, but only this says so in words that a person understands.
pub(crate) fn foreign_syntax(text: &str) -> Option<String> {
    let (key, value) = match text.lines().next()?.strip_prefix("//") {
        Some(comment) => key_and_value(comment)?,
        None => return syntax_of_json(text),
    };
    (key == "syntax").then(|| value.split(' ').next().unwrap_or_default().to_owned())
}

fn syntax_of_json(text: &str) -> Option<String> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    object.get("syntax")?.as_str().map(str::to_owned)
}
