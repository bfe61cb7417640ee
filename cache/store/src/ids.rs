//! Which users and groups there are to give files to.
//!
//! In the first user namespace of a machine there are all of them. A process in another one, which
//! is how rbuild works for who is not root, has those that somebody mapped for it; what is kept in a
//! store made there means something under that map only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The inode of the first user namespace, the same on every machine.
const FIRST: u64 = 0xefff_fffd;

/// Whether this process is in the first user namespace, where root may set any attribute of a file.
pub fn in_first_namespace() -> bool {
    static FIRST_HERE: OnceLock<bool> = OnceLock::new();
    *FIRST_HERE.get_or_init(|| {
        // A kernel without user namespaces has no such file, and only one of them.
        fs::metadata("/proc/self/ns/user").map_or(true, |it| it.ino() == FIRST)
    })
}

/// The maps of users and groups, if some are missing; `None` where all are there.
pub(crate) fn maps() -> Option<String> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    describe(&read("/proc/self/uid_map"), &read("/proc/self/gid_map"))
}

/// `users 0=1000+1 1=100000+65536; groups 0=1000+1`: first inside, first outside, how many.
fn describe(users: &str, groups: &str) -> Option<String> {
    let whole = |map: &str| map.split_whitespace().eq(["0", "0", "4294967295"]);
    if whole(users) && whole(groups) {
        return None;
    }
    let shorten = |map: &str| -> String {
        map.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (inside, outside) = (words.next()?, words.next()?);
                Some(format!(" {inside}={outside}+{}", words.next()?))
            })
            .collect()
    };
    Some(format!(
        "users{}; groups{}",
        shorten(users),
        shorten(groups)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_map_is_nothing_to_speak_of() {
        let whole = "         0          0 4294967295\n";
        assert_eq!(describe(whole, whole), None);
        let one = "         0       1000          1\n";
        let more = "0 1000 1\n1 100000 65536\n";
        assert_eq!(
            describe(more, one).as_deref(),
            Some("users 0=1000+1 1=100000+65536; groups 0=1000+1")
        );
    }
}
