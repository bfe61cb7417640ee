//! Here-documents: `<<NAME` in an instruction, its lines, and the line `NAME`.

use crate::Heredoc;
use crate::line::Line;
use crate::words::{self, ExpandError};

/// A heredoc with its lines as they stand in the file.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) opening: Opening,
    /// The lines, leading tabs included.
    pub(crate) raw: String,
}

/// What `3<<-"NAME"` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
    pub(crate) file_descriptor: u32,
}

/// The heredocs that `line` opens, in order.
///
/// A line whose quotes do not match opens none: the shell will say what is wrong with it.
pub(crate) fn openings(line: &str) -> Result<Vec<Opening>, ExpandError> {
    let words = words::written_words(line).unwrap_or_default();
    words
        .iter()
        .filter_map(|word| opening(word).transpose())
        .collect()
}

/// What the word `word` opens; `None` where it is no heredoc.
pub(crate) fn opening(word: &str) -> Result<Option<Opening>, ExpandError> {
    let digits = word.len()
        - word
            .trim_start_matches(|ch: char| ch.is_ascii_digit())
            .len();
    let Some(rest) = word[digits..].strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let delimiter = rest.trim_start();
    if delimiter.is_empty() || delimiter.contains('<') {
        return Ok(None);
    }
    let (quoted, bare) = words::delimiter_words(delimiter)?;
    let ([quoted], [name]) = (quoted.as_slice(), bare.as_slice()) else {
        return Ok(None);
    };
    let file_descriptor = if digits == 0 {
        0
    } else {
        word[..digits].parse().unwrap_or(u32::MAX)
    };
    let expand = quote_count(quoted) == quote_count(name);
    Ok(Some(Opening {
        name: name.clone(),
        expand,
        chomp,
        file_descriptor,
    }))
}

fn quote_count(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}

impl Document {
    /// The lines, without leading tabs where the heredoc was opened with `<<-`.
    pub(crate) fn content(&self) -> String {
        if !self.opening.chomp {
            return self.raw.clone();
        }
        self.raw
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }

    pub(crate) fn to_heredoc(&self) -> Heredoc {
        self.opening.to_heredoc(self.content())
    }
}

impl Opening {
    /// Whether `line` is the one that ends the heredoc.
    pub(crate) fn ends_at(&self, line: Line<'_>) -> bool {
        let body = line.text();
        let candidate = if self.chomp {
            body.trim_start_matches('\t')
        } else {
            &body
        };
        candidate == self.name
    }

    /// The heredoc that has this opening and the lines `content`.
    pub(crate) fn to_heredoc(&self, content: String) -> Heredoc {
        Heredoc {
            name: self.name.clone(),
            expand: self.expand,
            chomp: self.chomp,
            file_descriptor: self.file_descriptor,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Opening, openings};

    fn check(line: &str, expected: &[(&str, bool, bool, u32)]) {
        let found = openings(line).unwrap();
        let expected: Vec<Opening> = expected
            .iter()
            .map(|&(name, expand, chomp, file_descriptor)| Opening {
                name: name.to_owned(),
                expand,
                chomp,
                file_descriptor,
            })
            .collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn heredocs_are_found_in_a_line() {
        check("RUN <<EOF", &[("EOF", true, false, 0)]);
        check("RUN <<-EOF", &[("EOF", true, true, 0)]);
        check("RUN 3<<EOF cat", &[("EOF", true, false, 3)]);
        check("RUN <<'EOF'", &[("EOF", false, false, 0)]);
        check("RUN <<\"E O F\"", &[("E O F", false, false, 0)]);
        check("RUN <<E\"O\"F", &[("EOF", false, false, 0)]);
        check("RUN << EOF", &[("EOF", true, false, 0)]);
        check("RUN <<$EOF", &[("$EOF", true, false, 0)]);
        check(
            "RUN cat <<A <<-'B' | sh",
            &[("A", true, false, 0), ("B", false, true, 0)],
        );
        check(
            "COPY <<a <<b /",
            &[("a", true, false, 0), ("b", true, false, 0)],
        );
    }

    #[test]
    fn what_only_looks_like_a_heredoc_is_none() {
        check("RUN cat <<< word", &[]);
        check("RUN echo '<<EOF'", &[]);
        check("RUN echo \\<<EOF", &[]);
        check("RUN echo $((1<<2))", &[]);
        check("RUN echo a<<EOF", &[]);
        check("RUN echo it's <<EOF", &[]);
        check("RUN <<", &[]);
        check("RUN <<''", &[]);
    }
}
