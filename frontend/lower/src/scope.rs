//! What variables are worth.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockerfile_parser::words;

use crate::{Options, SOURCE_DATE_EPOCH};

/// Variables with their values, in the order in which they were first set (G42).
#[derive(Debug, Clone, Default)]
pub(crate) struct Env {
    /// `KEY=value`; who asks for them shares them until one is set.
    lines: Arc<Vec<String>>,
    positions: BTreeMap<String, usize>,
    /// See [`Self::size`].
    size: usize,
}

impl Env {
    /// The variables of `KEY=value` texts.
    pub(crate) fn from_lines(lines: &[String]) -> Self {
        let mut env = Self::default();
        for line in lines {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            env.set(key, value);
        }
        env
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let line = &self.lines[*self.positions.get(key)?];
        Some(&line[key.len() + 1..])
    }

    /// Sets `key`, in its old place where it has one.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let line = [key, "=", value].concat();
        self.size += size(&line);
        let lines = Arc::make_mut(&mut self.lines);
        if let Some(&position) = self.positions.get(key) {
            self.size -= size(&lines[position]);
            lines[position] = line;
            return;
        }
        self.positions.insert(key.to_owned(), lines.len());
        lines.push(line);
    }

    /// The names of the variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let key = |line: &'_ String| {
            line.split_once('=')
                .map_or(line.len(), |(key, _)| key.len())
        };
        self.lines.iter().map(move |line| &line[..key(line)])
    }

    /// `KEY=value` for each.
    pub(crate) fn lines(&self) -> &Arc<Vec<String>> {
        &self.lines
    }

    /// About how many bytes of memory [`Self::lines`] take.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

fn size(line: &str) -> usize {
    line.len() + 2 * size_of::<String>()
}

/// The variables that say for what and on what is built (A.7).
pub(crate) fn platform_args(options: &Options) -> Env {
    let mut env = Env::default();
    let mut platform = |prefix: &str, it: &oci::Platform| {
        env.set(&format!("{prefix}PLATFORM"), &it.to_string());
        env.set(&format!("{prefix}OS"), &it.os);
        env.set(&format!("{prefix}OSVERSION"), "");
        env.set(&format!("{prefix}ARCH"), &it.architecture);
        env.set(
            &format!("{prefix}VARIANT"),
            it.variant.as_deref().unwrap_or(""),
        );
    };
    platform("BUILD", &options.build_platform);
    platform("TARGET", &options.platform);
    env.set(
        "TARGETSTAGE",
        options
            .target
            .as_deref()
            .filter(|it| !it.is_empty())
            .unwrap_or("default"),
    );
    let overridden: Vec<(String, String)> = env
        .keys()
        .filter_map(|key| {
            options
                .build_args
                .get(key)
                .map(|value| (key.to_owned(), value.clone()))
        })
        .collect();
    for (key, value) in overridden {
        env.set(&key, &value);
    }
    env
}

/// Whether `name` is one of the proxy variables, which need no `ARG` and stay out of every key.
pub(crate) fn is_proxy(name: &str) -> bool {
    const PROXIES: [&str; 5] = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "FTP_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
    ];
    PROXIES.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// Whether `name` is a build-arg that speaks to the builder rather than to the Dockerfile.
pub(crate) fn is_control(name: &str) -> bool {
    name == SOURCE_DATE_EPOCH || name.starts_with("BUILDKIT_")
}

/// Whether an `ARG` of this name never becomes a variable of the environment.
pub(crate) fn is_never_env(name: &str) -> bool {
    matches!(
        name,
        "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE"
    )
}

/// How the words of one instruction are expanded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expander<'a> {
    /// What the variables are worth.
    pub(crate) env: &'a Env,
    /// The escape character of the file.
    pub(crate) escape: char,
}

impl Expander<'_> {
    /// One text from `word`, with the variables that had no value.
    pub(crate) fn word(&self, word: &str) -> Result<words::Expansion, words::ExpandError> {
        words::expand(
            word,
            &|name| self.env.get(name).map(str::to_owned),
            self.escape,
        )
    }

    /// Words from `word`, split at blanks.
    pub(crate) fn words(&self, word: &str) -> Result<words::Words, words::ExpandError> {
        words::expand_words(
            word,
            &|name| self.env.get(name).map(str::to_owned),
            self.escape,
        )
    }

    /// The body of a `COPY` heredoc.
    pub(crate) fn heredoc(&self, content: &str) -> Result<words::Expansion, words::ExpandError> {
        words::expand_heredoc(content, &|name| self.env.get(name).map(str::to_owned))
    }
}
