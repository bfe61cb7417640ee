//! Why a step does not find what it copies: left out by an ignore file, or another name.

use std::path::{Path, PathBuf};

use dockerfile_parser::{Case, suggest};
use snapshot::Root;
use snapshot::source::Lookup as _;

use crate::definition::Ignore;

/// The longest path whose parts are looked at.
const LONGEST: usize = 4096;

/// What helps whoever asked for `path`, which is not in the tree, or not for a step: the line of the
/// ignore file that leaves it out, or a name that is nearly the same.
pub(crate) fn hint(root: &Root, ignore: Option<&Ignore>, path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    if path.len() > LONGEST || path.contains(['*', '?', '[', '\\']) {
        return None;
    }
    let path = Path::new(path);
    let rule = |path: &Path| ignore.and_then(|it| excluding(it, path));
    if root.stat_link(path).is_ok() {
        return rule(path).map(|rule| format!("it is there, but {rule} leaves it out"));
    }
    let near = nearest(root, path)?;
    let shown = near.display();
    Some(match rule(&near) {
        Some(rule) => format!("did you mean `{shown}`? But {rule} leaves that out"),
        None => format!("did you mean `{shown}`?"),
    })
}

/// The line of the ignore file that leaves `path` out.
fn excluding(ignore: &Ignore, path: &Path) -> Option<String> {
    let rule = ignore
        .patterns
        .deciding_rule(path.as_os_str().as_encoded_bytes())?;
    let excludes = !rule.reincludes();
    excludes.then(|| format!("`{}` in {}:{}", rule.pattern(), ignore.name, rule.line()))
}

/// The path with the first part that is not there put right, if something of nearly that name is.
fn nearest(root: &Root, path: &Path) -> Option<PathBuf> {
    let mut there = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        let name = part.as_os_str();
        if root.stat(&there.join(name)).is_ok() {
            there.push(name);
            continue;
        }
        let mut names: Vec<String> = root
            .names(&there)
            .ok()?
            .into_iter()
            .filter_map(|it| it.into_string().ok())
            .collect();
        names.sort_unstable();
        let known = names.iter().map(String::as_str);
        let in_any_case = || {
            let lower = name.to_str()?.to_lowercase();
            names.iter().find(|it| it.to_lowercase() == lower).cloned()
        };
        let near = in_any_case().or_else(|| suggest(name.to_str()?, known, Case::Sensitive))?;
        // What is named below must be there as well.
        let mut put_right = there.join(near);
        put_right.extend(parts);
        return root.stat(&put_right).is_ok().then_some(put_right);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dockerfile_parser::ignore::Patterns;

    use super::*;

    #[test]
    fn a_missing_source_is_explained_by_a_rule_or_by_a_near_name() {
        let context = tempfile::tempdir().unwrap();
        fs::create_dir_all(context.path().join("src/deep")).unwrap();
        for file in ["src/deep/main.rs", "src/Notes.md", "secret.txt"] {
            fs::write(context.path().join(file), "").unwrap();
        }
        let root = Root::open(context.path()).unwrap();
        let ignore = Ignore {
            name: ".dockerignore".to_owned(),
            patterns: Patterns::parse("# lines\n\nsecret.*\nsrc/Notes*\n!src/Notes.txt\n").unwrap(),
        };
        let said = |path| hint(&root, Some(&ignore), path).unwrap_or_default();
        assert_eq!(
            said("/secret.txt"),
            "it is there, but `secret.*` in .dockerignore:3 leaves it out"
        );
        assert_eq!(
            said("/secert.txt"),
            "did you mean `secret.txt`? But `secret.*` in .dockerignore:3 leaves that out"
        );
        assert_eq!(
            said("/src/depe/main.rs"),
            "did you mean `src/deep/main.rs`?"
        );
        assert_eq!(said("/src/deep"), "");
        assert_eq!(said("/src/depe/other.rs"), "");
        assert_eq!(
            said("/SRC/deep/main.rs"),
            "did you mean `src/deep/main.rs`?"
        );
        assert_eq!(said("/nothing-like-it"), "");
        assert_eq!(said("/sr*"), "");
        assert_eq!(hint(&root, None, "/secret.txt"), None);
    }
}
