//! The patterns of `${name#pattern}` and its kin: `*`, `?` and `\`, no brackets.

use regex::Regex;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Only `*`, `?`, `\`, `/` and `}` can be escaped.
    #[error("invalid escape '\\{0}'")]
    InvalidEscape(char),
    /// Nothing follows the last `\`.
    #[error("nothing is escaped by the '\\' at the end")]
    TrailingEscape,
    /// It is larger than the matcher takes.
    #[error("the pattern is too large")]
    TooLarge,
}

/// How much a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Shortest,
    Longest,
}

/// `value` without what `pattern` matches at its beginning.
pub(super) fn trim_prefix(
    value: &str,
    pattern: &str,
    extent: Extent,
) -> Result<String, PatternError> {
    let regex = compile(&format!("^{}", translate(pattern, extent)?))?;
    Ok(regex
        .find(value)
        .map_or(value, |it| &value[it.end()..])
        .to_owned())
}

/// `value` without what `pattern` matches at its end.
///
/// A regular expression finds the leftmost match, never the shortest at the right: so pattern and
/// value are turned round.
pub(super) fn trim_suffix(
    value: &str,
    pattern: &str,
    extent: Extent,
) -> Result<String, PatternError> {
    let turned: String = value.chars().rev().collect();
    let trimmed = trim_prefix(&turned, &turned_pattern(pattern), extent)?;
    Ok(trimmed.chars().rev().collect())
}

/// `value` with its first match of `pattern` replaced.
pub(super) fn replace_first(
    value: &str,
    pattern: &str,
    replacement: &str,
) -> Result<String, PatternError> {
    let regex = compile(&translate(pattern, Extent::Longest)?)?;
    Ok(regex
        .replacen(value, 1, regex::NoExpand(replacement))
        .into_owned())
}

/// `value` with every match of `pattern` replaced.
pub(super) fn replace_all(
    value: &str,
    pattern: &str,
    replacement: &str,
) -> Result<String, PatternError> {
    let regex = compile(&translate(pattern, Extent::Longest)?)?;
    Ok(regex
        .replace_all(value, regex::NoExpand(replacement))
        .into_owned())
}

fn compile(expression: &str) -> Result<Regex, PatternError> {
    Regex::new(expression).map_err(|_| PatternError::TooLarge)
}

fn translate(pattern: &str, extent: Extent) -> Result<String, PatternError> {
    let star = if extent == Extent::Longest {
        ".*"
    } else {
        ".*?"
    };
    let mut expression = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(ch) = chars.next() {
        match ch {
            '*' => expression.push_str(star),
            '?' => expression.push('.'),
            // The substitution's own delimiters are escaped for its sake, not for the pattern's.
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(ch @ ('*' | '?' | '\\')) => push_literal(&mut expression, ch),
                Some(ch) => return Err(PatternError::InvalidEscape(ch)),
                None => return Err(PatternError::TrailingEscape),
            },
            ch => push_literal(&mut expression, ch),
        }
    }
    Ok(expression)
}

fn push_literal(expression: &mut String, ch: char) {
    expression.push_str(&regex::escape(ch.encode_utf8(&mut [0; 4])));
}

/// The pattern from back to front, each escape still in front of what it escapes.
fn turned_pattern(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(ch) = rest.chars().next() {
        let escaped = if ch == '\\' {
            rest[1..].chars().next()
        } else {
            None
        };
        let length = ch.len_utf8() + escaped.map_or(0, char::len_utf8);
        let (piece, left) = rest.split_at(length);
        pieces.push(piece);
        rest = left;
    }
    pieces.into_iter().rev().collect()
}
