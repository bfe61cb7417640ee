//! From text to tree.

use crate::directive::{DirectiveReader, Heard, foreign_syntax};
use crate::heredoc::{self, Document, Opening};
use crate::instruction::{Fault, Parts, check_is_trigger, unspaced};
use crate::line::{Line, Lines, Logical, continued, is_comment};
use crate::{Dockerfile, Instruction, Problem, Severity, Span};

/// The longest line that BuildKit reads.
const MAX_LINE: usize = 65535;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a text was read into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parse {
    /// The instructions that were understood.
    pub dockerfile: Dockerfile,
    /// What is wrong with the rest, in the order of the text.
    pub problems: Vec<Problem>,
}

/// What an `ONBUILD` trigger was read into, or why it could not be.
pub type Trigger = Result<Instruction, Problem>;

impl Parse {
    /// The first problem that stops the build.
    pub fn first_error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.is_error())
    }
}

/// Reads a Dockerfile. Any bytes are one, though perhaps one with problems.
pub fn parse(text: &[u8]) -> Parse {
    let start = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let mut parser = Parser::new(Lines::new(text, start), DirectiveReader::default());
    parser.read_all();
    parser.check_stages(text.len());
    let mut dockerfile = Dockerfile {
        directives: parser.directives.directives,
        instructions: parser.instructions,
    };
    if dockerfile.directives.syntax.is_none() && matches!(text[start..].first(), Some(b'/' | b'{'))
    {
        let first_line = Lines::new(text, start)
            .next()
            .map(|line| line.span())
            .unwrap_or_default();
        let syntax = foreign_syntax(&String::from_utf8_lossy(&text[start..]));
        dockerfile.directives.syntax = syntax.map(|image| (image, first_line));
    }
    Parse {
        dockerfile,
        problems: parser.problems,
    }
}

/// Reads a trigger as it stands in an image's `OnBuild`: one instruction, its heredocs behind it.
///
/// The escape character is `\`, whatever it was where the trigger was written.
pub fn parse_trigger(text: &str) -> Trigger {
    let mut parser = Parser::new(Lines::new(text.as_bytes(), 0), DirectiveReader::closed());
    // A trigger runs in a stage that has begun elsewhere.
    parser.stages = Stages::Begun;
    parser.read_all();
    if let Some(problem) = parser.problems.into_iter().find(Problem::is_error) {
        return Err(problem);
    }
    let [instruction] = <[Instruction; 1]>::try_from(parser.instructions).map_err(|_| {
        Problem::error(
            Span::default(),
            "onbuild trigger should be a single expression",
        )
    })?;
    check_is_trigger(instruction.keyword()).map_err(|fault| problem_of(fault, instruction.span))?;
    Ok(instruction)
}

struct Parser<'a> {
    lines: Lines<'a>,
    directives: DirectiveReader,
    /// The comments since the last instruction.
    comments: Vec<String>,
    instructions: Vec<Instruction>,
    problems: Vec<Problem>,
    stages: Stages,
}

/// How far the file has got towards a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stages {
    /// No instruction yet.
    NoInstruction,
    /// Nothing but `ARG`.
    OnlyArguments,
    /// Something that needed one.
    Missed,
    /// There is one.
    Begun,
}

impl<'a> Parser<'a> {
    fn new(lines: Lines<'a>, directives: DirectiveReader) -> Self {
        Self {
            lines,
            directives,
            comments: Vec::new(),
            instructions: Vec::new(),
            problems: Vec::new(),
            stages: Stages::NoInstruction,
        }
    }

    fn read_all(&mut self) {
        while let Some(line) = self.lines.next() {
            self.check_length(line);
            self.read_line(line);
        }
    }

    /// Reads a line that is not part of an instruction yet.
    fn read_line(&mut self, line: Line<'a>) {
        let text = line.text();
        let trimmed = text.trim_start();
        let heard = self.directives.hear(trimmed, line.span());
        if let Some(comment) = trimmed.strip_prefix('#') {
            match heard {
                Heard::Directive => {}
                Heard::Problem(problem) => self.problems.push(problem),
                Heard::Other => self.comment(comment.trim()),
            }
        } else if !trimmed.is_empty() {
            let logical = self.join(line, trimmed, text.len() - trimmed.len());
            self.instruction(&logical);
        }
    }

    /// An empty comment cuts those above it off from the instruction below.
    fn comment(&mut self, comment: &str) {
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    /// Joins the lines from `first` on, whose text begins `skipped` bytes behind its beginning.
    fn join(&mut self, first: Line<'a>, text: &str, skipped: usize) -> Logical {
        let escape = self.directives.directives.escape;
        let mut logical = Logical::default();
        let mut last = first;
        let mut has_empty_line = false;
        self.check_encoding(first);
        let mut more = push_part(&mut logical, text, skipped, first, escape);
        while more {
            let Some(line) = self.lines.next() else { break };
            self.check_length(line);
            last = line;
            let text = line.text();
            if is_comment(&text) {
                continue;
            }
            if text.trim_start().is_empty() {
                has_empty_line = true;
                continue;
            }
            self.check_encoding(line);
            more = push_part(&mut logical, &text, 0, line, escape);
        }
        logical.extend_to(last);
        if has_empty_line {
            self.problems.push(Problem {
                span: last.span(),
                severity: Severity::Warning {
                    rule: "NoEmptyContinuation",
                },
                message: "Empty continuation line".to_owned(),
                suggestion: None,
            });
        }
        logical
    }

    fn instruction(&mut self, logical: &Logical) {
        let comments = std::mem::take(&mut self.comments);
        let parts = Parts::split(logical, 0, self.directives.directives.escape);
        let mut span = logical.span;
        let documents = self.documents(&parts, &mut span);
        let understood = documents.and_then(|documents| parts.understand(&documents, span));
        self.count_stage(parts.keyword, understood.is_ok(), span);
        match understood {
            Ok(instruction) => self.instructions.push(Instruction {
                comments,
                ..instruction
            }),
            Err(fault) => {
                let fault = self.explain(fault, span);
                self.problems.push(problem_of(fault, span));
            }
        }
    }

    /// Adds what may have been meant by a line that is no instruction.
    fn explain(&self, fault: Fault, span: Span) -> Fault {
        let Some(word) = fault.unknown_instruction() else {
            return fault;
        };
        let above = self
            .instructions
            .last()
            .filter(|it| it.span.last_line + 1 == span.first_line);
        let escape = self.directives.directives.escape;
        let why = match (unspaced(word), above) {
            (Some(name), _) => format!("a blank is missing behind {name}"),
            (None, Some(above)) if above.original.contains("<<") && !above.has_heredocs() => {
                "here-documents are for RUN, COPY and ADD".to_owned()
            }
            (None, Some(_)) => format!("if it belongs to the line above, end that with {escape}"),
            (None, None) => return fault,
        };
        Fault::new(format!("{} ({why})", fault.message))
    }

    /// Reads the heredocs that an instruction opens; `span` comes to include them.
    fn documents(&mut self, parts: &Parts<'_>, span: &mut Span) -> Result<Vec<Document>, Fault> {
        if !parts.takes_heredocs() {
            return Ok(Vec::new());
        }
        let openings = heredoc::openings(parts.original())?;
        openings
            .into_iter()
            .map(|opening| self.document(opening, span))
            .collect()
    }

    fn document(&mut self, opening: Opening, span: &mut Span) -> Result<Document, Fault> {
        let mut raw = String::new();
        while let Some(line) = self.lines.next() {
            self.check_length(line);
            self.check_encoding(line);
            span.extend_to(line.span());
            if opening.ends_at(line) {
                return Ok(Document { opening, raw });
            }
            raw.push_str(&String::from_utf8_lossy(line.bytes));
        }
        Err(Fault::new(format!(
            "unterminated heredoc: no line below is `{}` and nothing else",
            opening.name
        )))
    }

    fn check_length(&mut self, line: Line<'_>) {
        if line.bytes.strip_suffix(b"\n").unwrap_or(line.bytes).len() > MAX_LINE {
            let message = format!(
                "dockerfile line greater than max allowed size of {MAX_LINE} bytes: break it into several"
            );
            self.problems.push(Problem::error(line.span(), message));
        }
    }

    /// Text that is no UTF-8 would come to mean something else; comments may be what they like.
    fn check_encoding(&mut self, line: Line<'_>) {
        if let Err(error) = std::str::from_utf8(line.bytes) {
            let start = line.start + error.valid_up_to();
            let end = start
                + error
                    .error_len()
                    .unwrap_or(line.bytes.len() - error.valid_up_to());
            let span = Span {
                start,
                end,
                ..line.span()
            };
            self.problems.push(Problem::error(
                span,
                "the line is not valid UTF-8: save the file as that",
            ));
        }
    }

    fn count_stage(&mut self, keyword: &str, understood: bool, span: Span) {
        if keyword.eq_ignore_ascii_case("FROM") {
            self.stages = Stages::Begun;
        } else if matches!(self.stages, Stages::NoInstruction | Stages::OnlyArguments) {
            let is_argument = keyword.eq_ignore_ascii_case("ARG");
            self.stages = if is_argument {
                Stages::OnlyArguments
            } else {
                Stages::Missed
            };
            if !is_argument && understood {
                self.problems.push(Problem::error(
                    span,
                    "no build stage in current context: only ARG may stand before the first FROM",
                ));
            }
        }
    }

    fn check_stages(&mut self, length: usize) {
        let message = match self.stages {
            Stages::NoInstruction => "file with no instructions: the first is FROM IMAGE",
            Stages::OnlyArguments => "dockerfile contains no stages to build: there is no FROM",
            Stages::Missed | Stages::Begun => return,
        };
        let line = self.lines.number();
        let span = Span {
            start: length,
            end: length,
            first_line: line,
            last_line: line,
        };
        self.problems.push(Problem::error(span, message));
    }
}

/// Appends a line to what it continues, and says whether it is itself continued.
fn push_part(
    logical: &mut Logical,
    text: &str,
    skipped: usize,
    line: Line<'_>,
    escape: char,
) -> bool {
    match continued(text, escape) {
        Some(text) => {
            logical.push(text, skipped, line);
            true
        }
        None => {
            logical.push(text, skipped, line);
            false
        }
    }
}

fn problem_of(fault: Fault, span: Span) -> Problem {
    Problem {
        span,
        severity: Severity::Error,
        message: fault.message,
        suggestion: fault.suggestion,
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_trigger};
    use crate::InstructionKind;

    #[test]
    fn a_trigger_of_an_image_is_one_instruction() {
        let copy = parse_trigger("COPY --from=x <<EOF /y\n$a\nEOF").unwrap();
        let InstructionKind::Copy(transfer) = copy.kind else {
            panic!("{copy:?}")
        };
        assert_eq!((transfer.flags.len(), transfer.sources.len()), (1, 1));
        assert_eq!(parse_trigger("RUN a \\\n b").unwrap().original, "RUN a  b");
    }

    #[test]
    fn what_is_no_trigger_is_refused() {
        for (text, expected) in [
            ("", "onbuild trigger should be a single expression"),
            ("# nothing", "onbuild trigger should be a single expression"),
            (
                "RUN a\nRUN b",
                "onbuild trigger should be a single expression",
            ),
            (
                "FROM x",
                "dockerfile parse error on line 1: FROM isn't allowed as an ONBUILD trigger: it is for instructions that come behind FROM",
            ),
            (
                "onbuild RUN x",
                "dockerfile parse error on line 1: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed: a trigger sets no trigger",
            ),
            (
                "FOO x",
                "dockerfile parse error on line 1: unknown instruction: FOO (did you mean FROM?)",
            ),
            (
                "RUN <<E\nx",
                "dockerfile parse error on line 1: unterminated heredoc: no line below is `E` and nothing else",
            ),
        ] {
            assert_eq!(
                parse_trigger(text).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_directive_is_a_comment_in_a_trigger() {
        assert!(parse_trigger("# escape=`\nRUN a \\\n b").is_ok());
    }

    #[test]
    fn a_warning_does_not_stop_a_build() {
        let parse = parse(b"FROM a\nRUN b \\\n\n c\n");
        assert_eq!(parse.problems.len(), 1);
        assert_eq!(parse.first_error(), None);
        assert_eq!(parse.problems[0].to_string(), "Empty continuation line");
    }
}
