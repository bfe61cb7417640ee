//! Wildcard patterns for paths, compiled: what [`crate::glob`] and [`crate::ignore`] share.
//!
//! Matching walks the set of positions in the pattern that the text so far can have led to, so its
//! cost is length times length at worst, whatever the pattern.

/// A pattern that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Char(char),
    /// `?`: any character but `/`.
    Any,
    /// `*`: any characters but `/`.
    Star,
    /// `[…]`
    Class(Class),
    /// `**/`: nothing, or anything that ends in `/`. Always followed by [`Token::DirsBody`].
    Dirs,
    /// The inside of [`Token::Dirs`].
    DirsBody,
    /// `**` at the end: anything.
    All,
}

/// What stands between brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    crosses_slash: bool,
}

/// Whether the `/` is an ordinary character to a negated class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    Ordinary,
    Separates,
}

impl Class {
    /// Reads a class behind its `[`.
    pub(crate) fn parse(chars: &mut std::str::Chars<'_>, slash: Slash) -> Result<Self, BadPattern> {
        let negated = chars.as_str().starts_with('^');
        if negated {
            chars.next();
        }
        let mut ranges = Vec::new();
        loop {
            if chars.as_str().starts_with(']') && !ranges.is_empty() {
                chars.next();
                return Ok(Self {
                    negated,
                    ranges,
                    crosses_slash: slash == Slash::Ordinary,
                });
            }
            let low = class_char(chars)?;
            let mut high = low;
            if chars.as_str().starts_with('-') {
                chars.next();
                high = class_char(chars)?;
            }
            ranges.push((low, high));
        }
    }

    fn contains(&self, ch: char) -> bool {
        if ch == '/' && !self.crosses_slash {
            return false;
        }
        self.ranges
            .iter()
            .any(|&(low, high)| (low..=high).contains(&ch))
            != self.negated
    }
}

/// An end of a range in a class, escaped or not. Something must follow it: at least the `]`.
fn class_char(chars: &mut std::str::Chars<'_>) -> Result<char, BadPattern> {
    let ch = match chars.next() {
        None | Some('-' | ']') => return Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern)?,
        Some(ch) => ch,
    };
    if chars.as_str().is_empty() {
        Err(BadPattern)
    } else {
        Ok(ch)
    }
}

/// The positions in a pattern that a text can have led to.
#[derive(Debug, Clone)]
pub(crate) struct Positions {
    reached: Vec<bool>,
    /// Those before the last step; kept for its memory.
    before: Vec<bool>,
}

impl Positions {
    pub(crate) fn start(tokens: &[Token]) -> Self {
        let none = vec![false; tokens.len() + 1];
        let mut positions = Self {
            reached: none.clone(),
            before: none,
        };
        positions.reach(tokens, 0);
        positions
    }

    /// Marks `position`, and those behind it that need no character.
    fn reach(&mut self, tokens: &[Token], mut position: usize) {
        loop {
            self.reached[position] = true;
            match tokens.get(position) {
                Some(Token::Star | Token::All) => position += 1,
                Some(Token::Dirs) => {
                    self.reached[position + 1] = true;
                    position += 2;
                }
                _ => return,
            }
        }
    }

    pub(crate) fn step(&mut self, tokens: &[Token], ch: char) {
        std::mem::swap(&mut self.reached, &mut self.before);
        self.reached.fill(false);
        for (position, token) in tokens.iter().enumerate() {
            if !self.before[position] {
                continue;
            }
            match token {
                Token::Char(expected) if *expected == ch => self.reach(tokens, position + 1),
                Token::Any if ch != '/' => self.reach(tokens, position + 1),
                Token::Class(class) if class.contains(ch) => self.reach(tokens, position + 1),
                Token::Star if ch != '/' => self.reach(tokens, position),
                Token::All => self.reach(tokens, position),
                Token::DirsBody => {
                    self.reached[position] = true;
                    if ch == '/' {
                        self.reach(tokens, position + 1);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the text so far is matched.
    pub(crate) fn at_end(&self) -> bool {
        self.reached.last() == Some(&true)
    }

    /// Whether some longer text may still be matched, or this one is.
    pub(crate) fn alive(&self) -> bool {
        self.reached.contains(&true)
    }
}

/// Whether `tokens` match all of `text`.
pub(crate) fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let mut positions = Positions::start(tokens);
    for ch in characters(text) {
        positions.step(tokens, ch);
        if !positions.alive() {
            return false;
        }
    }
    positions.at_end()
}

/// The characters of a path; a byte that is no UTF-8 counts as one that is unknown.
pub(crate) fn characters(text: &[u8]) -> impl Iterator<Item = char> + '_ {
    text.utf8_chunks().flat_map(|chunk| {
        chunk
            .valid()
            .chars()
            .chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER))
    })
}
