//! Speaks to registries: resolves names, brings and takes manifests and blobs.
//!
//! Vocabulary: a [`Client`] speaks for one person, whose [`Credentials`] it asks when a registry
//! wants them. A *challenge* is a registry's `WWW-Authenticate`; a *token* is what its *realm* gives
//! for credentials. A name is *resolved* to the descriptor and bytes of its manifest; a *blob* is
//! read through [`BlobReader`], which goes on where a broken connection stopped, and whose bytes
//! count only once it has ended without an error: size and digest are checked there.
//!
//! Follows the OCI distribution specification. Credentials never leave for another origin than the
//! registry's own or a realm that belongs to it, and never by a weaker scheme.

mod auth;
mod blob;
mod certificates;
mod client;
mod credentials;
mod error;
pub mod http;
mod keep;
mod manifest;
mod push;
mod search;
mod settings;
mod tags;

pub use blob::BlobReader;
pub use client::Client;
pub use credentials::{Credential, Credentials, DockerConfig};
pub use error::RegistryError;
pub use http::{Socket, SocketError};
pub use keep::{KeepError, Kept};
pub use manifest::{Document, FetchedManifest};
pub use push::{Content, Pushed, Upload};
pub use search::{SearchResult, split_term};
pub use settings::{Mirror, RegistrySettings, Settings, SettingsError};
