//! What the cases came to: the table beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::Record;

/// The table begins below this line; what is above it is written by people.
const HEAD: &str = "| case | how it is made | exit | what is said | seconds | MiB |";

/// The records, by case.
#[derive(Debug)]
pub(crate) struct Table(Vec<Record>);

impl Table {
    pub(crate) fn new(mut records: Vec<Record>) -> Self {
        records.sort_by(|a, b| a.case.cmp(&b.case));
        Self(records)
    }

    /// For a terminal.
    pub(crate) fn draw(&self) -> String {
        let mut text = String::new();
        for it in &self.0 {
            let end = if it.problem.is_some() {
                "FAILED"
            } else {
                &it.exit
            };
            let _ = writeln!(
                text,
                "{:<24} {end:>6} {:>7.1} s {:>5} MiB  {}",
                it.case, it.seconds, it.memory, it.message
            );
        }
        text
    }

    /// Writes the records into the file, below what people wrote; cases that were not run keep their rows.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let old = fs::read_to_string(path).unwrap_or_default();
        let above = old.split(HEAD).next().unwrap_or_default();
        let ran = |row: &&str| self.0.iter().any(|it| row.starts_with(&start(&it.case)));
        let below = old.split(HEAD).nth(1).unwrap_or_default().lines().skip(2);
        let mut rows: Vec<String> = below.filter(|it| !ran(it)).map(str::to_owned).collect();
        rows.extend(self.0.iter().map(|it| {
            let cells = cells(&it.case, &it.how, &it.exit, &it.message);
            format!("{cells}| {:.1} | {} |", it.seconds, it.memory)
        }));
        rows.sort();
        let text = format!(
            "{above}{HEAD}\n|---|---|---|---|---|---|\n{}\n",
            rows.join("\n")
        );
        fs::write(path, text).context("cannot write the table")
    }

    /// Compares with what the file says; times and sizes are of the machine.
    pub(crate) fn compare(&self, path: &Path) -> Result<()> {
        let said = fs::read_to_string(path).context("there is no table")?;
        let mut differences = String::new();
        for it in self.0.iter().filter(|it| it.problem.is_none()) {
            let cells = cells(&it.case, &it.how, &it.exit, &it.message);
            if !said.lines().any(|line| line.starts_with(&cells)) {
                let start = start(&it.case);
                let old = said.lines().find(|it| it.starts_with(&start));
                let _ = write!(differences, "\n- {}\n+ {cells}", old.unwrap_or_default());
            }
        }
        ensure!(
            differences.is_empty(),
            "the table says otherwise (`--write` accepts it):{differences}"
        );
        Ok(())
    }
}

/// How the row of a case begins.
fn start(case: &str) -> String {
    format!("| {case} |")
}

fn cells(case: &str, how: &str, exit: &str, message: &str) -> String {
    let message = message.replace('|', "\\|");
    format!("| {case} | {how} | {exit} | {message} ")
}
