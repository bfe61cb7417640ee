//! Keys that are known by how they look, whoever's they are: private keys, and the tokens of services that
//! give theirs a prefix.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// A larger file is not looked through: keys stand in settings and scripts.
pub(super) const LARGEST: u64 = 1 << 20;
/// No key is shorter.
pub(super) const SHORTEST: u64 = 20;
/// A key that has fewer different letters stands for one: `ghp_xxxxxxxx…`
const FEWEST_LETTERS: usize = 10;

/// How keys of one kind look.
struct Known {
    title: &'static str,
    /// Without groups. What is before and behind it is no letter of such a key.
    pattern: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        title: "a private key",
        // With its first line, which may be within a quoted text: files that only name the words have none.
        pattern: r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])+(?:[A-Za-z-]+: [^\n]*\s+)*[A-Za-z0-9+/=]{40,}",
    },
    Known {
        title: "a key of AWS",
        pattern: r"A(?:KI|SI)A[A-Z2-7]{16}",
    },
    Known {
        title: "a secret key of AWS",
        pattern: r#"(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY)["']?\s*[=:]\s*["']?[A-Za-z0-9/+]{40}"#,
    },
    Known {
        title: "a token of GitHub",
        pattern: r"gh[oprsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    },
    Known {
        title: "a token of GitLab",
        pattern: r"gl(?:pat|rt|dt|ptt|ft|soat|cbt)-[A-Za-z0-9_-]{20,}(?:\.[a-z0-9]{2}\.[a-z0-9]{9})?",
    },
    Known {
        title: "a token of npm",
        pattern: r"npm_[A-Za-z0-9]{36}",
    },
    Known {
        title: "a token of PyPI",
        // What all of them begin with says where they are good for.
        pattern: r"pypi-AgE[A-Za-z0-9_-]{60,}",
    },
    Known {
        title: "a token of Slack",
        pattern: r"xox[abeprs](?:\.xox[bp])?-[0-9A-Za-z]{8,}-[0-9A-Za-z-]{10,}|xapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]{20,}",
    },
];

/// All of them at once: what has none is read once.
static ANY: LazyLock<Regex> = LazyLock::new(|| {
    let groups = KNOWN.iter().map(|it| format!("({})", it.pattern));
    let any = groups.collect::<Vec<_>>().join("|");
    Regex::new(&format!("(?-u){any}")).expect("the patterns are well formed; a test compiles them")
});

/// What the keys in some bytes are, each kind once.
pub(super) fn found(bytes: &[u8]) -> Vec<&'static str> {
    let mut titles = Vec::new();
    for captures in ANY.captures_iter(bytes) {
        let group = (1..=KNOWN.len()).find_map(|it| captures.get(it).map(|found| (it, found)));
        let Some((number, found)) = group else {
            continue;
        };
        let title = KNOWN[number - 1].title;
        let is_alone = stands_alone(bytes, found.start(), found.end());
        if is_alone && !is_example(found.as_bytes()) && !titles.contains(&title) {
            titles.push(title);
        }
    }
    titles
}

/// Whether a key is no part of a longer word, as in a file that is packed or encoded.
fn stands_alone(bytes: &[u8], start: usize, end: usize) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let before = start.checked_sub(1).and_then(|it| bytes.get(it));
    let is_quoted = start >= 2 && matches!(&bytes[start - 2..start], b"\\n" | b"\\r" | b"\\t");
    let is_begun = before.is_none_or(|it| !is_word(it)) || is_quoted;
    is_begun && bytes.get(end).is_none_or(|it| !is_word(it))
}

/// Whether a key only shows how keys look.
fn is_example(key: &[u8]) -> bool {
    let mut letters: Vec<u8> = key.to_vec();
    letters.sort_unstable();
    letters.dedup();
    letters.len() < FEWEST_LETTERS
        || key.to_ascii_uppercase().ends_with(b"EXAMPLE")
        || key.to_ascii_uppercase().ends_with(b"EXAMPLEKEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters of a key that nobody has.
    fn letters(count: usize) -> String {
        let all = b"q7Zk2LmX9sTf4RbW8nYc3HdP6vGj5KaE1uVo0MiQ";
        (0..count)
            .map(|it| char::from(all[it % all.len()]))
            .collect()
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(found(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn keys_are_known_by_how_they_look() {
        let body = letters(64);
        for kind in ["", "RSA ", "EC ", "OPENSSH "] {
            let key = format!("-----BEGIN {kind}PRIVATE KEY-----\n{body}\n");
            check(&key, &["a private key"]);
            check(
                &format!("KEY=\"{}\"", key.replace('\n', "\\n")),
                &["a private key"],
            );
        }
        let encrypted = format!(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AA\n\n{body}\n"
        );
        check(&encrypted, &["a private key"]);
        let upper = "QRSTUVWXYZ234567";
        check(&format!("id = AKIA{upper}\n"), &["a key of AWS"]);
        let secret = format!("aws_secret_access_key = {}\n", letters(40));
        check(&secret, &["a secret key of AWS"]);
        for prefix in ["ghp_", "gho_", "ghs_"] {
            check(&format!("{prefix}{}", letters(36)), &["a token of GitHub"]);
        }
        let long = format!("token: github_pat_{}_{}", letters(22), letters(59));
        check(&long, &["a token of GitHub"]);
        check(&format!("glpat-{}", letters(20)), &["a token of GitLab"]);
        check(
            &format!("_authToken=npm_{}", letters(36)),
            &["a token of npm"],
        );
        check(
            &format!("password = pypi-AgEI{}", letters(80)),
            &["a token of PyPI"],
        );
        check(
            &format!("xoxb-123456789012-{}", letters(24)),
            &["a token of Slack"],
        );
    }

    #[test]
    fn two_kinds_in_a_file_are_both_told_and_each_once() {
        let text = format!("npm_{0} npm_{0}\nghp_{0}", letters(36));
        check(&text, &["a token of npm", "a token of GitHub"]);
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in [
            "-----BEGIN PRIVATE KEY-----",
            "write -----BEGIN RSA PRIVATE KEY----- and then the key",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzz\n",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "npm_config_registry_of_some_sort_or_another",
        ] {
            check(text, &[]);
        }
        // Too long, too short, or a part of something else.
        check(&format!("ghp_{}", letters(37)), &[]);
        check(&format!("ghp_{}", letters(35)), &[]);
        check(&format!("xnpm_{}", letters(36)), &[]);
    }
}
