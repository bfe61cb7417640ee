//! Large and hostile files: all of these would take minutes if anything were worse than linear.

use dockerfile_parser::{InstructionKind, ignore::Patterns, parse, words};

fn messages(text: &str) -> Vec<String> {
    parse(text.as_bytes())
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_hundred_thousand_instructions_are_read() {
    let mut text = String::from("FROM a\n");
    for number in 0..100_000 {
        text.push_str(&format!(
            "RUN --mount=type=cache,target=/c echo {number} \\\n  && true\n"
        ));
    }
    let parse = parse(text.as_bytes());
    assert_eq!(parse.problems, []);
    assert_eq!(parse.dockerfile.instructions.len(), 100_001);
    assert_eq!(
        parse.dockerfile.instructions[100_000].span.last_line,
        200_001
    );
}

#[test]
fn a_line_may_have_65535_bytes_and_no_more() {
    let line = |length: usize| format!("FROM a\nRUN {}\nCMD x\n", "x".repeat(length - 4));
    assert_eq!(messages(&line(65_535)), [""; 0]);
    let expected = "dockerfile parse error on line 2: dockerfile line greater than max allowed size of 65535 bytes: break it into several";
    assert_eq!(messages(&line(65_536)), [expected]);
    assert_eq!(
        parse(line(65_536).as_bytes()).dockerfile.instructions.len(),
        3
    );
}

#[test]
fn a_line_in_a_continuation_or_a_heredoc_is_measured_too() {
    let long = "x".repeat(70_000);
    assert_eq!(messages(&format!("FROM a\nRUN b \\\n{long}\n")).len(), 1);
    assert_eq!(messages(&format!("FROM a\nRUN <<E\n{long}\nE\n")).len(), 1);
    assert_eq!(messages(&format!("FROM a\n# {long}\n")).len(), 1);
}

#[test]
fn an_instruction_may_go_on_for_a_million_bytes() {
    let text = format!("FROM a\nENV {}x=1\n", "name=value \\\n".repeat(100_000));
    let parse = parse(text.as_bytes());
    assert_eq!(parse.problems, []);
    let InstructionKind::Env(values) = &parse.dockerfile.instructions[1].kind else {
        panic!("no ENV")
    };
    assert_eq!(values.pairs.len(), 100_001);
}

#[test]
fn many_heredocs_and_many_flags_are_read() {
    let openings: String = (0..10_000)
        .map(|number| format!("<<f{number} \\\n"))
        .collect();
    let bodies: String = (0..10_000)
        .map(|number| format!("{number}\nf{number}\n"))
        .collect();
    let parse_of = |text: String| parse(text.as_bytes());
    let copied = parse_of(format!("FROM a\nCOPY {openings} /d/\n{bodies}"));
    assert_eq!(copied.problems, []);
    let InstructionKind::Copy(transfer) = &copied.dockerfile.instructions[1].kind else {
        panic!("no COPY")
    };
    assert_eq!(transfer.sources.len(), 10_000);
    let run = parse_of(format!(
        "FROM a\nRUN {} x\n",
        "--mount=a \\\n".repeat(100_000)
    ));
    let InstructionKind::Run { flags, .. } = &run.dockerfile.instructions[1].kind else {
        panic!("no RUN")
    };
    assert_eq!(flags.len(), 100_000);
}

#[test]
fn a_file_of_nothing_but_mistakes_is_read() {
    for piece in [
        "'",
        "\"",
        "${",
        "<<a ",
        "[",
        "RUN <<a\n",
        "\\\n",
        "ONBUILD ",
        "# escape=`\n",
        "\u{0}",
        "x\n",
        "\r",
    ] {
        let parse = parse(piece.repeat(50_000).as_bytes());
        assert!(parse.first_error().is_some(), "{piece}");
    }
}

#[test]
fn hostile_words_are_expanded_or_refused() {
    let lookup = |_: &str| Some("a".repeat(10_000));
    for word in [
        "${a#*a*a*a*a*b}",
        "${a//*a*a/x}",
        "${a%%*a*a*a*b}",
        "${a/?*?*?*?*b/x}",
    ] {
        assert!(words::expand(word, &lookup, '\\').is_ok(), "{word}");
    }
    assert!(words::expand(&"${a:-".repeat(100_000), &lookup, '\\').is_err());
    assert!(words::expand(&format!("${{a#{}}}", "?".repeat(1_000_000)), &lookup, '\\').is_err());
}

#[test]
fn hostile_ignore_rules_are_matched() {
    let patterns = Patterns::parse("*a*a*a*a*a*a*a*a*a*b\n**/a/**/a/**/a/**/b\n").unwrap();
    assert!(!patterns.is_excluded("a".repeat(2_000)));
    assert!(!patterns.is_excluded("a/".repeat(500)));
}
