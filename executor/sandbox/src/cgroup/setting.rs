//! What is written into which file of a control group, in both versions.

use std::fmt::Display;

use crate::{Limits, Privileges};

/// What a hierarchy controls. The second version has everything in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pids,
    Devices,
    Memory,
    Cpu,
    Cpuset,
    Unified,
}

/// One line into one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) text: String,
    /// Whether the sandbox must not run without it.
    pub(super) is_needed: bool,
}

impl Kind {
    pub(super) const FIRST_VERSION: [Self; 5] = [
        Self::Pids,
        Self::Devices,
        Self::Memory,
        Self::Cpu,
        Self::Cpuset,
    ];

    /// The controller's name; empty for the second version, which has them all.
    pub(super) fn controller(self) -> &'static str {
        match self {
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Unified => "",
        }
    }

    /// The file into which a process of one thread writes itself.
    ///
    /// Moving a whole process makes the kernel wait until all processors have looked up from their work,
    /// for milliseconds where the machine is idle and for tens of them where it is not. The first
    /// version also moves single threads, and the one that moves itself does not wait.
    pub(super) fn door(self) -> &'static str {
        match self {
            Self::Unified => "cgroup.procs",
            Self::Pids | Self::Devices | Self::Memory | Self::Cpu | Self::Cpuset => "tasks",
        }
    }

    /// Whether a sandbox has a group of this kind. To join one costs time, so it has only those that
    /// hold something back; below a group that a person named, it is in all of them.
    pub(super) fn is_wanted(self, limits: &Limits, privileges: Privileges) -> bool {
        limits.parent.is_some()
            || match self {
                Self::Pids => limits.pids.is_some(),
                Self::Devices => privileges == Privileges::Default,
                Self::Unified => true,
                Self::Memory | Self::Cpu | Self::Cpuset => self.is_needed(limits),
            }
    }

    /// Whether a sandbox must not run without a group of this kind.
    pub(super) fn is_needed(self, limits: &Limits) -> bool {
        limits.parent.is_some()
            || match self {
                Self::Pids | Self::Devices => false,
                Self::Memory => needs_memory(limits),
                Self::Cpu => needs_cpu(limits),
                Self::Cpuset => needs_cpuset(limits),
                Self::Unified => alters(limits),
            }
    }

    /// The file that says how often something was killed for want of memory.
    pub(super) fn oom_file(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory.oom_control"),
            Self::Unified => Some("memory.events"),
            _ => None,
        }
    }

    /// The file that says how much memory was in use at most.
    pub(super) fn peak_file(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory.max_usage_in_bytes"),
            Self::Unified => Some("memory.peak"),
            _ => None,
        }
    }
}

fn needs_memory(limits: &Limits) -> bool {
    limits.memory.is_some() || limits.memory_and_swap.is_some()
}

fn needs_cpu(limits: &Limits) -> bool {
    limits.cpu_shares.is_some() || limits.cpu_quota.is_some() || limits.cpu_period.is_some()
}

fn needs_cpuset(limits: &Limits) -> bool {
    limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some()
}

/// The controllers that a sandbox may need, as a group of the second version is asked to hand them down.
pub(super) const CONTROLLERS: [&str; 4] = ["+pids", "+memory", "+cpu", "+cpuset"];

/// Those that it does need.
pub(super) fn controllers(limits: &Limits) -> impl Iterator<Item = &'static str> {
    let needs = [true, true, needs_cpu(limits), needs_cpuset(limits)];
    let needed = CONTROLLERS
        .into_iter()
        .zip(needs)
        .filter(|(_, needs)| *needs);
    needed.map(|(controller, _)| controller)
}

/// Whether a group with these limits is another than one without any.
pub(super) fn alters(limits: &Limits) -> bool {
    needs_memory(limits) || needs_cpu(limits) || needs_cpuset(limits)
}

/// What the limits hold back and none of the joined groups can.
pub(super) fn missing(limits: &Limits, joined: &[Kind]) -> Option<&'static str> {
    let has = |kind| joined.contains(&kind) || joined.contains(&Kind::Unified);
    let asked = [
        (needs_memory(limits), Kind::Memory, "memory"),
        (needs_cpu(limits), Kind::Cpu, "processor time"),
        (
            needs_cpuset(limits),
            Kind::Cpuset,
            "the choice of processors",
        ),
    ];
    asked
        .into_iter()
        .find_map(|(asked, kind, what)| (asked && !has(kind)).then_some(what))
}

/// What to write into a group, in this order. `was_altered` says that the group may hold what an
/// earlier sandbox had asked for.
pub(super) fn settings(kind: Kind, limits: &Limits, was_altered: bool) -> Vec<Setting> {
    match kind {
        Kind::Pids => vec![hoped("pids.max", limit(limits.pids))],
        Kind::Devices => Vec::new(),
        Kind::Memory => memory(limits),
        Kind::Cpu => cpu(limits),
        Kind::Cpuset => cpuset(limits),
        Kind::Unified => unified(limits, was_altered),
    }
}

fn needed(file: &'static str, text: impl Display) -> Setting {
    Setting {
        file,
        text: format!("{text}"),
        is_needed: true,
    }
}

/// A file that is not there where the kernel or whoever gave us the group does not have the controller.
fn hoped(file: &'static str, text: impl Display) -> Setting {
    Setting {
        is_needed: false,
        ..needed(file, text)
    }
}

fn limit(value: Option<u64>) -> String {
    value.map_or("max".to_owned(), |it| it.to_string())
}

/// The limit of memory with swap can never be below that of memory alone, so both go up before they
/// come down.
fn memory(limits: &Limits) -> Vec<Setting> {
    let (alone, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    let mut settings = vec![hoped(both, -1), hoped(alone, -1)];
    settings.extend(limits.memory.map(|it| needed(alone, it)));
    settings.extend(limits.memory_and_swap.map(|it| needed(both, it)));
    if let (Some(memory), None) = (limits.memory, limits.memory_and_swap) {
        settings.push(hoped(both, memory.saturating_mul(2)));
    }
    settings
}

/// The kernel's defaults, which a sandbox has that does not say.
const SHARES: u64 = 1024;
const PERIOD: u64 = 100_000;

fn cpu(limits: &Limits) -> Vec<Setting> {
    let setting = |asked: bool, file, text: String| match asked {
        true => needed(file, text),
        false => hoped(file, text),
    };
    vec![
        setting(
            limits.cpu_shares.is_some(),
            "cpu.shares",
            limits.cpu_shares.unwrap_or(SHARES).to_string(),
        ),
        // Without a quota any period goes.
        hoped("cpu.cfs_quota_us", -1),
        setting(
            limits.cpu_period.is_some(),
            "cpu.cfs_period_us",
            limits.cpu_period.unwrap_or(PERIOD).to_string(),
        ),
        setting(
            limits.cpu_quota.is_some(),
            "cpu.cfs_quota_us",
            limits.cpu_quota.unwrap_or(-1).to_string(),
        ),
    ]
}

/// A group that has none of its own has got its parent's by now.
fn cpuset(limits: &Limits) -> Vec<Setting> {
    let cpus = limits.cpuset_cpus.as_ref();
    let mems = limits.cpuset_mems.as_ref();
    cpus.map(|it| needed("cpuset.cpus", it))
        .into_iter()
        .chain(mems.map(|it| needed("cpuset.mems", it)))
        .collect()
}

fn unified(limits: &Limits, was_altered: bool) -> Vec<Setting> {
    let mut settings = vec![hoped("pids.max", limit(limits.pids))];
    if was_altered {
        settings.extend([
            hoped("memory.max", "max"),
            hoped("memory.swap.max", "max"),
            hoped("cpu.weight", 100),
            hoped("cpu.max", format!("max {PERIOD}")),
            // An empty line: those of the parent.
            hoped("cpuset.cpus", "\n"),
            hoped("cpuset.mems", "\n"),
        ]);
    }
    settings.extend(limits.memory.map(|it| needed("memory.max", it)));
    settings.extend(limits.memory_and_swap.map(|both| {
        let swap = u64::try_from(both)
            .ok()
            .map(|both| both.saturating_sub(limits.memory.unwrap_or(0)));
        needed("memory.swap.max", limit(swap))
    }));
    if let (Some(memory), None) = (limits.memory, limits.memory_and_swap) {
        settings.push(hoped("memory.swap.max", memory));
    }
    let weight = limits.cpu_shares.map(weight);
    settings.extend(weight.map(|it| needed("cpu.weight", it)));
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = limits.cpu_quota.and_then(|it| u64::try_from(it).ok());
        let period = limits.cpu_period.unwrap_or(PERIOD);
        settings.push(needed("cpu.max", format!("{} {period}", limit(quota))));
    }
    settings.extend(cpuset(limits));
    settings
}

/// Shares of the first version (2 to 262144, usually 1024) as a weight of the second (1 to 10000),
/// as every runtime converts them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            pids: None,
            ..Limits::default()
        }
    }

    /// `file=text` of each setting, with `?` where the sandbox may run without it.
    fn drawn(kind: Kind, limits: &Limits) -> String {
        let draw = |it: &Setting| {
            let mark = if it.is_needed { "" } else { "?" };
            format!("{}{mark}={}", it.file, it.text.trim())
        };
        let settings = settings(kind, limits, false);
        settings.iter().map(draw).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_versions_get_what_is_asked_for() {
        let some = Limits {
            pids: Some(7),
            memory: Some(64 << 20),
            memory_and_swap: Some(96 << 20),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: Some(200_000),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            ..limits()
        };
        let table = [
            (Kind::Pids, "pids.max?=7"),
            (
                Kind::Memory,
                "memory.memsw.limit_in_bytes?=-1 memory.limit_in_bytes?=-1 \
                 memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=100663296",
            ),
            (
                Kind::Cpu,
                "cpu.shares=1024 cpu.cfs_quota_us?=-1 cpu.cfs_period_us=200000 cpu.cfs_quota_us=50000",
            ),
            (Kind::Cpuset, "cpuset.cpus=0-1 cpuset.mems=0"),
            (
                Kind::Unified,
                "pids.max?=7 memory.max=67108864 memory.swap.max=33554432 cpu.weight=39 \
                 cpu.max=50000 200000 cpuset.cpus=0-1 cpuset.mems=0",
            ),
        ];
        for (kind, expected) in table {
            assert_eq!(drawn(kind, &some), expected);
        }
    }

    #[test]
    fn no_limit_of_memory_with_swap_is_none() {
        let unlimited = Limits {
            memory: Some(1 << 20),
            memory_and_swap: Some(-1),
            ..limits()
        };
        assert_eq!(
            drawn(Kind::Unified, &unlimited),
            "pids.max?=max memory.max=1048576 memory.swap.max=max"
        );
        assert!(drawn(Kind::Memory, &unlimited).ends_with("memory.memsw.limit_in_bytes=-1"));
    }

    #[test]
    fn without_a_word_on_swap_there_is_as_much_as_memory() {
        let memory = Limits {
            memory: Some(1 << 20),
            ..limits()
        };
        let drawn = |kind| drawn(kind, &memory);
        assert!(drawn(Kind::Unified).ends_with(" memory.max=1048576 memory.swap.max?=1048576"));
        assert!(drawn(Kind::Memory).ends_with(" memory.memsw.limit_in_bytes?=2097152"));
    }

    #[test]
    fn what_an_earlier_sandbox_had_is_undone() {
        let texts = |was_altered| settings(Kind::Unified, &limits(), was_altered).len();
        assert_eq!((texts(false), texts(true)), (1, 7));
    }

    #[test]
    fn a_limit_that_nothing_can_hold_is_noticed() {
        let memory = Limits {
            memory: Some(1),
            ..limits()
        };
        let missing = |joined: &[Kind]| missing(&memory, joined);
        assert_eq!(missing(&[Kind::Pids, Kind::Cpu]), Some("memory"));
        assert_eq!(missing(&[Kind::Memory]), None);
        assert_eq!(missing(&[Kind::Unified]), None);
    }
}
