//! Names of what is not on this machine: addresses and repositories.
//!
//! A repository's name may say which part of it is meant, behind `#` (`#REF:DIRECTORY`) or in a
//! query (`?ref=…&subdir=…`).

use llb::op::{GitSource, GitTimes, HttpSource, Source};

use crate::path;

/// The file of an address that ends without a name (G83).
const UNNAMED: &str = "__unnamed__";
/// The permissions of a file of the web (G83).
const FILE_MODE: u32 = 0o600;

/// Why a repository's name says nothing that can be done. The texts are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// A key that needs a value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A key that stands twice.
    #[error("query {0:?} has multiple values")]
    Twice(String),
    /// A key that nobody knows.
    #[error("unexpected query {0:?}")]
    Unknown(String),
    /// Another value than `true` or `false`.
    #[error("invalid {key} value: {value:?}")]
    NotBoolean {
        /// Of which key.
        key: String,
        /// What it says.
        value: String,
    },
    /// Another value than `checkout` or `commit`.
    #[error("invalid mtime value: {0:?}")]
    Times(String),
    /// Two values that cannot both hold.
    #[error("{what} conflicts: {one:?} vs {other:?}")]
    Conflict {
        /// Of what.
        what: &'static str,
        /// The first.
        one: String,
        /// The second.
        other: String,
    },
    /// A branch and a tag at once.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// No beginning of a commit's id.
    #[error("invalid checksum {0:?}: a commit is named by hex digits")]
    Commit(String),
}

/// What `text` names that is not on this machine; `None` for a path (G86).
///
/// # Errors
/// For the name of a repository that contradicts itself or says something unknown.
pub fn remote(text: &str) -> Option<Result<Source, RemoteError>> {
    if is_git(text) {
        return Some(git(text).map(Source::Git));
    }
    let is_address = text.starts_with("http://") || text.starts_with("https://");
    is_address.then(|| Ok(Source::Http(http(text, file_name(text)))))
}

/// Like [`remote`], for a build context: there `github.com/USER/REPOSITORY` is a repository too (G86).
///
/// # Errors
/// As [`remote`].
pub fn remote_context(text: &str) -> Option<Result<Source, RemoteError>> {
    match text.starts_with("github.com/") {
        true => Some(git(&format!("https://{text}")).map(Source::Git)),
        false => remote(text),
    }
}

/// A remote source as people are told of it: its address without credentials, and of a repository
/// which part is meant.
pub fn shown(source: &Source) -> String {
    match source {
        Source::Http(http) => llb::without_credentials(&http.url),
        Source::Git(git) => {
            let mut shown = llb::without_credentials(&git.remote);
            let subdir = git.subdir.trim_start_matches('/');
            if !git.reference.is_empty() || !subdir.is_empty() {
                shown.push('#');
                shown.push_str(&git.reference);
            }
            if !subdir.is_empty() {
                shown.push(':');
                shown.push_str(subdir);
            }
            shown
        }
        Source::Image(image) => image.reference.clone(),
        Source::Local(local) => local.name.clone(),
    }
}

/// What an address answers with, as a file called `name`.
pub fn http(url: &str, name: String) -> HttpSource {
    HttpSource {
        url: url.to_owned(),
        checksum: None,
        filename: name,
        mode: FILE_MODE,
        owner: (0, 0),
        pin: None,
    }
}

fn is_git(text: &str) -> bool {
    if ["git@", "ssh://", "git://"]
        .iter()
        .any(|it| text.starts_with(it))
    {
        return true;
    }
    let web = ["http://", "https://"];
    let Some(rest) = web.iter().find_map(|it| text.strip_prefix(it)) else {
        return false;
    };
    let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    path.contains('/') && path.ends_with(".git")
}

/// The last part of an address's path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = decoded(path, Plus::Itself);
    let path = path::join("/", &path);
    match path::base(&path) {
        "" => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

fn git(text: &str) -> Result<GitSource, RemoteError> {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = text.split_once('?').unwrap_or((text, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut source = GitSource {
        remote: remote.to_owned(),
        reference: decoded(reference, Plus::Itself),
        checksum: None,
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        times: GitTimes::Checkout,
        fetch_by_commit: false,
        pin: None,
    };
    let said = Query::parse(query)?;
    let subdir = decoded(subdir, Plus::Itself);
    let subdir = agree("subdir", &subdir, said.text("subdir")?)?;
    source.subdir = path::join("/", &subdir);
    said.reference(&mut source)?;
    source.keep_git_dir = said.switch("keep-git-dir")?.unwrap_or(false);
    source.submodules = said.switch("submodules")?.unwrap_or(true);
    source.fetch_by_commit = said.switch("fetch-by-commit")?.unwrap_or(false);
    source.times = match said.text("mtime")? {
        None | Some("checkout") => GitTimes::Checkout,
        Some("commit") => GitTimes::Commit,
        Some(other) => return Err(RemoteError::Times(other.to_owned())),
    };
    Ok(source)
}

/// The one of two texts that says something, or that both say.
fn agree(what: &'static str, one: &str, other: Option<&str>) -> Result<String, RemoteError> {
    match other {
        Some(other) if !one.is_empty() && one != other => Err(RemoteError::Conflict {
            what,
            one: one.to_owned(),
            other: other.to_owned(),
        }),
        Some(other) => Ok(other.to_owned()),
        None => Ok(one.to_owned()),
    }
}

/// The beginning of a commit's id, in lower case.
pub(crate) fn commit(text: &str) -> Result<String, RemoteError> {
    let is_hex =
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
    match is_hex {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(RemoteError::Commit(text.to_owned())),
    }
}

/// What stands behind the `?`.
struct Query(Vec<(String, String)>);

const KEYS: &[&str] = &[
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
];

impl Query {
    fn parse(text: &str) -> Result<Self, RemoteError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|it| !it.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (decoded(key, Plus::Blank), decoded(value, Plus::Blank));
            if !KEYS.contains(&key.as_str()) {
                return Err(RemoteError::Unknown(key));
            }
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(RemoteError::Twice(key));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self, key: &str) -> Result<Option<&str>, RemoteError> {
        match self.get(key) {
            Some("") => Err(RemoteError::NoValue(key.to_owned())),
            value => Ok(value),
        }
    }

    /// As Go's `strconv.ParseBool` reads it; alone it means yes.
    fn switch(&self, key: &str) -> Result<Option<bool>, RemoteError> {
        Ok(Some(match self.get(key) {
            None => return Ok(None),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(value) => {
                return Err(RemoteError::NotBoolean {
                    key: key.to_owned(),
                    value: value.to_owned(),
                });
            }
        }))
    }

    /// Which commit is meant, by whichever of the keys says so.
    fn reference(&self, source: &mut GitSource) -> Result<(), RemoteError> {
        let below = |prefix: &str, name: &str| match name.starts_with(prefix) {
            true => name.to_owned(),
            false => format!("{prefix}{name}"),
        };
        source.reference = agree("ref", &source.reference, self.text("ref")?)?;
        let tag = self.text("tag")?.map(|it| below("refs/tags/", it));
        let branch = self.text("branch")?.map(|it| below("refs/heads/", it));
        if tag.is_some() && branch.is_some() {
            return Err(RemoteError::BranchAndTag);
        }
        source.reference = agree("ref", &source.reference, tag.or(branch).as_deref())?;
        let (checksum, id) = (self.text("checksum")?, self.text("commit")?);
        if let Some(id) = checksum.or(id) {
            let id = commit(&agree("commit", id, self.text("commit")?)?)?;
            if source.reference.is_empty() {
                source.reference.clone_from(&id);
            }
            source.checksum = Some(id);
        }
        Ok(())
    }
}

/// What a `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Blank,
}

/// A text without `%XX`. What is none stays as it is.
fn decoded(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let is_hex = |it: &&str| it.bytes().all(|it| it.is_ascii_hexdigit());
        match digits
            .filter(is_hex)
            .and_then(|it| u8::from_str_radix(it, 16).ok())
        {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            None if bytes[at] == b'+' && plus == Plus::Blank => decoded.push(b' '),
            None => decoded.push(bytes[at]),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match remote_context(text) {
            None => "path".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(Source::Http(http))) => format!("http {}", http.filename),
            Some(Ok(Source::Git(git))) => {
                let mut shown = format!("git {} {:?} {}", git.remote, git.reference, git.subdir);
                if let Some(checksum) = git.checksum {
                    shown.push_str(&format!(" is {checksum}"));
                }
                for (is_so, word) in [
                    (git.keep_git_dir, " .git"),
                    (!git.submodules, " alone"),
                    (git.times == GitTimes::Commit, " commit's time"),
                    (git.fetch_by_commit, " by commit"),
                ] {
                    if is_so {
                        shown.push_str(word);
                    }
                }
                shown
            }
            Some(Ok(other)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_mean_paths_addresses_or_repositories() {
        let table = [
            ("a/b", "path"),
            ("./github.com/a/b", "path"),
            ("ftp://host/a", "path"),
            ("https://host/a.tar.gz", "http a.tar.gz"),
            ("https://host/dir/?a=b/c", "http dir"),
            ("https://host", "http __unnamed__"),
            ("https://host/", "http __unnamed__"),
            ("https://host/..%2f..%2fx", "http x"),
            ("https://host/a%2f..", "http __unnamed__"),
            ("https://host/a%20b#c", "http a b"),
            ("https://host.git", "http __unnamed__"),
            ("https://host/a.git", "git https://host/a.git \"\" /"),
            (
                "https://host/a.git#v1:sub/dir",
                "git https://host/a.git \"v1\" /sub/dir",
            ),
            (
                "https://host/a.git#:sub",
                "git https://host/a.git \"\" /sub",
            ),
            (
                "https://host/a.git#main:../../etc",
                "git https://host/a.git \"main\" /etc",
            ),
            (
                "git@github.com:a/b.git#x",
                "git git@github.com:a/b.git \"x\" /",
            ),
            ("ssh://git@host/a", "git ssh://git@host/a \"\" /"),
            ("github.com/a/b#x", "git https://github.com/a/b \"x\" /"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(
            remote("github.com/a/b.git"),
            None,
            "ADD takes it for a path"
        );
    }

    #[test]
    fn queries_say_what_of_a_repository() {
        let table = [
            ("?ref=v1", "git R \"v1\" /"),
            ("?tag=v1", "git R \"refs/tags/v1\" /"),
            ("?branch=refs/heads/x", "git R \"refs/heads/x\" /"),
            ("?subdir=a%2Fb", "git R \"\" /a/b"),
            ("?commit=ABC1", "git R \"abc1\" / is abc1"),
            ("?ref=v1&checksum=abc1", "git R \"v1\" / is abc1"),
            ("?keep-git-dir&submodules=false", "git R \"\" / .git alone"),
            (
                "?mtime=commit&fetch-by-commit=1",
                "git R \"\" / commit's time by commit",
            ),
            ("?ref=v1#v1", "git R \"v1\" /"),
            ("?ref=v1#v2", "ref conflicts: \"v2\" vs \"v1\""),
            ("?subdir=a#v2:b", "subdir conflicts: \"b\" vs \"a\""),
            ("?branch=a&tag=b", "branch conflicts with tag"),
            (
                "?ref=v1&tag=v1",
                "ref conflicts: \"v1\" vs \"refs/tags/v1\"",
            ),
            ("?ref=", "query \"ref\" has no value"),
            ("?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("?depth=1", "unexpected query \"depth\""),
            ("?submodules=maybe", "invalid submodules value: \"maybe\""),
            ("?mtime=now", "invalid mtime value: \"now\""),
            (
                "?commit=main",
                "invalid checksum \"main\": a commit is named by hex digits",
            ),
        ];
        for (query, expected) in table {
            let expected = expected.replace("git R", "git https://h/r.git");
            assert_eq!(
                shown(&format!("https://h/r.git{query}")),
                expected,
                "{query}"
            );
        }
    }
}
