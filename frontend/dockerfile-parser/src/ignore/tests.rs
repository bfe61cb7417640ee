//! Rules and the paths they keep out.

use super::{Patterns, RuleProblem};

/// Which of `paths` stay out, and that walking agrees with asking.
fn excluded<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let patterns = Patterns::parse(rules).unwrap();
    paths
        .iter()
        .copied()
        .filter(|path| is_excluded_both_ways(&patterns, path))
        .collect()
}

fn is_excluded_both_ways(patterns: &Patterns, path: &str) -> bool {
    let asked = patterns.is_excluded(path);
    let mut visit = patterns.root();
    let mut pruned = false;
    for end in path
        .match_indices('/')
        .map(|(end, _)| end)
        .chain([path.len()])
    {
        visit = patterns.visit(&path[..end], &visit);
        assert!(
            !pruned || patterns.excludes(&visit),
            "a walk that prunes would miss {path}"
        );
        pruned |= patterns.excludes(&visit) && !patterns.may_reinclude_below(&path[..end]);
    }
    assert_eq!(
        patterns.excludes(&visit),
        asked,
        "walking and asking differ over {path}"
    );
    asked
}

#[test]
fn a_pattern_decides_over_a_path() {
    for (rule, path, expected) in [
        ("foo", "foo", true),
        ("foo", "foo/bar", true),
        ("foo", "foo/bar/baz", true),
        ("foo", "a/foo", false),
        ("foo", "foobar", false),
        ("foo", "fo", false),
        ("/foo", "foo", true),
        ("foo/", "foo", true),
        ("./foo", "foo", true),
        ("foo/../bar", "bar", true),
        ("a//b", "a/b", true),
        ("foo/bar", "foo/bar/baz", true),
        ("foo/bar", "foo", false),
        ("*", "foo", true),
        ("*", "foo/bar", true),
        ("*.txt", "a.txt", true),
        ("*.txt", "a/b.txt", false),
        ("*.txt", "a.txt/b", true),
        ("*/b", "a/b", true),
        ("*/b", "b", false),
        ("*/*", "a/b/c", true),
        ("*/*", "a", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a?", "aé", true),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[^a]x", "bx", true),
        ("[^a]x", "ax", false),
        ("[!a]", "!", true),
        ("a[]]", "a", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a\\\\b", "a\\b", true),
        ("**", "anything/at/all", true),
        ("**/", "anything", true),
        ("**/**", "a", true),
        ("**/foo", "foo", true),
        ("**/foo", "a/foo", true),
        ("**/foo", "a/b/foo", true),
        ("**/foo", "a/b/foo/c", true),
        ("**/foo", "afoo", false),
        ("**/foo", "a/foox", false),
        ("**foo", "afoo", true),
        ("**/*.go", "a.go", true),
        ("**/*.go", "a/b/c.go", true),
        ("**/*.go", "a/b/c.gox", false),
        ("**/a/**", "x/a/y", true),
        ("**/a/**", "x/a", false),
        ("foo/**", "foo", false),
        ("foo/**", "foo/bar", true),
        ("foo/**", "foo/bar/baz", true),
        ("foo**", "foobar/baz", true),
        ("foo/**/bar", "foo/bar", true),
        ("foo/**/bar", "foo/x/bar", true),
        ("foo/**/bar", "foo/x/y/bar", true),
        ("foo/**/bar", "foo/xbar", false),
        ("a**b", "ab", true),
        ("a**b", "ax/b", true),
        ("a**b", "axb", false),
        ("a.b", "axb", false),
        ("a+b", "aab", false),
        ("(a)", "(a)", true),
        ("{a,b}", "a", false),
        ("a|b", "a", false),
        ("^a", "^a", true),
        ("a$", "a$", true),
        ("A", "a", false),
        (".git", ".git/config", true),
        (".*", ".env", true),
        ("[[:alpha:]]", "a", false),
        ("[a&&b]", "&]", false),
        ("[a&&b]", "b", true),
        ("..", "..", true),
        (".", "a", false),
    ] {
        let Ok(patterns) = Patterns::parse(rule) else {
            assert_eq!((rule, expected), ("a[]]", false), "{rule} is refused");
            continue;
        };
        assert_eq!(
            is_excluded_both_ways(&patterns, path),
            expected,
            "{rule} {path}"
        );
    }
}

#[test]
fn the_last_rule_that_matches_decides() {
    let all = [
        "README.md",
        "docs",
        "docs/a.md",
        "docs/b.txt",
        "src",
        "src/main.rs",
        "src/gen/x.rs",
    ];
    for (rules, expected) in [
        ("*.md\n!README.md", vec![]),
        ("!README.md\n*.md", vec!["README.md"]),
        ("docs\n!docs/a.md", vec!["docs", "docs/b.txt"]),
        (
            "*\n!src",
            vec!["README.md", "docs", "docs/a.md", "docs/b.txt"],
        ),
        (
            "*\n!src\nsrc/gen",
            vec![
                "README.md",
                "docs",
                "docs/a.md",
                "docs/b.txt",
                "src/gen/x.rs",
            ],
        ),
        (
            "**\n!**/*.rs",
            vec!["README.md", "docs", "docs/a.md", "docs/b.txt", "src"],
        ),
        ("docs\n!docs", vec![]),
        ("!src\n*", all.to_vec()),
        (
            "docs/*\n!docs/*.md\ndocs/a.md",
            vec!["docs/a.md", "docs/b.txt"],
        ),
        (
            "*\n!*/*.md",
            vec![
                "README.md",
                "docs",
                "docs/b.txt",
                "src",
                "src/main.rs",
                "src/gen/x.rs",
            ],
        ),
        ("", vec![]),
    ] {
        assert_eq!(excluded(rules, &all), expected, "{rules}");
    }
}

#[test]
fn lines_are_read_as_the_ignore_file_says() {
    let text = "\u{feff}# comment\r\n  spaced  \r\n\r\n #hash\n! kept\n!/rooted/\n/\n";
    let patterns = Patterns::parse(text).unwrap();
    let rules: Vec<_> = patterns
        .rules()
        .iter()
        .map(|it| (it.line(), it.reincludes(), it.pattern()))
        .collect();
    let expected = [
        (2, false, "spaced"),
        (4, false, "#hash"),
        (5, true, "kept"),
        (6, true, "rooted"),
        (7, false, "."),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn rules_that_do_not_come_from_a_file_have_no_comments() {
    let patterns = Patterns::new(["#a", " b ", ""]).unwrap();
    assert!(patterns.is_excluded("#a"));
    assert!(patterns.is_excluded("b"));
    assert_eq!(patterns.rules().len(), 2);
}

#[test]
fn a_rule_that_cannot_be_read_is_named_with_its_line() {
    for (text, line, message) in [
        ("a\n!\n", 2, "illegal exclusion pattern: \"!\""),
        ("!  ", 1, "illegal exclusion pattern: \"!\""),
        ("\n\na[", 3, "syntax error in pattern"),
        ("a\\", 1, "syntax error in pattern"),
        ("a[]", 1, "syntax error in pattern"),
    ] {
        let error = Patterns::parse(text).unwrap_err();
        assert_eq!(
            (error.line, error.to_string().as_str()),
            (line, message),
            "{text}"
        );
    }
    assert_eq!(Patterns::parse("!").unwrap_err().problem, RuleProblem::Lone);
}

#[test]
fn the_deciding_rule_is_told() {
    let patterns = Patterns::parse("*.md\n!README.md\ndocs\n").unwrap();
    let line = |path: &str| patterns.deciding_rule(path).map(super::Rule::line);
    assert_eq!(line("a.md"), Some(1));
    assert_eq!(line("README.md"), Some(2));
    assert_eq!(line("docs/x/y.md"), Some(3));
    assert_eq!(line("src/a.md"), None);
    assert_eq!(line(""), None);
    assert_eq!(line("."), None);
    assert!(patterns.has_reinclusions());
}

#[test]
fn a_walk_prunes_where_nothing_below_can_come_back() {
    for (rules, directory, expected) in [
        ("node_modules", "node_modules", false),
        ("node_modules\n!src", "node_modules", false),
        ("*\n!src/a", "src", true),
        ("*\n!src/a", "docs", false),
        ("*\n!src/a", "src/b", false),
        ("*\n!src/a/*.rs", "src/a", true),
        ("*\n!src/a/*.rs", "src/a/b", false),
        ("*\n!**/*.rs", "anything/below", true),
        ("*\n!src/**", "src/deep/down", true),
        ("*\n!sr?/a", "src", true),
        ("*\n!sr?/a", "doc", false),
        ("!src/a\n*", "src", false),
        ("*\n!src/a\nsrc", "src", false),
        ("*\n!**/keep", "docs", true),
    ] {
        let patterns = Patterns::parse(rules).unwrap();
        assert_eq!(
            patterns.may_reinclude_below(directory),
            expected,
            "{rules} {directory}"
        );
    }
}

#[test]
fn paths_may_be_written_loosely_and_be_no_utf8() {
    let patterns = Patterns::parse("a/b\n*.o").unwrap();
    assert!(patterns.is_excluded("./a//b/"));
    assert!(patterns.is_excluded("/a/b/c"));
    assert!(Patterns::parse("a?c").unwrap().is_excluded(b"a\xffc"));
}

#[test]
fn the_root_is_never_excluded() {
    for rules in ["*", "**", ".", "/"] {
        assert!(!Patterns::parse(rules).unwrap().is_excluded("."), "{rules}");
    }
}
