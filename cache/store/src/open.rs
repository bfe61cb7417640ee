//! Opening the store: which directory, whose, and what is left over in it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::Fault;
use crate::{Inner, Store, StoreError, database, ids, owner};

/// How the ids are called where none is missing.
const ALL_IDS: &str = "all";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `$RBUILD_ROOT`, `$XDG_DATA_HOME` nor `$HOME` says where the store is.
    #[error("no place for the store: set `RBUILD_ROOT` or `HOME`")]
    NoPlace,
    /// The path is taken by something else.
    #[error("the store's place `{root}` is not a directory")]
    NotADirectory {
        /// The store's directory.
        root: PathBuf,
    },
    /// Somebody else's directory. Files of two users in one store end in neither being able to use it.
    #[error("the store `{root}` belongs to user {owner}, not to user {user}")]
    WrongOwner {
        /// The store's directory.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asked.
        user: u32,
    },
    /// Written by an rbuild newer than this one.
    #[error(
        "the store `{root}` was written by a newer rbuild (schema {found}, this one knows {known})"
    )]
    Newer {
        /// The store's directory.
        root: PathBuf,
        /// The schema found.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// Made where other user or group ids were to be had: its files would belong to the wrong ones.
    #[error("the store `{root}` was made with other ids ({made}) than there are now ({now})")]
    OtherIds {
        /// The store's directory.
        root: PathBuf,
        /// The ids it was made with.
        made: String,
        /// Those there are.
        now: String,
    },
    /// As any operation may fail.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where the store is by default: `$RBUILD_ROOT`, else `/var/lib/rbuild` for root, else
/// `$XDG_DATA_HOME/rbuild`, which is `~/.local/share/rbuild` where unset.
///
/// To be asked before a user becomes root of a user namespace.
pub fn default_root() -> Result<PathBuf, OpenError> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    if let Some(root) = variable("RBUILD_ROOT") {
        return std::path::absolute(root).map_err(|_| OpenError::NoPlace);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/rbuild"));
    }
    let data = variable("XDG_DATA_HOME")
        .filter(|it| it.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("rbuild"))
        .ok_or(OpenError::NoPlace)
}

impl Store {
    /// Opens the store at `root`, creating it where there is none, and removes the work of
    /// processes that died.
    ///
    /// Costs well under a millisecond where nothing is left over.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let at = |error: Fault| OpenError::Store(error.at(root, "open"));
        claim_directory(root)?;
        check_ids(root, ids::maps().as_deref().unwrap_or(ALL_IDS))?;
        let connection = database::open(root)?;
        let boot_path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(boot_path)
            .map_err(Fault::file("read", boot_path))
            .map_err(at)?;
        let dead = owner::sweep(root, &connection).map_err(at)?;
        let inner = Inner {
            root: root.to_owned(),
            boot: boot.trim_end().to_owned(),
            connection: Mutex::new(connection),
            owner: Mutex::new(None),
            remover: OnceLock::new(),
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        if !dead.is_empty() {
            store.remove_leavings()?;
            owner::bury(&dead).map_err(at)?;
        }
        Ok(store)
    }
}

/// Makes sure that the store was made with the ids that there are now; a new one is, from now on.
fn check_ids(root: &Path, now: &str) -> Result<(), OpenError> {
    let file = root.join("ids");
    // Looked at first: whoever makes a store writes down its ids before anything else.
    let is_old = root.join("db.sqlite").exists();
    let failed = |what, source| OpenError::Store(StoreError::file(root, what, &file, source));
    let made = match fs::read_to_string(&file) {
        Ok(made) => made,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing to say about all ids; and any store that is there and has no such file has them.
            if !is_old && now != ALL_IDS {
                let whole = root.join(format!("ids.{}", std::process::id()));
                fs::write(&whole, now)
                    .and_then(|()| fs::rename(&whole, &file))
                    .map_err(|error| failed("write", error))?;
                return Ok(());
            }
            ALL_IDS.to_owned()
        }
        Err(error) => return Err(failed("read", error)),
    };
    if made == now {
        return Ok(());
    }
    Err(OpenError::OtherIds {
        root: root.to_owned(),
        made,
        now: now.to_owned(),
    })
}

/// Makes sure, before anything is done, that a store is not somebody else's.
///
/// Opening it says the same, but a process that entered a user namespace meanwhile has lost the
/// words for others.
pub fn check_owner(root: &Path) -> Result<(), OpenError> {
    let user = rustix::process::geteuid().as_raw();
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() && metadata.uid() != user => Err(OpenError::WrongOwner {
            root: root.to_owned(),
            owner: metadata.uid(),
            user,
        }),
        _ => Ok(()),
    }
}

impl Store {
    /// Makes a damaged database anew from what can be read of it. What is lost with it, the next
    /// builds make again; names of images may be among it.
    ///
    /// To be called where [`Store::open`] or an operation said [`StoreError::Corrupt`], with no store
    /// at `root` open in this process. Fails where another process works in it.
    pub fn salvage(root: &Path) -> Result<(), OpenError> {
        claim_directory(root)?;
        database::salvage(root)
    }
}

/// Makes sure that `root` is a directory of this user that nobody else can look into.
fn claim_directory(root: &Path) -> Result<(), OpenError> {
    let failed = |what, source| OpenError::Store(StoreError::file(root, what, root, source));
    let metadata = match fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(root).map_err(|error| failed("create", error))?;
            fs::metadata(root)
        }
        other => other,
    };
    let metadata = metadata.map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => OpenError::NotADirectory {
            root: root.to_owned(),
        },
        _ => failed("look at", error),
    })?;
    if !metadata.is_dir() {
        return Err(OpenError::NotADirectory {
            root: root.to_owned(),
        });
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(OpenError::WrongOwner {
            root: root.to_owned(),
            owner: metadata.uid(),
            user,
        });
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(|error| failed("close", error))?;
    }
    Ok(())
}

/// The parents as any program would make them, the store itself for its user alone.
fn create_directory(root: &Path) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
