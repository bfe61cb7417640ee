//! Changes of a config, as `import --change` takes them: Dockerfile instructions without a build.

use oci::Config;
use oci::config::Empty;

/// One instruction that changes a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD`.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`.
    Entrypoint(Vec<String>),
    /// `ENV`, pairs in order.
    Env(Vec<(String, String)>),
    /// `EXPOSE`, each with its protocol.
    Expose(Vec<String>),
    /// `LABEL`, pairs in order.
    Label(Vec<(String, String)>),
    /// `ONBUILD`.
    OnBuild(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// Why a text is no [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another instruction, or none.
    #[error("`{0}` is not a valid change command")]
    Unknown(String),
    /// Nothing behind the instruction.
    #[error("{instruction} requires an argument")]
    Empty {
        /// The instruction.
        instruction: &'static str,
    },
    /// What stands behind the instruction cannot be read.
    #[error("{instruction}: {why}: `{text}`")]
    Malformed {
        /// The instruction.
        instruction: &'static str,
        /// What is wrong.
        why: &'static str,
        /// The text behind the instruction.
        text: String,
    },
}

impl Change {
    /// Reads one instruction. Words are split and unquoted as in a Dockerfile; variables are not
    /// expanded, because there is nothing to expand them from.
    pub fn parse(text: &str) -> Result<Self, ChangeError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim_start();
        let unknown = || ChangeError::Unknown(text.to_owned());
        let upper = word.to_ascii_uppercase();
        let instruction = INSTRUCTIONS
            .iter()
            .find(|it| **it == upper)
            .ok_or_else(unknown)?;
        if rest.is_empty() {
            return Err(ChangeError::Empty { instruction });
        }
        Ok(match *instruction {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs("ENV", rest)?),
            "EXPOSE" => Self::Expose(ports(rest)?),
            "LABEL" => Self::Label(pairs("LABEL", rest)?),
            "ONBUILD" => Self::OnBuild(rest.to_owned()),
            "STOPSIGNAL" => Self::StopSignal(rest.to_owned()),
            "USER" => Self::User(rest.to_owned()),
            "VOLUME" => Self::Volume(json_array(rest).map_or_else(|| words("VOLUME", rest), Ok)?),
            _ => Self::Workdir(one("WORKDIR", rest)?),
        })
    }

    /// Makes the change.
    pub fn apply(self, config: &mut Config) {
        match self {
            Self::Cmd(command) => config.cmd = Some(command),
            Self::Entrypoint(command) => config.entrypoint = Some(command),
            Self::Env(pairs) => pairs
                .iter()
                .for_each(|(name, value)| set_env(&mut config.env, name, value)),
            Self::Expose(ports) => config
                .exposed_ports
                .extend(ports.into_iter().map(|port| (port, Empty {}))),
            Self::Label(pairs) => config.labels.extend(pairs),
            Self::OnBuild(instruction) => config.on_build.push(instruction),
            Self::StopSignal(signal) => config.stop_signal = signal,
            Self::User(user) => config.user = user,
            Self::Volume(paths) => config
                .volumes
                .extend(paths.into_iter().map(|path| (path, Empty {}))),
            Self::Workdir(path) => config.working_dir = join(&config.working_dir, &path),
        }
    }
}

const INSTRUCTIONS: &[&str] = &[
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|it| it.split('=').next() == Some(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// A relative working directory continues the one before.
fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The exec form, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    json_array(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn json_array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn ports(text: &str) -> Result<Vec<String>, ChangeError> {
    let port = |word: String| {
        let (number, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let is_port = number.parse::<u16>().is_ok_and(|it| it > 0);
        if is_port && matches!(protocol, "tcp" | "udp" | "sctp") {
            return Ok(format!("{number}/{protocol}"));
        }
        Err(ChangeError::Malformed {
            instruction: "EXPOSE",
            why: "not of the form `port[/protocol]`",
            text: word,
        })
    };
    words("EXPOSE", text)?.into_iter().map(port).collect()
}

/// `name=value` pairs, or the old form of one name and the rest of the line.
fn pairs(instruction: &'static str, text: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let malformed = |why| ChangeError::Malformed {
        instruction,
        why,
        text: text.to_owned(),
    };
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| malformed("must have two arguments"))?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(malformed("a name is empty")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(malformed("not of the form `name=value`")),
    };
    words(instruction, text)?.into_iter().map(pair).collect()
}

fn one(instruction: &'static str, text: &str) -> Result<String, ChangeError> {
    let mut words = words(instruction, text)?;
    match words.len() {
        1 => Ok(words.remove(0)),
        _ => Err(ChangeError::Malformed {
            instruction,
            why: "requires exactly one argument",
            text: text.to_owned(),
        }),
    }
}

/// Splits at blanks outside of quotes and takes quotes and backslashes away.
fn words(instruction: &'static str, text: &str) -> Result<Vec<String>, ChangeError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(ChangeError::Malformed {
            instruction,
            why: "a quote is not closed",
            text: text.to_owned(),
        });
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> String {
        let mut config = Config::default();
        changes
            .iter()
            .for_each(|text| Change::parse(text).unwrap().apply(&mut config));
        serde_json::to_string(&config).unwrap()
    }

    #[test]
    fn instructions_change_the_config() {
        let table: &[(&[&str], &str)] = &[
            (&[r#"CMD ["sh", "-l"]"#], r#"{"Cmd":["sh","-l"]}"#),
            (&["cmd echo hi"], r#"{"Cmd":["/bin/sh","-c","echo hi"]}"#),
            (&[r#"ENTRYPOINT ["/init"]"#], r#"{"Entrypoint":["/init"]}"#),
            (
                &[r#"ENV A=1 B="two words" C=x\ y"#, "ENV A=2"],
                r#"{"Env":["A=2","B=two words","C=x y"]}"#,
            ),
            (
                &["ENV PATH /bin:/usr/bin"],
                r#"{"Env":["PATH=/bin:/usr/bin"]}"#,
            ),
            (
                &["EXPOSE 80 53/udp"],
                r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{}}}"#,
            ),
            (&["LABEL a=b", "LABEL a='c d'"], r#"{"Labels":{"a":"c d"}}"#),
            (
                &["VOLUME /a /b", r#"VOLUME ["/c"]"#],
                r#"{"Volumes":{"/a":{},"/b":{},"/c":{}}}"#,
            ),
            (
                &["WORKDIR /srv", "WORKDIR app/../www"],
                r#"{"WorkingDir":"/srv/www"}"#,
            ),
            (
                &["USER 10:10", "STOPSIGNAL SIGQUIT"],
                r#"{"User":"10:10","StopSignal":"SIGQUIT"}"#,
            ),
            (&["ONBUILD RUN true"], r#"{"OnBuild":["RUN true"]}"#),
        ];
        for (changes, config) in table {
            assert_eq!(changed(changes), *config, "{changes:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_one_sentence() {
        let table = [
            ("RUN true", "`RUN true` is not a valid change command"),
            ("", "`` is not a valid change command"),
            ("ENV", "ENV requires an argument"),
            ("ENV A", "ENV: must have two arguments: `A`"),
            ("ENV A=1 B", "ENV: not of the form `name=value`: `A=1 B`"),
            ("LABEL =x", "LABEL: a name is empty: `=x`"),
            ("EXPOSE 0", "EXPOSE: not of the form `port[/protocol]`: `0`"),
            ("WORKDIR 'a", "WORKDIR: a quote is not closed: `'a`"),
        ];
        for (text, sentence) in table {
            assert_eq!(Change::parse(text).unwrap_err().to_string(), sentence);
        }
    }
}
