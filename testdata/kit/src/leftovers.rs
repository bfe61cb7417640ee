//! What a command left behind: processes and mounts that still name its home, and control groups that name it.
//!
//! A process belongs to a home when its environment, its working directory or one of its mounts names it. That finds
//! the command itself, its children, and sandboxed processes whose environment is another: their root is a mount
//! whose layers stand below the home.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// What is left of `home` now, one line each; empty when all is clean.
pub fn of(home: &Path) -> Vec<String> {
    // The kernel reports resolved paths.
    let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_path_buf());
    let needle = home.to_string_lossy();
    let own = std::process::id();
    let mut found: Vec<String> = lines_with("/proc/self/mountinfo", &needle)
        .into_iter()
        .map(|it| format!("mount: {it}"))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return found;
    };
    for pid in processes
        .flatten()
        .filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok())
    {
        if pid != own && belongs(pid, &needle) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("process {pid}: {line}"));
        }
    }
    found
}

/// What is left of `home` once it has had `patience` to settle.
///
/// The kernel takes a killed process apart after the one that waited for it was told, so the first look may be early.
pub fn settle(home: &Path, patience: Duration) -> Vec<String> {
    settled(|| of(home), patience)
}

/// The control groups of the rbuild that was process `pid`, once they have had `patience` to go.
pub fn cgroups_settle(pid: u32, patience: Duration) -> Vec<String> {
    settled(|| cgroups(pid), patience)
}

fn settled(look: impl Fn() -> Vec<String>, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look();
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn cgroups(pid: u32) -> Vec<String> {
    // Behind the number stands in which namespace it is one.
    let name = format!("rbuild-{pid}.");
    let mut found = Vec::new();
    // A hierarchy, and below it the groups rbuild was started in: six deep is deeper than systemd's.
    let mut level = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    for _ in 0..6 {
        let folders = level
            .iter()
            .filter_map(|it| fs::read_dir(it).ok())
            .flatten()
            .flatten();
        level = folders
            .filter(|it| it.file_type().is_ok_and(|it| it.is_dir()))
            .map(|it| it.path())
            .collect();
        found.extend(
            level
                .iter()
                .filter(|it| {
                    let own = it.file_name().unwrap_or_default();
                    own.to_string_lossy().starts_with(&name)
                })
                .map(|it| format!("cgroup: {}", it.display())),
        );
    }
    found
}

fn belongs(pid: u32, needle: &str) -> bool {
    let links = ["cwd", "exe"].into_iter();
    let named = links.filter_map(|it| fs::read_link(format!("/proc/{pid}/{it}")).ok());
    named
        .into_iter()
        .any(|it| it.to_string_lossy().starts_with(needle))
        || fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|it| String::from_utf8_lossy(&it).contains(needle))
        || !lines_with(&format!("/proc/{pid}/mountinfo"), needle).is_empty()
}

fn lines_with(path: &str, needle: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|it| it.contains(needle))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_by_its_environment_and_gone_once_it_ended() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(of(home.path()), Vec::<String>::new());
        let mut child = Command::new("cat")
            .env("RBUILD_ROOT", home.path().join("root"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let found = of(home.path());
        assert!(
            found.len() == 1 && found[0].contains(&child.id().to_string()),
            "{found:?}"
        );
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(
            settle(home.path(), Duration::from_secs(10)),
            Vec::<String>::new()
        );
    }
}
