//! Which items of the cache go, and why: a pure function over what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::usage::{Disk, Item, Stored};

const DAY: u64 = 24 * 3600;
const MEGABYTE: u64 = 1 << 20;
const GIGABYTE: u64 = 1 << 30;

/// How much the cache may hold. Where nothing is set there is no limit, and everything goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Bytes at most.
    pub max_used: Option<u64>,
    /// Bytes below which nothing goes, whatever else is asked for.
    pub reserved: Option<u64>,
    /// Bytes of the file system that must be free.
    pub min_free: Option<u64>,
    /// Only what was not used for so long goes.
    pub unused_for: Option<Duration>,
}

/// Says which items may go at all.
type Admit<'a> = &'a dyn Fn(&Item) -> bool;

/// An item that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub item: Item,
    /// Why, in a few words.
    pub reason: String,
}

/// Which of `items` go so that `budget` is kept, those first that are recreated soonest for their
/// bytes. `admit` says which may go at all; what is in use, shared with an image or needed by
/// something that stays never does.
pub(crate) fn plan(
    items: &[Item],
    admit: Admit<'_>,
    budget: &Budget,
    (disk, now): (Disk, Timestamp),
) -> Vec<Removal> {
    let mut used: u64 = items.iter().map(|it| it.size).sum();
    let mut free = disk.free;
    let mut children: BTreeMap<i64, usize> = BTreeMap::new();
    for parent in items.iter().filter_map(|it| it.parent) {
        *children.entry(parent.0).or_default() += 1;
    }
    let candidate = |item: &&Item| {
        item.is_reclaimable()
            && admit(item)
            && budget.unused_for.is_none_or(|time| age(item, now) >= time)
    };
    let mut waiting: BTreeMap<Stored, &Item> = items
        .iter()
        .filter(candidate)
        .map(|item| (item.what.clone(), item))
        .collect();
    let mut ready: BTreeSet<(u64, Stored)> = BTreeSet::new();
    let is_leaf = |children: &BTreeMap<i64, usize>, what: &Stored| match what {
        Stored::Snapshot(id) => children.get(&id.0).is_none_or(|count| *count == 0),
        _ => true,
    };
    for (what, item) in &waiting {
        if is_leaf(&children, what) {
            ready.insert((worth(item, now), what.clone()));
        }
    }
    let mut removals = Vec::new();
    while let Some(reason) = reason(budget, used, free) {
        let Some((_, what)) = ready.pop_first() else {
            break;
        };
        let Some(item) = waiting.remove(&what) else {
            continue;
        };
        if budget
            .reserved
            .is_some_and(|least| used.saturating_sub(item.size) < least)
        {
            continue;
        }
        used = used.saturating_sub(item.size);
        free += item.size;
        if let Some(parent) = item.parent {
            *children.entry(parent.0).or_default() -= 1;
            let parent = Stored::Snapshot(parent);
            if let Some(item) = waiting.get(&parent).filter(|_| is_leaf(&children, &parent)) {
                ready.insert((worth(item, now), parent));
            }
        }
        removals.push(Removal {
            reason: match budget.unused_for {
                Some(time) if budget.max_used.is_none() && budget.min_free.is_none() => {
                    format!("not used for {}", days(time))
                }
                _ => reason,
            },
            item: item.clone(),
        });
    }
    removals
}

/// Why something has to go; `None` once the budget is kept.
fn reason(budget: &Budget, used: u64, free: u64) -> Option<String> {
    match (budget.max_used, budget.min_free) {
        (None, None) => Some("no image and no running build needs it".to_owned()),
        (Some(most), _) if used > most => Some(format!("the cache may hold {most} bytes")),
        (_, Some(least)) if free < least => Some(format!("{least} bytes are to be free")),
        _ => None,
    }
}

/// What an item is worth for its bytes: microseconds to recreate a megabyte of it, half of that for
/// each week in which nobody used it.
fn worth(item: &Item, now: Timestamp) -> u64 {
    let cost = u64::try_from(item.cost.as_micros()).unwrap_or(u64::MAX);
    let per_byte = u128::from(cost) * u128::from(MEGABYTE) / u128::from(item.size.max(1));
    let weeks = age(item, now).as_secs() / (7 * DAY);
    u64::try_from(per_byte >> weeks.min(127)).unwrap_or(u64::MAX)
}

fn age(item: &Item, now: Timestamp) -> Duration {
    now.duration_since(item.used).try_into().unwrap_or_default()
}

fn days(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 3 * DAY => format!("{} days", seconds / DAY),
        seconds if seconds >= 3600 => format!("{} hours", seconds / 3600),
        seconds => format!("{seconds} seconds"),
    }
}

/// What goes after a build without anybody asking, by BuildKit's defaults: first, if there is more than
/// 512 MB of it, what is cheap to have again and was not used for two days; then what nobody used for
/// sixty; then whatever is over the cap.
pub(crate) fn automatic(items: &[Item], (disk, now): (Disk, Timestamp)) -> Vec<Removal> {
    let cheap = |item: &Item| item.grows();
    let mut gone: BTreeSet<Stored> = BTreeSet::new();
    let mut removals = Vec::new();
    let mounts: u64 = items.iter().filter(|it| cheap(it)).map(|it| it.size).sum();
    let old = |days: u64| Budget {
        unused_for: Some(Duration::from_secs(days * DAY)),
        ..Budget::default()
    };
    let capped = Budget {
        max_used: Some((disk.total / 100 * 80).min(100 * GIGABYTE)),
        reserved: Some((disk.total / 10).min(10 * GIGABYTE)),
        min_free: Some(disk.total / 100 * 20),
        unused_for: None,
    };
    let mut passes: Vec<(Budget, Admit<'_>)> = Vec::new();
    if mounts > 512 * MEGABYTE {
        passes.push((old(2), &cheap));
    }
    passes.push((old(60), &|_| true));
    passes.push((capped, &|_| true));
    let mut left = items.to_vec();
    let mut disk = disk;
    for (budget, admit) in passes {
        let found = plan(&left, admit, &budget, (disk, now));
        gone.extend(found.iter().map(|it| it.item.what.clone()));
        disk.free += found.iter().map(|it| it.item.size).sum::<u64>();
        left.retain(|it| !gone.contains(&it.what));
        removals.extend(found);
    }
    removals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SnapshotId;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000_000).unwrap()
    }

    /// Items from a small notation, one a line: `NUMBER<PARENT SIZE COSTms AGEd FLAGS`.
    fn items(text: &str) -> Vec<Item> {
        text.split(';')
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (id, parent) = words[0].split_once('<').unwrap_or((words[0], ""));
                let number = |text: &str| text.trim_matches(char::is_alphabetic).parse().unwrap();
                let used = now() - Duration::from_secs(number(words[3]) * DAY);
                Item {
                    what: match id.strip_prefix('m') {
                        Some(id) => Stored::Mount(id.to_owned()),
                        None => Stored::Snapshot(SnapshotId(id.parse().unwrap())),
                    },
                    parent: parent.parse().ok().map(SnapshotId),
                    size: number(words[1]),
                    description: String::new(),
                    created: used,
                    used,
                    uses: 0,
                    cost: Duration::from_millis(number(words[2])),
                    in_use: words.contains(&"busy"),
                    shared: words.contains(&"image"),
                }
            })
            .collect()
    }

    fn gone(removals: &[Removal]) -> String {
        let ids: Vec<String> = removals.iter().map(|it| it.item.id()).collect();
        ids.join(" ")
    }

    fn check(text: &str, budget: Budget, free: u64, expected: &str) {
        let disk = Disk { total: 1000, free };
        let removals = plan(&items(text), &|_| true, &budget, (disk, now()));
        assert_eq!(gone(&removals), expected, "{text} {budget:?}");
    }

    #[test]
    fn without_a_limit_everything_goes_that_nobody_needs() {
        let none = Budget::default();
        check("1 10 5ms 0d; 2<1 10 5ms 0d", none, 0, "2 1");
        check("1 10 5ms 0d image; 2<1 10 5ms 0d", none, 0, "2");
        check(
            "1 10 5ms 0d busy; 2<1 10 5ms 0d busy; 3<1 10 5ms 0d",
            none,
            0,
            "3",
        );
        check("1 10 5ms 0d; m2 10 5ms 0d busy", none, 0, "1");
    }

    #[test]
    fn what_is_recreated_soonest_for_its_bytes_goes_first_and_no_more_than_needed() {
        let cap = |most| Budget {
            max_used: Some(most),
            ..Budget::default()
        };
        let text = "1 100 9000ms 0d; 2 100 10ms 0d; 3 10 10ms 0d";
        check(text, cap(300), 0, "");
        check(text, cap(150), 0, "2");
        check(text, cap(105), 0, "2 3");
        check(text, cap(0), 0, "2 3 1");
        // The parent is cheap but needed.
        check("1 100 1ms 0d; 2<1 10 9000ms 0d", cap(50), 0, "2 1");
        // Long unused is worth less.
        check("1 100 100ms 0d; 2 100 900ms 70d", cap(100), 0, "2");
    }

    #[test]
    fn free_space_is_made_but_the_reserve_is_kept() {
        let budget = Budget {
            min_free: Some(50),
            reserved: Some(100),
            ..Budget::default()
        };
        let text = "1 40 1ms 0d; 2 40 2ms 0d; 3 60 3ms 0d";
        check(text, budget, 60, "");
        check(text, budget, 20, "1");
        let none = Budget {
            reserved: None,
            ..budget
        };
        check(text, none, 0, "1 2");
    }

    #[test]
    fn only_what_was_long_unused_goes_where_that_is_asked() {
        let old = Budget {
            unused_for: Some(Duration::from_secs(3 * DAY)),
            ..Budget::default()
        };
        check("1 10 1ms 1d; 2 10 1ms 3d; 3 10 1ms 9d", old, 0, "3 2");
        let disk = Disk { total: 0, free: 0 };
        let removals = plan(&items("1 10 1ms 9d"), &|_| true, &old, (disk, now()));
        assert_eq!(removals[0].reason, "not used for 3 days");
    }

    #[test]
    fn by_itself_only_the_old_and_the_excess_goes() {
        let roomy = Disk {
            total: 1000 * GIGABYTE,
            free: 900 * GIGABYTE,
        };
        let all = items("1 10 1ms 1d; 2 10 1ms 61d; m3 10 1ms 3d; m4 10 1ms 61d");
        assert_eq!(gone(&automatic(&all, (roomy, now()))), "2 4");
        let large = items("m3 600000000 1ms 3d; m4 10 1ms 1d");
        assert_eq!(gone(&automatic(&large, (roomy, now()))), "3");
        let full = Disk {
            total: 100,
            free: 1,
        };
        assert_eq!(
            gone(&automatic(
                &items("1 30 1ms 0d; 2 30 5ms 0d"),
                (full, now())
            )),
            "1"
        );
    }
}
