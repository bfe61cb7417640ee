//! rbuild from outside: real commands, a real store, real containers. Needs root, as rbuild does.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod ahead;
mod archives;
mod builds;
mod caches;
mod containers;
mod contexts;
mod elsewhere;
mod endings;
mod engines;
mod hits;
mod hostile;
mod inside;
mod journeys;
mod limits;
mod platforms;
mod probe;
mod registries;
mod remote;
mod remotes;
mod rootless;
mod schemas;
mod sharing;
mod unwanted;

use std::path::Path;

/// The command under test.
const RBUILD: &str = env!("CARGO_BIN_EXE_rbuild");

/// An rbuild with `busybox` in its store.
fn rbuild() -> kit::rbuild::Rbuild {
    kit::rbuild::Rbuild::with_busybox(RBUILD)
}

#[test]
fn every_case_answers_as_expected_as_root() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/e2e");
    kit::transcript::check_all(&cases, Path::new(RBUILD));
}

#[test]
fn the_binary_is_one_statically_linked_file() {
    let output = std::process::Command::new("ldd")
        .arg(RBUILD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        said.contains("statically linked") || said.contains("not a dynamic executable"),
        "{said}"
    );
}
