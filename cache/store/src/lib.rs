//! The one directory in which rbuild keeps everything: blobs, snapshots, what was built, images.
//!
//! ```text
//! db.sqlite            what is there: rows, no bytes
//! blobs/sha256/HEX     OCI blobs: configs, manifests, layer tars
//! snapshots/ID/fs      one layer's own files, an overlay upper directory kept in place; or, of a layer that
//!                      came from elsewhere, `tar`, and `index`, by which the kernel mounts it
//! snapshots/ID/tree    its tree manifest
//! mounts/HEX           cache mounts: directories that outlive builds
//! stat/HEX             what is known of files of the host, one file a directory
//! sources/HEX          mirrors of repositories, what servers answered last: hints
//! locks/               one file a key or cache mount that somebody works on
//! ids                  the user and group ids that files may have, where those are not all
//! tmp/OWNER/           work under way; OWNER/lock is held as long as the owner lives
//! ```
//!
//! Vocabulary. A *blob* is bytes named by their sha256. A *snapshot* is one layer on top of its
//! parent; the *chain* of a snapshot is it and all its ancestors. A *result* is what an operation
//! with a certain [`Key`] produced. An *owner* is one open [`Store`]. A *lease* keeps something
//! from being collected while its owner lives.
//!
//! Many processes use the directory at once and no daemon keeps it. Whatever becomes visible does
//! so by one rename and one database transaction around it.
//!
//! **Nothing is fsynced while a build runs.** Instead every row knows in which boot of the machine
//! it was written and whether the file system was synced since. A row of an earlier boot that was
//! never synced is *unverified*: no look-up returns it until someone has compared it with what it
//! should be. Blobs are compared here, at their first use; for snapshots see [`Store::unverified`].

mod blobs;
mod budget;
mod collect;
mod database;
mod durability;
mod error;
mod history;
pub mod ids;
mod images;
mod locks;
mod mounts;
mod open;
mod origins;
mod owner;
mod partial;
mod prune;
mod remover;
mod results;
mod snapshots;
mod sources;
mod usage;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rusqlite::Connection;

pub use blobs::BlobWriter;
pub use budget::{Budget, Removal};
pub use collect::Collected;
pub use error::StoreError;
pub use history::{Build, BuildRow, Failure, RanStep};
pub use images::{ImageRecord, ResolveError};
pub use locks::KeyLock;
pub use mounts::{CacheMount, Sharing};
pub use oci::Key;
pub use open::{OpenError, check_owner, default_root};
pub use origins::Origins;
pub use owner::{Lease, TmpDir};
pub use results::{Alike, Cached, Record, Spent};
pub use snapshots::{NewSnapshot, SnapshotId, SnapshotRow};
pub use usage::{Disk, Item, Stored};
pub use verify::Damage;

use owner::Owner;
use remover::Remover;

/// An open store. Clones share it; threads may use it at once.
///
/// Dropping the last clone ends its leases and removes its work directories. A process that dies
/// without doing so is cleaned up after by the next [`Store::open`].
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    /// The running boot of the machine, `/proc/sys/kernel/random/boot_id`.
    boot: String,
    connection: Mutex<Connection>,
    /// Claimed by the first need for a work directory or a lease.
    owner: Mutex<Option<Owner>>,
    /// Started by the first thing that somebody let go of.
    remover: OnceLock<Remover>,
}

impl Store {
    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let owner = self
            .owner
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let connection = self
            .connection
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(self.remover.take());
        if let Some(owner) = owner {
            owner.leave(connection);
        }
    }
}
