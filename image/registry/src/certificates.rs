//! Certificates of a registry's own, where docker and podman keep them: `ca.crt` and the like say
//! whom to believe, `NAME.cert` with `NAME.key` who we are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

use crate::http::system_certificates;
use crate::{RegistryError, RegistrySettings};

/// Where the machine's certificates are, by registry.
const DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];
/// The largest file of certificates that is read.
const MAX_FILE: u64 = 1 << 20;

/// How TLS is spoken with a registry that has certificates of its own; `None` where it has not.
///
/// # Errors
/// If there are some that cannot be used.
pub(crate) fn of(
    registry: &str,
    settings: Option<&RegistrySettings>,
) -> Result<Option<TlsConfig>, RegistryError> {
    let named = settings.and_then(|it| it.certificates.clone());
    let usual = || {
        let all = DIRECTORIES.iter().map(|it| Path::new(it).join(registry));
        all.filter(|it| it.is_dir()).collect()
    };
    let directories: Vec<PathBuf> = named.map_or_else(usual, |it| vec![it]);
    let mut found = Found::default();
    for directory in &directories {
        found
            .add(directory)
            .map_err(|(path, why)| RegistryError::Certificates {
                registry: registry.to_owned(),
                path,
                why,
            })?;
    }
    Ok((!directories.is_empty()).then(|| found.config()))
}

#[derive(Default)]
struct Found {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

type Problem = (PathBuf, String);

impl Found {
    fn add(&mut self, directory: &Path) -> Result<(), Problem> {
        let failed = |error: io::Error| (directory.to_owned(), error.to_string());
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        for path in &paths {
            match path.extension().and_then(|it| it.to_str()) {
                Some("crt") => self.authorities.extend(certificates(path)?),
                Some("cert") => {
                    let key = key(&path.with_extension("key"))?;
                    let own = ClientCert::new_with_certs(&certificates(path)?, key);
                    self.client = Some(own);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn config(self) -> TlsConfig {
        let roots = match &self.authorities[..] {
            [] => system_certificates(),
            own => RootCerts::new_with_certs(own),
        };
        TlsConfig::builder()
            .root_certs(roots)
            .client_cert(self.client)
            .build()
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Problem> {
    let mut all = Vec::new();
    for item in items(path)? {
        if let PemItem::Certificate(certificate) = item {
            all.push(certificate);
        }
    }
    match all.is_empty() {
        true => Err((path.to_owned(), "there is no certificate in it".to_owned())),
        false => Ok(all),
    }
}

fn key(path: &Path) -> Result<PrivateKey<'static>, Problem> {
    let found = items(path)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    found.ok_or_else(|| (path.to_owned(), "there is no private key in it".to_owned()))
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, Problem> {
    let failed = |why: String| (path.to_owned(), why);
    let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    ureq::tls::parse_pem(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(error.to_string()))
}
