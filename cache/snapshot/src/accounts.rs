//! Users and groups by name, as `/etc/passwd` and `/etc/group` of a tree have them.

use std::io;
use std::path::Path;

use crate::root::{METADATA_FILE_LIMIT, Root};

/// The largest number of a user or group.
const LARGEST: u32 = i32::MAX.unsigned_abs();

/// The accounts of a tree. A missing file has none.
#[derive(Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

/// Who a process is to be, by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Groups beside the primary one.
    pub groups: Vec<u32>,
    /// The home directory; `/` for who has none.
    pub home: String,
}

/// A user of `/etc/passwd`.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Why nobody goes by a name.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is none of a user; to the kernel, the largest would mean "stay who you are".
    #[error("uids and gids must be in range 0-{LARGEST}, and {0} is not")]
    OutOfRange(String),
    /// A file with names cannot be read.
    #[error("cannot read `{path}` of the root file system")]
    Read {
        /// Which.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Accounts {
    /// Reads the accounts of a tree; a file that is no regular one or too long is an error.
    pub fn read(root: &Root) -> Result<Self, AccountError> {
        Ok(Self {
            passwd: read(root, "/etc/passwd")?,
            group: read(root, "/etc/group")?,
        })
    }

    /// Who `user[:group]` is; root where it is empty. Numbers need no entry.
    pub fn find(&self, spec: &str) -> Result<Account, AccountError> {
        let (user, group) = spec
            .split_once(':')
            .map_or((spec, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        // A number is a number, also where an image names somebody so.
        let number = id(user)?;
        let found = self
            .users()
            .find(|it| number.map_or(it.name == user, |number| it.uid == number));
        let mut account = match (&found, number) {
            (Some(found), _) => Account {
                uid: found.uid,
                gid: found.gid,
                groups: self.groups_of(found.name),
                home: found.home.to_owned(),
            },
            (None, Some(uid)) => Account {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
            },
            (None, None) => return Err(AccountError::NoUser(user.to_owned())),
        };
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            account.gid = self.group(group)?;
            account.groups.clear();
        }
        Ok(account)
    }

    fn group(&self, name: &str) -> Result<u32, AccountError> {
        if let Some(number) = id(name)? {
            return Ok(number);
        }
        self.groups()
            .find(|(group, _, _)| *group == name)
            .map(|(_, gid, _)| gid)
            .ok_or_else(|| AccountError::NoGroup(name.to_owned()))
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let is_member = |members: &str| members.split(',').any(|member| member == user);
        self.groups()
            .filter(|(_, _, members)| is_member(members))
            .map(|(_, gid, _)| gid)
            .collect()
    }

    /// Lines that are no entry are passed over, as libc does.
    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else {
                return None;
            };
            Some(User {
                name,
                uid: id(uid).ok()??,
                gid: id(gid).ok()??,
                home,
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else {
                return None;
            };
            Some((name, id(gid).ok()??, members))
        })
    }
}

/// The number that a text is, or `None` where it is a name.
fn id(text: &str) -> Result<Option<u32>, AccountError> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|it| *it <= LARGEST);
    number
        .map(Some)
        .ok_or_else(|| AccountError::OutOfRange(text.to_owned()))
}

fn read(root: &Root, path: &'static str) -> Result<String, AccountError> {
    match root.read_limited(Path::new(path), METADATA_FILE_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(String::new())
        }
        Err(source) => Err(AccountError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(spec: &str) -> String {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:7:8::/srv:\n9:x:70:80::/nine:\n"
                .to_owned(),
            group: "root:x:0:\nstaff:x:50:web,other\nwheel:x:51:other\n".to_owned(),
        };
        match accounts.find(spec) {
            Ok(it) => format!("{}:{} {:?} {}", it.uid, it.gid, it.groups, it.home),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(find(""), "0:0 [] /root");
        assert_eq!(find("web"), "7:8 [50] /srv");
        assert_eq!(find("7"), "7:8 [50] /srv");
        assert_eq!(
            find("9"),
            "9:0 [] /",
            "a number is not the name that somebody gave another"
        );
        let range = "uids and gids must be in range 0-2147483647, and";
        assert_eq!(find("4294967295"), format!("{range} 4294967295 is not"));
        assert_eq!(find("0:99999999999"), format!("{range} 99999999999 is not"));
        assert_eq!(find("1234"), "1234:0 [] /");
        assert_eq!(find("web:wheel"), "7:51 [] /srv");
        assert_eq!(find("web:99"), "7:99 [] /srv");
        assert_eq!(
            find("nobody"),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            find("web:nogroup"),
            "unable to find group nogroup: no matching entries in group file"
        );
    }
}
