//! The subordinate ids that the administrator gave to a user.

use std::fs;

use crate::program;

/// More lines a map cannot have.
const MOST: usize = 300;

/// Ranges of users and of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges {
    user: u32,
    group: u32,
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
}

impl Ranges {
    /// Those of a user, who is this process's; else why there are none.
    pub(super) fn of(user: u32) -> Result<Ranges, String> {
        for program in [super::USERS, super::GROUPS] {
            if program::find(program).is_none() {
                return Err(format!(
                    "`{program}` is not installed (package `uidmap` of Debian, `shadow-utils` of Fedora)"
                ));
            }
        }
        let name = name_of(user);
        let find = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let found = parse(&text, name.as_deref(), user);
            if found.is_empty() {
                let who = name.clone().unwrap_or_else(|| user.to_string());
                return Err(format!(
                    "`{file}` has no range for user {who} (`usermod --add-subuids 100000-165535 \
                     --add-subgids 100000-165535 {who}` makes one)"
                ));
            }
            Ok(found)
        };
        Ok(Ranges {
            user,
            group: rustix::process::getegid().as_raw(),
            users: find("/etc/subuid")?,
            groups: find("/etc/subgid")?,
        })
    }

    /// The map of users, as `newuidmap` takes it.
    pub(super) fn users(&self) -> Vec<String> {
        map(self.user, &self.users)
    }

    /// The map of groups.
    pub(super) fn groups(&self) -> Vec<String> {
        map(self.group, &self.groups)
    }
}

/// The caller is 0 inside, and the ranges follow one after the other.
fn map(caller: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut words = vec!["0".to_owned(), caller.to_string(), "1".to_owned()];
    let mut next = 1u32;
    for (first, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        words.extend([next, *first, count].map(|it| it.to_string()));
        next += count;
    }
    words
}

/// First number and count of each range of a user, who may go by name or by number.
fn parse(text: &str, name: Option<&str>, user: u32) -> Vec<(u32, u32)> {
    let number = user.to_string();
    let line = |line: &str| {
        let mut parts = line.trim().split(':');
        let who = parts.next()?;
        if Some(who) != name && who != number {
            return None;
        }
        let (first, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (count > 0).then_some((first, count))
    };
    text.lines().filter_map(line).take(MOST).collect()
}

/// What the user is called, by `/etc/passwd` or, where accounts are kept elsewhere, by himself;
/// `newuidmap` looks it up again.
fn name_of(user: u32) -> Option<String> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = accounts.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == user.to_string()).then(|| name.to_owned())
    });
    listed.or_else(|| std::env::var("USER").ok().filter(|it| !it.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "a:100000:65536\nab:1:1\n1000:500000:10\n#a:1:1\na:200000\na:3:0\n";
        assert_eq!(
            parse(text, Some("a"), 1000),
            [(100_000, 65536), (500_000, 10)]
        );
        assert_eq!(parse(text, None, 1001), []);
    }

    #[test]
    fn ranges_follow_the_caller_without_a_gap() {
        let words = map(1000, &[(100_000, 65536), (500_000, 10)]).join(" ");
        assert_eq!(words, "0 1000 1 1 100000 65536 65537 500000 10");
    }
}
