//! "Did you mean": the known word nearest to a mistyped one.

use std::borrow::Cow;

use strsim::osa_distance;

/// Whether capitals make a difference to [`suggest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `From` and `from` are two words.
    Sensitive,
    /// They are one, and the suggestion takes the case of what was written.
    Insensitive,
}

/// At this many edits two words have nothing to do with each other.
const TOO_FAR: usize = 3;
/// How many words are looked at: a file with ten thousand names that misspells each of them must not
/// cost the product of the two.
const MOST: usize = 256;

/// The one of `known` that is at most two edits from `word`; the first of several equally near. Two
/// neighbours that changed places are one edit, so that `RNU` is `RUN` and not `ENV`. Words beyond
/// the first 256 are not looked at.
///
/// `None` also where `word` is itself known: then it is not the spelling that is wrong.
pub fn suggest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    case: Case,
) -> Option<String> {
    let wanted = fold(word, case);
    // No word of a Dockerfile's vocabulary is this long, and the distance costs length times length.
    if wanted.len() > 64 {
        return None;
    }
    let mut nearest = (TOO_FAR, None);
    for candidate in known.into_iter().take(MOST).map(|it| fold(it, case)) {
        // Each character more or less is an edit of its own, and takes one to four bytes.
        if candidate.len() > wanted.len() + 4 * TOO_FAR
            || wanted.len() > candidate.len() + 4 * TOO_FAR
        {
            continue;
        }
        let distance = osa_distance(&wanted, &candidate);
        if distance == 0 {
            return None;
        }
        if distance < nearest.0 {
            nearest = (distance, Some(candidate));
        }
    }
    nearest.1.map(|it| {
        if case == Case::Insensitive {
            in_case_of(word, &it)
        } else {
            it.into_owned()
        }
    })
}

fn fold(text: &str, case: Case) -> Cow<'_, str> {
    match case {
        Case::Sensitive => Cow::Borrowed(text),
        Case::Insensitive => Cow::Owned(text.to_lowercase()),
    }
}

/// `text` in capitals where all of `model` is.
fn in_case_of(model: &str, text: &str) -> String {
    if model == model.to_lowercase() {
        text.to_lowercase()
    } else if model == model.to_uppercase() {
        text.to_uppercase()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, MOST, suggest};

    #[test]
    fn a_near_word_is_suggested_in_the_case_that_was_written() {
        let known = ["COPY", "FROM", "RUN"];
        assert_eq!(
            suggest("FORM", known, Case::Insensitive).as_deref(),
            Some("FROM")
        );
        assert_eq!(
            suggest("form", known, Case::Insensitive).as_deref(),
            Some("from")
        );
        assert_eq!(
            suggest("Form", known, Case::Insensitive).as_deref(),
            Some("from")
        );
        assert_eq!(suggest("form", known, Case::Sensitive), None);
        assert_eq!(
            suggest("RNU", ["ENV", "RUN"], Case::Insensitive).as_deref(),
            Some("RUN")
        );
    }

    #[test]
    fn words_beyond_the_first_are_not_looked_at() {
        let many: Vec<String> = (0..MOST).map(|it| format!("other{it}")).collect();
        let known = |last| many.iter().map(String::as_str).skip(last).chain(["copy"]);
        assert_eq!(suggest("cpoy", known(0), Case::Sensitive), None);
        assert_eq!(
            suggest("cpoy", known(1), Case::Sensitive).as_deref(),
            Some("copy")
        );
    }

    #[test]
    fn far_words_and_known_words_get_no_suggestion() {
        assert_eq!(suggest("BANANA", ["COPY"], Case::Insensitive), None);
        assert_eq!(suggest("copy", ["COPY", "COPYY"], Case::Insensitive), None);
    }
}
