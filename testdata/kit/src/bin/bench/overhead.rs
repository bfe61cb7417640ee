//! What one `RUN` costs that does nothing: beside other builders, beside the runtimes that those start for it, and
//! beside the least that namespaces cost.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    contender::{Build, Contender},
    measure::{self, Cost},
    scenario::{Bench, STEPS, Sample, Scenario, process_floors, write},
};

/// The runtimes of other builders, and how they are started once, bundle and name to follow.
const RUNTIMES: [(&str, &[&str]); 2] = [
    ("crun", &["crun", "run", "--bundle"]),
    ("runc", &["runc", "run", "--bundle"]),
];

/// What rbuild's log begins the line with that says where the time of a step went.
const PARTS: &str = "microseconds of a step: ";

/// Steps of the build in which what a build begins and ends with hardly counts.
const MANY: usize = 100;

/// Twenty steps that do nothing, none of them cached; every cost is that of one. And a hundred, for us alone.
pub(crate) struct RunOverhead {
    /// The parts of rbuild's steps, each with what it took, and the whole.
    parts: Mutex<BTreeMap<(usize, String), Vec<Duration>>>,
}

impl RunOverhead {
    const ROW: &'static str = "RUN true, each of 20";
    const LONG_ROW: &'static str = "RUN true, each of 100";

    pub(crate) const fn new() -> Self {
        Self {
            parts: Mutex::new(BTreeMap::new()),
        }
    }

    /// The command of a build of that many steps, which nobody has seen yet.
    fn build(
        &self,
        bench: &Bench,
        contender: &Contender,
        (steps, round): (usize, &str),
    ) -> Command {
        let place = bench.place(self.name(), contender.name);
        let build = Build {
            store: &place.join("store"),
            context: &place.join("context"),
            dockerfile: &place.join(dockerfile(steps)),
            tag: "bench-run",
            args: &[format!("BUST={}-{round}", std::process::id())],
            cold: false,
        };
        contender.build(bench, &build)
    }

    /// What a build of many steps costs, with a network and without.
    fn long(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<[Sample; 2]> {
        let sample = |what, cost: Cost| Sample {
            row: Self::LONG_ROW,
            what,
            cost: cost.each(MANY),
        };
        let command = |round: String| self.build(bench, contender, (MANY, &round));
        let networked = measure::cost(&command(round.to_string()), &[])?;
        let mut alone = command(format!("{round}-alone"));
        let alone = measure::cost(alone.arg("--network=none"), &[])?;
        Ok([sample("", alone), sample("rbuild, network", networked)])
    }

    /// Has rbuild say where the time of its steps goes.
    fn dissect(&self, mut command: Command) -> Result<()> {
        let start = std::time::Instant::now();
        let output = command.env("RBUILD_LOG", "debug").output()?;
        let each = start.elapsed() / u32::try_from(STEPS)?;
        ensure!(output.status.success(), "the build with a log failed");
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let Some((_, line)) = line.split_once(PARTS) else {
                continue;
            };
            let pairs = line.split_whitespace().filter_map(|it| it.split_once('='));
            for (number, (name, micros)) in pairs.enumerate() {
                let took = Duration::from_micros(micros.parse().unwrap_or_default());
                parts
                    .entry((number, name.to_owned()))
                    .or_default()
                    .push(took);
            }
        }
        parts
            .entry((usize::MAX, String::new()))
            .or_default()
            .push(each);
        Ok(())
    }
}

impl Scenario for RunOverhead {
    fn name(&self) -> &'static str {
        "run-overhead"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 3 } else { 9 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.builds()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        for steps in [STEPS, MANY] {
            let mut text = format!("FROM {}\nARG BUST\n", contender.base());
            for step in 0..steps {
                // Each with a word of its own: a builder that knows a step by the content it starts from would
                // rightly run twenty equal ones once.
                writeln!(text, "RUN true {step}")?;
            }
            write(&place.join(dockerfile(steps)), &text)?;
        }
        contender.import(&place.join("store"), &bench.base)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let sample = |what, cost: Cost| Sample {
            row: Self::ROW,
            what,
            cost: cost.each(STEPS),
        };
        let new = |round: String| self.build(bench, contender, (STEPS, &round));
        let mut command = new(round.to_string());
        if !contender.plans() {
            let cost = measure::cost(&command, contender.daemons())?;
            return Ok(vec![sample("", cost)]);
        }
        let networked = measure::cost(&command, &[])?;
        command = new(format!("{round}-alone"));
        let alone = measure::cost(command.arg("--network=none"), &[])?;
        command = new(format!("{round}-log"));
        command.arg("--network=none");
        self.dissect(command)?;
        let mut samples = vec![sample("", alone), sample("rbuild, network", networked)];
        samples.extend(self.long(bench, contender, round)?);
        Ok(samples)
    }

    fn floor(&self, bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        let mut samples = process_floors(bench, Self::ROW, STEPS)?;
        for (name, start) in RUNTIMES {
            if let Some(cost) = runtime(bench, start)? {
                samples.push(Sample {
                    row: Self::ROW,
                    what: name,
                    cost,
                });
            }
        }
        for sample in &mut samples {
            sample.cost = sample.cost.each(STEPS);
        }
        Ok(samples)
    }

    fn notes(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        let mut known = Duration::ZERO;
        let mut words = Vec::new();
        for ((number, name), times) in parts.iter() {
            let median = middle(times);
            if *number == usize::MAX {
                words.push(format!("all else {}", shown(median.saturating_sub(known))));
                words.push(format!("together {}", shown(median)));
            } else {
                known += median;
                words.push(format!("{name} {}", shown(median)));
            }
        }
        vec![
            format!(
                "where a step of rbuild's without a network spends its time, medians: {}",
                words.join(", ")
            ),
            "crun and runc run what `runc spec` says, which has no system call filter; the builders' steps have no \
             network but where it says so"
                .to_owned(),
        ]
    }
}

/// What the Dockerfile with that many steps is called.
fn dockerfile(steps: usize) -> String {
    format!("Dockerfile.{steps}")
}

fn middle(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What it costs to have a runtime run `true` as often as there are steps; `None` where it is not installed.
fn runtime(bench: &Bench, start: &[&str]) -> Result<Option<Cost>> {
    let installed = Command::new(start[0]).arg("--version").output();
    if !installed.is_ok_and(|it| it.status.success()) {
        return Ok(None);
    }
    let bundle = bundle(bench)?;
    let name = format!("bench-{}", std::process::id());
    let run = format!("{} {} {name}", start.join(" "), bundle.display());
    // Crun refuses a machine that has both versions of control groups; who cannot see the second does not.
    let all = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null; i=0; \
         while [ $i -lt {STEPS} ]; do {run} || exit 1; i=$((i+1)); done"
    );
    measure::cost(Command::new("unshare").args(["-m", "sh", "-c", &all]), &[]).map(Some)
}

/// The base image as a runtime wants it.
fn bundle(bench: &Bench) -> Result<PathBuf> {
    let bundle = bench.work.join("bundle");
    let file = bundle.join("config.json");
    if file.exists() {
        return Ok(bundle);
    }
    fs::create_dir_all(&bundle)?;
    measure::run(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?;
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    let process = spec.get_mut("process").context("a spec has a process")?;
    process["terminal"] = false.into();
    process["args"] = vec!["/bin/true"].into();
    spec["root"]["path"] = bench.base_directory.to_string_lossy().into();
    fs::write(&file, serde_json::to_vec(&spec)?)?;
    Ok(bundle)
}
