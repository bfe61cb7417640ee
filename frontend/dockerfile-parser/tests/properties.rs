//! What holds for any text: nothing panics, spans lie in it, and simple models agree.

use dockerfile_parser::{
    Flag, Healthcheck, Instruction, InstructionKind, Parse, Span, excerpt, glob,
    ignore::{Patterns, Rule},
    parse, parse_trigger, words,
};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, so that random ones reach deep into the parser.
const PIECES: [&str; 48] = [
    "FROM ",
    "from a AS b\n",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "CMD ",
    "HEALTHCHECK ",
    "SHELL ",
    "VOLUME ",
    "EXPOSE ",
    "USER x",
    "--mount=",
    "--link",
    "--from=a ",
    "-- ",
    "--interval=5s ",
    "NONE",
    "\n",
    "\n\n",
    "\r\n",
    "\\\n",
    "\\ \n",
    "`\n",
    "\\",
    "`",
    "# escape=`\n",
    "# syntax=x\n",
    "#",
    "# c\n",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "\tE\n",
    "['a']",
    "[\"a\", \"b\"]",
    "[1]",
    "'",
    "\"",
    "${a:-",
    "}",
    "a=b ",
    " ",
    "\u{a0}é☺",
    "\u{feff}",
];

fn dockerfile_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => prop::sample::select(PIECES.as_slice()).prop_map(|it| it.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn word_like() -> impl Strategy<Value = String> {
    let pieces = [
        "$", "${", "}", "a", "A", "é", ":", "-", "+", "?", "#", "%", "/", "*", "\\", "`", "'",
        "\"", " ", "<", "0", "_", "\n", "b:-c", "${a:-", "${a/", "$a",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..24).prop_map(|it| it.concat())
}

/// The line that the byte at `offset` stands on.
fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

fn check_span(text: &[u8], span: Span) {
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?}");
    assert!(span.first_line <= span.last_line, "{span:?}");
    assert!(span.last_line <= line_at(text, text.len()), "{span:?}");
    if span.start < span.end {
        assert_eq!(span.first_line, line_at(text, span.start), "{span:?}");
        assert!(span.last_line >= line_at(text, span.end - 1), "{span:?}");
    }
}

fn flags(kind: &InstructionKind) -> Vec<&Flag> {
    match kind {
        InstructionKind::Run { flags, .. } => flags.iter().collect(),
        InstructionKind::Copy(it) | InstructionKind::Add(it) => it.flags.iter().collect(),
        InstructionKind::Healthcheck(Healthcheck::Cmd { flags, .. }) => flags.iter().collect(),
        _ => Vec::new(),
    }
}

fn check_instruction(text: &[u8], instruction: &Instruction, within: Span) {
    check_span(text, instruction.span);
    assert!(within.start <= instruction.span.start && instruction.span.end <= within.end);
    for flag in flags(&instruction.kind) {
        check_span(text, flag.span);
        assert!(instruction.span.start <= flag.span.start && flag.span.end <= instruction.span.end);
        if std::str::from_utf8(text).is_ok() {
            assert_eq!(text[flag.span.start], b'-', "{flag:?}");
        }
    }
    if let InstructionKind::OnBuild { trigger, .. } = &instruction.kind {
        check_instruction(text, trigger, instruction.span);
    }
}

fn check(text: &[u8]) -> Parse {
    let parse = parse(text);
    let whole = Span {
        end: text.len(),
        last_line: usize::MAX,
        ..Span::default()
    };
    let mut end = 0;
    for instruction in &parse.dockerfile.instructions {
        check_instruction(text, instruction, whole);
        assert!(end <= instruction.span.start, "instructions overlap");
        end = instruction.span.end;
    }
    for problem in &parse.problems {
        check_span(text, problem.span);
        let shown = excerpt("f", text, problem.span.first_line, problem.span.last_line);
        assert_eq!(shown.is_empty(), problem.span.first_line == 0);
    }
    let directives = &parse.dockerfile.directives;
    directives
        .syntax
        .iter()
        .chain(&directives.check)
        .for_each(|(_, span)| check_span(text, *span));
    parse
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_spans_lie_in_them(text in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&text);
    }

    #[test]
    fn anything_like_a_dockerfile_is_read_and_spans_lie_in_it(text in dockerfile_like()) {
        check(&text);
    }

    #[test]
    fn what_comes_behind_a_file_without_errors_changes_nothing_in_it(text in dockerfile_like()) {
        let before = check(&text);
        let open_ended = text.trim_ascii_end().ends_with(b"\\") || text.trim_ascii_end().ends_with(b"`");
        if before.first_error().is_none() && !open_ended {
            let after = check(&[&text, b"\nCMD [\"behind\"]\n".as_slice()].concat());
            prop_assert!(after.first_error().is_none());
            let (behind, rest) = after.dockerfile.instructions.split_last().expect("there is the CMD");
            prop_assert_eq!(&behind.original, "CMD [\"behind\"]");
            prop_assert_eq!(rest, before.dockerfile.instructions);
        }
    }

    #[test]
    fn a_trigger_in_an_image_says_what_it_said_in_the_file(text in dockerfile_like()) {
        for instruction in check(&text).dockerfile.instructions {
            let InstructionKind::OnBuild { text, trigger } = instruction.kind else { continue };
            // The image does not say what the escape character was, nor keeps a byte order mark apart.
            if text.contains(['`', '\\', '\u{feff}']) || !text.starts_with(trigger.keyword()) {
                continue;
            }
            let again = parse_trigger(&text).expect("it was understood in the file");
            prop_assert_eq!(again.keyword(), trigger.keyword());
            prop_assert_eq!(again.original, trigger.original);
        }
    }

    #[test]
    fn any_trigger_is_read_or_refused(text in dockerfile_like()) {
        let _ = parse_trigger(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn any_word_is_expanded_or_refused(word in word_like(), escape in prop::sample::select(vec!['\\', '`'])) {
        let lookup = |name: &str| (name.len() % 2 == 1).then(|| format!("{name} *?\\$x"));
        let text = words::expand(&word, &lookup, escape).map(|it| it.text);
        let parts = words::expand_words(&word, &lookup, escape).map(|it| it.words);
        prop_assert_eq!(text.is_ok(), parts.is_ok());
        if let (Ok(text), Ok(parts)) = (text, parts) {
            prop_assert!(parts.iter().all(|it| !it.is_empty()));
            let solid = |text: &str| text.chars().filter(|ch| !ch.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&text), solid(&parts.concat()));
        }
        let _ = words::expand_heredoc(&word, &lookup);
        let _ = words::expand_set(&word, &lookup, escape);
        let _ = words::expand_keeping_quotes(&word, &lookup, escape);
    }

    #[test]
    fn quoting_makes_any_text_plain(text in "\\PC{0,30}") {
        let lookup = |_: &str| Some("value".to_owned());
        if !text.contains('\'') {
            let quoted = format!("'{text}'");
            prop_assert_eq!(&words::expand(&quoted, &lookup, '\\').unwrap().text, &text);
        }
        let escaped: String = text.chars().flat_map(|ch| ['\\', ch]).collect();
        prop_assert_eq!(&words::expand(&escaped, &lookup, '\\').unwrap().text, &text);
        if !text.contains(['$', '\\']) {
            prop_assert_eq!(&words::expand_heredoc(&text, &lookup).unwrap().text, &text);
        }
    }

    #[test]
    fn a_glob_agrees_with_a_simple_model(pattern in "[ab*?/]{0,8}", name in "[ab/]{0,8}") {
        let pattern_chars: Vec<char> = pattern.chars().collect();
        let name_chars: Vec<char> = name.chars().collect();
        prop_assert_eq!(glob::is_match(&pattern, &name), Ok(model_glob(&pattern_chars, &name_chars)));
    }

    #[test]
    fn any_pattern_is_matched_or_refused(pattern in "\\PC{0,12}", name in prop::collection::vec(any::<u8>(), 0..20)) {
        let _ = glob::is_match(&pattern, &name);
        if let Ok(patterns) = Patterns::parse(&pattern) {
            patterns.is_excluded(&name);
            patterns.may_reinclude_below(&name);
        }
        let _ = Patterns::parse(&name);
    }

    #[test]
    fn an_ignore_rule_agrees_with_its_regular_expression(rule in "[ab*?/]{1,8}", path in "[ab]{1,3}(/[ab]{1,3}){0,3}") {
        let patterns = Patterns::parse(&rule).unwrap();
        let Some(rule) = patterns.rules().first() else { return Ok(()) };
        let expression = model_expression(rule.pattern());
        let above = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let expected = above.map(|end| &path[..end]).any(|prefix| expression.is_match(prefix));
        prop_assert_eq!(patterns.is_excluded(&path), expected, "{}", expression);
    }

    #[test]
    fn a_walk_that_prunes_finds_what_asking_finds(
        rules in prop::collection::vec("!?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 0..6),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let patterns = Patterns::new(&rules).unwrap();
        let mut visit = patterns.root();
        let mut pruned = false;
        for end in path.match_indices('/').map(|(end, _)| end).chain([path.len()]) {
            let prefix = &path[..end];
            visit = patterns.visit(prefix, &visit);
            prop_assert_eq!(patterns.excludes(&visit), patterns.is_excluded(prefix));
            prop_assert_eq!(patterns.rule_of(&visit).map(Rule::line), patterns.deciding_rule(prefix).map(Rule::line));
            prop_assert!(!pruned || patterns.excludes(&visit), "{} is below what was pruned", prefix);
            pruned |= patterns.excludes(&visit) && !patterns.may_reinclude_below(prefix);
        }
    }
}

/// `filepath.Match` without classes and escapes, by trying everything.
fn model_glob(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            model_glob(rest, name)
                || matches!(name, [ch, left @ ..] if *ch != '/' && model_glob(pattern, left))
        }
        (['?', rest @ ..], [ch, left @ ..]) => *ch != '/' && model_glob(rest, left),
        ([wanted, rest @ ..], [ch, left @ ..]) => wanted == ch && model_glob(rest, left),
        _ => false,
    }
}

/// The expression that moby/patternmatcher's documentation describes for a pattern.
fn model_expression(pattern: &str) -> regex::Regex {
    // Stars in front of a literal end, without a slash, are a suffix match.
    if let Some(suffix) = pattern
        .strip_prefix("**")
        .filter(|it| !it.contains(['*', '?']) && !it.starts_with('/'))
    {
        return regex::Regex::new(&format!("{}$", regex::escape(suffix)))
            .expect("an escaped text is an expression");
    }
    let mut expression = String::from("^");
    let mut rest = pattern;
    while let Some(ch) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            rest = after.strip_prefix('/').unwrap_or(after);
            expression.push_str(if rest.is_empty() { ".*" } else { "(.*/)?" });
            continue;
        }
        match ch {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            ch => expression.push_str(&regex::escape(&ch.to_string())),
        }
        rest = &rest[ch.len_utf8()..];
    }
    expression.push('$');
    regex::Regex::new(&expression).expect("the translation is an expression")
}
