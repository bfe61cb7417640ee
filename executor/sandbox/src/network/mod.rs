//! Network namespaces from which the outside can be reached, without ever being the host's.
//!
//! A *lease* is one namespace for one user, taken from a pool and given back when the [`Lease`] is
//! dropped. The way out is a bridge of its own with address translation; where that cannot be,
//! `slirp4netns`, a network stack in user space; where that cannot be either, nothing, and the
//! lease says why.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Gives out namespaces. One for a process is enough; several processes share the bridge.
#[derive(Debug)]
pub struct Networks {
    state: std::path::PathBuf,
}

impl Networks {
    /// Keeps its locks and address leases in `state`, a directory that is made when needed.
    ///
    /// Touches nothing before the first [`lease`](Networks::lease).
    pub fn new(state: &Path) -> Networks {
        Networks {
            state: state.to_owned(),
        }
    }

    /// A namespace that no other user has. Where the outside cannot be reached from one, the lease says so.
    pub fn lease(&self) -> Result<Lease, LeaseError> {
        Err(LeaseError {
            what: self.state.display().to_string(),
            source: io::ErrorKind::Unsupported.into(),
        })
    }
}

/// A namespace for one user at a time.
#[derive(Debug)]
pub struct Lease {
    namespace: OwnedFd,
    reach: Reach,
    resolv_conf: Vec<u8>,
}

impl Lease {
    /// The namespace, for [`Network::Namespace`](crate::Network::Namespace).
    pub fn namespace(&self) -> io::Result<OwnedFd> {
        self.namespace.as_fd().try_clone_to_owned()
    }

    /// How far it reaches.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The `/etc/resolv.conf` that is right inside.
    pub fn resolv_conf(&self) -> &[u8] {
        &self.resolv_conf
    }
}

/// How far a namespace reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The outside, through the bridge.
    Translated,
    /// The outside, through a network stack in user space, and why not through the bridge.
    UserSpace {
        /// Why there is no bridge.
        reason: String,
    },
    /// Only itself, and why.
    Nothing {
        /// Why neither way could be set up.
        reason: String,
    },
}

/// Not even a namespace without a way out could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a network namespace: {what}")]
pub struct LeaseError {
    what: String,
    source: io::Error,
}
