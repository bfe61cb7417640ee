//! The cases: files that say what is done, among which files, and under which limits.
//!
//! ```text
//! # a process that takes all memory                 how it is made, as the table has it
//! ! memory=256 disk=256 pids=512 peak=96 nofile=64   limits: MiB, MiB, processes, MiB of each rbuild
//! ! ROUNDS=20/1000                                   a variable: its value for `--small`, and in full
//! $ rbuild build -q .                                a line of shell that has to succeed
//! > rbuild build -q -f attack .                      the attack: how it ends is what the table has
//! -- attack --                                       a file
//! FROM busybox
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use kit::transcript::parts;

/// One case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) how: String,
    pub(crate) limits: Limits,
    pub(crate) variables: Vec<Variable>,
    pub(crate) lines: Vec<Line>,
    pub(crate) files: Vec<(String, String)>,
}

/// What everything in a case can use up together, and what an rbuild may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) pids: u64,
    /// MiB, of all processes together.
    pub(crate) memory: u64,
    /// MiB, of the file system that everything is on.
    pub(crate) disk: u64,
    /// MiB, of each rbuild.
    pub(crate) peak: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pids: 4096,
            memory: 1024,
            disk: 256,
            peak: 96,
        }
    }
}

/// A variable of the lines of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) small: String,
    pub(crate) full: String,
}

/// A line of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// It has to succeed.
    Honest(String),
    /// How it ends is what the case comes to.
    Attack(String),
}

/// All cases of a folder, by name.
pub(crate) fn all(folder: &Path) -> Result<Vec<Case>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no cases in {folder:?}"))?;
    let mut paths: Vec<PathBuf> = entries.map(|it| Ok(it?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(path)?;
            Case::parse(&name, &text).with_context(|| format!("case {name}"))
        })
        .collect()
}

impl Case {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let (head, files) = parts(text);
        let mut case = Self {
            name: name.to_owned(),
            files,
            ..Self::default()
        };
        for line in head {
            case.add(line)?;
        }
        let attacks = case.lines.iter().filter(|it| matches!(it, Line::Attack(_)));
        ensure!(attacks.count() == 1, "one attack a case");
        ensure!(!case.how.is_empty(), "it does not say how it is made");
        Ok(case)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        match line.split_at_checked(2) {
            None => ensure!(line.trim().is_empty(), "what is `{line}`?"),
            Some(("# ", how)) if self.how.is_empty() => self.how = how.to_owned(),
            Some(("# ", _)) => {}
            Some(("$ ", command)) => self.lines.push(Line::Honest(command.to_owned())),
            Some(("> ", command)) => self.lines.push(Line::Attack(command.to_owned())),
            Some(("! ", settings)) => {
                for setting in settings.split_whitespace() {
                    self.set(setting)?;
                }
            }
            Some(_) => bail!("neither comment, command, setting nor file: `{line}`"),
        }
        Ok(())
    }

    fn set(&mut self, setting: &str) -> Result<()> {
        let (key, value) = setting.split_once('=').context("a setting has a value")?;
        if let Some((small, full)) = value.split_once('/') {
            self.variables.push(Variable {
                name: key.to_owned(),
                small: small.to_owned(),
                full: full.to_owned(),
            });
            return Ok(());
        }
        let number = value.parse().with_context(|| format!("`{setting}`"))?;
        match key {
            "pids" => self.limits.pids = number,
            "memory" => self.limits.memory = number,
            "disk" => self.limits.disk = number,
            "peak" => self.limits.peak = number,
            _ => bail!("there is no limit `{key}`"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_its_limits_its_lines_and_its_files() {
        let text = "# how\n# why\n! pids=5 N=1/2\n$ true\n> false\n-- a --\n$ b\n";
        let case = Case::parse("x", text).unwrap();
        assert_eq!((case.how.as_str(), case.limits.pids), ("how", 5));
        assert_eq!(case.variables[0].full, "2");
        let lines = [
            Line::Honest("true".to_owned()),
            Line::Attack("false".to_owned()),
        ];
        assert_eq!(case.lines, lines);
        assert_eq!(case.files, [("a".to_owned(), "$ b\n".to_owned())]);
    }

    #[test]
    fn a_case_without_an_attack_is_none() {
        assert!(Case::parse("x", "# how\n$ true\n").is_err());
        assert!(Case::parse("x", "# how\n! cats=5\n> true\n").is_err());
    }
}
