//! The hostile runs in small; `testdata/hostile` does all of them in full.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

#[test]
fn nothing_comes_of_hostile_steps_contexts_and_archives_as_root() {
    let output = Command::new(env!("CARGO_BIN_EXE_hostile"))
        .arg("--small")
        .output()
        .expect("the hostile runs are built with this test");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_table_has_every_case_and_every_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("hostile.md")).unwrap();
    let cell = |line: &str| line.split('|').nth(1).map(|it| it.trim().to_owned());
    let rows: BTreeSet<String> = table
        .lines()
        .filter(|it| it.starts_with("| h") || it.starts_with("| r"))
        .filter_map(cell)
        .collect();
    let cases: BTreeSet<String> = fs::read_dir(root.join("harm"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter_map(|it| Some(it.file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(rows, cases);
    for number in 1..=22 {
        let name = format!("h{number:02}-");
        assert!(rows.iter().any(|it| it.starts_with(&name)), "no {name}");
    }
}
