//! The reader of words, one character at a time.

use std::collections::BTreeSet;

use super::{ExpandReason, Lookup, shell_pattern};

/// Deeper than this substitutions do not nest: each level costs stack.
const MAX_DEPTH: usize = 64;

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) escape: char,
    pub(super) quotes: Quotes,
    pub(super) escapes: Escapes,
    pub(super) keep_unset: bool,
    pub(super) splitting: Splitting,
}

/// Whether the words of the text are wanted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Splitting {
    /// Only the text.
    No,
    /// They end where unquoted blanks are.
    AtBlanks,
}

/// What becomes of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They quote, and go.
    Strip,
    /// They quote, and stay.
    Keep,
    /// They are characters like others.
    Text,
}

/// What becomes of the escape character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// It goes, what follows is plain.
    Strip,
    /// It stays, what follows is plain.
    Keep,
    /// It goes in front of `$`, itself and a line's end, and is plain elsewhere.
    Heredoc,
}

impl Style {
    pub(super) fn new(escape: char) -> Self {
        Self {
            escape,
            quotes: Quotes::Strip,
            escapes: Escapes::Strip,
            keep_unset: false,
            splitting: Splitting::No,
        }
    }

    /// Whether `ch` is itself wherever it stands, and ends nothing but words.
    fn is_plain(&self, ch: char) -> bool {
        let quotes = self.quotes != Quotes::Text && matches!(ch, '\'' | '"');
        !quotes && ch != '$' && ch != '<' && ch != self.escape
    }
}

/// What a word was read into.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    pub(super) used: BTreeSet<String>,
    pub(super) unset: BTreeSet<String>,
}

pub(super) struct Lexer<'a> {
    source: &'a str,
    position: usize,
    lookup: &'a Lookup<'a>,
    style: Style,
    depth: usize,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str, lookup: &'a Lookup<'a>, style: Style) -> Self {
        Self {
            source,
            position: 0,
            lookup,
            style,
            depth: 0,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Lexed, ExpandReason> {
        let output = self.read(None, self.style.escapes)?;
        let (text, words) = output.finish();
        Ok(Lexed {
            text,
            words,
            used: self.used,
            unset: self.unset,
        })
    }

    fn peek(&self) -> Option<char> {
        self.source[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.position += ch.len_utf8();
        Some(ch)
    }

    fn at_end(&self) -> bool {
        self.position == self.source.len()
    }

    /// Reads to the end, or to `stop`, which is consumed; the end before `stop` is an error.
    fn read(&mut self, stop: Option<char>, escapes: Escapes) -> Result<Output, ExpandReason> {
        let outer = std::mem::replace(&mut self.style.escapes, escapes);
        let result = self.read_until(stop);
        self.style.escapes = outer;
        result
    }

    fn read_until(&mut self, stop: Option<char>) -> Result<Output, ExpandReason> {
        let quoting = self.style.quotes != Quotes::Text;
        let mut output = Output::new(self.style.splitting);
        while let Some(ch) = self.peek() {
            match ch {
                ch if Some(ch) == stop => {
                    self.next();
                    return Ok(output);
                }
                '$' => output.push_splitting(&self.dollar()?),
                '<' => output.push_whole(self.possible_heredoc()),
                '\'' if quoting => output.push_whole(&self.single_quoted()?),
                '"' if quoting => output.push_whole(&self.double_quoted()?),
                ch if ch == self.style.escape => self.escaped(&mut output),
                _ => output.push_splitting(self.plain_run(stop)),
            }
        }
        match stop {
            None => Ok(output),
            Some('/') => Err(ExpandReason::MissingSlash),
            Some(_) => Err(ExpandReason::MissingBrace),
        }
    }

    /// What follows that is itself, up to `stop`; at least one character.
    fn plain_run(&mut self, stop: Option<char>) -> &'a str {
        let rest = &self.source[self.position..];
        let is_over = |ch: char| Some(ch) == stop || !self.style.is_plain(ch);
        let run = &rest[..rest.find(is_over).unwrap_or(rest.len())];
        self.position += run.len();
        run
    }

    /// An escape character outside quotes, and what it escapes.
    fn escaped(&mut self, output: &mut Output) {
        let escape = self.style.escape;
        self.next();
        let special = matches!(self.peek(), Some(ch) if ch == '$' || ch == escape || ch == '\n');
        match self.style.escapes {
            Escapes::Strip => {}
            Escapes::Heredoc if special => {}
            Escapes::Keep | Escapes::Heredoc => output.push_plain(escape),
        }
        if let Some(ch) = self.next() {
            output.push_plain(ch);
        }
    }

    /// `<`, or `<<` and the blanks behind it: those belong to the heredoc's word.
    fn possible_heredoc(&mut self) -> &'a str {
        let start = self.position;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while self.peek().is_some_and(char::is_whitespace) {
                self.next();
            }
        }
        &self.source[start..self.position]
    }

    fn single_quoted(&mut self) -> Result<String, ExpandReason> {
        let start = self.position;
        self.next();
        let Some(length) = self.source[self.position..].find('\'') else {
            self.position = self.source.len();
            return Err(ExpandReason::UnclosedSingleQuote);
        };
        let inner = self.position..self.position + length;
        self.position = inner.end + 1;
        let kept = if self.style.quotes == Quotes::Keep {
            start..self.position
        } else {
            inner
        };
        Ok(self.source[kept].to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, ExpandReason> {
        let (escape, keep_quotes) = (self.style.escape, self.style.quotes == Quotes::Keep);
        let mut text = String::new();
        self.next();
        if keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    self.position = self.source.len();
                    return Err(ExpandReason::UnclosedDoubleQuote);
                }
                Some('"') => {
                    self.next();
                    if keep_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(ch) if ch == escape => self.escaped_in_quotes(&mut text),
                Some(ch) => {
                    self.next();
                    text.push(ch);
                }
            }
        }
    }

    /// In double quotes only `"`, `$` and the escape character itself can be escaped.
    fn escaped_in_quotes(&mut self, text: &mut String) {
        let escape = self.style.escape;
        self.next();
        match self.peek() {
            None => {}
            Some(ch) if ch == '"' || ch == '$' || ch == escape => {
                if self.style.escapes == Escapes::Keep {
                    text.push(escape);
                }
                self.next();
                text.push(ch);
            }
            Some(_) => text.push(escape),
        }
    }

    /// A `$` and what it names.
    fn dollar(&mut self) -> Result<String, ExpandReason> {
        let start = self.position;
        self.next();
        if self.peek() == Some('{') {
            self.next();
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(ExpandReason::TooDeep);
            }
            let value = self.braces(start);
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.plain(name, start))
    }

    /// What stands between `${` and `}`. `start` is where the `$` is.
    fn braces(&mut self, start: usize) -> Result<String, ExpandReason> {
        match self.peek() {
            None => return Err(ExpandReason::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandReason::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandReason::MissingBrace),
            Some('}') => Ok(self.plain(name, start)),
            Some(':') => match self.next() {
                None => Err(ExpandReason::MissingBrace),
                Some(modifier @ ('-' | '+' | '?')) => {
                    self.conditional(name, modifier, Empty::IsUnset, start)
                }
                Some(modifier) => Err(ExpandReason::UnsupportedModifier(format!(":{modifier}"))),
            },
            Some(modifier @ ('-' | '+' | '?')) => {
                self.conditional(name, modifier, Empty::IsAValue, start)
            }
            Some(side @ ('#' | '%')) => self.trimmed(name, side, start),
            Some('/') => self.replaced(name, start),
            Some(modifier) => Err(ExpandReason::UnsupportedModifier(modifier.to_string())),
        }
    }

    /// A name: letters, digits and `_`; or digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> &'a str {
        let rest = &self.source[self.position..];
        let first = rest.chars().next();
        let end = match first {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            Some('0'..='9') => rest
                .find(|ch: char| !ch.is_ascii_digit())
                .unwrap_or(rest.len()),
            _ => rest
                .find(|ch: char| !ch.is_alphanumeric() && ch != '_')
                .unwrap_or(rest.len()),
        };
        self.position += end;
        &rest[..end]
    }

    /// The value of a variable that was named without a modifier.
    fn plain(&mut self, name: &str, start: usize) -> String {
        match self.value(name) {
            Some(value) => value,
            None if self.style.keep_unset => self.source[start..self.position].to_owned(),
            None => {
                self.unset.insert(name.to_owned());
                String::new()
            }
        }
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        self.used.insert(name.to_owned());
        Some(value)
    }

    /// `${name-word}`, `${name+word}`, `${name?word}` and the same with a colon.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty: Empty,
        start: usize,
    ) -> Result<String, ExpandReason> {
        let word = self.modifier_word('}', Escapes::Strip)?;
        let value = self.value(name);
        if value.is_none() && self.style.keep_unset {
            return Ok(self.source[start..self.position].to_owned());
        }
        let was_set = value.is_some();
        let value = value.filter(|it| !it.is_empty() || empty == Empty::IsAValue);
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let usual = if was_set {
                    "is not allowed to be empty"
                } else {
                    "is not allowed to be unset"
                };
                let message = if word.is_empty() {
                    usual.to_owned()
                } else {
                    word
                };
                Err(ExpandReason::Required {
                    name: name.to_owned(),
                    message,
                })
            }
        }
    }

    /// `${name#pattern}`, `##`, `%`, `%%`.
    fn trimmed(&mut self, name: &str, side: char, start: usize) -> Result<String, ExpandReason> {
        let word = self.modifier_word('}', Escapes::Keep)?;
        let value = match self.plain_in_braces(name, start) {
            Ok(value) => value,
            Err(kept) => return Ok(kept),
        };
        let (pattern, extent) = match word.strip_prefix(side) {
            Some(pattern) => (pattern, shell_pattern::Extent::Longest),
            None => (word.as_str(), shell_pattern::Extent::Shortest),
        };
        let trim = if side == '#' {
            shell_pattern::trim_prefix
        } else {
            shell_pattern::trim_suffix
        };
        trim(&value, pattern, extent).map_err(|source| pattern_reason(pattern, source))
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str, start: usize) -> Result<String, ExpandReason> {
        let everywhere = self.peek() == Some('/');
        if everywhere {
            self.next();
        }
        let pattern = self.modifier_word('/', Escapes::Keep)?;
        let replacement = self.modifier_word('}', Escapes::Keep)?;
        let value = match self.plain_in_braces(name, start) {
            Ok(value) => value,
            Err(kept) => return Ok(kept),
        };
        let replace = if everywhere {
            shell_pattern::replace_all
        } else {
            shell_pattern::replace_first
        };
        replace(&value, &pattern, &replacement).map_err(|source| pattern_reason(&pattern, source))
    }

    /// As [`Self::plain`]; `Err` is the whole substitution as written, where it is to be kept.
    fn plain_in_braces(&mut self, name: &str, start: usize) -> Result<String, String> {
        match self.value(name) {
            Some(value) => Ok(value),
            None if self.style.keep_unset => Err(self.source[start..self.position].to_owned()),
            None => {
                self.unset.insert(name.to_owned());
                Ok(String::new())
            }
        }
    }

    /// The word of a modifier, up to `stop`.
    fn modifier_word(&mut self, stop: char, escapes: Escapes) -> Result<String, ExpandReason> {
        match self.read(Some(stop), escapes) {
            Ok(output) => Ok(output.finish().0),
            Err(ExpandReason::TooDeep) => Err(ExpandReason::TooDeep),
            // Whatever the word lacks, where the text has ended it is the brace that is missing first.
            Err(_) if self.at_end() && stop == '/' => Err(ExpandReason::MissingSlash),
            Err(_) if self.at_end() => Err(ExpandReason::MissingBrace),
            Err(reason) => Err(reason),
        }
    }
}

/// What an empty value is to a modifier: the colon makes the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    IsAValue,
    IsUnset,
}

fn pattern_reason(pattern: &str, source: shell_pattern::PatternError) -> ExpandReason {
    ExpandReason::Pattern {
        pattern: pattern.to_owned(),
        source,
    }
}

/// The text so far, and the words it falls into, where they are wanted.
#[derive(Debug)]
struct Output {
    splitting: Splitting,
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    fn new(splitting: Splitting) -> Self {
        Self {
            splitting,
            text: String::new(),
            words: Vec::new(),
            word: String::new(),
        }
    }

    /// A character that belongs to the word whatever it is.
    fn push_plain(&mut self, ch: char) {
        self.text.push(ch);
        if self.splitting == Splitting::AtBlanks {
            self.word.push(ch);
        }
    }

    /// A quoted text: blanks in it do not end the word.
    fn push_whole(&mut self, text: &str) {
        self.text.push_str(text);
        if self.splitting == Splitting::AtBlanks {
            self.word.push_str(text);
        }
    }

    /// A text whose blanks end words: plain characters, or a value.
    fn push_splitting(&mut self, text: &str) {
        self.text.push_str(text);
        if self.splitting == Splitting::AtBlanks {
            text.chars().for_each(|ch| self.split_at(ch));
        }
    }

    fn split_at(&mut self, ch: char) {
        if !ch.is_whitespace() {
            self.word.push(ch);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (std::mem::take(&mut self.text), self.words)
    }
}
