//! The control groups of one case: everything that it starts is in them, and is limited together.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::Limits;

/// Where control groups are.
const TOP: &str = "/sys/fs/cgroup";

/// The hierarchies of the first version in which rbuild makes groups; below ours, if it is in them.
const CONTROLLERS: [&str; 4] = ["pids", "memory", "devices", "cpu"];

/// The groups. They go when this is dropped, with all that is in them.
#[derive(Debug)]
pub(crate) struct Group {
    /// The directory of the case in each hierarchy.
    directories: Vec<PathBuf>,
    /// Where its processes begin: there, or below in the second version, where a group with processes has none below.
    doors: Vec<PathBuf>,
}

impl Group {
    /// Makes groups of that name, below those of this process.
    pub(crate) fn make(name: &str, limits: &Limits) -> Result<Self> {
        let unified = Path::new(TOP).join("cgroup.controllers").exists();
        let group = if unified {
            Self::unified(name, limits)
        } else {
            Self::separate(name, limits)
        };
        group.context("cannot make control groups")
    }

    fn unified(name: &str, limits: &Limits) -> Result<Self> {
        let directory = Path::new(TOP).join(name);
        // A machine's own manager has handed them down already.
        let _ = fs::write(
            Path::new(TOP).join("cgroup.subtree_control"),
            "+pids +memory +cpu +cpuset",
        );
        let door = directory.join("run");
        fs::create_dir_all(&door)?;
        fs::write(
            directory.join("cgroup.subtree_control"),
            "+pids +memory +cpu +cpuset",
        )?;
        fs::write(directory.join("pids.max"), limits.pids.to_string())?;
        fs::write(directory.join("memory.max"), bytes(limits.memory))?;
        Ok(Self {
            directories: vec![directory],
            doors: vec![door],
        })
    }

    fn separate(name: &str, limits: &Limits) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut directories = Vec::new();
        for controller in CONTROLLERS {
            let path = own
                .lines()
                .filter_map(|line| {
                    line.splitn(3, ':')
                        .skip(1)
                        .collect::<Vec<_>>()
                        .try_into()
                        .ok()
                })
                .find_map(|[names, path]: [&str; 2]| {
                    names.split(',').any(|it| it == controller).then_some(path)
                });
            let Some(path) = path else { continue };
            let directory = Path::new(TOP)
                .join(controller)
                .join(path.trim_start_matches('/'))
                .join(name);
            fs::create_dir(&directory)?;
            match controller {
                "pids" => fs::write(directory.join("pids.max"), limits.pids.to_string())?,
                "memory" => {
                    fs::write(
                        directory.join("memory.limit_in_bytes"),
                        bytes(limits.memory),
                    )?;
                }
                _ => {}
            }
            directories.push(directory);
        }
        ensure!(!directories.is_empty(), "there are none");
        Ok(Self {
            doors: directories.clone(),
            directories,
        })
    }

    /// A line of shell that brings the shell into the groups.
    pub(crate) fn entry(&self) -> String {
        self.doors
            .iter()
            .map(|it| format!("echo $$ > {}/cgroup.procs && ", it.display()))
            .collect()
    }

    /// The processes that are in the groups themselves, and not in those of a step.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.doors
            .first()
            .map(|it| processes(it))
            .unwrap_or_default()
    }

    /// What is in the groups once all should be over: processes, and groups below.
    pub(crate) fn left(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        loop {
            let left: Vec<String> = self
                .directories
                .iter()
                .flat_map(|it| contents(it))
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            for pid in below(directory).iter().flat_map(|it| processes(it)) {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while directory.exists() && Instant::now() < deadline {
                for group in below(directory).into_iter().rev() {
                    let _ = fs::remove_dir(group);
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn bytes(mebibytes: u64) -> String {
    (mebibytes << 20).to_string()
}

/// A group and those below it, from the top down.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(group) = all.get(next) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let groups: Vec<PathBuf> = entries
            .filter(|it| it.file_type().is_ok_and(|it| it.is_dir()))
            .map(|it| it.path())
            .collect();
        all.extend(groups);
        next += 1;
    }
    all
}

fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|it| it.parse().ok()).collect()
}

fn contents(directory: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for group in below(directory) {
        let name = group
            .strip_prefix(TOP)
            .unwrap_or(&group)
            .display()
            .to_string();
        if group != directory && !group.ends_with("run") {
            left.push(format!("group {name}"));
        }
        let processes = processes(&group);
        left.extend(processes.iter().map(|it| format!("process {it} in {name}")));
    }
    left
}
