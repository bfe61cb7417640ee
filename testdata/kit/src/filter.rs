//! Output made comparable: what differs from run to run is replaced by its kind.

use std::{path::Path, sync::LazyLock};

use regex::Regex;

/// Replaces digests, ids, times, ages, sizes and paths below `home` in `text` by `<digest>`, `<id>`, `<time>` and so on.
pub fn stable(text: &str, home: &Path) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            // The order matters: a whole digest holds what looks like an id.
            (r"\b[0-9a-f]{64}\b", "<digest>"),
            (r"\b[0-9a-f]{12}\b", "<id>"),
            (
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
                "<instant>",
            ),
            (
                r"(Less than a second|About an? \w+|\d+ (second|minute)s?) ago",
                "<ago>",
            ),
            (r"\b\d+(\.\d+)? ?(B|kB|MB|GB)\b", "<size>"),
            (r"\b\d+(\.\d+)?m?s\b", "<time>"),
            // A line of a step's output: after its number in plain progress, bare in an error's block.
            (
                r"(?m)^((?:(?:out|err)\| )?(?:#\d+ )?)\d+\.\d{2,3} ",
                "$1<time> ",
            ),
        ]
        .into_iter()
        .map(|(pattern, kind)| (Regex::new(pattern).expect("the patterns are fixed"), kind))
        .collect()
    });
    let text = text.replace(&*home.to_string_lossy(), "<home>");
    RULES.iter().fold(text, |text, (pattern, kind)| {
        pattern.replace_all(&text, *kind).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(stable(text, Path::new("/tmp/x")), expected);
    }

    #[test]
    fn digests_and_ids_go() {
        let digest = "0123456789abcdef".repeat(4);
        check(
            &format!("sha256:{digest} {}", &digest[..12]),
            "sha256:<digest> <id>",
        );
    }

    #[test]
    fn times_and_sizes_go_and_exit_codes_stay() {
        check(
            "#5 0.312 cc -c main.c\n#5 DONE 1.4s\n",
            "#5 <time> cc -c main.c\n#5 DONE <time>\n",
        );
        check(
            "1.2MB in 3 seconds ago: exit code: 1",
            "<size> in <ago>: exit code: 1",
        );
    }

    #[test]
    fn the_home_goes() {
        check(
            "open /tmp/x/Dockerfile: no such file",
            "open <home>/Dockerfile: no such file",
        );
    }
}
