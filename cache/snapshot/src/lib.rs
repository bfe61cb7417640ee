//! Layers as directories: mounted over each other, committed, packed, unpacked, compared.
//!
//! Vocabulary: a *layer* is what one step changed, kept in place as an overlay upper directory. A
//! *snapshot* is a committed layer on top of its parent; a *chain* is a snapshot and all below it;
//! *scratch* is the chain without layers, written `None`. A *whiteout* is the mark a layer leaves where
//! it removed something, an *opaque* directory hides the one below. A *tree manifest* ([`Tree`]) lists
//! what one layer holds, with digests; it is made once, at commit, and checksums of any part of a chain
//! come from the manifests alone.
//!
//! The life of a layer: [`Snapshots::prepare`] gives an [`Active`] one, writable through
//! [`Active::mount`] or, without a mount, through [`Active::layer`]; [`Active::commit`] makes it a
//! snapshot; dropping it instead forgets it. [`Snapshots::apply`] makes a snapshot from an OCI layer
//! tar, [`Snapshots::diff`] the tar from a snapshot. A large tar is not even unpacked where the kernel
//! can mount it as it is: the layer stays [*packed*](Received).
//!
//! Trees that somebody else filled are only entered through a [`Root`] or a [`Layer`]: every path in
//! them is resolved by descriptor and cannot leave them.

mod accounts;
mod active;
mod apply;
mod archive;
mod checksum;
mod clamp;
mod copies;
mod diff;
mod erofs;
mod files;
mod floor;
pub mod layer;
mod local;
mod mount;
pub mod overlay;
pub mod owner;
mod packed;
pub mod pattern;
mod recover;
mod root;
mod snapshots;
pub mod source;
mod stack;
mod tree;
mod unpack;
mod walk;

pub use accounts::{Account, AccountError, Accounts};
pub use active::Active;
pub use apply::ApplyError;
pub use archive::{Archive, ArchiveError, Member, MemberKind, is_archive};
pub use checksum::{ChecksumError, Select, SelectCopy};
pub use clamp::ClampError;
pub use diff::{DiffError, DiffInfo};
pub use files::{FilesError, Plain};
pub use layer::Layer;
pub use local::Local;
pub use mount::Mounting;
pub use packed::{Packing, Received};
pub use pattern::{Matcher, PatternError, Patterns};
pub use root::{METADATA_FILE_LIMIT, Root};
pub use snapshots::{SnapshotError, Snapshots};
pub use store::{SnapshotId, SnapshotRow};
pub use tree::{
    Change, Count, Counting, Effect, Entry, How, Kind, Merged, Tree, TreeError, Xattr, content_key,
};
pub use unpack::{Rules, Unpack, UnpackError, UnpackLimits, unpack};
pub use walk::{WalkError, survey};

use source::{Lookup, is_absence};
