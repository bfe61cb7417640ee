//! Who we are, for each registry.

use docker_credential::{CredentialRetrievalError, DockerCredential};

use crate::RegistryError;

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a realm exchanges for others (OAuth 2's refresh token).
    IdentityToken(String),
}

/// Knows who we are.
pub trait Credentials: Send + Sync {
    /// The credential for a registry (`docker.io`, `localhost:5000`), `None` to stay anonymous.
    ///
    /// # Errors
    /// If there should be one but it cannot be had.
    fn find(&self, registry: &str) -> Result<Option<Credential>, RegistryError>;
}

/// Docker's own: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json` with its `auths`,
/// `credsStore` and `credHelpers`, then podman's `auth.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerConfig;

/// The key under which docker keeps Docker Hub's credential.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What docker calls a registry there.
pub(crate) fn key(registry: &str) -> &str {
    match registry {
        "docker.io" => DOCKER_HUB_KEY,
        other => other,
    }
}

impl Credentials for DockerConfig {
    fn find(&self, registry: &str) -> Result<Option<Credential>, RegistryError> {
        let key = key(registry);
        for look_up in [
            docker_credential::get_credential,
            docker_credential::get_podman_credential,
        ] {
            match look_up(key) {
                Ok(DockerCredential::UsernamePassword(user, password)) => {
                    return Ok(Some(Credential::Password { user, password }));
                }
                Ok(DockerCredential::IdentityToken(token)) => {
                    return Ok(Some(Credential::IdentityToken(token)));
                }
                Err(
                    CredentialRetrievalError::NoCredentialConfigured
                    | CredentialRetrievalError::ConfigNotFound
                    | CredentialRetrievalError::ConfigReadError,
                ) => {}
                Err(error) => {
                    let why = error.to_string();
                    if !why.contains("credentials not found") {
                        return Err(RegistryError::Credentials {
                            registry: registry.to_owned(),
                            why,
                        });
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Nobody.
impl Credentials for () {
    fn find(&self, _registry: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(None)
    }
}
