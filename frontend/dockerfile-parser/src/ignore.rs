//! `.dockerignore`: which paths of a context stay out of the build.
//!
//! A *rule* is a pattern, with `!` in front where it takes paths back in. The last rule that
//! matches a path or a directory above it decides. Patterns are anchored at the context's root;
//! `*` and `?` do not cross a `/`, `**` stands for any number of directories.
//! The semantics are those of moby/patternmatcher's `MatchesOrParentMatches`.

use crate::pattern::{self, BadPattern, Class, Positions, Slash, Token};

/// The rules of an ignore file, or of `--exclude`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: String,
    line: usize,
    reincludes: bool,
    matcher: Matcher,
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct RuleError {
    /// The line it stands on, from one.
    pub line: usize,
    /// The rule as written.
    pub pattern: String,
    /// What is wrong.
    pub problem: RuleProblem,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// A `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    Lone,
    /// A class that is not closed, or a `\` with nothing behind it.
    #[error("syntax error in pattern")]
    Syntax(#[from] BadPattern),
}

/// Which rules matched a directory or one above it: what its children inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visit {
    matched: Vec<bool>,
}

impl Patterns {
    /// Reads an ignore file.
    ///
    /// A byte order mark is skipped, a line with `#` in its first column is a comment, blanks
    /// around a rule and behind its `!` do not count.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, RuleError> {
        let text = String::from_utf8_lossy(text.as_ref());
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'));
        Self::from_numbered(lines.map(|(index, line)| (index + 1, line)))
    }

    /// Rules that do not come from a file, so that `#` is nothing special.
    pub fn new<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self, RuleError> {
        let rules: Vec<S> = rules.into_iter().collect();
        Self::from_numbered(
            rules
                .iter()
                .enumerate()
                .map(|(index, rule)| (index + 1, rule.as_ref())),
        )
    }

    fn from_numbered<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, RuleError> {
        let rules = lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                Rule::parse(line.trim(), number).map_err(|problem| RuleError {
                    line: number,
                    pattern: line.trim().to_owned(),
                    problem,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule begins with `!`.
    pub fn has_reinclusions(&self) -> bool {
        self.rules.iter().any(|rule| rule.reincludes)
    }

    /// Whether `path`, relative to the context's root, stays out.
    ///
    /// The root itself never does.
    pub fn is_excluded(&self, path: impl AsRef<[u8]>) -> bool {
        self.deciding_rule(path)
            .is_some_and(|rule| !rule.reincludes)
    }

    /// The rule that says whether `path` stays out; `None` where none matches it.
    pub fn deciding_rule(&self, path: impl AsRef<[u8]>) -> Option<&Rule> {
        let path = cleaned(path.as_ref());
        self.rules
            .iter()
            .rev()
            .find(|rule| prefixes(&path).any(|prefix| rule.matcher.is_match(prefix)))
    }

    /// What a walk begins with: the state of the context's root.
    pub fn root(&self) -> Visit {
        Visit {
            matched: vec![false; self.rules.len()],
        }
    }

    /// The state of `path`, whose directory has the state `parent`.
    ///
    /// A walk that keeps the state of each directory asks every rule once a path, where
    /// [`Self::is_excluded`] asks it once for every directory above as well.
    pub fn visit(&self, path: impl AsRef<[u8]>, parent: &Visit) -> Visit {
        let path = path.as_ref();
        let inherited = parent
            .matched
            .iter()
            .copied()
            .chain(std::iter::repeat(false));
        let matched = self
            .rules
            .iter()
            .zip(inherited)
            .map(|(rule, matched)| matched || rule.matcher.is_match(path))
            .collect();
        Visit { matched }
    }

    /// The rule that decides over the path that `visit` is the state of.
    pub fn rule_of(&self, visit: &Visit) -> Option<&Rule> {
        visit
            .matched
            .iter()
            .rposition(|&matched| matched)
            .and_then(|index| self.rules.get(index))
    }

    /// Whether the path that `visit` is the state of stays out.
    pub fn excludes(&self, visit: &Visit) -> bool {
        self.rule_of(visit).is_some_and(|rule| !rule.reincludes)
    }

    /// Whether a `!` rule may take something below the excluded directory `directory` back in.
    ///
    /// Where it says no, a walk need not descend. It may say yes where nothing will be found.
    pub fn may_reinclude_below(&self, directory: impl AsRef<[u8]>) -> bool {
        let directory = cleaned(directory.as_ref());
        if directory.is_empty() {
            return true;
        }
        for rule in self.rules.iter().rev() {
            // What is below inherits this match, and only a later rule could undo it.
            if !rule.reincludes && prefixes(&directory).any(|prefix| rule.matcher.is_match(prefix))
            {
                return false;
            }
            if rule.reincludes && rule.matcher.may_match_below(&directory) {
                return true;
            }
        }
        false
    }
}

impl Rule {
    fn parse(text: &str, line: usize) -> Result<Self, RuleProblem> {
        let (reincludes, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err(RuleProblem::Lone);
        }
        let pattern = clean_pattern(pattern);
        let matcher = Matcher::compile(&pattern)?;
        Ok(Self {
            pattern,
            line,
            reincludes,
            matcher,
        })
    }

    /// The pattern as it is matched: cleaned, without `!`.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The line it stands on, from one.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether it takes paths back in: it begins with `!`.
    pub fn reincludes(&self) -> bool {
        self.reincludes
    }
}

/// A pattern, ready to be matched. Most are one of the three simple kinds.
#[derive(Debug, Clone)]
enum Matcher {
    /// The whole path is this.
    Exact(String),
    /// `dir/**`: the path begins with this.
    Prefix(String),
    /// `**/name`: the path ends with this, and with no `/` where it is the whole path.
    Suffix(String),
    Tokens(Vec<Token>),
}

impl Matcher {
    fn compile(pattern: &str) -> Result<Self, BadPattern> {
        let tokens = tokenize(pattern)?;
        let literal = |tokens: &[Token]| {
            tokens
                .iter()
                .map(|it| {
                    if let Token::Char(ch) = it {
                        Some(*ch)
                    } else {
                        None
                    }
                })
                .collect::<Option<String>>()
        };
        let simple = match tokens.as_slice() {
            [middle @ .., Token::All] => literal(middle).map(Self::Prefix),
            [Token::Dirs, Token::DirsBody, name @ ..] => literal(name).map(|name| {
                // Without a slash behind the stars the name may end any longer one.
                let slash = if pattern.starts_with("**/") { "/" } else { "" };
                Self::Suffix(format!("{slash}{name}"))
            }),
            all => literal(all).map(Self::Exact),
        };
        Ok(simple.unwrap_or(Self::Tokens(tokens)))
    }

    fn is_match(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => path == expected.as_bytes(),
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_bytes())
                    || suffix
                        .strip_prefix('/')
                        .is_some_and(|it| path == it.as_bytes())
            }
            Self::Tokens(tokens) => pattern::matches(tokens, path),
        }
    }

    /// Whether some path below `directory` may match.
    fn may_match_below(&self, directory: &[u8]) -> bool {
        let below = [directory, b"/"].concat();
        match self {
            Self::Exact(expected) => expected.as_bytes().starts_with(&below),
            Self::Prefix(prefix) => {
                prefix.as_bytes().starts_with(&below) || below.starts_with(prefix.as_bytes())
            }
            Self::Suffix(_) => true,
            Self::Tokens(tokens) => {
                let mut positions = Positions::start(tokens);
                pattern::characters(&below).for_each(|ch| positions.step(tokens, ch));
                positions.alive()
            }
        }
    }
}

fn tokenize(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '*' if chars.as_str().starts_with('*') => {
                chars.next();
                if chars.as_str().starts_with('/') {
                    chars.next();
                }
                if chars.as_str().is_empty() {
                    tokens.push(Token::All);
                } else {
                    tokens.extend([Token::Dirs, Token::DirsBody]);
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => tokens.push(Token::Class(Class::parse(&mut chars, Slash::Ordinary)?)),
            '\\' => tokens.push(Token::Char(chars.next().ok_or(BadPattern)?)),
            ch => tokens.push(Token::Char(ch)),
        }
    }
    Ok(tokens)
}

/// Go's `filepath.Clean`, and no `/` in front: `/a//b/../c/` is `a/c`.
fn clean_pattern(pattern: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|it| *it != "..") => drop(kept.pop()),
            // Above the root is the root; above the start of a relative path is somewhere else.
            ".." if pattern.starts_with('/') => {}
            part => kept.push(part),
        }
    }
    if kept.is_empty() {
        ".".to_owned()
    } else {
        kept.join("/")
    }
}

/// A path without `/` at its ends and `./` in front.
fn cleaned(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    parts.join(&b'/')
}

/// `path` and every directory above it: `a`, `a/b`, `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (0..=path.len()).filter(|&end| end == path.len() || path[end] == b'/');
    ends.map(|end| &path[..end])
        .filter(|prefix| !prefix.is_empty())
}

#[cfg(test)]
mod tests;
