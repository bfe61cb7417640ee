//! The `--name=value` words in front of an instruction's arguments.

use std::ops::Range;

use crate::{Case, Flag, suggest};

/// A word that begins with `--`, and where in its text it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlagWord {
    /// The word without quotes and escapes.
    pub(crate) text: String,
    pub(crate) range: Range<usize>,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `true` or `false`.
    Bool,
    /// One value.
    Value,
    /// A value, as often as one likes.
    Values,
}

/// The flags of an instruction.
pub(crate) type Known = &'static [(&'static str, Takes)];

pub(crate) const FROM: Known = &[("platform", Takes::Value)];
pub(crate) const RUN: Known = &[
    ("cache-ttl", Takes::Value),
    ("device", Takes::Values),
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("retry", Takes::Value),
    ("security", Takes::Value),
    ("timeout", Takes::Value),
];
pub(crate) const COPY: Known = &[
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("from", Takes::Value),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
];
pub(crate) const ADD: Known = &[
    ("checksum", Takes::Value),
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("keep-git-dir", Takes::Bool),
    ("link", Takes::Bool),
    ("unpack", Takes::Bool),
];
pub(crate) const HEALTHCHECK: Known = &[
    ("interval", Takes::Value),
    ("retries", Takes::Value),
    ("start-interval", Takes::Value),
    ("start-period", Takes::Value),
    ("timeout", Takes::Value),
];
pub(crate) const NONE: Known = &[];

/// Why flags are wrong, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: --{name}")]
    Unknown {
        name: String,
        suggestion: Option<String>,
    },
    #[error("duplicate flag specified: --{0} (it may stand once)")]
    Duplicate(String),
    #[error("missing a value on flag: --{0} (write --{0}=VALUE)")]
    MissingValue(String),
    #[error("expecting boolean value for flag --{name}, not: {value} (it is true or false)")]
    NotBoolean { name: String, value: String },
}

/// Takes the flags off the front of `text`: the flags, and where the arguments begin.
///
/// A lone `--` ends the flags and is none. Quotes and escapes are honoured inside a flag.
pub(crate) fn split_off(text: &str, escape: char) -> (Vec<FlagWord>, usize) {
    let mut flags = Vec::new();
    let mut position = 0;
    loop {
        let rest = &text[position..];
        position += rest.len() - rest.trim_start().len();
        if !text[position..].starts_with("--") {
            return (flags, position);
        }
        let (word, length) = unquoted_word(&text[position..], escape);
        let range = position..position + length;
        position = range.end;
        if word == "--" {
            return (flags, position);
        }
        flags.push(FlagWord { text: word, range });
    }
}

/// The word at the beginning of `text` without quotes and escapes, and how long it was with them.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match (quote, ch) {
            (None, ch) if ch.is_whitespace() => return (word, at),
            (None, '\'' | '"') => quote = Some(ch),
            (Some(open), ch) if ch == open => quote = None,
            (_, ch) if ch == escape => word.extend(chars.next().map(|(_, escaped)| escaped)),
            (_, ch) => word.push(ch),
        }
    }
    (word, text.len())
}

/// Reads flag words as the flags `known`.
pub(crate) fn read(
    words: &[FlagWord],
    known: Known,
    span_of: impl Fn(Range<usize>) -> crate::Span,
) -> Result<Vec<Flag>, FlagError> {
    let mut flags: Vec<Flag> = Vec::with_capacity(words.len());
    for word in words {
        let text = word.text.strip_prefix("--").unwrap_or(&word.text);
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let found = known.iter().find(|(it, _)| *it == name);
        let &(name, takes) = found.ok_or_else(|| {
            let suggestion = suggest(name, known.iter().map(|&(it, _)| it), Case::Sensitive);
            FlagError::Unknown {
                name: name.to_owned(),
                suggestion: suggestion.map(|it| format!("--{it}")),
            }
        })?;
        if takes != Takes::Values && flags.iter().any(|it| it.name == name) {
            return Err(FlagError::Duplicate(name.to_owned()));
        }
        check_value(name, value, takes)?;
        let span = span_of(word.range.clone());
        flags.push(Flag {
            name,
            value: value.map(str::to_owned),
            span,
        });
    }
    Ok(flags)
}

fn check_value(name: &str, value: Option<&str>, takes: Takes) -> Result<(), FlagError> {
    match (takes, value) {
        (Takes::Bool, Some("")) | (Takes::Value | Takes::Values, None) => {
            Err(FlagError::MissingValue(name.to_owned()))
        }
        (Takes::Bool, Some(value)) if !is_boolean(value) => Err(FlagError::NotBoolean {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

impl Flag {
    /// Of a flag that is on or off: whether it is on. It is where it has no value.
    pub fn is_on(&self) -> bool {
        self.value
            .as_deref()
            .is_none_or(|value| value.eq_ignore_ascii_case("true"))
    }
}
