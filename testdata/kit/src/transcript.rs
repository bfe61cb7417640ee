//! Cases of the end-to-end tests: what a user types, the files it is typed among, and beside it what rbuild answers.
//!
//! `NAME.case` holds comment lines (`# why this case`), command lines (`$ rbuild build .`), and then files, each under
//! a line `-- path --`. Commands are shell, run in a fresh home with `busybox` in the store, one after the other.
//! `NAME.expected` holds the transcript: every command, its output and its exit code, made comparable by [`filter`](crate::filter).

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{
    expect,
    rbuild::{self, Rbuild},
};

/// One case, read from its file.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    commands: Vec<String>,
    files: Vec<(String, String)>,
}

/// Runs every case in `folder` with the rbuild at `binary`, several at a time.
///
/// `CASE=word` in the environment runs only those with that word in their name.
///
/// # Panics
///
/// When one differs, after all have run, with every difference.
#[track_caller]
pub fn check_all(folder: &Path, binary: &Path) {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<PathBuf> = cases(folder)
        .expect("the folder of cases can be read")
        .into_iter()
        .filter(|it| {
            it.file_stem()
                .is_some_and(|it| it.to_string_lossy().contains(&wanted))
        })
        .collect();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let claim = || cases.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(claim)
                .filter_map(|it| check(it, binary).err())
                .collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|it| it.join().unwrap_or_else(|panic| vec![reason(&*panic)]))
            .collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {} cases differ\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn check(path: &Path, binary: &Path) -> Result<(), String> {
    let text =
        fs::read_to_string(path).map_err(|it| format!("cannot read {}: {it}", path.display()))?;
    let case = parse(&text);
    let home = Rbuild::with_busybox(binary);
    for (name, text) in &case.files {
        home.write(name, text);
    }
    let mut transcript = String::new();
    for command in &case.commands {
        let output = rbuild::run(&mut home.shell(command));
        transcript += &format!("$ {command}\n{}\n", output.transcript());
    }
    expect::check(&path.with_extension("expected"), &home.stable(&transcript))
}

fn cases(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|it| Ok(it?.path()))
        .collect::<io::Result<_>>()?;
    found.retain(|it| it.extension().is_some_and(|it| it == "case"));
    found.sort();
    Ok(found)
}

fn parse(text: &str) -> Case {
    let (head, files) = parts(text);
    let mut commands = Vec::new();
    for line in head {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push(command.to_owned()),
            None => assert!(
                line.is_empty() || line.starts_with('#'),
                "neither comment, command nor file: `{line}`"
            ),
        }
    }
    Case { commands, files }
}

/// The lines of a case before its files, and its files: each behind a line `-- NAME --`.
pub fn parts(text: &str) -> (Vec<&str>, Vec<(String, String)>) {
    let (mut head, mut files) = (Vec::new(), Vec::<(String, String)>::new());
    for line in text.lines() {
        let name = line
            .strip_prefix("-- ")
            .and_then(|it| it.strip_suffix(" --"));
        if let Some(name) = name {
            files.push((name.to_owned(), String::new()));
        } else if let Some((_, file)) = files.last_mut() {
            file.push_str(line);
            file.push('\n');
        } else {
            head.push(line);
        }
    }
    (head, files)
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_its_commands_and_its_files() {
        let case = parse(
            "# why\n$ rbuild .\n\n$ rbuild images\n-- Dockerfile --\nFROM scratch\n\n-- a/b --\n$ not a command\n",
        );
        assert_eq!(case.commands, ["rbuild .", "rbuild images"]);
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            case.files,
            [
                file("Dockerfile", "FROM scratch\n\n"),
                file("a/b", "$ not a command\n")
            ]
        );
    }
}
