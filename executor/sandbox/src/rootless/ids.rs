//! Which ids there are in the user namespace of this process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The inode of the first user namespace, the same on every machine.
const FIRST: u64 = 0xefff_fffd;

/// Whether this process is in the first user namespace, where root is root of everything.
pub(crate) fn in_first_namespace() -> bool {
    static FIRST_HERE: OnceLock<bool> = OnceLock::new();
    *FIRST_HERE.get_or_init(|| {
        // A kernel without user namespaces has no such file, and only one of them.
        fs::metadata("/proc/self/ns/user").map_or(true, |it| it.ino() == FIRST)
    })
}

/// Whether there is a user with this number.
pub(crate) fn is_user_mapped(user: u32) -> bool {
    static MAP: OnceLock<Vec<(u64, u64)>> = OnceLock::new();
    holds(MAP.get_or_init(|| read("/proc/self/uid_map")), user)
}

/// Whether there is a group with this number.
pub(crate) fn is_group_mapped(group: u32) -> bool {
    static MAP: OnceLock<Vec<(u64, u64)>> = OnceLock::new();
    holds(MAP.get_or_init(|| read("/proc/self/gid_map")), group)
}

/// Whether a process may choose its supplementary groups.
pub(crate) fn may_set_groups() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let said = fs::read_to_string("/proc/self/setgroups");
        said.map_or(true, |it| it.trim() != "deny")
    })
}

/// Whether this process is in a namespace whose maps nobody has written yet.
pub(super) fn none_are_mapped() -> bool {
    let is_empty = |file| fs::read_to_string(file).is_ok_and(|it| it.trim().is_empty());
    is_empty("/proc/self/uid_map") && is_empty("/proc/self/gid_map")
}

/// First number and count of each line of a map.
fn read(file: &str) -> Vec<(u64, u64)> {
    fs::read_to_string(file).map_or_else(|_| vec![(0, u64::from(u32::MAX))], |it| parse(&it))
}

fn parse(map: &str) -> Vec<(u64, u64)> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
    };
    map.lines().filter_map(line).collect()
}

fn holds(map: &[(u64, u64)], id: u32) -> bool {
    let id = u64::from(id);
    map.iter()
        .any(|(first, count)| id >= *first && id - first < *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_there_when_a_line_of_the_map_has_it() {
        let map = parse("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map, [(0, 1), (1, 65536)]);
        for (id, there) in [(0, true), (1, true), (65536, true), (65537, false)] {
            assert_eq!(holds(&map, id), there, "{id}");
        }
        assert!(!holds(&parse(""), 0));
    }
}
