//! What the person who builds lends to the build: secrets and agents.

use std::path::{Path, PathBuf};

use engine::{AgentFrom, KeyError, Keys};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::spec::fields;

/// The largest secret, as BuildKit has it.
const MAX_SECRET: u64 = 500 * 1024;

/// Reads one `--secret` into its id and its value. What is missing is said now and not in the
/// middle of the build.
pub(crate) fn secret(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, Vec<u8>), Fault> {
    let spec = SecretSpec::parse(text)?;
    let value = match (spec.variable, spec.file) {
        (Some(name), _) => value_of(&spec.id, &name, variable)?,
        (None, Some(path)) => read(&spec.id, Path::new(&path))?,
        // Nothing said: the variable of that name, else the file of that name.
        (None, None) => match variable(&spec.id) {
            Some(value) => value.into_bytes(),
            None => read(&spec.id, Path::new(&spec.id))?,
        },
    };
    Ok((spec.id, value))
}

/// What one `--secret` says.
struct SecretSpec {
    id: String,
    variable: Option<String>,
    file: Option<String>,
}

impl SecretSpec {
    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |why: String| Fault::usage(format!("`--secret {text}` {why}")).hint(SECRET);
        let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
        for (key, value) in fields(text).map_err(|error| Fault::usage(error.to_string()))? {
            match (key.as_str(), value) {
                ("id", Some(value)) => id = Some(value),
                ("type", Some(value)) => kind = Some(value),
                ("src" | "source", Some(value)) => source = Some(value),
                ("env", Some(value)) => variable = Some(value),
                _ => return Err(wrong(format!("has an unknown field `{key}`"))),
            }
        }
        let id = id.ok_or_else(|| wrong("has no id".to_owned()))?;
        match kind.as_deref() {
            None => Ok(Self {
                variable,
                file: source,
                id,
            }),
            Some("file") => Ok(Self {
                variable: None,
                file: source.or_else(|| Some(id.clone())),
                id,
            }),
            // `src` names the variable then.
            Some("env") => Ok(Self {
                variable: variable.or(source).or_else(|| Some(id.clone())),
                file: None,
                id,
            }),
            Some(kind) => Err(wrong(format!("has the type `{kind}`; it is file or env"))),
        }
    }
}

/// Reads one `--ssh` into its id and an agent: `default` is the agent that runs, `ID=SOCKET` another,
/// and for `ID=KEY[,KEY]` rbuild is one.
pub(crate) fn agent(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, AgentFrom), Fault> {
    let wrong = |why: String| Fault::usage(format!("`--ssh {text}`: {why}"));
    let (id, rest) = text.split_once('=').unwrap_or((text, ""));
    if id.contains('/') {
        return Err(wrong("no id stands before the path".to_owned())
            .hint(format!("write --ssh default={text}")));
    }
    let is_option = |it: &&str| it.starts_with("raw=");
    let (options, paths): (Vec<_>, Vec<_>) = rest
        .split(',')
        .filter(|it| !it.is_empty())
        .partition(is_option);
    let is_raw = match options[..] {
        [] | ["raw=false"] => false,
        ["raw=true"] => true,
        _ => {
            return Err(wrong(
                "`raw` is true or false, and stands there once".to_owned(),
            ));
        }
    };
    let mut paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
    if paths.is_empty() {
        let running = variable("SSH_AUTH_SOCK").filter(|it| !it.is_empty());
        let running = running.ok_or_else(|| {
            wrong("no agent runs here".to_owned())
                .hint("start one with ssh-agent, or write --ssh ID=SOCKET or --ssh ID=KEY")
        })?;
        paths.push(running.into());
        if !is_socket(&paths[0]) {
            let there = paths[0].display();
            return Err(wrong(format!(
                "$SSH_AUTH_SOCK is `{there}`, which is no socket"
            )));
        }
    }
    let socket = paths.iter().find(|it| is_socket(it)).cloned();
    let from = match (socket, is_raw) {
        (Some(socket), _) if paths.len() > 1 => {
            let socket = socket.display();
            return Err(wrong(format!(
                "`{socket}` is a socket, and a socket stands alone"
            )));
        }
        (Some(socket), false) => AgentFrom::Socket(socket),
        (Some(socket), true) => AgentFrom::Raw(socket),
        (None, true) => return Err(wrong("with `raw` it is a socket that is needed".to_owned())),
        (None, false) => AgentFrom::Keys(Keys::read(&paths).map_err(|it| unusable(text, it))?),
    };
    let id = if id.is_empty() { "default" } else { id };
    Ok((id.to_owned(), from))
}

/// Says what to do about a key that cannot be used.
fn unusable(text: &str, error: KeyError) -> Fault {
    let hint = match &error {
        KeyError::Encrypted { path } => Some(format!(
            "give it to an agent with `ssh-add {}`, and write --ssh with the id alone",
            path.display()
        )),
        KeyError::Form { path } => Some(format!(
            "`ssh-keygen -p -f {}` writes an older key anew",
            path.display()
        )),
        _ => None,
    };
    let fault = anyhow::Error::from(error).context(format!("`--ssh {text}`"));
    let fault = Fault::from(fault).exit(Exit::Usage);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

const SECRET: &str = "write --secret id=ID, id=ID,src=FILE or id=ID,env=VARIABLE";

fn value_of(
    id: &str,
    name: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<u8>, Fault> {
    let value = variable(name)
        .ok_or_else(|| Fault::usage(format!("secret `{id}`: the variable `{name}` is not set")))?;
    Ok(value.into_bytes())
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, Fault> {
    let failed = |source| {
        Fault::from(
            anyhow::Error::from(source)
                .context(format!("secret `{id}`: cannot read `{}`", path.display())),
        )
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_SECRET {
        return Err(Fault::usage(format!(
            "secret `{id}`: `{}` is larger than 500 KiB",
            path.display()
        )));
    }
    std::fs::read(path).map_err(failed)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        [("TOKEN", "from the variable"), ("both", "variable")]
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "from the file").unwrap();
        let file = file.display();
        let secret = |text: &str| match secret(text, variable) {
            Ok((_, value)) => String::from_utf8(value).unwrap(),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        };
        let table = [
            (format!("id=x,src={file}"), "from the file"),
            (format!("type=file,id=x,source={file}"), "from the file"),
            ("id=x,env=TOKEN".to_owned(), "from the variable"),
            ("type=env,id=x,src=TOKEN".to_owned(), "from the variable"),
            ("id=both".to_owned(), "variable"),
            (
                "id=x,env=MISSING".to_owned(),
                "error: secret `x`: the variable `MISSING` is not set",
            ),
            (
                "id=x,src=/missing".to_owned(),
                "error: secret `x`: cannot read `/missing`: No such file or directory",
            ),
            ("src=/x".to_owned(), "error: `--secret src=/x` has no id"),
            (
                "id=x,typ=env".to_owned(),
                "error: `--secret id=x,typ=env` has an unknown field `typ`",
            ),
            (
                "id=x,type=vault".to_owned(),
                "error: `--secret id=x,type=vault` has the type `vault`; it is file or env",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(secret(&text), expected, "{text}");
        }
    }

    #[test]
    fn an_agent_is_a_socket_or_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for arguments in [
            ["-t", "ed25519", "-N", "", "-f", &path("key")],
            ["-t", "ecdsa", "-N", "open", "-f", &path("closed")],
        ] {
            let mut keygen = std::process::Command::new("ssh-keygen");
            let made = keygen.arg("-q").args(arguments).status();
            assert!(made.expect("openssh-client is installed").success());
        }
        std::fs::write(path("text"), "text").unwrap();
        let socket = path("socket");
        let variable = |name: &str| (name == "SSH_AUTH_SOCK").then(|| socket.clone());
        let words = |text: &str| {
            let text = text.replace('@', &path(""));
            let said = match agent(&text, variable) {
                Ok((id, AgentFrom::Keys(_))) => format!("{id}: keys"),
                Ok((id, from)) => format!("{id}: {from:?}"),
                Err(fault) => fault.words(),
            };
            said.replace(&path(""), "@")
        };
        let table = [
            ("default", "default: Socket(\"@socket\")"),
            ("=@socket", "default: Socket(\"@socket\")"),
            ("git=@socket,raw=true", "git: Raw(\"@socket\")"),
            ("git=@key", "git: keys"),
            ("git=@key,@key", "git: keys"),
            (
                "git=@key,@socket",
                "error: `--ssh git=@key,@socket`: `@socket` is a socket, and a socket stands alone",
            ),
            (
                "git=@key,raw=true",
                "error: `--ssh git=@key,raw=true`: with `raw` it is a socket that is needed",
            ),
            (
                "git=raw=maybe",
                "error: `--ssh git=raw=maybe`: `raw` is true or false, and stands there once",
            ),
            (
                "@key",
                "error: `--ssh @key`: no id stands before the path\nhint: write --ssh default=@key",
            ),
            (
                "git=@key.pub",
                "error: `--ssh git=@key.pub`: `@key.pub` is a public key, the private one is needed",
            ),
            (
                "git=@none",
                "error: `--ssh git=@none`: cannot read the key `@none`: No such file or directory",
            ),
            (
                "git=@closed",
                "error: `--ssh git=@closed`: the key `@closed` has a passphrase, and rbuild asks for none\n\
                             hint: give it to an agent with `ssh-add @closed`, and write --ssh with the id alone",
            ),
            (
                "git=@text",
                "error: `--ssh git=@text`: `@text` is no private key in OpenSSH's form\n\
                           hint: `ssh-keygen -p -f @text` writes an older key anew",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(words(text).trim_end(), expected, "{text}");
        }
        let alone = agent("default", |_| None).unwrap_err().words();
        assert!(alone.starts_with("error: `--ssh default`: no agent runs here\n"));
    }
}
