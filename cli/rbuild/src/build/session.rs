//! What the person who builds lends to the build: directories, secrets, agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::spec::fields;

/// The largest secret, as BuildKit has it.
const MAX_SECRET: u64 = 500 * 1024;

/// What is lent.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The build context.
    pub(crate) context: Option<PathBuf>,
    /// Values by id.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets by id.
    pub(crate) agents: BTreeMap<String, PathBuf>,
}

impl Session {
    /// Adds the secret of one `--secret`. Files and variables are read now: what is missing is said
    /// before the build, not in the middle of it.
    pub(crate) fn add_secret(
        &mut self,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Fault> {
        let (mut id, mut kind, mut source, mut name) = (None, None, None, None);
        for (key, value) in fields(text).map_err(|error| Fault::usage(error.to_string()))? {
            match (key.as_str(), value) {
                ("id", Some(value)) => id = Some(value),
                ("type", Some(value)) => kind = Some(value),
                ("src" | "source", Some(value)) => source = Some(value),
                ("env", Some(value)) => name = Some(value),
                _ => {
                    return Err(Fault::usage(format!(
                        "`--secret {text}` has an unknown field `{key}`"
                    ))
                    .hint(SECRET));
                }
            }
        }
        let id =
            id.ok_or_else(|| Fault::usage(format!("`--secret {text}` has no id")).hint(SECRET))?;
        let from_file = match kind.as_deref() {
            None | Some("file" | "env") => {
                kind.as_deref() == Some("file") || source.is_some() && kind.is_none()
            }
            Some(kind) => {
                return Err(Fault::usage(format!(
                    "`{kind}` is no type of secret; it is file or env"
                )));
            }
        };
        let value = match (
            name.or_else(|| source.clone().filter(|_| !from_file)),
            source,
        ) {
            (Some(name), _) => value_of(&id, &name, variable)?,
            (None, Some(path)) => read(&id, Path::new(&path))?,
            // Nothing said: the variable of that name, else the file of that name.
            (None, None) => match variable(&id).filter(|_| !from_file) {
                Some(value) => value.into_bytes(),
                None => read(&id, Path::new(&id))?,
            },
        };
        self.secrets.insert(id, value);
        Ok(())
    }

    /// Adds the agent of one `--ssh`: `default` is the one that runs, `ID=SOCKET` another.
    pub(crate) fn add_agent(
        &mut self,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Fault> {
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
        self.agents.insert(id.to_owned(), socket.into());
        Ok(())
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
        let secret = |text: &str| {
            let mut session = Session::default();
            match session.add_secret(text, variable) {
                Ok(()) => String::from_utf8(
                    session
                        .secrets
                        .remove("x")
                        .unwrap_or_else(|| session.secrets.remove("both").unwrap()),
                )
                .unwrap(),
                Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
            }
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
                "error: secret `x`: cannot read `/missing`: No such file or directory (os error 2)",
            ),
            ("src=/x".to_owned(), "error: `--secret src=/x` has no id"),
            (
                "id=x,typ=env".to_owned(),
                "error: `--secret id=x,typ=env` has an unknown field `typ`",
            ),
            (
                "id=x,type=vault".to_owned(),
                "error: `vault` is no type of secret; it is file or env",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(secret(&text), expected, "{text}");
        }
    }

    #[test]
    fn an_agent_is_a_socket() {
        let mut session = Session::default();
        let error = session.add_agent("default", |_| None).unwrap_err();
        assert!(
            error
                .words()
                .starts_with("error: `--ssh default`: no agent runs here\n"),
            "{}",
            error.words()
        );
        let error = session.add_agent("git=/etc/passwd", |_| None).unwrap_err();
        assert!(error.words().contains("is no socket"), "{}", error.words());
    }
}
