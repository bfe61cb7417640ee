//! The shapes that the arguments of an instruction come in: words, lists, pairs, JSON.

/// Blanks that separate words; no others do.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// The text up to the first blanks, and what follows them.
pub(crate) fn split_first(text: &str) -> (&str, Option<&str>) {
    match text.split_once(BLANKS) {
        Some((first, rest)) => (first, Some(rest.trim_start_matches(BLANKS))),
        None => (text, None),
    }
}

/// The parts of `text` between blanks.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(BLANKS)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What JSON a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array of something else.
    OtherArray,
    /// Nothing of the kind.
    No,
}

pub(crate) fn json(text: &str) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) else {
        return Json::No;
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings
        .collect::<Option<_>>()
        .map_or(Json::OtherArray, Json::Strings)
}

/// The words of `text`, quotes and escapes still in them; blanks in quotes belong to the word.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.trim_start().chars().peekable();
    while chars.peek().is_some() {
        let word = quoted_word(&mut chars, escape);
        if !word.is_empty() {
            words.push(word);
        }
        while chars.next_if(|ch| ch.is_whitespace()).is_some() {}
    }
    words
}

/// The word at the beginning of `chars`, up to a blank outside quotes.
fn quoted_word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, escape: char) -> String {
    let mut word = String::new();
    let mut quote = None;
    while let Some(ch) = chars.next_if(|ch| quote.is_some() || !ch.is_whitespace()) {
        // Nothing is escaped in single quotes, and an escape at the very end means nothing.
        if ch == escape && quote != Some('\'') {
            let Some(escaped) = chars.next() else { break };
            word.extend([ch, escaped]);
            continue;
        }
        if quote == Some(ch) {
            quote = None;
        } else if quote.is_none() && matches!(ch, '\'' | '"') {
            quote = Some(ch);
        }
        word.push(ch);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::{Json, json, list, quoted_words, split_first};

    #[test]
    fn words_keep_their_quotes_and_escapes() {
        for (text, expected) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("a='x y' b", vec!["a='x y'", "b"]),
            ("a=\"x \\\" y\" b", vec!["a=\"x \\\" y\"", "b"]),
            ("a=x\\ y b", vec!["a=x\\ y", "b"]),
            ("'a\\' b", vec!["'a\\'", "b"]),
            ("a\\", vec!["a"]),
            ("\"a\\", vec!["\"a"]),
            ("\"\" ''", vec!["\"\"", "''"]),
            ("\"open b", vec!["\"open b"]),
            ("", vec![]),
        ] {
            assert_eq!(quoted_words(text, '\\'), expected, "{text}");
        }
    }

    #[test]
    fn json_is_an_array_of_strings_or_something_else() {
        assert_eq!(
            json(r#" ["a", "b c"] "#),
            Json::Strings(vec!["a".into(), "b c".into()])
        );
        assert_eq!(json("[]"), Json::Strings(vec![]));
        assert_eq!(json(r#"["a", 1]"#), Json::OtherArray);
        assert_eq!(json("['a']"), Json::No);
        assert_eq!(json(r#"["a""#), Json::No);
        assert_eq!(json(r#"["a"] b"#), Json::No);
        assert_eq!(json(r#"["c:\x"]"#), Json::No);
        assert_eq!(json("echo [\"a\"]"), Json::No);
    }

    #[test]
    fn lists_are_split_at_blanks_alone() {
        assert_eq!(list("a\t b \"c d\""), ["a", "b", "\"c", "d\""]);
        assert_eq!(split_first("RUN  a b"), ("RUN", Some("a b")));
        assert_eq!(split_first("RUN"), ("RUN", None));
    }
}
