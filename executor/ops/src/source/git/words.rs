//! What git and ssh say when they fail, as one sentence.

/// Whether the repository's server was shown who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// With keys, a token or a password.
    Shown,
    /// Nothing was lent.
    Missing,
    /// What was lent is not told where anyone on the way could read it.
    Withheld,
}

/// A piece of what is said, and what that means: with something shown, with nothing, with it withheld.
type Meaning = (&'static str, [&'static str; 3]);

const WANTS_A_NAME: [&str; 3] = [
    "the server does not accept the password, token or header that it got",
    "the server asks who you are: lend it the secret GIT_AUTH_TOKEN or GIT_AUTH_HEADER",
    "the server asks who you are, and secrets are not told where anyone on the way could read them; use https",
];
const DISTRUSTED: [&str; 3] =
    ["nobody known here vouches for the server's certificate; $SSL_CERT_FILE can name who does"; 3];

const MEANINGS: &[Meaning] = &[
    (
        "Permission denied (",
        [
            "the server accepts none of the keys that `--ssh` lends",
            "the server wants a key: lend it one with `--ssh default` or `--ssh default=FILE`",
            "",
        ],
    ),
    ("could not read Username for", WANTS_A_NAME),
    ("could not read Password for", WANTS_A_NAME),
    ("Authentication failed for", WANTS_A_NAME),
    ("server certificate verification failed", DISTRUSTED),
    ("unable to get local issuer certificate", DISTRUSTED),
    ("self-signed certificate", DISTRUSTED),
];

/// What git adds to every failure.
const ALWAYS: &[&str] = &[
    "Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];
/// How many of its lines are shown where nobody knows what they mean.
const MOST: usize = 4;

/// One sentence from the lines that were said last.
pub(super) fn sentence(lines: &[String], proof: Proof) -> String {
    if let Some(place) = changed_key(lines) {
        return format!(
            "the host has another key than in `{place}`: somebody may stand in between; if not, remove that line"
        );
    }
    let said = |meaning: &&Meaning| lines.iter().any(|line| line.contains(meaning.0));
    if let Some((_, sentences)) = MEANINGS.iter().find(said) {
        let which = match proof {
            Proof::Shown => 0,
            Proof::Missing => 1,
            Proof::Withheld => 2,
        };
        return sentences[which].to_owned();
    }
    let telling = lines.iter().map(|line| bare(line));
    let telling: Vec<&str> = telling.filter(|line| !ALWAYS.contains(line)).collect();
    telling[telling.len().saturating_sub(MOST)..].join("; ")
}

/// The file and line with the key that a host had before.
fn changed_key(lines: &[String]) -> Option<&str> {
    lines
        .iter()
        .find(|line| line.contains("has changed and you have requested strict checking"))?;
    let offending = lines.iter().find(|line| line.starts_with("Offending "))?;
    Some(offending.split_once(" key in ")?.1)
}

/// A line without what stands before every other.
fn bare(line: &str) -> &str {
    let line = ["fatal: ", "error: ", "ssh: "]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix))
        .unwrap_or(line);
    let access = line.strip_prefix("unable to access '");
    access
        .and_then(|rest| Some(rest.split_once("': ")?.1))
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_becomes_one_sentence() {
        let always = ALWAYS.join("\n");
        let denied = format!(
            "root@host: Permission denied (publickey,keyboard-interactive).\nfatal: {always}"
        );
        let changed = format!(
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nAdd correct host key in /h/known_hosts to get rid of this message.\n\
             Offending ED25519 key in /h/known_hosts:3\nHost key for [host]:22 has changed and you have requested strict checking.\n\
             Host key verification failed.\nfatal: {always}"
        );
        let asked = "error: unable to read askpass response from '/bin/false'\n\
                     fatal: could not read Username for 'https://host': terminal prompts disabled";
        let table = [
            (denied.as_str(), Proof::Missing, MEANINGS[0].1[1]),
            (&denied, Proof::Shown, MEANINGS[0].1[0]),
            (
                &changed,
                Proof::Shown,
                "the host has another key than in `/h/known_hosts:3`: somebody may stand in between; if not, remove that line",
            ),
            (asked, Proof::Missing, WANTS_A_NAME[1]),
            (asked, Proof::Shown, WANTS_A_NAME[0]),
            (asked, Proof::Withheld, WANTS_A_NAME[2]),
            (
                "fatal: unable to access 'https://host/a.git/': server certificate verification failed. CAfile: /etc/x CRLfile: none",
                Proof::Missing,
                DISTRUSTED[0],
            ),
            (
                "fatal: unable to access 'https://host/a.git/': Could not resolve host: host",
                Proof::Missing,
                "Could not resolve host: host",
            ),
            (
                "ssh: connect to host host port 9: Connection refused\nfatal: Could not read from remote repository.",
                Proof::Missing,
                "connect to host host port 9: Connection refused",
            ),
            (
                "fatal: repository 'https://host/a.git/' not found",
                Proof::Missing,
                "repository 'https://host/a.git/' not found",
            ),
            ("1\n2\n3\n4\n5", Proof::Missing, "2; 3; 4; 5"),
        ];
        for (said, proof, expected) in table {
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            assert_eq!(sentence(&lines, proof), expected, "{said}");
        }
    }
}
