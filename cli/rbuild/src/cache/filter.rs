//! `--filter` of `cache du` and `cache prune`, with buildx's keys.

use std::time::Duration;

use jiff::Timestamp;
use store::Item;

use crate::fault::Fault;

const KNOWN: &str =
    "known are until, id, parents, type, description, inuse, mutable, immutable, shared, private";

/// What items must be like: all of it at once.
#[derive(Debug, Default)]
pub(super) struct Filters {
    all: Vec<Filter>,
}

#[derive(Debug)]
struct Filter {
    key: Key,
    compared: Compared,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Until(Duration),
    Id,
    Parents,
    Kind,
    Description,
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    Equal,
    Unequal,
    Contains,
}

impl Filters {
    pub(super) fn parse(texts: &[String]) -> Result<Self, Fault> {
        let all = texts.iter().map(|text| Filter::parse(text));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
        })
    }

    /// Whether an item comes into question.
    pub(super) fn admit(&self, item: &Item) -> bool {
        self.all.iter().all(|filter| filter.admits(item))
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::usage(message).hint(KNOWN);
        let (key, compared, value) = if let Some((key, value)) = text.split_once("!=") {
            (key, Compared::Unequal, value)
        } else if let Some((key, value)) = text.split_once("~=") {
            (key, Compared::Contains, value)
        } else if let Some((key, value)) = text.split_once('=') {
            (key, Compared::Equal, value)
        } else {
            // `--filter inuse` is `--filter inuse=true`.
            (text, Compared::Equal, "true")
        };
        let key = match key {
            "until" | "unused-for" => Key::Until(
                duration(value)
                    .ok_or_else(|| wrong(format!("`{value}` is no time; write 24h or 7d")))?,
            ),
            "id" => Key::Id,
            "parents" | "parent" => Key::Parents,
            "type" => Key::Kind,
            "description" => Key::Description,
            "inuse" => Key::InUse,
            "mutable" => Key::Mutable,
            "immutable" => Key::Immutable,
            "shared" => Key::Shared,
            "private" => Key::Private,
            key => return Err(wrong(format!("invalid filter '{key}'"))),
        };
        Ok(Self {
            key,
            compared,
            value: value.to_owned(),
        })
    }

    fn admits(&self, item: &Item) -> bool {
        let is = |is: bool| self.compares(super::truth(is));
        match self.key {
            Key::Until(time) => {
                let age = Timestamp::now().duration_since(item.used);
                Duration::try_from(age).unwrap_or_default() >= time
            }
            Key::Id => self.compares(&item.id()),
            Key::Parents => self.compares(&item.parent.map_or(String::new(), |it| it.to_string())),
            Key::Kind => self.compares(item.kind()),
            Key::Description => self.compares(&item.description),
            Key::InUse => is(item.in_use),
            Key::Mutable => is(item.is_mutable()),
            Key::Immutable => is(!item.is_mutable()),
            Key::Shared => is(item.shared),
            Key::Private => is(!item.shared),
        }
    }

    fn compares(&self, found: &str) -> bool {
        match self.compared {
            Compared::Equal => found == self.value,
            Compared::Unequal => found != self.value,
            Compared::Contains => found.contains(&self.value),
        }
    }
}

/// `24h`, `1h30m`, `7d`.
fn duration(text: &str) -> Option<Duration> {
    let (text, factor) = match text.strip_suffix('d') {
        Some(days) => (format!("{days}h"), 24),
        None => (text.to_owned(), 1),
    };
    let nanoseconds = dockerfile_parser::duration::parse(&text).ok()?;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?) * factor)
}

#[cfg(test)]
mod tests {
    use store::{SnapshotId, Stored};

    use super::*;

    fn item() -> Item {
        let used = Timestamp::now() - Duration::from_secs(7200);
        Item {
            what: Stored::Snapshot(SnapshotId(7)),
            parent: Some(SnapshotId(3)),
            size: 10,
            description: "[2/3] RUN make".to_owned(),
            created: used,
            used,
            uses: 2,
            cost: Duration::ZERO,
            in_use: false,
            shared: true,
        }
    }

    #[test]
    fn items_are_chosen_by_what_they_are() {
        let table = [
            ("until=1h", true),
            ("until=1d", false),
            ("id=7", true),
            ("id!=7", false),
            ("parents=3", true),
            ("type=regular", true),
            ("type=exec.cachemount", false),
            ("description~=make", true),
            ("description=make", false),
            ("inuse", false),
            ("inuse=false", true),
            ("mutable", false),
            ("immutable", true),
            ("shared=true", true),
            ("private", false),
        ];
        for (text, expected) in table {
            let filters = Filters::parse(&[text.to_owned()]).unwrap();
            assert_eq!(filters.admit(&item()), expected, "{text}");
        }
        for text in ["colour=red", "until=never"] {
            assert!(Filters::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
