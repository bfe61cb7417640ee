//! Images in and out: archives written and read, root file systems imported, chains of snapshots
//! made images.
//!
//! Vocabulary: an *archive* is a tar of whole images. Two kinds are about: the *OCI layout*
//! (`oci-layout`, `index.json`, `blobs/sha256/…`) and Docker's (`manifest.json` that names a config
//! and layers anywhere in the archive). What [`save`](save()) writes is both at once, over the same
//! blobs; [`load`](load()) reads either.
//!
//! An image's identity is the digest of its config, and the config names the layers by their
//! uncompressed bytes. So the same image may be written with any compression, and what is loaded
//! is compared with the config, never with what the archive says about itself.

mod ahead;
mod annotations;
mod attest;
mod change;
mod commit;
mod compress;
mod engines;
mod import;
mod load;
mod manifest;
mod origins;
mod pull;
mod push;
mod recover;
mod save;
pub mod sbom;
mod verify;

pub use annotations::{Annotated, Annotations};
pub use attest::{
    Attestations, Builder, ConfigSource, Invocation, Material, Mode, Predicate, Provenance, Steps,
    Version, keep as keep_attestations, package_url,
};
pub use change::{Change, ChangeError};
pub use commit::{CommitError, commit};
pub use compress::{Packer, Packing, decoder};
pub use engines::{Engine, Given, HandOverError, Handed, hand_over, reach};
pub use import::{ImportError, ImportOptions, import};
pub use load::{LoadError, Loaded, Pick, Uncatalogued, load, load_directory, load_layout};
pub use manifest::Described;
pub use oci::media_type::{Compression, MediaTypes};
pub use pull::{
    Asking, Blobs, LayerState, PullError, PullWatch, Pulled, RemoteImage, RemoteLayer, fetch,
    fetch_blob, fetch_layers, pull, resolve,
};
pub use push::{PackedLayer, Parcel, PushError, PushState, PushWatch, Pushing, There, push};
pub use recover::{RecoverError, Recovered, mend, recover};
pub use save::{Output, SaveError, SaveOptions, annotate, annotated_index, save};
pub use verify::misfits;
