//! The hostile runs: steps, contexts and archives that mean harm, each in control groups and on a file system of its
//! own; and after each nothing may be left, the store has to be sound, and an honest build has to succeed.
//!
//! The cases are files (`testdata/harm`, see [`case`]); what each comes to is `testdata/hostile.md`, which this program
//! holds them to, and writes with `--write`.

mod case;
mod ground;
mod group;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use kit::labs::{self, Processes};
use kit::words::one_line;
use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::ground::Ground;
use crate::table::Table;

/// Does to rbuild what hostile steps, contexts and archives do, and checks that nothing comes of it.
///
/// As root, with the Debian packages that `testdata/hostile` installs.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Arguments {
    /// The rbuild to test [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    rbuild: Option<PathBuf>,

    /// Small amounts and a few rounds of each race, for continuous integration
    #[arg(long)]
    small: bool,

    /// Only the cases with one of these words in their name
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,

    /// Write what came of it into the table, instead of comparing
    #[arg(long)]
    write: bool,

    /// How many labs work at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,

    /// Which of them this process is
    #[arg(long, hide = true)]
    lab: Option<usize>,

    /// Where the labs have their files
    #[arg(long, hide = true)]
    place: Option<PathBuf>,
}

/// What a case came to, as a lab writes it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    case: String,
    how: String,
    /// The exit code of the attack, or its signal.
    exit: String,
    message: String,
    seconds: f64,
    /// The most memory that an rbuild had, in MiB.
    memory: u64,
    problem: Option<String>,
}

/// Where the cases are, and their table.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../harm");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hostile.md");

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
    let cases = arguments.chosen()?;
    say(&format!("{} cases in {} labs", cases.len(), arguments.jobs));
    // Not in memory: what is written there counts as the writer's memory.
    let place = tempfile::Builder::new()
        .prefix("rbuild-hostile.")
        .tempdir_in("/var/tmp")?;
    let (since, mut records) = (Instant::now(), Vec::new());
    let ended = labs::supervise(
        (arguments.jobs, Processes::Own),
        &[format!("--place={}", place.path().display())],
        |record: Record| {
            match &record.problem {
                Some(problem) => say(&format!("FAILED {}: {problem}", record.case)),
                None => say(&format!("{}: {:.1} s", record.case, record.seconds)),
            }
            records.push(record);
        },
    )?;
    ensure!(
        records.len() == cases.len(),
        "only {} of {} cases were done",
        records.len(),
        cases.len()
    );
    let failures = records.iter().filter(|it| it.problem.is_some()).count();
    let table = Table::new(records);
    print(&table.draw());
    say(&format!(
        "{} cases, {failures} failures, {:.0} seconds",
        cases.len(),
        since.elapsed().as_secs_f64()
    ));
    let path = Path::new(TABLE);
    if arguments.write {
        table.write(path)?;
    } else {
        table.compare(path)?;
    }
    Ok(ended && failures == 0)
}

/// A lab: does its share of the cases.
fn work(arguments: &Arguments, number: usize) -> Result<()> {
    labs::enter()?;
    let Some(place) = &arguments.place else {
        bail!("a lab is told its place");
    };
    let rbuild = match &arguments.rbuild {
        Some(file) => file.clone(),
        None => std::env::current_exe()?.with_file_name("rbuild"),
    };
    // The ground hides `/tmp`, where this repository may be.
    let cases = arguments.chosen()?;
    let ground = Ground::prepare(&place.join(number.to_string()), &rbuild, arguments.small)?;
    for case in cases.iter().skip(number).step_by(arguments.jobs.max(1)) {
        let since = Instant::now();
        let (came, memory) = ground.run(case);
        let seconds = since.elapsed().as_secs_f64();
        let (exit, message, problem) = match came {
            Ok(came) => (came.exit, came.message, None),
            Err(error) => (String::new(), String::new(), Some(one_line(&error))),
        };
        labs::write(&Record {
            case: case.name.clone(),
            how: case.how.clone(),
            exit,
            message,
            seconds,
            memory,
            problem,
        })?;
    }
    Ok(())
}

impl Arguments {
    fn chosen(&self) -> Result<Vec<Case>> {
        let mut cases = case::all(Path::new(CASES))?;
        if !self.only.is_empty() {
            cases.retain(|case| self.only.iter().any(|word| case.name.contains(word)));
        }
        ensure!(!cases.is_empty(), "no case has that in its name");
        Ok(cases)
    }
}

#[expect(clippy::print_stderr, reason = "the talk of the hostile runs")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "the result of the hostile runs")]
fn print(text: &str) {
    println!("{text}");
}
