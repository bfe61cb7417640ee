//! Wildcards in the sources of `COPY` and `ADD`: Go's `filepath.Match`.
//!
//! `*` and `?` do not cross a `/`, `[a-z]` and `[^a]` are classes, `\` takes a character's meaning
//! away. There is no `**`: two stars are one.

pub use crate::pattern::BadPattern;
use crate::pattern::{self, Class, Slash, Token};

/// Whether `pattern` matches all of `name`, a `/` in the pattern standing for a `/` in the name.
pub fn is_match(pattern: &str, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    Ok(Glob::new(pattern)?.is_match(name))
}

/// Whether `pattern` is more than a name: it has an unescaped `*`, `?` or `[`.
pub fn has_wildcards(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// A pattern, compiled to be matched often.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads `pattern`; all of it has to be well formed, whatever it is matched against later.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' if tokens.last() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => Token::Class(Class::parse(&mut chars, Slash::Separates)?),
                '\\' => Token::Char(chars.next().ok_or(BadPattern)?),
                ch => Token::Char(ch),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether it matches all of `name`.
    pub fn is_match(&self, name: impl AsRef<[u8]>) -> bool {
        pattern::matches(&self.tokens, name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPattern, has_wildcards, is_match};

    #[test]
    fn names_match_as_gos_filepath_match_says() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a**", "a/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a[^b]c", "a/c", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[\\-x]", "a", false),
            ("[!a]", "b", false),
            ("[!a]", "!", true),
            ("[*]", "*", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(is_match(pattern, name), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_refused_whatever_it_is_matched_against() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "zzz[", "[a",
        ] {
            assert_eq!(is_match(pattern, "a"), Err(BadPattern), "{pattern}");
        }
    }

    #[test]
    fn a_byte_that_is_no_utf8_is_one_character() {
        assert_eq!(is_match("a?b", b"a\xffb"), Ok(true));
        assert_eq!(is_match("a?b", b"a\xff\xfeb"), Ok(false));
    }

    #[test]
    fn escaped_wildcards_are_none() {
        for (pattern, expected) in [
            ("a", false),
            ("a*", true),
            ("a\\*", false),
            ("a\\\\*", true),
            ("[a", true),
            ("\\", false),
            ("b?", true),
        ] {
            assert_eq!(has_wildcards(pattern), expected, "{pattern}");
        }
    }
}
