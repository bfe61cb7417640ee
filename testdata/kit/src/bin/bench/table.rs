//! The result: medians, and what they are in rbuild's.

use std::{fmt, time::Duration};

use crate::{measure::Cost, scenario::Sample};

/// Whom the others are measured in.
const UNIT: &str = "rbuild";

/// All costs so far, row by row.
#[derive(Debug, Default)]
pub(crate) struct Table {
    lines: Vec<Line>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Line {
    row: &'static str,
    who: &'static str,
    is_floor: bool,
    costs: Vec<Cost>,
}

impl Table {
    /// Adds what `who` needed.
    pub(crate) fn add(&mut self, who: &'static str, sample: &Sample) {
        self.line(sample.row, who, false).costs.push(sample.cost);
    }

    /// Adds what the simplest program needed.
    pub(crate) fn add_floor(&mut self, sample: &Sample) {
        self.line(sample.row, sample.what, true)
            .costs
            .push(sample.cost);
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn line(&mut self, row: &'static str, who: &'static str, is_floor: bool) -> &mut Line {
        let at = self
            .lines
            .iter()
            .position(|it| it.row == row && it.who == who)
            .unwrap_or_else(|| {
                self.lines.push(Line {
                    row,
                    who,
                    is_floor,
                    costs: Vec::new(),
                });
                self.lines.len() - 1
            });
        &mut self.lines[at]
    }

    /// The lines row by row: first ours, then the peers', then the floors.
    fn ordered(&self) -> Vec<&Line> {
        let mut rows: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !rows.contains(&line.row) {
                rows.push(line.row);
            }
        }
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|it| {
            (
                rows.iter().position(|row| *row == it.row),
                it.is_floor,
                it.who != UNIT,
            )
        });
        lines
    }
}

impl Line {
    fn median(&self) -> Cost {
        Cost {
            wall: median(self.costs.iter().map(|it| it.wall).collect()),
            cpu: median(self.costs.iter().map(|it| it.cpu).collect()),
            peak: median(self.costs.iter().map(|it| it.peak).collect()),
        }
    }
}

/// The middle one; of two middle ones the lower.
fn median<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort();
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            "work",
            "who",
            "wall",
            "CPU",
            "peak",
            "wall/rbuild",
            "CPU/rbuild",
            "runs",
        ];
        writeln!(
            f,
            "| {:<27} | {:<17} | {:>8} | {:>8} | {:>7} | {:>11} | {:>10} | {:>4} |",
            columns[0],
            columns[1],
            columns[2],
            columns[3],
            columns[4],
            columns[5],
            columns[6],
            columns[7]
        )?;
        writeln!(
            f,
            "|{:-<29}|{:-<19}|{:->10}|{:->10}|{:->9}|{:->13}|{:->12}|{:->6}|",
            "", "", ":", ":", ":", ":", ":", ":"
        )?;
        let mut last = "";
        for line in self.ordered() {
            let cost = line.median();
            let unit = self
                .lines
                .iter()
                .find(|it| it.row == line.row && it.who == UNIT)
                .map(Line::median);
            let ratio = |of: fn(&Cost) -> Duration| match unit {
                Some(unit) if of(&unit) > Duration::ZERO => {
                    ratio(of(&cost).as_secs_f64() / of(&unit).as_secs_f64())
                }
                _ => "-".to_owned(),
            };
            let who = if line.is_floor {
                format!("({})", line.who)
            } else {
                line.who.to_owned()
            };
            writeln!(
                f,
                "| {:<27} | {who:<17} | {:>8} | {:>8} | {:>7} | {:>11} | {:>10} | {:>4} |",
                if line.row == last { "" } else { line.row },
                time(cost.wall),
                time(cost.cpu),
                format!("{} MB", cost.peak / 1_000_000),
                ratio(|it| it.wall),
                ratio(|it| it.cpu),
                line.costs.len()
            )?;
            last = line.row;
        }
        writeln!(f)?;
        self.notes.iter().try_for_each(|it| writeln!(f, "- {it}"))
    }
}

fn ratio(value: f64) -> String {
    if value >= 9.95 {
        format!("{value:.0} x")
    } else {
        format!("{value:.2} x")
    }
}

fn time(value: Duration) -> String {
    let milliseconds = value.as_secs_f64() * 1000.0;
    match milliseconds {
        it if it < 10.0 => format!("{it:.2} ms"),
        it if it < 1000.0 => format!("{it:.0} ms"),
        it => format!("{:.2} s", it / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(row: &'static str, milliseconds: u64) -> Sample {
        let time = Duration::from_millis(milliseconds);
        Sample {
            row,
            what: "cp",
            cost: Cost {
                wall: time,
                cpu: time / 2,
                peak: 5_000_000,
            },
        }
    }

    #[test]
    fn rows_show_medians_and_what_they_are_in_rbuilds() {
        let mut table = Table::default();
        table.add_floor(&sample("copy", 5));
        table.add("buildah", &sample("copy", 300));
        for milliseconds in [12, 10, 500] {
            table.add("rbuild", &sample("copy", milliseconds));
        }
        let drawn = table.to_string();
        let lines: Vec<&str> = drawn.lines().skip(2).take(3).collect();
        assert_eq!(
            lines,
            [
                "| copy                        | rbuild            |    12 ms |  6.00 ms |    5 MB |      1.00 x |     1.00 x |    3 |",
                "|                             | buildah           |   300 ms |   150 ms |    5 MB |        25 x |       25 x |    1 |",
                "|                             | (cp)              |  5.00 ms |  2.50 ms |    5 MB |      0.42 x |     0.42 x |    1 |",
            ]
        );
    }
}
