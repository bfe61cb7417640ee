//! Shell words: variables expanded, quotes and escapes taken away, as BuildKit does it.
//!
//! A *word* is any text of an instruction that BuildKit expands. The *escape* is the file's escape
//! character. `$name` and `${name}` stand for a value; `${name:-word}`, `-`, `:+`, `+`, `:?`, `?`,
//! `#`, `##`, `%`, `%%`, `/` and `//` modify it. Single quotes keep everything, double quotes keep
//! all but variables and escapes of `"`, `$` and the escape character.

mod lexer;
mod shell_pattern;

use std::collections::BTreeSet;

use lexer::{Escapes, Lexer, Quotes, Splitting, Style};
pub use shell_pattern::PatternError;

/// Gives the value of a variable; `None` where it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A word, expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text that the word stands for.
    pub text: String,
    /// The variables that had a value.
    pub used: BTreeSet<String>,
    /// The variables that had none, and no modifier that says what to do then.
    pub unset: BTreeSet<String>,
}

/// A word, expanded and split where unquoted blanks are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// The words that came out; none is empty.
    pub words: Vec<String>,
    /// As [`Expansion::used`].
    pub used: BTreeSet<String>,
    /// As [`Expansion::unset`].
    pub unset: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {reason}", crate::quote(.word))]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub reason: ExpandReason,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandReason {
    /// `${x`
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${x/a}`
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:x}`, `${{x}`
    #[error("syntax error: bad substitution: a name stands behind `${{`")]
    BadSubstitution,
    /// `${x:#y}`, `${x^}`
    #[error("unsupported modifier ({0}) in substitution: there are :- :+ :? - + ? # ## % %% / //")]
    UnsupportedModifier(String),
    /// `'x`
    #[error(
        "unexpected end of statement while looking for matching single-quote: close it, or escape it"
    )]
    UnclosedSingleQuote,
    /// `"x`
    #[error(
        "unexpected end of statement while looking for matching double-quote: close it, or escape it"
    )]
    UnclosedDoubleQuote,
    /// `${x?message}` or `${x:?message}`, and `x` is unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it, or what is said where it says nothing.
        message: String,
    },
    /// The pattern of a `#`, `%` or `/` has an escape that is none.
    #[error("invalid pattern ({pattern}) in substitution: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// Substitutions stand in each other deeper than anybody writes by hand.
    #[error("substitutions are nested too deeply")]
    TooDeep,
}

/// Whether `word` stands for itself: most do.
pub fn is_plain(word: &str, escape: char) -> bool {
    !word.contains(['$', '\'', '"', escape])
}

/// Expands `word`: one text comes out, blanks in it are kept.
pub fn expand(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<Expansion, ExpandError> {
    if is_plain(word, escape) {
        return Ok(Expansion {
            text: word.to_owned(),
            ..Expansion::default()
        });
    }
    run(word, lookup, Style::new(escape)).map(into_expansion)
}

/// Expands `word` and splits the result where unquoted blanks are, those of values included.
pub fn expand_words(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<Words, ExpandError> {
    let style = Style {
        splitting: Splitting::AtBlanks,
        ..Style::new(escape)
    };
    run(word, lookup, style).map(|it| Words {
        words: it.words,
        used: it.used,
        unset: it.unset,
    })
}

/// Expands `word` but leaves the quotes around what is quoted.
pub fn expand_keeping_quotes(
    word: &str,
    lookup: &Lookup<'_>,
    escape: char,
) -> Result<Expansion, ExpandError> {
    run(
        word,
        lookup,
        Style {
            quotes: Quotes::Keep,
            ..Style::new(escape)
        },
    )
    .map(into_expansion)
}

/// Expands `word` but leaves variables without a value as they are written.
pub fn expand_set(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<Expansion, ExpandError> {
    run(
        word,
        lookup,
        Style {
            keep_unset: true,
            ..Style::new(escape)
        },
    )
    .map(into_expansion)
}

/// Expands `text` for people to read: quotes and escapes stay, and so do variables without a value.
pub fn expand_for_display(
    text: &str,
    lookup: &Lookup<'_>,
    escape: char,
) -> Result<Expansion, ExpandError> {
    let style = Style {
        quotes: Quotes::Keep,
        escapes: Escapes::Keep,
        keep_unset: true,
        ..Style::new(escape)
    };
    run(text, lookup, style).map(into_expansion)
}

/// Expands the body of a `COPY` or `ADD` heredoc.
///
/// Quotes are plain text there and the escape is `\` whatever the file says. BuildKit takes every
/// backslash away; here one goes only in front of `$`, `\` and a line's end, and stays elsewhere,
/// because a `\n` that silently becomes `n` serves nobody.
pub fn expand_heredoc(content: &str, lookup: &Lookup<'_>) -> Result<Expansion, ExpandError> {
    let style = Style {
        quotes: Quotes::Text,
        escapes: Escapes::Heredoc,
        ..Style::new('\\')
    };
    run(content, lookup, style).map(into_expansion)
}

/// The words of an instruction's line as they are written, for finding heredocs among them.
pub(crate) fn written_words(line: &str) -> Result<Vec<String>, ExpandError> {
    let style = Style {
        quotes: Quotes::Keep,
        escapes: Escapes::Keep,
        keep_unset: true,
        splitting: Splitting::AtBlanks,
        ..Style::new('\\')
    };
    run(line, &|_| None, style).map(|it| it.words)
}

/// The words of a heredoc's delimiter, with and without the quotes.
pub(crate) fn delimiter_words(text: &str) -> Result<(Vec<String>, Vec<String>), ExpandError> {
    let bare = Style {
        keep_unset: true,
        splitting: Splitting::AtBlanks,
        ..Style::new('\\')
    };
    let quoted = Style {
        quotes: Quotes::Keep,
        ..bare
    };
    Ok((
        run(text, &|_| None, quoted)?.words,
        run(text, &|_| None, bare)?.words,
    ))
}

fn run(word: &str, lookup: &Lookup<'_>, style: Style) -> Result<lexer::Lexed, ExpandError> {
    Lexer::new(word, lookup, style)
        .run()
        .map_err(|reason| ExpandError {
            word: word.to_owned(),
            reason,
        })
}

fn into_expansion(lexed: lexer::Lexed) -> Expansion {
    Expansion {
        text: lexed.text,
        used: lexed.used,
        unset: lexed.unset,
    }
}

#[cfg(test)]
mod tests;
