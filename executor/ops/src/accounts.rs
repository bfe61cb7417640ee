//! Users and groups by name, as `/etc/passwd` and `/etc/group` of a tree have them.

use std::io;
use std::path::Path;

use snapshot::{METADATA_FILE_LIMIT, Root};

/// The accounts of a tree. A missing file has none.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

/// Who a process is to be, by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Groups beside the primary one.
    pub(crate) groups: Vec<u32>,
    /// The home directory; `/` for who has none.
    pub(crate) home: String,
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
    pub(crate) fn read(root: &Root) -> Result<Self, AccountError> {
        Ok(Self {
            passwd: read(root, "/etc/passwd")?,
            group: read(root, "/etc/group")?,
        })
    }

    /// Who `user[:group]` is; root where it is empty. Numbers need no entry.
    pub(crate) fn find(&self, spec: &str) -> Result<Account, AccountError> {
        let (user, group) = spec
            .split_once(':')
            .map_or((spec, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let found = self.users().find(|it| it.name == user).or_else(|| {
            let uid: u32 = user.parse().ok()?;
            self.users().find(|it| it.uid == uid)
        });
        let mut account = match (&found, user.parse()) {
            (Some(found), _) => Account {
                uid: found.uid,
                gid: found.gid,
                groups: self.groups_of(found.name),
                home: found.home.to_owned(),
            },
            (None, Ok(uid)) => Account {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
            },
            (None, Err(_)) => return Err(AccountError::NoUser(user.to_owned())),
        };
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            account.gid = self.group(group)?;
            account.groups.clear();
        }
        Ok(account)
    }

    fn group(&self, name: &str) -> Result<u32, AccountError> {
        let by_name = self
            .groups()
            .find(|(group, _, _)| *group == name)
            .map(|(_, gid, _)| gid);
        by_name
            .or_else(|| name.parse().ok())
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
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
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
            Some((name, gid.parse().ok()?, members))
        })
    }
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
            "70:80 [] /nine",
            "a name that is a number is still a name"
        );
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
