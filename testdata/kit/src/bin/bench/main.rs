//! The benchmark: rbuild beside the builders found on this machine, and beside what the kernel itself takes.
//!
//! Every contender does the same work in turn, A B A B, so that a machine that slows down slows all of them; the table
//! shows medians. A cost is the wall clock, the CPU time of the whole process tree (daemons included) and the peak
//! memory of its largest process. Everything happens below one directory, which is deleted after the last measurement,
//! not between: on some file systems files are slow to create for minutes after many were deleted.

mod contender;
mod elsewhere;
mod inputs;
mod measure;
mod overhead;
mod scenario;
mod table;
mod tally;
mod transport;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kit::words::one_line;

use crate::{
    contender::Contender,
    scenario::{Bench, SCENARIOS, Scenario},
    table::Table,
};

/// Measures rbuild beside its peers.
///
/// Takes part: rbuild, buildah, podman (run and save; builds too where there is no buildah), docker with a running
/// engine, buildctl with a running buildkitd, skopeo where images are only moved. As root, with busybox-static for the base image.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The rbuild to measure: a release build
    #[arg(long, value_name = "FILE")]
    rbuild: PathBuf,

    /// A tenth of the data and fewer rounds
    #[arg(long)]
    quick: bool,

    /// How often each contender does each work (default: by scenario)
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Leave this peer out; may be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,

    /// Where to work; a directory of ours is made in it and deleted (default: the temporary directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Which scenarios (default: all): cached, run-overhead, context, big-file, fan-out, run, plan,
    /// remote-cache, packing, transport
    scenarios: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // The benchmark runs itself to measure a command from outside; see `measure`.
    let done = if arguments.nth(1).is_some_and(|it| it == measure::INSIDE) {
        measure::inside(arguments)
    } else {
        bench(&Arguments::parse())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let chosen = chosen(&arguments.scenarios)?;
    let work = tempfile::Builder::new()
        .prefix("rbuild-bench.")
        .tempdir_in(arguments.dir.clone().unwrap_or_else(std::env::temp_dir))
        .context("cannot make a directory to work in")?;
    let state = tempfile::Builder::new()
        .prefix("rb.")
        .tempdir_in("/run")
        .context("cannot make a directory with a short name")?;
    let result = run(arguments, &chosen, (work.path(), state.path()));
    say("cleaning up");
    for place in [state, work] {
        unmount_below(place.path());
        place
            .close()
            .context("cannot delete a directory worked in")?;
    }
    print(&result?);
    Ok(())
}

fn run(
    arguments: &Arguments,
    chosen: &[&dyn Scenario],
    (work, state): (&Path, &Path),
) -> Result<Table> {
    let rbuild = fs::canonicalize(&arguments.rbuild).context("cannot find rbuild")?;
    let bench = Bench::new((work, state), &rbuild, arguments.quick)?;
    let mut table = Table::default();
    let mut contenders = Vec::new();
    for name in contender::NAMES
        .iter()
        .filter(|it| !arguments.without.iter().any(|out| out == *it))
    {
        say(&format!("trying {name}"));
        match Contender::find(name, &rbuild, &bench) {
            Ok(Some(contender)) => {
                table.note(&format!("{name}: {}", contender.about));
                contenders.push(contender);
            }
            Ok(None) => {}
            Err(error) => table.note(&format!("{name} does not take part: {}", one_line(&error))),
        }
    }
    for scenario in chosen {
        compete(*scenario, &bench, &contenders, arguments.rounds, &mut table);
    }
    Ok(table)
}

/// Lets everybody do one scenario, in turn; whoever fails once is out of it, with the reason in the table.
fn compete(
    scenario: &dyn Scenario,
    bench: &Bench,
    contenders: &[Contender],
    rounds: Option<usize>,
    table: &mut Table,
) {
    let rounds = rounds
        .unwrap_or_else(|| scenario.rounds(bench.quick))
        .max(1);
    let mut entered: Vec<&Contender> = Vec::new();
    for contender in contenders
        .iter()
        .filter(|it| scenario.admits(it, contenders))
    {
        say(&format!(
            "{}: preparing {}",
            scenario.name(),
            contender.name
        ));
        match scenario.prepare(bench, contender) {
            Ok(()) => entered.push(contender),
            Err(error) => table.note(&format!(
                "{}, {}: {}",
                scenario.name(),
                contender.name,
                one_line(&error)
            )),
        }
    }
    for round in 0..rounds {
        say(&format!(
            "{}: round {} of {rounds}",
            scenario.name(),
            round + 1
        ));
        entered.retain(|contender| match scenario.round(bench, contender, round) {
            Ok(samples) => {
                samples
                    .iter()
                    .for_each(|it| table.add(it.whose(contender.name), it));
                true
            }
            Err(error) => {
                table.note(&format!(
                    "{}, {}: {}",
                    scenario.name(),
                    contender.name,
                    one_line(&error)
                ));
                false
            }
        });
        match scenario.floor(bench, round) {
            Ok(samples) => samples.iter().for_each(|it| table.add_floor(it)),
            Err(error) => table.note(&format!("{}, floor: {}", scenario.name(), one_line(&error))),
        }
    }
    scenario.notes().iter().for_each(|it| table.note(it));
}

fn chosen(names: &[String]) -> Result<Vec<&'static dyn Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.to_vec());
    }
    let find = |name: &String| SCENARIOS.iter().copied().find(|it| it.name() == name);
    names
        .iter()
        .map(|name| match find(name) {
            Some(scenario) => Ok(scenario),
            None => bail!(
                "no scenario `{name}`; there are: {}",
                SCENARIOS
                    .iter()
                    .map(|it| it.name())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })
        .collect()
}

/// Storage drivers mount their own directories on themselves and leave that behind.
fn unmount_below(work: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|it| it.split(' ').nth(4));
    let mut ours: Vec<&str> = points
        .filter(|it| Path::new(it).starts_with(work))
        .collect();
    ours.reverse();
    for point in ours {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

#[expect(clippy::print_stderr, reason = "the benchmark's talk")]
fn say(text: &str) {
    eprintln!("\x1b[2m    {text}\x1b[0m");
}

#[expect(clippy::print_stderr, reason = "the benchmark's talk")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

#[expect(clippy::print_stdout, reason = "the benchmark's result")]
fn print(table: &Table) {
    println!("{table}");
}
