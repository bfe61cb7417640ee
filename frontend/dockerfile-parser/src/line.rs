//! Physical lines, and the logical lines that continuations join them into.

use std::borrow::Cow;
use std::ops::Range;

use crate::Span;

/// A line of the file, its line end included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where in the file it begins.
    pub(crate) start: usize,
    /// From one.
    pub(crate) number: usize,
}

impl<'a> Line<'a> {
    /// The line without its end; every `\r` and `\n` there goes.
    pub(crate) fn body(&self) -> &'a [u8] {
        let end = self
            .bytes
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
            .map_or(0, |last| last + 1);
        &self.bytes[..end]
    }

    pub(crate) fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.body())
    }

    pub(crate) fn span(&self) -> Span {
        let end = self.start + self.body().len();
        Span {
            start: self.start,
            end,
            first_line: self.number,
            last_line: self.number,
        }
    }
}

/// The lines of a file, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    position: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    /// The lines of `text` from the byte `position` on.
    pub(crate) fn new(text: &'a [u8], position: usize) -> Self {
        Self {
            text,
            position,
            number: 0,
        }
    }

    /// The number of the last line that was given out.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(rest.len(), |at| at + 1);
        let start = self.position;
        self.position += length;
        self.number += 1;
        Some(Line {
            bytes: &rest[..length],
            start,
            number: self.number,
        })
    }
}

/// Lines joined at their continuations: what an instruction is read from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logical {
    pub(crate) text: String,
    pieces: Vec<Piece>,
    /// From the first character to the end of the last line that was read for it.
    pub(crate) span: Span,
}

/// A part of a logical line that stands in one physical line.
#[derive(Debug, Clone)]
struct Piece {
    /// Where in the logical text it begins.
    logical: usize,
    /// Where it stands in the file.
    physical: Range<usize>,
    line: usize,
}

impl Logical {
    /// Appends `text`, which stands `skipped` bytes behind the beginning of `line`.
    pub(crate) fn push(&mut self, text: &str, skipped: usize, line: Line<'_>) {
        let whole = line.span();
        let start = (whole.start + skipped).min(whole.end);
        if self.pieces.is_empty() {
            self.span = Span { start, ..whole };
        }
        self.pieces.push(Piece {
            logical: self.text.len(),
            physical: start..whole.end,
            line: line.number,
        });
        self.text.push_str(text);
    }

    /// Lets the span reach to the end of `line`.
    pub(crate) fn extend_to(&mut self, line: Line<'_>) {
        self.span.extend_to(line.span());
    }

    /// Where in the file a part of the logical text stands.
    pub(crate) fn span_of(&self, part: Range<usize>) -> Span {
        let (start, first_line) = self.locate(part.start);
        let (last, last_line) = self.locate(part.end.saturating_sub(1).max(part.start));
        let end = if part.is_empty() { start } else { last + 1 };
        Span {
            start,
            end: end.clamp(start, self.span.end.max(start)),
            first_line,
            last_line,
        }
    }

    fn locate(&self, logical: usize) -> (usize, usize) {
        let index = self
            .pieces
            .partition_point(|piece| piece.logical <= logical);
        let Some(piece) = index
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index))
        else {
            return (self.span.start, self.span.first_line);
        };
        // The text may be longer than what it was read from where that was no UTF-8.
        let offset = piece.physical.start + (logical - piece.logical);
        (offset.min(piece.physical.end), piece.line)
    }
}

impl Span {
    /// Lets it reach to the end of `later`.
    pub(crate) fn extend_to(&mut self, later: Self) {
        self.end = self.end.max(later.end);
        self.last_line = later.last_line;
    }
}

/// `line` without its continuation; `None` where it has none.
///
/// Blanks may follow the escape character, another escape character must not stand before it.
pub(crate) fn continued(line: &str, escape: char) -> Option<&str> {
    let rest = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    if rest.ends_with(escape) {
        None
    } else {
        Some(rest)
    }
}

/// Whether a physical line is a comment: its first character that is not blank is `#`.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::continued;

    #[test]
    fn an_escape_at_the_end_continues_the_line_unless_it_is_escaped() {
        for (line, expected) in [
            ("RUN a \\", Some("RUN a ")),
            ("RUN a \\ \t", Some("RUN a ")),
            ("\\", Some("")),
            ("RUN a", None),
            ("RUN a \\\\", None),
            ("RUN a \\\\\\", None),
            ("\\\\", None),
            ("RUN a \\ b", None),
            ("", None),
        ] {
            assert_eq!(continued(line, '\\'), expected, "{line}");
        }
        assert_eq!(continued("COPY a c:\\", '`'), None);
        assert_eq!(continued("COPY a `", '`'), Some("COPY a "));
    }
}
