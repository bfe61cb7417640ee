//! What is said after a build: why it failed, what should be looked at.

use std::fmt::Write as _;

use solve::progress::{VertexError, Warning};

use super::state::State;
use super::text::clean;

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
    let mut text = clean(warning.message.as_bytes());
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
        text.push_str(&clean_lines(&dockerfile_parser::excerpt(
            file,
            content.as_bytes(),
            lines.first_line,
            lines.last_line,
        )));
    }
    text.push('\n');
    text
}

/// Text of several lines without anything that acts on a terminal. Ends with a newline.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", clean(line.as_bytes()).trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use llb::SourceRange;

    use super::*;

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
   2 |
--------------------

 - [Warning] One or more build-args [X] were not consumed

";
        assert_eq!(warnings(&[casing, unruly], Detail::Full, content), expected);
    }
}
