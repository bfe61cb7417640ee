//! Words and what they stand for.

use super::{Expansion, expand, expand_heredoc, expand_keeping_quotes, expand_set, expand_words};

fn value(name: &str) -> Option<String> {
    let value = match name {
        "A" => "hello",
        "EMPTY" => "",
        "SPACED" => "a b  c",
        "FILE" => "archive.tar.gz",
        "PATHS" => "/usr/local/bin:/usr/bin:/bin",
        "STARS" => "a*b*c",
        "SLASH" => "x\\y",
        "SIGN" => "cost $5",
        "Ü" => "umlaut",
        "_u1" => "under",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The text of `word`, or its error behind `error: `.
fn text(word: &str, escape: char) -> String {
    match expand(word, &value, escape) {
        Ok(expansion) => expansion.text,
        Err(error) => format!("error: {}", error.reason),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (word, expected) in cases {
        assert_eq!(text(word, '\\'), *expected, "{word}");
    }
}

#[test]
fn plain_text_stays_as_it_is() {
    check(&[
        ("", ""),
        ("hello", "hello"),
        ("a b", "a b"),
        ("  a  ", "  a  "),
        ("ünïcode ☺", "ünïcode ☺"),
        ("a=b,c:d/e", "a=b,c:d/e"),
        ("a<b", "a<b"),
        ("a<<b", "a<<b"),
        ("a}b{c", "a}b{c"),
        ("line\nline", "line\nline"),
    ]);
}

#[test]
fn variables_are_replaced() {
    check(&[
        ("$A", "hello"),
        ("${A}", "hello"),
        ("$A$A", "hellohello"),
        ("a$A", "ahello"),
        ("$A.b", "hello.b"),
        ("$A/b", "hello/b"),
        ("$A-b", "hello-b"),
        ("$Ab", ""),
        ("${A}b", "hellob"),
        ("$_u1", "under"),
        ("$Ü", "umlaut"),
        ("$EMPTY", ""),
        ("$NOPE", ""),
        ("x${NOPE}y", "xy"),
        ("$SPACED", "a b  c"),
        ("$SIGN", "cost $5"),
    ]);
}

#[test]
fn a_dollar_that_names_nothing_stays_and_special_parameters_are_empty() {
    check(&[
        ("$", "$"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$=", "$="),
        ("$/a", "$/a"),
        ("$(cmd)", "$(cmd)"),
        ("$1", ""),
        ("$12x", "x"),
        ("$0", ""),
        ("$@", ""),
        ("$*", ""),
        ("$#", ""),
        ("$?", ""),
        ("$-", ""),
        ("$$", ""),
        ("$!", ""),
        ("$$A", "A"),
        ("${1}", ""),
        ("${@}", ""),
    ]);
}

#[test]
fn quotes_go_and_escapes_take_effect() {
    check(&[
        ("'a'", "a"),
        ("'$A'", "$A"),
        ("'a\\b'", "a\\b"),
        ("'a\"b'", "a\"b"),
        ("''", ""),
        ("\"a\"", "a"),
        ("\"$A\"", "hello"),
        ("\"${A}\"", "hello"),
        ("\"a'b\"", "a'b"),
        ("\"a\\\"b\"", "a\"b"),
        ("\"a\\$A\"", "a$A"),
        ("\"a\\\\b\"", "a\\b"),
        ("\"a\\nb\"", "a\\nb"),
        ("\"a\\'b\"", "a\\'b"),
        ("\"\"", ""),
        ("a'b'c\"d\"e", "abcde"),
        ("he\\$A", "he$A"),
        ("a\\b", "ab"),
        ("a\\\\b", "a\\b"),
        ("\\'a", "'a"),
        ("\\\"a", "\"a"),
        ("a\\ b", "a b"),
        ("a\\", "a"),
        ("\\", ""),
        ("'a b' c", "a b c"),
        ("\"$SPACED\"", "a b  c"),
    ]);
}

#[test]
fn the_backtick_escapes_where_the_file_says_so() {
    for (word, expected) in [
        ("c:\\dir", "c:\\dir"),
        ("`$A", "$A"),
        ("a`b", "ab"),
        ("\"`$A\"", "$A"),
        ("\"`\"\"", "\""),
        ("\"a\\b\"", "a\\b"),
        ("\\$A", "\\hello"),
        ("a``b", "a`b"),
        ("a`", "a"),
    ] {
        assert_eq!(text(word, '`'), expected, "{word}");
    }
}

#[test]
fn defaults_and_alternatives() {
    check(&[
        ("${NOPE:-d}", "d"),
        ("${NOPE-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${A:-d}", "hello"),
        ("${A-d}", "hello"),
        ("${NOPE:-}", ""),
        ("${NOPE:-$A}", "hello"),
        ("${NOPE:-${EMPTY:-$A}}", "hello"),
        ("${NOPE:-a b}", "a b"),
        ("${NOPE:-'a}b'}", "a}b"),
        ("${NOPE:-\"$A\"}", "hello"),
        ("${NOPE:-a\\}b}", "a}b"),
        ("${NOPE:-a:b}", "a:b"),
        ("${A:+alt}", "alt"),
        ("${A+alt}", "alt"),
        ("${EMPTY:+alt}", ""),
        ("${EMPTY+alt}", "alt"),
        ("${NOPE:+alt}", ""),
        ("${NOPE+alt}", ""),
        ("${A:+${NOPE:-x}}", "x"),
        ("${A:?m}", "hello"),
        ("${EMPTY?m}", ""),
    ]);
}

#[test]
fn prefixes_and_suffixes_are_stripped() {
    check(&[
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE#archive}", ".tar.gz"),
        ("${FILE#nope}", "archive.tar.gz"),
        ("${FILE%.gz}", "archive.tar"),
        ("${FILE%gz.}", "archive.tar.gz"),
        ("${FILE#a?c}", "hive.tar.gz"),
        ("${FILE%??}", "archive.tar."),
        ("${FILE#}", "archive.tar.gz"),
        ("${FILE##*}", ""),
        ("${FILE#*}", "archive.tar.gz"),
        ("${FILE%*}", "archive.tar.gz"),
        ("${FILE%%*}", ""),
        ("${FILE#[a]}", "archive.tar.gz"),
        ("${STARS#a\\*}", "b*c"),
        ("${STARS%\\*c}", "a*b"),
        ("${STARS%%\\**}", "a"),
        ("${SLASH#x\\\\}", "y"),
        ("${PATHS##*/}", "bin"),
        ("${PATHS%:*}", "/usr/local/bin:/usr/bin"),
        ("${PATHS#\\/usr}", "/local/bin:/usr/bin:/bin"),
        ("${NOPE#a}", ""),
        ("${FILE#${NOPE:-archive}}", ".tar.gz"),
    ]);
}

#[test]
fn matches_are_replaced() {
    check(&[
        ("${A/l/L}", "heLlo"),
        ("${A//l/L}", "heLLo"),
        ("${A/nope/L}", "hello"),
        ("${A/l/}", "helo"),
        ("${A//l/}", "heo"),
        ("${A/e*l/_}", "h_o"),
        ("${A/?/_}", "_ello"),
        ("${A//?/_}", "_____"),
        ("${PATHS//:/;}", "/usr/local/bin;/usr/bin;/bin"),
        ("${PATHS//\\/bin/}", "/usr/local:/usr:"),
        ("${STARS//\\*/+}", "a+b+c"),
        ("${A/l/$EMPTY}", "helo"),
        ("${A/$NOPE/x}", "xhello"),
        ("${A//l/${NOPE:-y}}", "heyyo"),
        ("${FILE/./$0}", "archivetar.gz"),
        ("${A/l/'$1'}", "he$1lo"),
        ("${NOPE/a/b}", ""),
    ]);
}

#[test]
fn what_cannot_be_expanded_says_why() {
    check(&[
        ("${", "error: syntax error: missing '}'"),
        ("${A", "error: syntax error: missing '}'"),
        ("${A:", "error: syntax error: missing '}'"),
        ("${A:-b", "error: syntax error: missing '}'"),
        ("${A:-'b", "error: syntax error: missing '}'"),
        ("${A#b", "error: syntax error: missing '}'"),
        ("${A/b/c", "error: syntax error: missing '}'"),
        ("${A/b}", "error: syntax error: missing '/' in ${}"),
        ("${A/", "error: syntax error: missing '/' in ${}"),
        (
            "${}",
            "error: syntax error: bad substitution: a name stands behind `${`",
        ),
        (
            "${:x}",
            "error: syntax error: bad substitution: a name stands behind `${`",
        ),
        (
            "${{x}",
            "error: syntax error: bad substitution: a name stands behind `${`",
        ),
        (
            "${A^}",
            "error: unsupported modifier (^) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${A,,}",
            "error: unsupported modifier (,) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${A b}",
            "error: unsupported modifier ( ) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${ A}",
            "error: unsupported modifier ( ) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${A:#x}",
            "error: unsupported modifier (:#) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${A:%x}",
            "error: unsupported modifier (:%) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "${A:1}",
            "error: unsupported modifier (:1) in substitution: there are :- :+ :? - + ? # ## % %% / //",
        ),
        (
            "'a",
            "error: unexpected end of statement while looking for matching single-quote: close it, or escape it",
        ),
        (
            "\"a",
            "error: unexpected end of statement while looking for matching double-quote: close it, or escape it",
        ),
        (
            "\"a\\\"",
            "error: unexpected end of statement while looking for matching double-quote: close it, or escape it",
        ),
        ("${NOPE?}", "error: NOPE: is not allowed to be unset"),
        ("${NOPE:?}", "error: NOPE: is not allowed to be unset"),
        ("${EMPTY:?}", "error: EMPTY: is not allowed to be empty"),
        ("${NOPE?set it} x", "error: NOPE: set it"),
        ("${EMPTY:?fill $A} x", "error: EMPTY: fill hello"),
        (
            "${A#\\a}",
            "error: invalid pattern (\\a) in substitution: invalid escape '\\a'",
        ),
        (
            "${A/\\l/x}",
            "error: invalid pattern (\\l) in substitution: invalid escape '\\l'",
        ),
    ]);
}

#[test]
fn an_error_names_the_whole_word() {
    let error = expand("a\"b", &value, '\\').unwrap_err();
    let expected = "failed to process \"a\\\"b\": \
                    unexpected end of statement while looking for matching double-quote: close it, or escape it";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn substitutions_nest_to_a_limit_and_no_further() {
    let nested = |depth: usize| format!("{}x{}", "${N:-".repeat(depth), "}".repeat(depth));
    assert_eq!(text(&nested(60), '\\'), "x");
    assert_eq!(
        text(&nested(100_000), '\\'),
        "error: substitutions are nested too deeply"
    );
    let quoted = "\"${N:-".repeat(50_000);
    assert_eq!(
        text(&quoted, '\\'),
        "error: substitutions are nested too deeply"
    );
}

#[test]
fn words_split_where_unquoted_blanks_are() {
    for (word, expected) in [
        ("a b", vec!["a", "b"]),
        ("  a   b  ", vec!["a", "b"]),
        ("'a b'", vec!["a b"]),
        ("\"a b\" c", vec!["a b", "c"]),
        ("a\\ b", vec!["a b"]),
        ("$SPACED", vec!["a", "b", "c"]),
        ("\"$SPACED\"", vec!["a b  c"]),
        ("x$SPACED", vec!["xa", "b", "c"]),
        ("$SPACED'y z'", vec!["a", "b", "cy z"]),
        ("$EMPTY", vec![]),
        ("''", vec![]),
        ("$EMPTY a", vec!["a"]),
        ("${NOPE:-8080 9090}", vec!["8080", "9090"]),
        ("", vec![]),
        ("a\tb\nc", vec!["a", "b", "c"]),
    ] {
        assert_eq!(
            expand_words(word, &value, '\\').unwrap().words,
            expected,
            "{word}"
        );
    }
}

#[test]
fn an_expansion_says_which_variables_it_used_and_missed() {
    let names = |set: &std::collections::BTreeSet<String>| {
        set.iter().cloned().collect::<Vec<_>>().join(" ")
    };
    for (word, used, unset) in [
        ("$A $NOPE ${GONE}", "A", "GONE NOPE"),
        ("${NOPE:-d} ${GONE-d} ${LOST+x} ${A:?}", "A", ""),
        ("${NOPE#x} ${GONE/a/b}", "", "GONE NOPE"),
        ("${NOPE:-$GONE}", "", "GONE"),
        ("'$A' \\$NOPE", "", ""),
        ("\"$A$NOPE\"", "A", "NOPE"),
        ("$EMPTY", "EMPTY", ""),
    ] {
        let Expansion {
            used: found,
            unset: missed,
            ..
        } = expand(word, &value, '\\').unwrap();
        assert_eq!(
            (names(&found).as_str(), names(&missed).as_str()),
            (used, unset),
            "{word}"
        );
    }
}

#[test]
fn quotes_can_be_kept() {
    for (word, expected) in [
        ("'a $A'", "'a $A'"),
        ("\"a $A\"", "\"a hello\""),
        ("a\\b", "ab"),
        ("\"a\\\"b\"", "\"a\"b\""),
    ] {
        assert_eq!(
            expand_keeping_quotes(word, &value, '\\').unwrap().text,
            expected,
            "{word}"
        );
    }
}

#[test]
fn unset_variables_can_be_kept() {
    for (word, expected) in [
        ("$A $NOPE", "hello $NOPE"),
        ("${NOPE}", "${NOPE}"),
        ("${NOPE:-x}", "${NOPE:-x}"),
        ("${NOPE//a/b}", "${NOPE//a/b}"),
        ("${NOPE#a}", "${NOPE#a}"),
        ("${A:-x}", "hello"),
    ] {
        assert_eq!(
            expand_set(word, &value, '\\').unwrap().text,
            expected,
            "{word}"
        );
    }
}

#[test]
fn a_heredoc_keeps_quotes_and_honours_few_escapes() {
    for (content, expected) in [
        ("\"quotes\" 'in' file\n", "\"quotes\" 'in' file\n"),
        ("it's $A\n", "it's hello\n"),
        ("'$A'\n", "'hello'\n"),
        ("\\${A}\n", "${A}\n"),
        ("\\$A\n", "$A\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("printf 'a\\nb'\n", "printf 'a\\nb'\n"),
        ("{\"a\": \"\\\"\"}\n", "{\"a\": \"\\\"\"}\n"),
        ("`$A`\n", "`hello`\n"),
        ("${NOPE:-'a b'}\n", "'a b'\n"),
        ("cost: 5$\n", "cost: 5$\n"),
        ("$(date) $NOPE.\n", "$(date) .\n"),
        ("cat <<  X\n", "cat <<  X\n"),
    ] {
        assert_eq!(
            expand_heredoc(content, &value).unwrap().text,
            expected,
            "{content}"
        );
    }
}
