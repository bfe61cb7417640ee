//! Patterns over paths: Go's `filepath.Match` for wildcards, and the lines of a `.dockerignore`.

use std::path::Path;

use std::os::unix::ffi::OsStrExt;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without its `]`, a range without an end, or a `\` with nothing after it.
    #[error("syntax error in pattern `{0}`")]
    Malformed(String),
    /// A `!` with nothing after it.
    #[error("illegal exclusion pattern: `{0}`")]
    Empty(String),
}

/// Says which paths of a directory are left out of it.
///
/// Paths are relative to that directory. Asked from many threads at once.
pub trait Matcher: Sync {
    /// Whether `path` is left out.
    fn excludes(&self, path: &Path) -> bool;

    /// Whether nothing below the left-out directory `path` can be wanted again, so that a walk need
    /// not look.
    fn excludes_all_below(&self, path: &Path) -> bool;
}

/// Lines of a `.dockerignore`: the last one that matches a path, or a directory above it, decides;
/// one that begins with `!` takes back in.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    glob: Glob,
    takes_back: bool,
}

impl Patterns {
    /// Reads the lines; blank ones say nothing.
    pub fn new<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for line in lines {
            rules.extend(Rule::read(line.as_ref())?);
        }
        Ok(Self { rules })
    }

    /// Whether there is nothing that could leave anything out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    fn read(line: &str) -> Result<Option<Self>, PatternError> {
        let text = line.trim();
        let (takes_back, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if pattern.is_empty() {
            return if takes_back {
                Err(PatternError::Empty(text.to_owned()))
            } else {
                Ok(None)
            };
        }
        let clean = clean(pattern);
        // `.` names the directory itself, which is never left out.
        if clean.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            glob: Glob::new(&clean, Stars::CrossSlashes)?,
            takes_back,
        }))
    }

    fn matches(&self, path: &[u8]) -> bool {
        let mut ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        self.glob.matches(path) || ends.any(|end| self.glob.matches(&path[..end]))
    }
}

impl Matcher for Patterns {
    fn excludes(&self, path: &Path) -> bool {
        let path = path.as_os_str().as_bytes();
        self.rules
            .iter()
            .rev()
            .find(|rule| rule.matches(path))
            .is_some_and(|rule| !rule.takes_back)
    }

    fn excludes_all_below(&self, _path: &Path) -> bool {
        !self.rules.iter().any(|rule| rule.takes_back)
    }
}

/// Whether `name` matches `pattern` in the way of Go's `filepath.Match`: `*` and `?` stop at `/`.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, PatternError> {
    Ok(Glob::new(pattern, Stars::StopAtSlashes)?.matches(name))
}

/// Whether `pattern` would match anything but itself.
pub fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// One pattern, ready to match.
#[derive(Debug, Clone)]
pub struct Glob {
    prefix: Vec<u8>,
    tokens: Vec<Token>,
}

/// What `**` means in a [`Glob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stars {
    /// The same as `*`.
    StopAtSlashes,
    /// Any number of directories.
    CrossSlashes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyCharacter,
    /// Any bytes but `/`.
    Star,
    /// Any bytes.
    Everything,
    /// Nothing, or any bytes up to and with a `/`.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: &str, stars: Stars) -> Result<Self, PatternError> {
        let malformed = || PatternError::Malformed(pattern.to_owned());
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '*' if stars == Stars::CrossSlashes && rest.next_if_eq(&'*').is_some() => {
                    let slash = rest.next_if_eq(&'/').is_some();
                    tokens.push(if slash {
                        Token::Directories
                    } else {
                        Token::Everything
                    });
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::AnyCharacter),
                '[' => tokens.push(class(&mut rest).ok_or_else(malformed)?),
                '\\' => push_literal(&mut tokens, rest.next().ok_or_else(malformed)?),
                other => push_literal(&mut tokens, other),
            }
        }
        let literal = tokens.iter().map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        });
        let prefix: Vec<u8> = literal.collect();
        tokens.drain(..prefix.len());
        Ok(Self { prefix, tokens })
    }

    /// Whether all of `name` matches. Takes time in the product of the two lengths at worst.
    pub fn matches(&self, name: &[u8]) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        let (Some(first), Some(last)) = (self.tokens.first(), self.tokens.last()) else {
            return rest.is_empty();
        };
        if let Token::Byte(byte) = last
            && rest.last() != Some(byte)
        {
            return false;
        }
        if self.tokens.len() == 1 && *first == Token::Star {
            return !rest.contains(&b'/');
        }
        self.simulate(rest)
    }

    /// Follows all ways to match at once: `reached[i]` says that the tokens so far can match `name[..i]`.
    fn simulate(&self, name: &[u8]) -> bool {
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for token in &self.tokens {
            let mut next = vec![false; name.len() + 1];
            let mut alive = false;
            for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
                token.step(name, at, &mut next);
                alive = true;
            }
            if !alive {
                return false;
            }
            reached = next;
        }
        reached[name.len()]
    }
}

impl Token {
    /// Marks in `next` how far this token can bring a match that has come to `at`.
    fn step(&self, name: &[u8], at: usize, next: &mut [bool]) {
        let rest = &name[at..];
        match self {
            Self::Byte(byte) => {
                if rest.first() == Some(byte) {
                    next[at + 1] = true;
                }
            }
            Self::AnyCharacter => match character(rest) {
                Some((length, character)) if character != Some('/') => next[at + length] = true,
                _ => {}
            },
            Self::Star => {
                let length = rest
                    .iter()
                    .position(|byte| *byte == b'/')
                    .unwrap_or(rest.len());
                next[at..=at + length].fill(true);
            }
            Self::Everything => next[at..].fill(true),
            Self::Directories => {
                next[at] = true;
                for (offset, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                    next[at + offset + 1] = true;
                }
            }
            Self::Class { negated, ranges } => {
                let Some((length, Some(character))) = character(rest) else {
                    return;
                };
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character));
                if character != '/' && inside != *negated {
                    next[at + length] = true;
                }
            }
        }
    }
}

/// The first character of some bytes and its length; a byte that is no UTF-8 is a character without a name.
fn character(bytes: &[u8]) -> Option<(usize, Option<char>)> {
    let head = &bytes[..bytes.len().min(4)];
    let chunk = head.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some((character.len_utf8(), Some(character))),
        None => Some((1, None)),
    }
}

fn push_literal(tokens: &mut Vec<Token>, character: char) {
    let mut buffer = [0; 4];
    tokens.extend(character.encode_utf8(&mut buffer).bytes().map(Token::Byte));
}

/// Reads a class behind its `[`; `None` where it is malformed.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() {
            class_character(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

/// Go's `filepath.Clean` of a path as seen from `/`, without the leading `/`.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_those_of_go() {
        let yes = [
            ("*.c", "main.c"),
            ("a?c", "abc"),
            ("a?c", "a\u{e4}c"),
            ("[a-c]x", "bx"),
            ("[^a-c]x", "dx"),
            ("a\\*", "a*"),
            ("*/x", "dir/x"),
            ("**", "abc"),
            ("[\\]a]", "]"),
        ];
        for (pattern, name) in yes {
            assert_eq!(
                matches(pattern, name.as_bytes()),
                Ok(true),
                "{pattern} {name}"
            );
        }
        let no = [
            ("*.c", "a/main.c"),
            ("a?c", "a/c"),
            ("[a-c]x", "dx"),
            ("**", "a/b"),
            ("a*", "ba"),
        ];
        for (pattern, name) in no {
            assert_eq!(
                matches(pattern, name.as_bytes()),
                Ok(false),
                "{pattern} {name}"
            );
        }
        for pattern in ["[", "[a", "[]a]", "[a-]", "a\\", "[-x]"] {
            assert!(matches(pattern, b"a").is_err(), "{pattern}");
        }
    }

    /// `expected` lists what of `paths` is left in.
    fn check(lines: &[&str], paths: &str, expected: &str) {
        let patterns = Patterns::new(lines).unwrap();
        let left: Vec<_> = paths
            .split_whitespace()
            .filter(|path| !patterns.excludes(Path::new(path)))
            .collect();
        assert_eq!(left.join(" "), expected, "{lines:?}");
    }

    #[test]
    fn ignore_lines_are_those_of_docker() {
        check(&["foo"], "foo foo/bar x/foo foobar", "x/foo foobar");
        check(&["/foo/"], "foo foo/bar", "");
        check(&["**/foo"], "foo x/foo x/y/foo x/foo/z xfoo", "xfoo");
        check(&["foo/**"], "foo foo/a foo/a/b", "foo");
        check(&["**"], "a a/b", "");
        check(&["*"], "a a/b", "");
        check(
            &["*.md", "!README.md"],
            "README.md x.md a/x.md",
            "README.md a/x.md",
        );
        check(
            &["docs", "!docs/keep"],
            "docs docs/a docs/keep docs/keep/x",
            "docs/keep docs/keep/x",
        );
        check(&["!a", "a"], "a", "");
        check(&["**/*.o", "a/../b"], "x.o d/x.o b b/c", "");
        check(&["."], "a", "a");
    }

    #[test]
    fn a_lone_exclamation_mark_is_an_error() {
        assert!(matches!(Patterns::new(["!"]), Err(PatternError::Empty(_))));
        assert!(Patterns::new(["", "  "]).unwrap().is_empty());
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "a*".repeat(200) + "b";
        assert_eq!(matches(&pattern, "a".repeat(1000).as_bytes()), Ok(false));
    }
}
