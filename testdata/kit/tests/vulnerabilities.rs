//! Every class of vulnerability has its tests or a reason: `testdata/vulnerabilities.md` says which, and this holds it to
//! its word.

use std::{fs, path::Path};

#[test]
fn every_class_of_vulnerability_and_every_property_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(root.join("testdata/vulnerabilities.md")).unwrap();
    let mut names = Vec::new();
    let is_head = |line: &str| line.starts_with("| number") || line.starts_with("| property");
    for line in list
        .lines()
        .filter(|it| it.starts_with("| ") && !is_head(it))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "three cells a row: {line}");
        names.push(cells[0].to_owned());
        let places: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty(), "{} names no test", cells[0]);
        for place in places {
            check(&root, cells[0], place);
        }
    }
    let classes = (1..=48).map(|it| it.to_string());
    let properties = (1..=10).map(|it| format!("P{it}"));
    assert_eq!(names, classes.chain(properties).collect::<Vec<_>>());
}

/// `FILE: TEST`, or a case of the end-to-end tests or the hostile runs.
fn check(root: &Path, number: &str, place: &str) {
    let Some((file, test)) = place.split_once(": ") else {
        let is_case = |folder: &str| {
            root.join(format!("testdata/{folder}/{place}.case"))
                .exists()
        };
        assert!(
            is_case("e2e") || is_case("harm"),
            "{number}: no case {place}"
        );
        return;
    };
    let text =
        fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{number}: no {file}"));
    let found = text
        .split("#[test]")
        .skip(1)
        .any(|it| it.trim_start().starts_with(&format!("fn {test}(")));
    assert!(found, "{number}: {file} has no test {test}");
}
