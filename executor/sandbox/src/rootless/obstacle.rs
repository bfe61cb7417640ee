//! What keeps a user from having a user namespace, and what the administrator can do about it.

use std::fmt;
use std::fs;
use std::io;

use crate::spawn::CONFINED;

/// Switches of the kernel: the file, the value that forbids, what it means, what helps.
const SWITCHES: [(&str, &str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off",
        "sysctl user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are for root only",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for rbuild \
         with the rule `userns,`",
    ),
];

/// Why there is no user namespace for a user.
#[derive(Debug)]
pub struct Obstacle {
    what: String,
    help: &'static str,
}

impl Obstacle {
    /// What stands behind the answer of the kernel.
    pub(super) fn find(source: &io::Error) -> Obstacle {
        let read = |file: &str| fs::read_to_string(file).ok();
        explain(source, read)
    }

    /// What the administrator can do.
    pub fn help(&self) -> &'static str {
        self.help
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

fn explain(source: &io::Error, read: impl Fn(&str) -> Option<String>) -> Obstacle {
    let forbids = |(file, value, ..): &(&str, &str, &str, &str)| {
        read(file).is_some_and(|it| it.trim() == *value)
    };
    let is_refused = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    if is_refused && is_filtered(&read) {
        return Obstacle {
            what: "a filter of system calls forbids user namespaces".to_owned(),
            help: CONFINED,
        };
    }
    if let Some((_, _, what, help)) = SWITCHES.into_iter().find(|it| forbids(it)) {
        return Obstacle {
            what: what.to_owned(),
            help,
        };
    }
    match source.raw_os_error() {
        _ if is_refused => Obstacle {
            what: "a security policy forbids user namespaces".to_owned(),
            help: "ask SELinux or AppArmor, or run rbuild as root with CAP_SYS_ADMIN",
        },
        Some(libc::ENOSPC | libc::EUSERS) => Obstacle {
            what: "there are too many user namespaces, or they are nested too deeply".to_owned(),
            help: "raise `sysctl user.max_user_namespaces`",
        },
        _ => Obstacle {
            what: source.to_string(),
            help: "the kernel needs CONFIG_USER_NS",
        },
    }
}

/// Whether a filter of system calls holds for this process, as it does in a container.
fn is_filtered(read: impl Fn(&str) -> Option<String>) -> bool {
    let status = read("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errno: i32, set: Option<(&str, &str)>, expected: &str) {
        let read = |file: &str| {
            set.filter(|(name, _)| file.ends_with(name))
                .map(|(_, value)| format!("{value}\n"))
        };
        let found = explain(&io::Error::from_raw_os_error(errno), read);
        assert_eq!(format!("{found}; {}", found.help()), expected);
    }

    #[test]
    fn the_switch_that_forbids_is_named() {
        check(
            libc::ENOSPC,
            Some(("max_user_namespaces", "0")),
            "user namespaces are switched off; sysctl user.max_user_namespaces=15000",
        );
        check(
            libc::EPERM,
            Some(("unprivileged_userns_clone", "0")),
            "user namespaces are for root only; sysctl kernel.unprivileged_userns_clone=1",
        );
        check(
            libc::EPERM,
            Some(("apparmor_restrict_unprivileged_userns", "1")),
            "AppArmor restricts user namespaces; sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for rbuild with \
             the rule `userns,`",
        );
    }

    #[test]
    fn in_a_container_its_flags_help() {
        check(
            libc::EPERM,
            Some((
                "self/status",
                "Name:\trbuild\nSeccomp:\t2\nSeccomp_filters:\t1",
            )),
            &format!("a filter of system calls forbids user namespaces; {CONFINED}"),
        );
        check(
            libc::EPERM,
            Some(("self/status", "Name:\trbuild\nSeccomp:\t0")),
            "a security policy forbids user namespaces; ask SELinux or AppArmor, or run rbuild as \
             root with CAP_SYS_ADMIN",
        );
    }

    #[test]
    fn without_such_a_switch_the_answer_of_the_kernel_decides() {
        check(
            libc::ENOSPC,
            Some(("max_user_namespaces", "96365")),
            "there are too many user namespaces, or they are nested too deeply; raise `sysctl \
             user.max_user_namespaces`",
        );
    }
}
