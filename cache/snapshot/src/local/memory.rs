//! What is known of the files of one directory of the host, kept between builds.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::{Key, KeyHasher};
use rustix::fs::Statx;

use crate::tree::Xattr;
use crate::walk::Known;

const MAGIC: &[u8; 8] = b"rbstat02";
/// The magic and a checksum of the records: nobody waits until the file is on the disk, and a wrong
/// key would be believed.
const HEAD: usize = MAGIC.len() + 32;
const RECORD: usize = 80;
/// A file that changed this short a time before it was seen may change again within the same tick of
/// a clock, unnoticed. The second is for file systems that only keep whole seconds.
const FRESH_NANOSECONDS: i128 = 20_000_000;
const FRESH_WHOLE_SECONDS: i128 = 2_000_000_000;
/// Files that were not seen are forgotten once they are this many more than those that were.
const MOST_UNSEEN: usize = 50_000;

/// The memory: by device, inode, size and times, the content keys of files without attributes.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    bytes: Vec<u8>,
    learnt: Mutex<HashMap<Mark, Key>>,
    seen: Mutex<usize>,
    /// Whether nothing is to be written down.
    passing: AtomicBool,
    now: i128,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Mark([u8; RECORD - 32]);

impl Mark {
    fn of(seen: &Statx) -> Self {
        let mut bytes = [0; RECORD - 32];
        let device = u64::from(seen.stx_dev_major) << 32 | u64::from(seen.stx_dev_minor);
        let nanoseconds =
            u64::from(seen.stx_mtime.tv_nsec) << 32 | u64::from(seen.stx_ctime.tv_nsec);
        let fields = [
            seen.stx_ino,
            device,
            seen.stx_size,
            seen.stx_mtime.tv_sec as u64,
            seen.stx_ctime.tv_sec as u64,
            nanoseconds,
        ];
        for (field, place) in fields.iter().zip(bytes.chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        Self(bytes)
    }
}

impl Memory {
    /// What the store remembers of `directory`; nothing where that is lost or damaged.
    pub(super) fn load(store: &Path, directory: &Path) -> Self {
        let name = KeyHasher::new("directory")
            .bytes(directory.as_os_str().as_bytes())
            .finish();
        let file = store.join("stat").join(name.to_string());
        let mut bytes = crate::snapshots::read_regular(&file).unwrap_or_default();
        if !is_intact(&bytes) {
            bytes.clear();
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |it| it.as_nanos() as i128);
        Self {
            file,
            bytes,
            learnt: Mutex::default(),
            seen: Mutex::default(),
            passing: AtomicBool::new(false),
            now,
        }
    }

    /// The content key of an unchanged file.
    pub(super) fn content(&self, seen: &Statx) -> Option<Key> {
        let mark = Mark::of(seen);
        if let Some(key) = self
            .learnt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&mark)
        {
            return Some(*key);
        }
        let records = self.records();
        let (mut low, mut high) = (0, records.len() / RECORD);
        while low < high {
            let middle = low.midpoint(high);
            let record = &records[middle * RECORD..(middle + 1) * RECORD];
            match record[..RECORD - 32].cmp(&mark.0) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let key = record[RECORD - 32..].try_into().ok()?;
                    return Some(Key::from_bytes(key));
                }
            }
        }
        None
    }

    /// Lets it go with what was learnt.
    pub(super) fn keep_nothing(&self) {
        self.passing.store(true, Ordering::Relaxed);
    }

    fn records(&self) -> &[u8] {
        self.bytes.get(HEAD..).unwrap_or_default()
    }

    /// Whether the file may change without its mark changing.
    fn is_fresh(&self, seen: &Statx) -> bool {
        let changed =
            i128::from(seen.stx_ctime.tv_sec) * 1_000_000_000 + i128::from(seen.stx_ctime.tv_nsec);
        let fresh = if seen.stx_ctime.tv_nsec == 0 {
            FRESH_WHOLE_SECONDS
        } else {
            FRESH_NANOSECONDS
        };
        changed + fresh > self.now
    }

    /// Writes the memory down, if there is anything new. It is only a memory: a failure is no loss.
    fn save(&mut self) {
        let learnt = self
            .learnt
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if learnt.is_empty() || *self.passing.get_mut() {
            return;
        }
        let seen = *self.seen.get_mut().unwrap_or_else(PoisonError::into_inner) + learnt.len();
        let mut merged = std::mem::take(learnt);
        let old = self.bytes.get(HEAD..).unwrap_or_default();
        if old.len() / RECORD <= seen + MOST_UNSEEN {
            for record in old.chunks_exact(RECORD) {
                let (mark, key) = record.split_at(RECORD - 32);
                if let (Ok(mark), Ok(key)) = (mark.try_into(), key.try_into()) {
                    merged.entry(Mark(mark)).or_insert(Key::from_bytes(key));
                }
            }
        }
        let mut sorted: Vec<_> = merged.into_iter().collect();
        sorted.sort_unstable_by_key(|(mark, _)| *mark);
        let mut bytes = vec![0; HEAD];
        for (mark, key) in sorted {
            bytes.extend_from_slice(&mark.0);
            bytes.extend_from_slice(key.as_bytes());
        }
        let checksum = checksum(&bytes[HEAD..]);
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MAGIC.len()..HEAD].copy_from_slice(checksum.as_bytes());
        let temporary = self
            .file
            .with_extension(format!("{}.new", std::process::id()));
        let written =
            fs::write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            tracing::debug!(file = %self.file.display(), %error, "cannot keep what is known of a directory");
            let _ = fs::remove_file(&temporary);
        }
    }
}

fn is_intact(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD
        && bytes.starts_with(MAGIC)
        && (bytes.len() - HEAD).is_multiple_of(RECORD)
        && bytes[MAGIC.len()..HEAD] == *checksum(&bytes[HEAD..]).as_bytes()
}

fn checksum(records: &[u8]) -> Key {
    let mut hasher = KeyHasher::new("memory");
    hasher.bytes(records);
    hasher.finish()
}

impl Known for Memory {
    fn recall(&self, seen: &Statx) -> Option<(Key, Vec<Xattr>)> {
        let key = self.content(seen)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Some((key, Vec::new()))
    }

    /// A file with attributes is not learnt: reading them is most of the work.
    fn learn(&self, seen: &Statx, content: Key, xattrs: &[Xattr]) {
        if xattrs.is_empty() && !self.is_fresh(seen) {
            self.learnt
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(Mark::of(seen), content);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_is_not_what_was_written_is_none() {
        let mut bytes = MAGIC.to_vec();
        let records = [7; 3 * RECORD];
        bytes.extend_from_slice(checksum(&records).as_bytes());
        bytes.extend_from_slice(&records);
        assert!(is_intact(&bytes));
        assert!(!is_intact(&bytes[..bytes.len() - RECORD]));
        assert!(!is_intact(&[]));
        for at in [0, MAGIC.len(), HEAD, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(!is_intact(&flipped), "byte {at}");
        }
    }
}
