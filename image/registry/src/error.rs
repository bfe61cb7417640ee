//! What can go wrong between here and a registry.

use std::path::PathBuf;

use oci::{Digest, Platform};

use crate::http::HttpError;

/// Why a registry did not give or take what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such tag or digest.
    #[error("manifest for `{reference}` not found: manifest unknown")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The registry wants other credentials than there are, or hides that there is nothing.
    #[error(
        "access to `{repository}` denied: repository does not exist or may require `rbuild login`"
    )]
    Denied {
        /// The full repository name.
        repository: String,
    },
    /// The realm refused the credentials.
    #[error("`{realm}` refuses the credentials for `{registry}`")]
    Login {
        /// Who refused.
        realm: String,
        /// For whom.
        registry: String,
    },
    /// A realm that may not be told credentials.
    #[error(
        "the registry `{registry}` sends to `{realm}` for tokens, which does not belong to it: credentials are not sent there, and without them it gives none"
    )]
    ForeignRealm {
        /// Who sends.
        registry: String,
        /// Where to.
        realm: String,
    },
    /// An index without the platform.
    #[error("no matching manifest for {platform} in `{reference}`; it has {available}")]
    NoPlatform {
        /// What was asked for.
        reference: String,
        /// For what.
        platform: Box<Platform>,
        /// What there is, with commas between.
        available: String,
    },
    /// The bytes are not those that the digest names.
    #[error("the registry sent other bytes for `{wanted}`: their digest is `{got}`")]
    DigestMismatch {
        /// What was asked for.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// More bytes than announced or allowed.
    #[error("`{what}` is larger than the {limit} bytes it may have")]
    TooLarge {
        /// What was read.
        what: String,
        /// How much it may have.
        limit: u64,
    },
    /// A manifest that can be read in two ways, or in none.
    #[error("the manifest of `{reference}` cannot be used: {why}")]
    BadManifest {
        /// What was asked for.
        reference: String,
        /// What is the matter.
        why: String,
    },
    /// The registry answered with an error of its own.
    #[error("`{url}` answers {status}{message}")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words, after a colon; empty where it said nothing.
        message: String,
    },
    /// The registry broke the protocol.
    #[error("`{url}` does not speak the registry protocol: {why}")]
    Protocol {
        /// What was asked.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The credentials could not be read.
    #[error("cannot read the credentials for `{registry}`: {why}")]
    Credentials {
        /// For whom.
        registry: String,
        /// What is wrong.
        why: String,
    },
    /// A registry that cannot be searched.
    #[error("`{registry}` cannot be searched: it has no search as Docker Hub has")]
    NoSearch {
        /// Which.
        registry: String,
    },
    /// The certificates for a registry cannot be used.
    #[error("the certificates for `{registry}` cannot be used: `{}`: {why}", .path.display())]
    Certificates {
        /// For whom.
        registry: String,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
}
