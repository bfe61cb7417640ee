//! The fault runs, a few cases of each kind; `testdata/faults` does all of them.

use std::process::Command;

#[test]
fn a_store_comes_back_right_from_a_few_faults_of_each_kind_as_root() {
    let output = Command::new(env!("CARGO_BIN_EXE_faults"))
        .arg("--small")
        .output()
        .expect("the fault runs are built with this test");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
}
