//! The fault runs: an rbuild is killed, its power fails, its disk is full, its files change; and after each the next
//! build has to be right, the store sound, and nothing may be left.
//!
//! The command runs itself as several labs, each a process in namespaces of its own (see [`lab`]); they share the
//! cases out among them and write down, one line of JSON a case, what each came to. Everything follows from the seed, as far as
//! a machine that does several things at once repeats itself.

mod campaign;
mod cell;
mod context;
mod lab;
mod picture;
mod seed;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kit::labs::{self, Processes};
use kit::words::one_line;
use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, Case, Outcome};
use crate::lab::Lab;
use crate::seed::Chance;
use crate::table::Table;

/// Breaks rbuild in every way there is, and checks that it comes back right.
///
/// As root, with the Debian packages that `testdata/faults` installs.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Arguments {
    /// The rbuild to test [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    rbuild: Option<PathBuf>,

    /// What chance follows from [default: the clock]
    #[arg(long, value_name = "NUMBER", overrides_with = "seed")]
    seed: Option<u64>,

    /// A few cases of each kind, for continuous integration
    #[arg(long)]
    small: bool,

    /// How many commands are killed at a random time
    #[arg(long, value_name = "N")]
    kills: Option<usize>,

    /// How many builds are killed at a system call of the commit path
    #[arg(long, value_name = "N")]
    calls: Option<usize>,

    /// How many power cuts
    #[arg(long, value_name = "N")]
    cuts: Option<usize>,

    /// How many sizes of a disk that is too small
    #[arg(long, value_name = "N")]
    sizes: Option<usize>,

    /// How many changes to files of the store
    #[arg(long, value_name = "N")]
    damages: Option<usize>,

    /// One kind of fault, or one case: `kills`, `kills:17`
    #[arg(long, value_name = "KIND[:CASE]")]
    only: Option<String>,

    /// How many labs work at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,

    /// Which of them this process is
    #[arg(long, hide = true)]
    lab: Option<usize>,
}

/// What became of a case, as a lab writes it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    kind: String,
    case: usize,
    seconds: f64,
    struck: bool,
    problem: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.lab {
        Some(lab) => work(&arguments, lab).map(|()| true),
        None => supervise(&arguments),
    };
    labs::exit(done, say)
}

/// Starts the labs and collects what they write down. Returns whether all went well.
fn supervise(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(clock);
    let cases = arguments.chosen()?;
    let since = Instant::now();
    say(&format!(
        "seed {seed}, {} cases in {} labs",
        cases.len(),
        arguments.jobs
    ));
    let mut table = Table::new(seed);
    let ended = labs::supervise(
        (arguments.jobs, Processes::All),
        &[format!("--seed={seed}")],
        |record: Record| {
            if let Some(problem) = &record.problem {
                say(&format!(
                    "FAILED {}:{}: {problem} (repeat: testdata/faults --seed {seed} --only {}:{}{})",
                    record.kind,
                    record.case,
                    record.kind,
                    record.case,
                    if arguments.small { " --small" } else { "" },
                ));
            }
            table.add(&record);
        },
    )?;
    print(&table.draw(&campaign::all(), since.elapsed()));
    if table.cases() < cases.len() {
        bail!("only {} of {} cases were done", table.cases(), cases.len());
    }
    Ok(ended && table.failures() == 0)
}

/// A lab: does its share of the cases.
fn work(arguments: &Arguments, number: usize) -> Result<()> {
    labs::enter()?;
    let seed = arguments.seed.context("a lab is told the seed")?;
    let campaigns = campaign::all();
    let cases = arguments.chosen()?;
    let rbuild = match &arguments.rbuild {
        Some(file) => file.clone(),
        None => std::env::current_exe()?.with_file_name("rbuild"),
    };
    let lab = Lab::prepare(&rbuild)?;
    let mine = cases.iter().skip(number).step_by(arguments.jobs.max(1));
    for &(kind, case, of) in mine {
        let campaign = &campaigns[kind];
        let since = Instant::now();
        let chance = Chance::of(seed, campaign.name(), case);
        let came = campaign.case(
            &lab,
            Case {
                number: case,
                of,
                chance,
            },
        );
        let record = Record {
            kind: campaign.name().to_owned(),
            case,
            seconds: since.elapsed().as_secs_f64(),
            struck: !matches!(came, Ok(Outcome::Missed)),
            problem: came.err().map(|error| one_line(&error)),
        };
        if record.problem.is_some() {
            lab.tidy();
        }
        labs::write(&record)?;
    }
    Ok(())
}

impl Arguments {
    /// The cases to do: which campaign, which case, of how many.
    fn chosen(&self) -> Result<Vec<(usize, usize, usize)>> {
        let campaigns = campaign::all();
        let (only, single) = match self
            .only
            .as_deref()
            .map(|it| it.split_once(':').unwrap_or((it, "")))
        {
            None => (None, None),
            Some((name, "")) => (Some(name), None),
            Some((name, case)) => (
                Some(name),
                Some(case.parse::<usize>().context("no case of that number")?),
            ),
        };
        if let Some(name) = only
            && !campaigns.iter().any(|it| it.name() == name)
        {
            let names: Vec<&str> = campaigns.iter().map(|it| it.name()).collect();
            bail!("no kind of fault `{name}`; there are: {}", names.join(", "));
        }
        let mut cases = Vec::new();
        for (kind, campaign) in campaigns.iter().enumerate() {
            let count = self.count(&**campaign);
            let wanted = |case: &usize| single.is_none_or(|it| it == *case);
            if only.is_none_or(|it| it == campaign.name()) {
                cases.extend((0..count).filter(wanted).map(|case| (kind, case, count)));
            }
        }
        Ok(cases)
    }

    fn count(&self, campaign: &dyn Campaign) -> usize {
        let asked = match campaign.name() {
            "kills" => self.kills,
            "calls" => self.calls,
            "cuts" => self.cuts,
            "sizes" => self.sizes,
            _ => self.damages,
        };
        let (full, small) = campaign.counts();
        asked.unwrap_or(if self.small { small } else { full })
    }
}

fn clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs())
}

#[expect(clippy::print_stderr, reason = "the talk of the fault runs")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "the result of the fault runs")]
fn print(text: &str) {
    println!("{text}");
}
