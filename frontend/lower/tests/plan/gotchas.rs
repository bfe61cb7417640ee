//! Every numbered gotcha of the Dockerfile language has its cases, or a test elsewhere, or a reason:
//! `testdata/dockerfile/gotchas.md` says which, and this holds it to its word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A row: what is behind the number, and where it is tested or why it is not.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|it| it.starts_with("| G")) {
        let cells: Vec<String> = line
            .trim_matches('|')
            .split('|')
            .map(|it| it.trim().to_owned())
            .collect();
        assert!(cells.len() == 3, "three cells a row: {line}");
        let before = rows.insert(cells[0].clone(), cells);
        assert_eq!(before, None, "a number stands once: {line}");
    }
    rows
}

#[test]
fn every_gotcha_has_a_case_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = root.join("testdata/dockerfile/gotchas.md");
    let rows = rows(&fs::read_to_string(list).expect("the list is there"));
    let mut numbers: Vec<String> = (1..=128).map(|it| format!("G{it}")).collect();
    numbers.push("G107b".to_owned());
    for number in &numbers {
        let row = rows
            .get(number)
            .unwrap_or_else(|| panic!("{number} is not in the list"));
        assert!(
            !row[1].is_empty() && !row[2].is_empty(),
            "{number} says nothing"
        );
        for place in row[2].split('`').skip(1).step_by(2) {
            check_place(&root, number, place);
        }
        assert!(
            row[2].contains('`') || row[2].starts_with("not "),
            "{number}: {}",
            row[2]
        );
    }
    assert_eq!(
        rows.len(),
        numbers.len(),
        "there are numbers that nobody knows"
    );
}

/// `parse/NAME`, `plan/NAME`, or `FILE: TEST`.
fn check_place(root: &Path, number: &str, place: &str) {
    if let Some((file, test)) = place.split_once(": ") {
        let text =
            fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{number}: no {file}"));
        assert!(text.contains(test), "{number}: {file} has no {test}");
        return;
    }
    let path = format!("testdata/dockerfile/{place}.Dockerfile");
    assert!(root.join(&path).exists(), "{number}: no {path}");
}

#[test]
fn every_case_that_has_a_number_in_its_name_is_in_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(root.join("testdata/dockerfile/gotchas.md")).expect("the list");
    let rows = rows(&list);
    for case in crate::cases("plan") {
        let name = case
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let number = name.split('-').next().unwrap_or_default();
        if number.starts_with('g') && number[1..].starts_with(|it: char| it.is_ascii_digit()) {
            let number = number.replace('g', "G");
            let row = rows.get(&number).unwrap_or_else(|| panic!("no {number}"));
            assert!(
                row[2].contains(&format!("`plan/{name}`")),
                "{number} does not name plan/{name}"
            );
        }
    }
}

#[test]
fn there_are_three_hundred_small_dockerfiles() {
    let files: usize = ["parse", "plan", "call"]
        .map(|it| crate::cases(it).len())
        .iter()
        .sum();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let malformed = fs::read_to_string(root.join("malformed/cases.txt")).expect("the cases");
    assert!(
        files + malformed.matches("=== ").count() >= 300,
        "{files} files"
    );
}
