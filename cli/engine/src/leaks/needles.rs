//! What is looked for, and a search through bytes that come in pieces.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ops::Session as _;

use super::{Leak, Leaks};
use crate::Request;

/// Values that are shorter stand anywhere by chance.
const SHORTEST: usize = 8;
/// Of longer ones only the beginning is looked for.
const LONGEST: usize = 512;
/// Words within a value, each of which is a secret by itself, have at least so many bytes.
const SHORTEST_WORD: usize = 16;

/// What is looked for.
pub(crate) struct Needles {
    all: Vec<Needle>,
    automaton: AhoCorasick,
    shortest: usize,
    longest: usize,
}

/// One way in which one value may be written.
pub(super) struct Needle {
    secret: String,
    is_certain: bool,
    written: &'static str,
}

impl Needle {
    /// A leak of it, wherever that is.
    pub(super) fn leak(&self) -> Leak {
        Leak {
            secret: self.secret.clone(),
            is_certain: self.is_certain,
            written: self.written,
            at: String::new(),
            step: None,
            place: None,
        }
    }
}

impl Needles {
    /// The secrets of a request, and the build arguments that are called like secrets; `None` where there
    /// are none that could be told from anything else.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let mut values = Vec::new();
        for id in request.secrets.keys() {
            if let Some(value) = request.secret(id) {
                values.push((format!("secret {id:?}"), true, value));
            }
        }
        for (name, value) in &request.build_args {
            if lower::is_secret_name(name) {
                let title = format!("build argument {name}");
                values.push((title, false, value.clone().into_bytes()));
            }
        }
        Self::of_values(values)
    }

    /// The secrets that no image of a request may hold.
    pub(crate) fn refused_by(request: &Request) -> Option<Self> {
        match request.leaks {
            Leaks::Refuse => Self::of(request),
            Leaks::Warn | Leaks::Ignore => None,
        }
    }

    pub(super) fn of_values(values: Vec<(String, bool, Vec<u8>)>) -> Option<Self> {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut all = Vec::new();
        for (secret, is_certain, value) in values {
            for part in parts(&without_public(&value)) {
                for (written, pattern) in writings(part) {
                    if patterns.contains(&pattern) {
                        continue;
                    }
                    patterns.push(pattern);
                    all.push(Needle {
                        secret: secret.clone(),
                        is_certain,
                        written,
                    });
                }
            }
        }
        let shortest = patterns.iter().map(Vec::len).min()?;
        let longest = patterns.iter().map(Vec::len).max()?;
        let automaton = AhoCorasick::new(&patterns).ok()?;
        Some(Self {
            all,
            automaton,
            shortest,
            longest,
        })
    }

    /// No needle is in fewer bytes.
    pub(super) fn shortest(&self) -> u64 {
        self.shortest as u64
    }

    pub(super) fn searcher(&self) -> Searcher<'_> {
        Searcher {
            needles: self,
            tail: Vec::new(),
            found: BTreeSet::new(),
        }
    }
}

/// A search through bytes that come in pieces.
pub(super) struct Searcher<'a> {
    needles: &'a Needles,
    /// The last bytes of the pieces before, in which a needle may begin.
    tail: Vec<u8>,
    found: BTreeSet<usize>,
}

impl<'a> Searcher<'a> {
    /// Looks through the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let overlap = self.needles.longest - 1;
        if !self.tail.is_empty() {
            let end = piece.len().min(overlap);
            self.tail.extend_from_slice(&piece[..end]);
            let tail = std::mem::take(&mut self.tail);
            self.look(&tail);
            self.tail = tail;
        }
        self.look(piece);
        if piece.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - overlap..]);
        } else if self.tail.is_empty() {
            self.tail.extend_from_slice(piece);
        } else if self.tail.len() > overlap {
            self.tail.drain(..self.tail.len() - overlap);
        }
    }

    fn look(&mut self, bytes: &[u8]) {
        let found = self.needles.automaton.find_overlapping_iter(bytes);
        self.found.extend(found.map(|it| it.pattern().as_usize()));
    }

    /// Whether there is nothing more to find.
    pub(super) fn has_all(&self) -> bool {
        self.found.len() == self.needles.all.len()
    }

    /// What was found, each secret once.
    pub(super) fn found(&self) -> impl Iterator<Item = &'a Needle> {
        let mut told = BTreeSet::new();
        let needles = self.found.iter().map(|it| &self.needles.all[*it]);
        let first: Vec<&Needle> = needles.filter(|it| told.insert(&it.secret)).collect();
        first.into_iter()
    }
}

/// A value without what everybody may read: certificates, of which many an image has the same, and public keys. People
/// lend a step whom it shall trust as they lend it a password.
fn without_public(value: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut lines = value.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        let end = public_label(line).map(|label| [b"-----END ", label, b"-----"].concat());
        let is_end = |line: &[u8]| end.as_ref().is_some_and(|it| line.starts_with(it));
        // One that does not end is no certificate.
        match lines.clone().position(is_end) {
            Some(position) => drop(lines.nth(position)),
            None => rest.extend_from_slice(line),
        }
    }
    rest
}

/// What begins here, if it is something public (RFC 7468).
fn public_label(line: &[u8]) -> Option<&[u8]> {
    const PUBLIC: [&[u8]; 4] = [
        b"CERTIFICATE",
        b"CERTIFICATE REQUEST",
        b"CRL",
        b"PUBLIC KEY",
    ];
    let line = line.trim_ascii().strip_prefix(b"-----BEGIN ")?;
    let label = line.strip_suffix(b"-----")?;
    PUBLIC.iter().any(|it| label.ends_with(it)).then_some(label)
}

/// The value, and the words in it that look like keys: a file of settings is copied line by line.
fn parts(value: &[u8]) -> Vec<&[u8]> {
    let whole = value.trim_ascii();
    let mut parts: Vec<&[u8]> = Vec::new();
    if whole.len() >= SHORTEST && !could_be_a_word(whole) {
        parts.push(&whole[..whole.len().min(LONGEST)]);
    }
    let is_within = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(byte));
    for word in whole.split(is_within).flat_map(behind_equals) {
        let has = |test: fn(&u8) -> bool| word.iter().any(test);
        let looks_like_one = word.len() >= SHORTEST_WORD
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
            && !word.contains(&b'/');
        let word = &word[..word.len().min(LONGEST)];
        if looks_like_one && !parts.contains(&word) {
            parts.push(word);
        }
    }
    parts
}

/// `postgres`, `my-user`: what stands in many a file and means something else there.
fn could_be_a_word(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphabetic() || b"-_.".contains(byte);
    value.len() < SHORTEST_WORD && value.iter().all(is_plain)
}

/// Of `NAME=VALUE` the value; the `=` at the end of base64 stays.
fn behind_equals(word: &[u8]) -> Option<&[u8]> {
    let end = word.len() - word.iter().rev().take_while(|it| **it == b'=').count();
    let start = word[..end].iter().rposition(|it| *it == b'=');
    Some(&word[start.map_or(0, |it| it + 1)..])
}

/// How a value may be written.
fn writings(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = vec![("", value.to_vec())];
    // Base64 depends on where the value begins among three bytes; the letters that do not depend on
    // what stands before and behind it are looked for.
    for before in 0..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, before)
            .chain(value.iter().copied())
            .collect();
        let whole = padded.len() / 3 * 4 + [0, 1, 2][padded.len() % 3];
        let from = [0, 2, 3][before];
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let letters = engine.encode(&padded).into_bytes();
            let pattern = letters[from..whole].to_vec();
            if pattern.len() >= SHORTEST {
                found.push((" in base64", pattern));
            }
        }
    }
    let encoded: String = value.iter().map(|byte| percent(*byte)).collect();
    found.push((", percent-encoded", encoded.to_lowercase().into_bytes()));
    found.push((", percent-encoded", encoded.into_bytes()));
    if let Ok(text) = std::str::from_utf8(value) {
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        found.push((", quoted", quoted.as_bytes()[1..quoted.len() - 1].to_vec()));
    }
    found
}

fn percent(byte: u8) -> String {
    match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(value: &str) -> Option<Needles> {
        Needles::of_values(vec![("it".to_owned(), true, value.into())])
    }

    /// How `value` is found in `bytes`, whatever the pieces in which they come.
    fn check(value: &str, bytes: &[u8], expected: Option<&str>) {
        let needles = needles(value).unwrap();
        for piece in [1, 3, 7, 1000] {
            let mut searcher = needles.searcher();
            bytes.chunks(piece).for_each(|piece| searcher.take(piece));
            let found = searcher.found().next().map(|it| it.written);
            assert_eq!(found, expected, "{value} in pieces of {piece}");
        }
    }

    #[test]
    fn a_value_is_found_however_it_is_written() {
        let value = "s3cr3t/pass word+1";
        check(value, b"xx s3cr3t/pass word+1 yy", Some(""));
        check(value, b"xx s3cr3t/pass word", None);
        for before in ["", "u:", "us:", "usr:"] {
            let text = format!("{before}{value}@host");
            let encoded = STANDARD_NO_PAD.encode(text.as_bytes());
            check(value, encoded.as_bytes(), Some(" in base64"));
            let encoded = URL_SAFE_NO_PAD.encode(text.as_bytes());
            check(value, encoded.as_bytes(), Some(" in base64"));
        }
        check(
            value,
            b"u=s3cr3t%2Fpass%20word%2B1",
            Some(", percent-encoded"),
        );
        check(
            value,
            b"u=s3cr3t%2fpass%20word%2b1",
            Some(", percent-encoded"),
        );
        check(
            "one\ntwo three",
            br#"{"a":"one\ntwo three"}"#,
            Some(", quoted"),
        );
    }

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_secret() {
        check("hunter2hunter\n", b"password=hunter2hunter;", Some(""));
    }

    #[test]
    fn keys_within_a_secret_are_secrets_too() {
        let settings =
            "registry=https://npm.example/\n//npm.example/:_authToken=npm_0123456789abcdef01\n";
        check(settings, b"TOKEN=npm_0123456789abcdef01", Some(""));
        check(settings, b"registry=https://npm.example/", None);
    }

    #[test]
    fn certificates_are_no_secrets_and_what_stands_beside_them_is() {
        let block = |label: &str, text: &str| {
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        let public = "MIIBszCCAVmgAwIBAgIUd0Yy3";
        let private = "MHcCAQEEIIrYSSNQFaA2Hwf1";
        let certificate = block("CERTIFICATE", public);
        assert!(needles(&(certificate.clone() + &block("EC PUBLIC KEY", public))).is_none());
        let both = certificate.clone() + &block("EC PRIVATE KEY", private);
        check(&both, public.as_bytes(), None);
        check(&both, private.as_bytes(), Some(""));
        let cut = certificate.replace("-----END", "----- END");
        check(&cut, public.as_bytes(), Some(""));
    }

    #[test]
    fn what_could_be_anything_is_not_looked_for() {
        for value in [
            "",
            "1234567",
            "true\n",
            "   x   ",
            "postgres",
            "my-service.user",
        ] {
            assert!(needles(value).is_none(), "{value:?}");
        }
    }
}
