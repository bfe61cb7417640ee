//! What the person who builds lends to the build: secrets and agents.

use std::path::{Path, PathBuf};

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

/// Reads one `--ssh` into its id and a socket: `default` is the agent that runs, `ID=SOCKET` another.
pub(crate) fn agent(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, PathBuf), Fault> {
    let (id, socket) = text
        .split_once('=')
        .map_or((text, None), |(id, socket)| (id, Some(socket.to_owned())));
    let socket = socket
        .or_else(|| variable("SSH_AUTH_SOCK"))
        .filter(|it| !it.is_empty());
    let socket = socket.ok_or_else(|| {
        Fault::usage(format!("`--ssh {text}`: no agent runs here"))
            .hint("start one with ssh-agent, or write --ssh ID=SOCKET")
    })?;
    if !is_socket(Path::new(&socket)) {
        return Err(Fault::usage(format!(
            "`--ssh {text}`: `{socket}` is no socket; keys are not supported yet"
        )));
    }
    Ok((id.to_owned(), socket.into()))
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
    fn an_agent_is_a_socket() {
        let words = |text: &str| agent(text, |_| None).unwrap_err().words();
        assert!(words("default").starts_with("error: `--ssh default`: no agent runs here\n"));
        assert!(words("git=/etc/passwd").contains("is no socket"));
    }
}
