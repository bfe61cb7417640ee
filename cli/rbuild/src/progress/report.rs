//! What is said after a build: why it failed, what should be looked at.

use std::fmt::Write as _;

use llb::SourceRange;
use solve::progress::{VertexError, Warning};

use super::state::State;

/// Each vertex that failed, with its last lines.
pub(crate) fn failures(state: &State) -> String {
    let mut text = String::new();
    for vertex in state
        .started()
        .filter(|it| matches!(it.error, Some(VertexError::Failed(_))))
    {
        let _ = writeln!(text, "------\n > {}:", vertex.name);
        for line in &vertex.tail {
            let _ = writeln!(text, "{}", line.stamped());
        }
        text.push_str("------\n");
    }
    text
}

/// The lines of a file around a range of them, marked with `>>>`.
///
/// Four lines around a single one, two around several. Empty where the range is not in the file.
pub(crate) fn excerpt(file: &str, content: &str, range: SourceRange) -> String {
    let lines: Vec<&str> = content.lines().collect();
    let SourceRange {
        first_line: first,
        last_line: last,
    } = range;
    if first == 0 || first > lines.len() || last < first {
        return String::new();
    }
    let around = if first == last { 4 } else { 2 };
    let from = first.saturating_sub(around).max(1);
    let to = (last + around).min(lines.len());
    let mut text = format!(
        "{}:{first}\n--------------------\n",
        super::text::clean(file.as_bytes())
    );
    for number in from..=to {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = format!(
            "{number:4} | {mark} {}",
            super::text::clean(lines[number - 1].as_bytes())
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("--------------------\n");
    text
}

/// How much is said of each warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One line each.
    Summary,
    /// With its address and the lines it is about.
    Full,
}

/// All warnings of a build; empty where there is none. `content` gives the text of a source file.
pub(crate) fn warnings(
    warnings: &[Warning],
    detail: Detail,
    content: impl Fn(&str) -> Option<String>,
) -> String {
    let count = warnings.len();
    let mut text = match count {
        0 => return String::new(),
        1 => "\n 1 warning found".to_owned(),
        _ => format!("\n {count} warnings found"),
    };
    text.push_str(match detail {
        Detail::Summary => " (use --debug to expand):\n",
        Detail::Full => ":\n",
    });
    for warning in warnings {
        let _ = writeln!(text, " - {}", summary(warning));
        if detail == Detail::Full {
            text.push_str(&expanded(warning, &content));
        }
    }
    text
}

fn summary(warning: &Warning) -> String {
    let mut text = super::text::clean(warning.message.as_bytes());
    if !warning.rule.is_empty() {
        text = format!("{}: {text}", warning.rule);
    }
    if let Some((_, lines)) = &warning.place {
        let _ = write!(text, " (line {})", lines.first_line);
    }
    text
}

fn expanded(warning: &Warning, content: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    if !warning.url.is_empty() {
        let _ = writeln!(text, "More info: {}", warning.url);
    }
    if let Some((file, lines)) = &warning.place
        && let Some(content) = content(file)
    {
        text.push_str(&excerpt(file, &content, *lines));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str =
        "FROM alpine AS Base\n\nCOPY missing /x\nRUN a \\\n  && b\nRUN c\nRUN d\nRUN e\nRUN f\n";

    #[test]
    fn one_line_stands_among_four_others() {
        let range = SourceRange {
            first_line: 3,
            last_line: 3,
        };
        let expected = "\
Dockerfile:3
--------------------
   1 |     FROM alpine AS Base
   2 |
   3 | >>> COPY missing /x
   4 |     RUN a \\
   5 |       && b
   6 |     RUN c
   7 |     RUN d
--------------------
";
        assert_eq!(excerpt("Dockerfile", DOCKERFILE, range), expected);
    }

    #[test]
    fn several_lines_stand_among_two_others() {
        let range = SourceRange {
            first_line: 4,
            last_line: 5,
        };
        let expected = "\
Dockerfile:4
--------------------
   2 |
   3 |     COPY missing /x
   4 | >>> RUN a \\
   5 | >>>   && b
   6 |     RUN c
   7 |     RUN d
--------------------
";
        assert_eq!(excerpt("Dockerfile", DOCKERFILE, range), expected);
        assert_eq!(excerpt("Dockerfile", "", range), "");
    }

    #[test]
    fn warnings_are_counted_and_explained_on_demand() {
        let range = SourceRange {
            first_line: 1,
            last_line: 1,
        };
        let casing = Warning {
            rule: "StageNameCasing".to_owned(),
            message: "Stage name 'Base' should be lowercase".to_owned(),
            url: "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/".to_owned(),
            place: Some(("Dockerfile".to_owned(), range)),
        };
        let unruly = Warning {
            rule: String::new(),
            message: "[Warning] One or more build-args [X] were not consumed".to_owned(),
            url: String::new(),
            place: None,
        };
        let content = |_: &str| Some("FROM alpine AS Base\n".to_owned());
        assert_eq!(warnings(&[], Detail::Summary, content), "");
        assert_eq!(
            warnings(std::slice::from_ref(&casing), Detail::Summary, content),
            "\n 1 warning found (use --debug to expand):\n - StageNameCasing: Stage name 'Base' should be lowercase (line 1)\n"
        );
        let expected = "
 2 warnings found:
 - StageNameCasing: Stage name 'Base' should be lowercase (line 1)
More info: https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Dockerfile:1
--------------------
   1 | >>> FROM alpine AS Base
--------------------

 - [Warning] One or more build-args [X] were not consumed

";
        assert_eq!(warnings(&[casing, unruly], Detail::Full, content), expected);
    }
}
