//! `--env` and `--env-file`.

use std::path::Path;

use crate::exit::Exit;
use crate::fault::Fault;

/// `KEY=value`, those of files first. What has no value takes that of the variable, or is left out.
pub(crate) fn environment(
    files: &[impl AsRef<Path>],
    texts: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Fault> {
    let mut variables = Vec::new();
    for file in files {
        let file = file.as_ref();
        let content = std::fs::read_to_string(file).map_err(|source| {
            Fault::from(
                anyhow::Error::from(source).context(format!("cannot read `{}`", file.display())),
            )
            .exit(Exit::Usage)
        })?;
        for line in content.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                variables.extend(resolved(line, &variable)?);
            }
        }
    }
    for text in texts {
        variables.extend(resolved(text, &variable)?);
    }
    Ok(variables)
}

fn resolved(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, Fault> {
    let key = text.split_once('=').map_or(text, |(key, _)| key);
    if key.is_empty() {
        return Err(Fault::usage(format!(
            "invalid environment variable: `{text}` has no name"
        )));
    }
    if key.contains(char::is_whitespace) {
        return Err(Fault::usage(format!(
            "poorly formatted environment: variable '{key}' contains whitespaces"
        )));
    }
    if key.len() < text.len() {
        return Ok(Some(text.to_owned()));
    }
    Ok(variable(key).map(|value| format!("{key}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_options_and_nothing_is_unquoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        std::fs::write(
            &file,
            "\u{feff}# comment\n\nA=1\n  B=\"quoted\" # not a comment\nHOME\nMISSING\n",
        )
        .unwrap();
        let variable = |name: &str| (name == "HOME").then(|| "/home".to_owned());
        let texts = ["A=2".to_owned(), "EMPTY=".to_owned(), "HOME".to_owned()];
        let variables = environment(&[file], &texts, variable).unwrap();
        let expected = [
            "A=1",
            "B=\"quoted\" # not a comment",
            "HOME=/home",
            "A=2",
            "EMPTY=",
            "HOME=/home",
        ];
        assert_eq!(variables, expected);
    }

    #[test]
    fn a_name_is_one_word() {
        let error = |text: &str| {
            environment(&[""; 0], &[text.to_owned()], |_| None)
                .unwrap_err()
                .words()
        };
        assert_eq!(
            error("=x"),
            "error: invalid environment variable: `=x` has no name\n"
        );
        assert_eq!(
            error("A B=1"),
            "error: poorly formatted environment: variable 'A B' contains whitespaces\n"
        );
        let missing = environment(&["/missing"], &[], |_| None).unwrap_err();
        assert_eq!(
            (missing.words().as_str(), missing.status()),
            (
                "error: cannot read `/missing`: No such file or directory\n",
                Exit::Usage
            )
        );
    }
}
