//! Every input that was saved for the fuzzer, `testdata/fuzz/TARGET/*`, read by the fuzzer's own
//! functions: no fuzzer needed.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::path::Path;

#[expect(
    clippy::print_stdout,
    reason = "a panic within says nothing of the file, and this is shown with it"
)]
fn replay(target: &str, function: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz");
    let inputs = std::fs::read_dir(directory.join(target)).expect("inputs were saved");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("an entry of a directory").path();
        let data = std::fs::read(&path).expect("an input is a file");
        println!("{}", path.display());
        function(&data);
        count += 1;
    }
    assert!(count >= 5, "{target} has {count} saved inputs");
}

#[test]
fn saved_dockerfiles_hold() {
    replay("parser", targets::parser);
}

#[test]
fn saved_words_hold() {
    replay("words", targets::words);
}

#[test]
fn saved_heredocs_hold() {
    replay("heredoc", targets::heredoc);
}

#[test]
fn saved_ignore_files_hold() {
    replay("ignore", targets::ignore);
}

#[test]
fn saved_references_hold() {
    replay("reference", targets::reference);
}

#[test]
fn saved_mounts_hold() {
    replay("mount", targets::mount);
}

#[test]
fn saved_flags_hold() {
    replay("flags", targets::flags);
}
