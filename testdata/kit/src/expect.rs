//! Expected output in files beside the input: compared by default, rewritten with `UPDATE_EXPECT=1`.

use std::{env, fs, io, path::Path};

/// Compares `actual` with the file at `path`; an absent file counts as empty.
///
/// With `UPDATE_EXPECT=1` in the environment the file is rewritten instead and the comparison always holds.
/// The error is the difference, drawn line by line, and the way to accept it.
pub fn check(path: &Path, actual: &str) -> Result<(), String> {
    let expected = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if expected == actual {
        return Ok(());
    }
    if env::var_os("UPDATE_EXPECT").is_some_and(|it| it == "1") {
        return fs::write(path, actual)
            .map_err(|error| format!("cannot write {}: {error}", path.display()));
    }
    Err(format!(
        "{} differs (UPDATE_EXPECT=1 accepts it):\n{}",
        path.display(),
        difference(&expected, actual)
    ))
}

/// The lines that differ, `-` expected and `+` actual, with what is common before and after left out.
fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let after = old[before..]
        .iter()
        .rev()
        .zip(new[before..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let context = old[before.saturating_sub(2)..before]
        .iter()
        .map(|it| format!("  {it}\n"));
    let removed = old[before..old.len() - after]
        .iter()
        .map(|it| format!("- {it}\n"));
    let added = new[before..new.len() - after]
        .iter()
        .map(|it| format!("+ {it}\n"));
    context.chain(removed).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_only_what_differs() {
        assert_eq!(
            difference("a\nb\nc\nd\n", "a\nb\nx\ny\nd\n"),
            "  a\n  b\n- c\n+ x\n+ y\n"
        );
        assert_eq!(difference("a\n", "a\nb\n"), "  a\n+ b\n");
    }

    #[test]
    fn what_is_equal_passes_and_what_is_absent_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(&dir.path().join("absent"), ""), Ok(()));
    }
}
