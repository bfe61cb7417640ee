//! Where the cases are run, and what has to be true after each.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kit::leftovers;
use kit::rbuild::{Output, Rbuild, finish_within};
use kit::uplink;
use kit::volume::{Kind, Volume, quietly};

use crate::case::{Case, Line};
use crate::group::Group;

/// How long the kernel may take to end what a killed process had.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a line may take before it counts as hung.
const SMALL: Duration = Duration::from_secs(250);
const FULL: Duration = Duration::from_secs(3600);

/// What nobody but the machine's owner may see or change.
const CANARY: &str = "the canary of the host";

/// A machine of its own, as far as namespaces go: the programs, and the files of which nothing may change.
pub(crate) struct Ground {
    place: PathBuf,
    programs: PathBuf,
    victim: PathBuf,
    small: bool,
}

/// What an attack came to.
pub(crate) struct Came {
    pub(crate) exit: String,
    pub(crate) message: String,
}

impl Ground {
    /// Makes one below `place`, in namespaces that this process has for itself.
    pub(crate) fn prepare(place: &Path, rbuild: &Path, small: bool) -> Result<Self> {
        fs::create_dir_all(place)?;
        let programs = place.join("programs");
        fs::create_dir(&programs)?;
        fs::copy(rbuild, programs.join("rbuild"))
            .with_context(|| format!("no rbuild to test at `{}`: build it", rbuild.display()))?;
        let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe");
        fs::copy(probe.join("rounds"), programs.join("rounds"))?;
        quietly(
            Command::new("cc")
                .args(["-static", "-O1", "-o"])
                .arg(programs.join("storm"))
                .arg(probe.join("storm.c")),
        )?;
        // Whatever is left in these is seen.
        for directory in ["/tmp", "/run", "/dev/shm"] {
            quietly(Command::new("mount").args(["-t", "tmpfs", "tmpfs", directory]))?;
        }
        uplink::connect()?;
        let victim = place.join("victim");
        fs::create_dir(&victim)?;
        fs::create_dir(victim.join("d"))?;
        for name in ["of-the-host", "d/of-the-host"] {
            fs::write(victim.join(name), CANARY)?;
            fs::set_permissions(victim.join(name), fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self {
            place: place.to_owned(),
            programs,
            victim,
            small,
        })
    }

    /// Runs a case, and looks what is left of it. The second is the most memory that an rbuild had, in MiB.
    pub(crate) fn run(&self, case: &Case) -> (Result<Came>, u64) {
        match self.try_run(case) {
            Ok((came, peak)) => (came, peak),
            Err(error) => (Err(error), 0),
        }
    }

    fn try_run(&self, case: &Case) -> Result<(Result<Came>, u64)> {
        let volume = Volume::make(
            Kind::Ext4("noatime"),
            &self.place.join("volume"),
            case.limits.disk << 20,
        )?;
        let rbuild = Rbuild::below(volume.point(), self.programs.join("rbuild"));
        rbuild.import_busybox();
        for (name, text) in &case.files {
            rbuild.write(name, text);
        }
        // Numbers of processes do not tell labs apart.
        let place = self.place.to_string_lossy().replace('/', ".");
        let name = format!("hostile{place}.{}", case.name);
        let group = Group::make(&name, &case.limits)?;
        let before = self.machine();
        let (came, peak) = watched(&group, || self.attack(case, &rbuild, &group));
        let came = came.and_then(|came| {
            ensure!(
                peak <= case.limits.peak,
                "an rbuild took {peak} MiB of memory, {} at most are allowed",
                case.limits.peak
            );
            self.nothing_is_left(&rbuild, &group)?;
            self.is_sound(&rbuild)?;
            self.nothing_is_left(&rbuild, &group)?;
            let after = self.machine();
            let difference = difference(&before, &after);
            ensure!(
                difference.is_empty(),
                "the machine is another: {difference}"
            );
            Ok(came)
        });
        // What is left is ended before the home is looked at once more.
        drop(group);
        Ok((came, peak))
    }

    fn attack(&self, case: &Case, rbuild: &Rbuild, group: &Group) -> Result<Came> {
        let mut came = None;
        for line in &case.lines {
            match line {
                Line::Honest(line) => {
                    let output = self.shell(case, rbuild, group, line)?;
                    ensure!(
                        output.status.success(),
                        "`{line}` failed: {}",
                        output.transcript()
                    );
                }
                Line::Attack(line) => {
                    let output = self.shell(case, rbuild, group, line)?;
                    came = Some(Came::of(&output, rbuild)?);
                }
            }
        }
        came.context("a case has an attack")
    }

    fn shell(&self, case: &Case, rbuild: &Rbuild, group: &Group, line: &str) -> Result<Output> {
        let mut command = rbuild.shell(&format!("{}{{ {line}; }}", group.entry()));
        command.env("VICTIM", &self.victim).env("CANARY", CANARY);
        for variable in &case.variables {
            let value = if self.small {
                &variable.small
            } else {
                &variable.full
            };
            command.env(&variable.name, value);
        }
        let patience = if self.small { SMALL } else { FULL };
        finish_within(command.spawn()?, patience).with_context(|| format!("`{line}`"))
    }

    /// No process, no group, no link and no file of work is there any more.
    fn nothing_is_left(&self, rbuild: &Rbuild, group: &Group) -> Result<()> {
        let mut left = group.left(PATIENCE);
        left.extend(leftovers::settle(rbuild.home(), PATIENCE));
        left.extend(uplink::links_settle(PATIENCE));
        for directory in [
            &rbuild.root().join("tmp"),
            Path::new("/tmp"),
            Path::new("/run"),
            Path::new("/run/rbuild/network/addresses"),
        ] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|it| it.path().display().to_string());
            // The locks of the bridge, and what `mount` remembers of the volume.
            left.extend(names.filter(|it| !["/run/rbuild", "/run/mount"].contains(&it.as_str())));
        }
        ensure!(left.is_empty(), "left behind: {}", left.join(" | "));
        Ok(())
    }

    /// The store holds what it says, and builds.
    fn is_sound(&self, rbuild: &Rbuild) -> Result<()> {
        let honest = "FROM busybox\nRUN echo well > /well\nRUN grep well /well\n";
        rbuild.write("honest/Dockerfile", honest);
        for line in [
            &["build", "-q", "--no-cache", "honest"] as &[&str],
            &["store", "verify"],
        ] {
            let mut command = rbuild.command(line);
            let output = finish_within(command.spawn()?, SMALL)?;
            ensure!(
                output.status.success(),
                "afterwards, {}: {}",
                line.join(" "),
                output.transcript()
            );
        }
        Ok(())
    }

    /// What must be as it was.
    fn machine(&self) -> Vec<String> {
        let mut all: Vec<String> = [
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/domainname",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/swaps",
            "/proc/sysvipc/shm",
            "/proc/sysvipc/sem",
            "/proc/sysvipc/msg",
        ]
        .iter()
        .map(|it| format!("{it}: {}", fs::read_to_string(it).unwrap_or_default()))
        .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        all.extend(mounts.lines().map(|it| format!("mount: {it}")));
        all.push(format!("filters: {}", said("nft", &["list", "ruleset"])));
        all.push(format!(
            "routes: {}",
            said("ip", &["-4", "route", "show", "table", "all"])
        ));
        all.extend(tree(&self.victim));
        for directory in ["/", "/dev", "/dev/shm"] {
            // Others of this machine have their own loop devices.
            let mut names = names(Path::new(directory));
            names.retain(|it| !it.starts_with("loop"));
            all.push(format!("{directory}: {}", names.join(" ")));
        }
        all
    }
}

impl Came {
    fn of(output: &Output, rbuild: &Rbuild) -> Result<Self> {
        let said = format!("{}\n{}", output.stdout, output.stderr);
        ensure!(!said.contains("panicked at"), "it panicked: {said}");
        let exit = match output.status.code() {
            Some(code) => code.to_string(),
            None => bail!("a signal ended it: {}", output.transcript()),
        };
        let is_error = |it: &&str| it.starts_with("ERROR: ") || it.starts_with("error: ");
        let errors = output.stderr.lines().rev().find(is_error);
        let line = errors.or_else(|| output.stdout.lines().last());
        let line = line.or_else(|| output.stderr.lines().last());
        let line = line.unwrap_or_default();
        let line = line
            .strip_prefix("ERROR: failed to build: failed to solve: ")
            .unwrap_or(line);
        let message = match own_words(&output.stderr) {
            Some(words) if line.starts_with("process ") => format!("{words}; {line}"),
            _ => line.to_owned(),
        };
        Ok(Self {
            exit,
            message: rbuild.stable(message.trim()),
        })
    }
}

/// The last line of a step's own in what is said of its failure: it begins with the time.
fn own_words(stderr: &str) -> Option<&str> {
    stderr
        .lines()
        .filter_map(|line| {
            let (time, words) = line.split_once(' ')?;
            let is_time = time.contains('.') && time.parse::<f64>().is_ok();
            is_time.then_some(words)
        })
        .next_back()
}

/// Does `work`, and looks meanwhile how much memory each rbuild has: in MiB, the most of one.
fn watched<T>(group: &Group, work: impl FnOnce() -> T) -> (T, u64) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                let peaks = group.processes().into_iter().filter_map(peak_of);
                peak = peaks.fold(peak, u64::max);
                thread::sleep(Duration::from_millis(4));
            }
            peak
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let peak = watcher.join().unwrap_or_default();
        (done, peak.div_ceil(1024))
    })
}

/// The most memory that a process had, in KiB, if it is an rbuild.
fn peak_of(pid: i32) -> Option<u64> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    if !exe.ends_with("rbuild") {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    output.map_or_else(
        |error| error.to_string(),
        |it| String::from_utf8_lossy(&it.stdout).into_owned(),
    )
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything below a directory: its name, owner, mode and content.
fn tree(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for name in names(directory) {
        let path = directory.join(&name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let content = if metadata.is_file() {
            fs::read_to_string(&path).unwrap_or_default()
        } else {
            String::new()
        };
        all.push(format!(
            "{}: {:o} {}:{} {content}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid()
        ));
        if metadata.is_dir() {
            all.extend(tree(&path));
        }
    }
    all
}

fn difference(before: &[String], after: &[String]) -> String {
    let gone = before.iter().filter(|it| !after.contains(it));
    // Others' mounts, which were there when the namespace was made, go when their places do.
    let gone = gone.filter(|it| !it.starts_with("mount: "));
    let new = after.iter().filter(|it| !before.contains(it));
    let lines = gone
        .map(|it| format!("- {it}"))
        .chain(new.map(|it| format!("+ {it}")));
    lines.collect::<Vec<_>>().join(" | ")
}
