//! `--filter` of lists of images.

use std::time::Duration;

use jiff::Timestamp;
use oci::Reference;
use store::{ImageRecord, Store};

use super::{config, find};
use crate::exit::Exit;
use crate::fault::Fault;

/// What the rows of a list must be like. The same key twice: one of both; different keys: all.
#[derive(Debug, Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    labels: Vec<Label>,
    patterns: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

#[derive(Debug)]
struct Label {
    key: String,
    value: Option<String>,
    wanted: bool,
}

impl Filters {
    /// Reads `KEY=VALUE` texts and the repository that stands behind the command.
    pub(super) fn parse(
        store: &Store,
        filters: &[String],
        repository: Option<&str>,
    ) -> Result<Self, Fault> {
        let mut parsed = Self {
            patterns: repository.map(str::to_owned).into_iter().collect(),
            ..Self::default()
        };
        for filter in filters {
            let (key, value) = filter.split_once('=').ok_or_else(|| {
                Fault::usage(format!(
                    "invalid filter `{filter}`: it is not of the form `key=value`"
                ))
            })?;
            parsed.add(store, key, value)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, store: &Store, key: &str, value: &str) -> Result<(), Fault> {
        match key {
            "dangling" => self.dangling = Some(truth(value)?),
            "label" => self.labels.push(Label::parse(value, true)),
            "label!" => self.labels.push(Label::parse(value, false)),
            "reference" => self.patterns.push(value.to_owned()),
            "before" => self.before = earlier(self.before, find(store, value)?.created),
            "until" => self.before = earlier(self.before, Some(moment(value)?)),
            "since" => self.since = self.since.max(find(store, value)?.created),
            _ => return Err(Fault::usage(format!("invalid filter '{key}'")).hint(KNOWN)),
        }
        Ok(())
    }

    /// Whether an image comes into question.
    pub(super) fn admit_image(
        &self,
        store: &Store,
        image: &ImageRecord,
        has_name: bool,
    ) -> Result<bool, Fault> {
        let in_time = self
            .before
            .is_none_or(|time| image.created.is_some_and(|it| it < time))
            && self
                .since
                .is_none_or(|time| image.created.is_some_and(|it| it > time));
        if self.dangling == Some(has_name) || !in_time {
            return Ok(false);
        }
        if self.labels.is_empty() {
            return Ok(true);
        }
        let labels = config(store, image)?.config.labels;
        let has = |label: &Label| {
            labels
                .get(&label.key)
                .is_some_and(|it| label.value.as_ref().is_none_or(|value| value == it))
        };
        Ok(self.labels.iter().all(|label| has(label) == label.wanted))
    }

    /// Whether a name comes into question.
    pub(super) fn admit_name(&self, name: &Reference) -> bool {
        let matches = |pattern: &String| {
            glob(pattern, &name.familiar())
                || glob(pattern, &name.familiar_name())
                || glob(pattern, &name.to_string())
        };
        self.dangling != Some(true)
            && (self.patterns.is_empty() || self.patterns.iter().any(matches))
    }

    /// Whether images without a name are out of question.
    pub(super) fn ask_for_name(&self) -> bool {
        !self.patterns.is_empty()
    }
}

const KNOWN: &str = "known are dangling, label, label!, before, since, until and reference";

impl Label {
    fn parse(text: &str, wanted: bool) -> Self {
        let (key, value) = text
            .split_once('=')
            .map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
        Self {
            key: key.to_owned(),
            value,
            wanted,
        }
    }
}

fn truth(value: &str) -> Result<bool, Fault> {
    match value.to_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(Fault::usage(format!(
            "invalid filter 'dangling={value}': it is true or false"
        ))),
    }
}

fn earlier(known: Option<Timestamp>, time: Option<Timestamp>) -> Option<Timestamp> {
    match (known, time) {
        (Some(known), Some(time)) => Some(known.min(time)),
        (known, time) => known.or(time),
    }
}

/// `24h` ago, a date, a time, or seconds since 1970.
fn moment(text: &str) -> Result<Timestamp, Fault> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Timestamp::from_second(seconds)?);
    }
    if let Ok(ago) = text.parse::<jiff::SignedDuration>() {
        return Ok(Timestamp::now().checked_sub(Duration::try_from(ago)?)?);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date = text.parse::<jiff::civil::DateTime>();
    let zoned = date.and_then(|it| it.to_zoned_datetime(jiff::tz::TimeZone::system()));
    zoned
        .map(|it| it.timestamp())
        .map_err(|error| Fault::from(error).exit(Exit::Usage))
}

/// Go's `path.Match`: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are classes, `\` takes the next literally.
fn glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches(&pattern, &name)
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last star has to take one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() || p < pattern.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if let Some(next) = name
            .get(n)
            .and_then(|character| step(pattern, p, *character))
        {
            (p, n) = (next, n + 1);
            continue;
        }
        match star {
            Some((behind, taken)) if taken < name.len() && name[taken] != '/' => {
                star = Some((behind, taken + 1));
                (p, n) = (behind, taken + 1);
            }
            _ => return false,
        }
    }
    true
}

/// Where the pattern goes on behind the element at `p`, if that takes `character`.
fn step(pattern: &[char], p: usize, character: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => (character != '/').then_some(p + 1),
        '[' => {
            let end = (p + 2..pattern.len()).find(|&at| pattern[at] == ']')?;
            let (negated, class) = match pattern[p + 1] {
                '^' => (true, &pattern[p + 2..end]),
                _ => (false, &pattern[p + 1..end]),
            };
            (in_class(class, character) != negated).then_some(end + 1)
        }
        '\\' => (pattern.get(p + 1) == Some(&character)).then_some(p + 2),
        literal => (literal == character).then_some(p + 1),
    }
}

fn in_class(class: &[char], character: char) -> bool {
    match class {
        [low, '-', high, rest @ ..] => {
            (*low..=*high).contains(&character) || in_class(rest, character)
        }
        [one, rest @ ..] => *one == character || in_class(rest, character),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_gos() {
        let table = [
            ("debian", "debian", true),
            ("debian", "debian:12", false),
            ("debian:*", "debian:12", true),
            ("deb*", "debian", true),
            ("*", "user/app", false),
            ("*/*", "user/app", true),
            ("*/a*p", "user/app", true),
            ("d?bian", "debian", true),
            ("d[ae]bian", "debian", true),
            ("d[^ae]bian", "debian", false),
            ("debian:[0-9][0-9]", "debian:12", true),
            ("debian:[0-9]", "debian:x", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("[", "[", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn moments_have_many_forms() {
        assert_eq!(moment("0").unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            moment("1970-01-01T00:00:00Z").unwrap(),
            Timestamp::UNIX_EPOCH
        );
        assert!(moment("24h").unwrap() < Timestamp::now());
        assert!(moment("2024-01-02").is_ok());
        assert_eq!(moment("never").unwrap_err().status().code(), 125);
    }
}
