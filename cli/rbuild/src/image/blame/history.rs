//! What the entries of an image's history did to its config.

use super::{Deed, Subject};
use crate::fault::Fault;

/// The fields of a config with the instructions that set them.
const FIELDS: &[(&str, &str)] = &[
    ("Author", "MAINTAINER"),
    ("Cmd", "CMD"),
    ("Entrypoint", "ENTRYPOINT"),
    ("Env", "ENV"),
    ("ExposedPorts", "EXPOSE"),
    ("Healthcheck", "HEALTHCHECK"),
    ("Labels", "LABEL"),
    ("OnBuild", "ONBUILD"),
    ("Shell", "SHELL"),
    ("StopSignal", "STOPSIGNAL"),
    ("User", "USER"),
    ("Volumes", "VOLUME"),
    ("WorkingDir", "WORKDIR"),
];

/// What was done to a variable, a label or a field of the config, the earliest first.
pub(super) fn deeds(subject: &Subject, word: &str) -> Result<Vec<Deed>, Fault> {
    let wanted = Wanted::find(subject, word)?;
    let mut found = Vec::new();
    for (position, entry) in subject.config.history.iter().enumerate() {
        let Some((keyword, rest)) = instruction(&entry.created_by) else {
            continue;
        };
        if let Some(what) = wanted.set_by(keyword, rest) {
            found.push(wanted.deed(what, Some(position)));
        }
    }
    let last = found.last().map(|it| it.what.as_str());
    match wanted.value.as_deref() {
        // A flag of the build, or a tool that writes no history.
        Some(value) if last.is_none_or(|last| !wanted.agrees(last, value)) => {
            found.push(wanted.deed(super::super::visible(value.as_bytes()), None));
        }
        _ => {}
    }
    if found.is_empty() {
        let message = format!("no entry of the image's history sets `{}`", wanted.name);
        return Err(anyhow::Error::msg(message).into());
    }
    Ok(found)
}

/// What somebody wants to know about.
struct Wanted {
    /// As people know it.
    name: String,
    /// The instruction that sets it.
    keyword: &'static str,
    /// Its name among those that the instruction sets, for a variable or a label.
    key: Option<String>,
    /// What it is now, where it is one word.
    value: Option<String>,
}

impl Wanted {
    fn find(subject: &Subject, word: &str) -> Result<Self, Fault> {
        let config = &subject.config.config;
        let variable = |line: &String| {
            let (name, value) = line.split_once('=')?;
            (name == word).then(|| value.to_owned())
        };
        if let Some(value) = config.env.iter().find_map(variable) {
            return Ok(Self::part(word, "ENV", value));
        }
        if let Some(value) = config.labels.get(word) {
            return Ok(Self::part(word, "LABEL", value.clone()));
        }
        let field = FIELDS.iter().find(|(field, keyword)| {
            field.eq_ignore_ascii_case(word) || keyword.eq_ignore_ascii_case(word)
        });
        let Some((field, keyword)) = field else {
            let names: Vec<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
            let message = format!("the image has no variable, label or field `{word}`");
            return Err(Fault::from(anyhow::Error::msg(message)).hint(format!(
                "paths begin with `/`; the fields are {}",
                names.join(", ")
            )));
        };
        Ok(Self {
            name: (*field).to_owned(),
            keyword,
            key: None,
            value: None,
        })
    }

    fn part(name: &str, keyword: &'static str, value: String) -> Self {
        Self {
            name: name.to_owned(),
            keyword,
            key: Some(name.to_owned()),
            value: Some(value),
        }
    }

    /// What an instruction makes of it, if it does anything.
    fn set_by(&self, keyword: &str, rest: &str) -> Option<String> {
        if keyword != self.keyword {
            return None;
        }
        let what = match &self.key {
            None => rest,
            Some(key) => part(rest, key)?,
        };
        Some(super::super::visible(what.as_bytes()))
    }

    /// Whether what the history says that it was set to can be what it is. Where an instruction sets
    /// several, their ends cannot be told for sure.
    fn agrees(&self, said: &str, value: &str) -> bool {
        let value = super::super::visible(value.as_bytes());
        let unquoted = said.trim_matches(['"', '\'']);
        said.starts_with(&value) || unquoted.starts_with(&value) || said.contains(['\\', '$'])
    }

    fn deed(&self, what: String, entry: Option<usize>) -> Deed {
        Deed {
            name: self.name.clone(),
            what,
            entry,
            layer: None,
            size: None,
        }
    }
}

/// An entry's instruction and what stands behind it; `None` for a command, which sets no field. What
/// builders before BuildKit wrote is understood, too.
fn instruction(created_by: &str) -> Option<(&'static str, &str)> {
    let text = match created_by.split_once("#(nop)") {
        Some((_, text)) => text,
        None => created_by,
    };
    let text = text.trim().trim_end_matches("# buildkit").trim_end();
    let (word, rest) = text.split_once(char::is_whitespace)?;
    let (_, keyword) = FIELDS.iter().find(|(_, keyword)| *keyword == word)?;
    Some((keyword, rest.trim_start()))
}

/// The value of `key` in `A=1 B=2`, up to the next word with a `=`.
fn part<'a>(pairs: &'a str, key: &str) -> Option<&'a str> {
    let start = starts(pairs).find(|at| {
        let rest = &pairs[*at..];
        rest.strip_prefix(key).is_some_and(|it| it.starts_with('='))
    })?;
    let value = start + key.len() + 1;
    let end = starts(pairs).find(|at| *at > start && is_pair(&pairs[*at..]));
    Some(pairs[value..end.unwrap_or(pairs.len())].trim_end())
}

/// Where words begin.
fn starts(text: &str) -> impl Iterator<Item = usize> {
    let behind = text.match_indices(' ').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind)
}

/// Whether text begins as `NAME=`.
fn is_pair(text: &str) -> bool {
    let name = text.find(|it: char| !(it.is_alphanumeric() || matches!(it, '_' | '.' | '-' | '/')));
    name.is_some_and(|end| end > 0 && text[end..].starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_builders_are_understood() {
        let table = [
            ("ENV A=1 B=2", Some(("ENV", "A=1 B=2"))),
            ("CMD [\"sh\"]", Some(("CMD", "[\"sh\"]"))),
            ("/bin/sh -c #(nop)  ENV A=1", Some(("ENV", "A=1"))),
            ("WORKDIR /x # buildkit", Some(("WORKDIR", "/x"))),
            ("RUN /bin/sh -c ENV # buildkit", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(instruction(text), expected, "{text}");
        }
    }

    #[test]
    fn a_value_ends_where_the_next_pair_begins() {
        let table = [
            ("A=1 B=2", "B", Some("2")),
            ("A=one two B=2", "A", Some("one two")),
            ("A=1 AB=2", "B", None),
            ("A= B=2", "A", Some("")),
            ("a.b/c=x y", "a.b/c", Some("x y")),
        ];
        for (pairs, key, expected) in table {
            assert_eq!(part(pairs, key), expected, "{pairs} {key}");
        }
    }
}
