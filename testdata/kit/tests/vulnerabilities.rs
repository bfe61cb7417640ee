//! Every class of vulnerability has its tests or a reason: `testdata/vulnerabilities.md` says which, and this holds it to
//! its word.

use std::{fs, path::Path};

#[test]
fn every_class_of_vulnerability_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(root.join("testdata/vulnerabilities.md")).unwrap();
    let mut numbers = Vec::new();
    for line in list.lines().filter(|it| it.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "three cells a row: {line}");
        numbers.push(cells[0].parse::<usize>().unwrap());
        let places: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty(), "{} names no test", cells[0]);
        for place in places {
            check(&root, cells[0], place);
        }
    }
    assert_eq!(numbers, (1..=48).collect::<Vec<_>>());
}

/// `FILE: TEST`, or a case of the end-to-end tests.
fn check(root: &Path, number: &str, place: &str) {
    let Some((file, test)) = place.split_once(": ") else {
        let case = root.join(format!("testdata/e2e/{place}.case"));
        assert!(case.exists(), "{number}: no case {place}");
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
