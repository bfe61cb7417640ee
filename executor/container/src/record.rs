//! What the store remembers of containers: one directory each, and one link for each name.
//!
//! ```text
//! containers/ID/record.json   what it is
//! containers/ID/lock          held while its process is looked after
//! containers/names/NAME       a link to the id
//! ```
//! A name is taken by making its link, which only one can. The layer of a container that is over is
//! not kept: nothing starts one again yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use store::Store;

use crate::{Request, name};

/// What is remembered of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// What ran.
    pub command: Vec<String>,
    /// Since when it is there.
    pub created: Timestamp,
    /// Whether it is forgotten when it is over.
    pub remove: bool,
    /// How it ended, if it did and somebody saw it.
    pub ended: Option<Ended>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// With which exit code.
    pub code: u8,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its process runs.
    Running,
    /// It is over; `None` where its end was not seen.
    Exited(Option<Ended>),
}

impl Record {
    /// The first twelve digits of the id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Why a container cannot be remembered, found or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a name.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to \
         remove (or rename) that container to be able to reuse that name."
    )]
    Conflict {
        /// The name.
        name: String,
        /// The other container.
        id: String,
    },
    /// There is none of that name or id.
    #[error("No such container: {0}")]
    Unknown(String),
    /// Its process runs.
    #[error(
        "cannot remove container \"{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(String),
    /// A file of the store could not be used.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// A container that this process looks after.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) record: Record,
    root: PathBuf,
    over: bool,
    _lock: File,
}

impl Claim {
    /// Takes an id and a name, and remembers what runs.
    pub(crate) fn new(
        store: &Store,
        request: &Request,
        command: &[String],
    ) -> Result<Claim, RecordError> {
        if let Some(name) = request.name.as_ref().filter(|it| !name::is_valid(it)) {
            return Err(RecordError::Name(name.clone()));
        }
        let root = root(store);
        let names = root.join("names");
        fs::create_dir_all(&names).map_err(file("create", &names))?;
        let id = new_id().map_err(file("read", Path::new(RANDOM)))?;
        let directory = root.join(&id);
        fs::create_dir(&directory).map_err(file("create", &directory))?;
        // From here on, whatever fails takes the directory away again.
        let lock = locked(&directory)?.ok_or_else(|| RecordError::Running(id.clone()))?;
        let record = Record {
            id,
            name: request.name.clone().unwrap_or_default(),
            image: request.image.clone(),
            image_id: request.image_id,
            command: command.to_vec(),
            created: Timestamp::now(),
            remove: request.remove,
            ended: None,
        };
        let mut claim = Claim {
            record,
            root,
            over: false,
            _lock: lock,
        };
        claim.take_name(request.name.as_deref())?;
        claim.write()?;
        Ok(claim)
    }

    /// Remembers how it ended, or forgets it all.
    pub(crate) fn finish(mut self, code: u8) -> Result<(), RecordError> {
        if self.record.remove {
            return Ok(());
        }
        self.record.ended = Some(Ended {
            at: Timestamp::now(),
            code,
        });
        self.over = true;
        self.write()
    }

    fn take_name(&mut self, wanted: Option<&str>) -> Result<(), RecordError> {
        for attempt in 0.. {
            let name =
                wanted.map_or_else(|| name::made_up(&self.record.id, attempt), str::to_owned);
            let link = self.root.join("names").join(&name);
            match symlink(&self.record.id, &link) {
                Ok(()) => {
                    self.record.name = name;
                    return Ok(());
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(file("create", &link)(error));
                }
                Err(_) => {}
            }
            let holder = fs::read_link(&link)
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if forget_if_dead(&self.root, &holder, &link)? {
                continue;
            }
            if wanted.is_some() {
                return Err(RecordError::Conflict { name, id: holder });
            }
        }
        unreachable!("the attempts have no end")
    }

    fn write(&self) -> Result<(), RecordError> {
        let path = self.root.join(&self.record.id).join("record.json");
        let bytes = serde_json::to_vec_pretty(&self.record)
            .expect("a record holds nothing that JSON cannot");
        let new = path.with_extension("new");
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(file("write", &path))
    }
}

impl Drop for Claim {
    /// A container that did not come to its end as it should, or is not to be kept, is forgotten.
    fn drop(&mut self) {
        if !self.over {
            forget(&self.root, &self.record.id, &self.record.name);
        }
    }
}

/// All containers, the newest first.
pub fn list(store: &Store) -> Result<Vec<(Record, State)>, RecordError> {
    let root = root(store);
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file("read", &root)(error)),
    };
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|it| read(&it.path()))
        .collect();
    all.sort_by_key(|(record, _)| std::cmp::Reverse(record.created));
    Ok(all)
}

/// Forgets a container that is over, by name or by the beginning of its id.
pub fn remove(store: &Store, word: &str) -> Result<(), RecordError> {
    let all = list(store)?;
    let mut found = all
        .iter()
        .filter(|(record, _)| record.name == word || record.id.starts_with(word));
    let (Some((record, state)), None) = (found.next(), found.next()) else {
        return Err(RecordError::Unknown(word.to_owned()));
    };
    if *state == State::Running {
        return Err(RecordError::Running(word.to_owned()));
    }
    forget(&root(store), &record.id, &record.name);
    Ok(())
}

fn root(store: &Store) -> PathBuf {
    store.root().join("containers")
}

fn read(directory: &Path) -> Option<(Record, State)> {
    let bytes = fs::read(directory.join("record.json")).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    let state = match locked(directory) {
        Ok(None) => State::Running,
        _ => State::Exited(record.ended),
    };
    Some((record, state))
}

/// A container whose owner was killed before it could forget it no longer holds its name.
fn forget_if_dead(root: &Path, id: &str, link: &Path) -> Result<bool, RecordError> {
    let directory = root.join(id);
    if !directory.is_dir() {
        return Ok(fs::remove_file(link).is_ok());
    }
    let Some(_lock) = locked(&directory)? else {
        return Ok(false);
    };
    match read_record(&directory) {
        Some(record) if !record.remove => Ok(false),
        _ => {
            let _ = fs::remove_dir_all(&directory);
            Ok(fs::remove_file(link).is_ok())
        }
    }
}

fn read_record(directory: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(directory.join("record.json")).ok()?).ok()
}

fn forget(root: &Path, id: &str, name: &str) {
    let link = root.join("names").join(name);
    let ours = !name.is_empty() && fs::read_link(&link).is_ok_and(|it| it.as_os_str() == id);
    let removed = fs::remove_dir_all(root.join(id))
        .and_then(|()| if ours { fs::remove_file(&link) } else { Ok(()) });
    if let Err(error) = removed {
        tracing::warn!(id, %error, "the container is not forgotten");
    }
}

/// The lock of a container, or `None` while somebody else has it.
fn locked(directory: &Path) -> Result<Option<File>, RecordError> {
    let path = directory.join("lock");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let lock = opened.map_err(file("open", &path))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(file("lock", &path)(error.into())),
    }
}

const RANDOM: &str = "/dev/urandom";

fn new_id() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}
