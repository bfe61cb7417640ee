//! Credentials kept and forgotten: what `login` and `logout` do to docker's configuration.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::credentials::key;
use crate::{Credential, DockerConfig};

/// The largest configuration that is read.
const MAX_FILE: u64 = 8 << 20;
/// The user name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";

/// Where a credential is kept now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the configuration itself, where whoever can read the file can read it.
    File(PathBuf),
    /// By a helper program, `docker-credential-NAME`.
    Helper(String),
}

/// Why a credential is not kept, or not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Nobody knows where the configuration is.
    #[error("there is no home directory for docker's configuration; set DOCKER_CONFIG")]
    NoHome,
    /// The configuration cannot be read or written.
    #[error("cannot use docker's configuration `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration is none. It is left as it is.
    #[error("docker's configuration `{path}` is no JSON object of the usual form")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The helper does not run, or refuses.
    #[error("`docker-credential-{helper}` does not {action} the credentials: {why}")]
    Helper {
        /// Its name.
        helper: String,
        /// `store` or `erase`
        action: &'static str,
        /// What happened.
        why: String,
    },
}

impl DockerConfig {
    /// Keeps a credential for a registry, where docker would.
    ///
    /// # Errors
    /// If neither the file nor the helper that it names takes it.
    pub fn keep(&self, registry: &str, credential: &Credential) -> Result<Kept, KeepError> {
        let mut file = ConfigFile::read()?;
        let (user, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
        };
        let key = key(registry);
        if let Some(helper) = file.helper(key) {
            let entry = json!({ "ServerURL": key, "Username": user, "Secret": secret });
            ask(&helper, "store", &entry.to_string())?;
            // Docker leaves a mark there, and so does everybody who lists what there is.
            file.auths()?.insert(key.to_owned(), json!({}));
            file.write()?;
            return Ok(Kept::Helper(helper));
        }
        let entry = match credential {
            Credential::Password { user, password } => {
                json!({ "auth": BASE64.encode(format!("{user}:{password}")) })
            }
            Credential::IdentityToken(token) => {
                json!({ "auth": BASE64.encode(format!("{TOKEN_USER}:")), "identitytoken": token })
            }
        };
        file.auths()?.insert(key.to_owned(), entry);
        file.write()?;
        Ok(Kept::File(file.path))
    }

    /// Forgets the credential for a registry; returns whether there was one.
    ///
    /// # Errors
    /// If the file cannot be changed or the helper does not forget.
    pub fn forget(&self, registry: &str) -> Result<bool, KeepError> {
        let mut file = ConfigFile::read()?;
        let key = key(registry);
        let helped = file.helper(key);
        let forgotten = match &helped {
            Some(helper) => ask(helper, "erase", key).is_ok(),
            None => false,
        };
        let marked =
            file.document.contains_key("auths") && file.auths()?.shift_remove(key).is_some();
        if marked {
            file.write()?;
        }
        Ok(marked || forgotten)
    }

    /// Where docker's configuration is.
    pub fn path(&self) -> Option<PathBuf> {
        let directory = match std::env::var_os("DOCKER_CONFIG").filter(|it| !it.is_empty()) {
            Some(directory) => PathBuf::from(directory),
            None => Path::new(&std::env::var_os("HOME")?).join(".docker"),
        };
        Some(directory.join("config.json"))
    }
}

/// Docker's configuration, with all that is of no interest here.
struct ConfigFile {
    path: PathBuf,
    document: Map<String, Value>,
}

impl ConfigFile {
    fn read() -> Result<Self, KeepError> {
        let path = DockerConfig.path().ok_or(KeepError::NoHome)?;
        let text = match fs::File::open(&path) {
            Ok(file) => io::read_to_string(io::Read::take(file, MAX_FILE)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("{}".to_owned()),
            Err(error) => Err(error),
        };
        let text = text.map_err(|source| KeepError::File {
            path: path.clone(),
            source,
        })?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(document)) => Ok(Self { path, document }),
            _ => Err(KeepError::Malformed { path }),
        }
    }

    fn helper(&self, key: &str) -> Option<String> {
        let own = self.document.get("credHelpers").and_then(|it| it.get(key));
        let helper = own.or_else(|| self.document.get("credsStore"));
        let helper = helper.and_then(Value::as_str).filter(|it| !it.is_empty());
        helper.map(str::to_owned)
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, KeepError> {
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        let malformed = KeepError::Malformed {
            path: self.path.clone(),
        };
        auths.as_object_mut().ok_or(malformed)
    }

    /// Whole or not at all, and for nobody else's eyes.
    fn write(&self) -> Result<(), KeepError> {
        let failed = |source| KeepError::File {
            path: self.path.clone(),
            source,
        };
        // Where the file is a link, what it leads to is changed.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(directory) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(directory).map_err(failed)?;
        }
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".{}", std::process::id()));
        let aside = PathBuf::from(aside);
        let text = serde_json::to_string_pretty(&self.document).unwrap_or_default() + "\n";
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&aside);
            failed(source)
        })
    }
}

/// Has a helper program do something with `input`.
fn ask(helper: &str, action: &'static str, input: &str) -> Result<(), KeepError> {
    let failed = |why: String| KeepError::Helper {
        helper: helper.to_owned(),
        action,
        why,
    };
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why it ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| !line.trim().is_empty());
    Err(failed(line.map_or_else(
        || output.status.to_string(),
        |line| line.trim().to_owned(),
    )))
}
