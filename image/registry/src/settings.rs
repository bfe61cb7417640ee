//! How registries are reached: what the machine's and the person's configuration files say.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Limits;
use serde::Deserialize;
use url::Url;

use crate::http::Retry;

/// The largest configuration file that is read.
const MAX_FILE: u64 = 1 << 20;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// By registry (`host[:port]`): those that need more than being asked.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// How often and how patiently a request is tried again.
    pub retry: Retry,
    /// How much is too much.
    pub limits: Limits,
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Who is asked for images before it, in this order. Never given anything.
    pub mirrors: Vec<Mirror>,
    /// Whether it may be spoken to in plain http where nothing speaks TLS. Those on this machine's
    /// loopback always may.
    pub http: bool,
    /// Whether any certificate of it is believed; that it is who it says, then, nobody knows.
    pub insecure: bool,
    /// Further hosts that may be told its credentials when it sends there for tokens.
    pub realms: Vec<String>,
    /// A directory of certificates like those in `/etc/docker/certs.d`, in their place.
    pub certificates: Option<PathBuf>,
}

/// Somebody who has the images of a registry: `host[:port][/path]`, before it perhaps `http://`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror {
    /// `host[:port]`
    pub host: String,
    /// What stands before the repository's name, with a `/` at its end; mostly nothing.
    pub path: String,
    /// Whether it is spoken to in plain http.
    pub http: bool,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read the configuration `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says something else than a configuration says.
    #[error("the configuration `{path}` cannot be used: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, RegistrySettings>,
    #[serde(default)]
    transfer: Transfer,
    #[serde(default)]
    limits: LimitWords,
}

/// `[transfer]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    attempts: Option<NonZeroU32>,
    stall: Option<Seconds>,
}

/// `[limits]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitWords {
    manifest: Option<Amount>,
    config: Option<Amount>,
    layers: Option<Amount>,
    members: Option<Amount>,
    indices: Option<Amount>,
    layer: Option<Amount>,
    files: Option<Amount>,
    depth: Option<Amount>,
    ratio: Option<Amount>,
}

/// A number, or a size as `64m`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Word")]
struct Amount(u64);

/// A time as `90s` or `2m`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Seconds(Duration);

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Text(String),
}

impl TryFrom<Word> for Amount {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Number(number) => Ok(Self(number)),
            Word::Text(text) => oci::size(&text).map(Self),
        }
    }
}

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time: Option<jiff::SignedDuration> = text.parse().ok();
        let time = time.and_then(|it| Duration::try_from(it).ok());
        time.filter(|it| *it >= Duration::from_secs(1))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no time of at least a second; write 90s or 2m"))
    }
}

impl File {
    /// What it says of transfers and limits, over what was said before.
    fn settle(&self, settings: &mut Settings) {
        let (retry, limits, words) = (&mut settings.retry, &mut settings.limits, &self.limits);
        if let Some(attempts) = self.transfer.attempts {
            retry.attempts = attempts.get();
        }
        if let Some(stall) = self.transfer.stall {
            retry.stall = stall.0;
        }
        let pairs = [
            (&mut limits.manifest, words.manifest),
            (&mut limits.config, words.config),
            (&mut limits.layers, words.layers),
            (&mut limits.members, words.members),
            (&mut limits.indices, words.indices),
            (&mut limits.layer, words.layer),
            (&mut limits.files, words.files),
            (&mut limits.depth, words.depth),
            (&mut limits.ratio, words.ratio),
        ];
        for (limit, word) in pairs {
            *limit = word.map_or(*limit, |it| it.0);
        }
    }
}

impl Settings {
    /// What the files of `paths` say, those that are there; what a later one says of a registry
    /// replaces what an earlier one does.
    ///
    /// # Errors
    /// If a file is there but cannot be read or understood.
    pub fn read(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for path in paths {
            if let Some(file) = read(&path)? {
                file.settle(&mut settings);
                settings.registries.extend(file.registry);
            }
        }
        Ok(settings)
    }

    /// Lets a registry be spoken to in plain http, and believes its certificate if it has one.
    pub fn allow_insecure(&mut self, registry: &str) {
        let registry = self.registries.entry(registry.to_owned()).or_default();
        (registry.http, registry.insecure) = (true, true);
    }
}

fn read(path: &Path) -> Result<Option<File>, SettingsError> {
    let text = match read_limited(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(SettingsError::Read { path, source });
        }
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.as_bytes().iter().take(span.start);
            1 + before.filter(|byte| **byte == b'\n').count()
        });
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        let why = error.message().replace('\n', " ");
        SettingsError::Malformed {
            path: path.to_owned(),
            why: format!("{line}{why}"),
        }
    })
}

fn read_limited(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    io::read_to_string(io::Read::take(file, MAX_FILE))
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("the mirror `{text}` is not of the form `host[:port][/path]`");
        let (http, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text.as_str()),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = Url::parse(&format!("https://{host}/")).map_err(|_| wrong())?;
        let is_bare = address.username().is_empty() && address.path() == "/";
        let path = path.trim_matches('/');
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        if !is_bare || !path.bytes().all(is_path) || path.split('/').any(|it| it == "..") {
            return Err(wrong());
        }
        let path = match path {
            "" => String::new(),
            path => format!("{path}/"),
        };
        Ok(Self {
            host: host.to_owned(),
            path,
            http,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let read = Settings::read([directory.path().join("missing"), path]);
        read.map_err(|error| {
            let shown = error.to_string();
            shown.split_once("cannot be used: ").unwrap().1.to_owned()
        })
    }

    #[test]
    fn a_file_says_how_registries_are_reached() {
        let settings = parsed(
            "[registry.\"docker.io\"]\nmirrors = [\"mirror.lan:5000/hub\", \"http://10.0.0.1\"]\n[registry.\"plain.lan\"]\nhttp = true\n",
        )
        .unwrap();
        let hub = &settings.registries["docker.io"];
        let drawn: Vec<_> = hub
            .mirrors
            .iter()
            .map(|it| format!("{} {} {}", it.host, it.path, it.http))
            .collect();
        assert_eq!(drawn, ["mirror.lan:5000 hub/ false", "10.0.0.1  true"]);
        assert!(
            settings.registries["plain.lan"].http && !settings.registries["plain.lan"].insecure
        );
    }

    #[test]
    fn a_file_says_how_much_is_too_much_and_how_long_too_long() {
        let settings = parsed(
            "[limits]\nlayer = \"2g\"\nlayers = 20\n[transfer]\nstall = \"90s\"\nattempts = 2\n",
        )
        .unwrap();
        let expected = Limits {
            layer: 2 << 30,
            layers: 20,
            ..Limits::default()
        };
        assert_eq!(settings.limits, expected);
        assert_eq!(settings.retry.attempts, 2);
        assert_eq!(settings.retry.stall, Duration::from_secs(90));
    }

    #[test]
    fn what_it_may_not_say_is_told_with_its_line() {
        let table = [
            (
                "[registry.x]\nmirors = []\n",
                "line 2: unknown field `mirors`",
            ),
            ("\n\n[registries.x]\n", "line 3: unknown field `registries`"),
            (
                "[registry.x]\nmirrors = [\"a b\"]\n",
                "the mirror `a b` is not of the form `host[:port][/path]`",
            ),
            (
                "[registry.x]\nmirrors = [\"a/../b\"]\n",
                "the mirror `a/../b`",
            ),
            ("[limits]\nlayer = \"big\"\n", "line 2: `big` is no size"),
            ("[limits]\nfiles = -1\n", "line 2: "),
            ("[limits]\nlayrs = 1\n", "line 2: unknown field `layrs`"),
            (
                "[transfer]\nstall = \"0s\"\n",
                "is no time of at least a second",
            ),
            ("[transfer]\nattempts = 0\n", "line 2: "),
            ("x = \n", "line 1: "),
        ];
        for (text, expected) in table {
            let why = parsed(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
            assert!(!why.contains('\n'), "{why}");
        }
    }
}
