//! A user who is not root, made up for one test.
//!
//! His commands run in a mount namespace of their own in which the machine's lists of accounts are others, so that tests
//! beside each other have different ones and the machine's own stay as they are. Needs root, and the packages `uidmap`
//! and `util-linux`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

/// His number, and that of his group.
pub const ID: u32 = 60_711;

/// The first of his subordinate ids, where he has some, and how many.
pub const RANGE: (u32, u32) = (700_000, 65_536);

/// Where below his home the command under test is.
pub(crate) const PROGRAMS: &str = "bin";

/// What the machine grants him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Whether he has subordinate ids.
    pub ranges: bool,
    /// Whether he may open `/dev/net/tun`, as everybody may on most machines.
    pub tun: bool,
}

/// Puts the files of `$1/etc` over the machine's and becomes user `$2`: the rest is his command. The device node is a new
/// one, since the machine's may be root's alone.
const ENTER: &str = r#"
set -e
home=$1; id=$2; tun=$3; binary=$4; shift 4
for file in passwd group subuid subgid; do mount --bind "$home/etc/$file" "/etc/$file"; done
mount --bind "$binary" "$home/bin/rbuild"
mount -t tmpfs tmpfs "$home/dev"
if mknod -m "$tun" "$home/dev/tun" c 10 200 2>/dev/null; then mount --bind "$home/dev/tun" /dev/net/tun; fi
exec setpriv --reuid="$id" --regid="$id" --clear-groups "$@"
"#;

impl User {
    /// Makes `home` his, with the lists of accounts that are to be seen.
    pub(crate) fn move_in(self, home: &Path) {
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the home is ours");
            chown(path, Some(ID), Some(ID)).expect("a test with another user needs root");
        };
        for name in ["etc", "dev", PROGRAMS] {
            fs::create_dir(home.join(name)).expect("the home is new");
        }
        for path in [home, &home.join("work")] {
            open(path);
        }
        let (first, count) = RANGE;
        let range = if self.ranges {
            format!("someone:{first}:{count}\n")
        } else {
            String::new()
        };
        let account = |file: &str, line: &str| {
            fs::read_to_string(file).expect("the machine has accounts") + line
        };
        let at = home.display();
        for (file, text) in [
            (
                "passwd",
                account(
                    "/etc/passwd",
                    &format!("someone:x:{ID}:{ID}::{at}:/bin/sh\n"),
                ),
            ),
            (
                "group",
                account("/etc/group", &format!("someone:x:{ID}:\n")),
            ),
            ("subuid", range.clone()),
            ("subgid", range),
        ] {
            fs::write(home.join("etc").join(file), text).expect("the home is ours");
        }
        fs::write(home.join(PROGRAMS).join("rbuild"), "").expect("the home is ours");
    }

    /// A command of his, not started yet; `binary` is the command under test.
    pub(crate) fn command(self, home: &Path, binary: &Path, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                ENTER,
                "sh",
            ])
            .arg(home)
            .arg(ID.to_string())
            .arg(if self.tun { "666" } else { "600" })
            .arg(binary)
            .arg(program);
        command
    }
}
