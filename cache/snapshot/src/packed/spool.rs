//! A tar that waits: a small one in memory, as long as there is room, any other in a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest tar that waits in memory.
const LARGEST: usize = 4 << 20;
/// What all of them may have together.
const ROOM: usize = 24 << 20;

/// How many bytes wait in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spooled(Arc<AtomicUsize>);

/// A tar that is written once and then read.
#[derive(Debug)]
pub(super) struct Spool {
    spooled: Spooled,
    /// Where the file is, once there is one.
    path: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
}

impl Spool {
    /// One that becomes a file at `path` if it is large.
    pub(super) fn new(spooled: &Spooled, path: PathBuf) -> Self {
        Self {
            spooled: spooled.clone(),
            path,
            memory: Vec::new(),
            file: None,
        }
    }

    /// Makes it a file, if it is none.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let mut file = File::create_new(&self.path)?;
            file.write_all(&self.memory)?;
            self.file = Some(file);
            self.forget();
        }
        Ok(())
    }

    /// Reads it from the beginning.
    pub(super) fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        match self.file {
            Some(_) => Ok(Box::new(File::open(&self.path)?)),
            None => Ok(Box::new(&self.memory[..])),
        }
    }

    /// Whether so many more bytes may be in memory; then they are counted.
    fn has_room(&self, more: usize) -> bool {
        if self.memory.len() + more > LARGEST {
            return false;
        }
        let before = self.spooled.0.fetch_add(more, Ordering::Relaxed);
        let fits = before + more <= ROOM;
        if !fits {
            self.spooled.0.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    fn forget(&mut self) {
        let length = std::mem::take(&mut self.memory).len();
        self.spooled.0.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.has_room(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.settle()?;
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spool: &Spool) -> Vec<u8> {
        let mut bytes = Vec::new();
        spool.reader().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_small_waits_in_memory_while_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let spooled = Spooled::default();
        let bytes: Vec<u8> = (0..3 << 20).map(|it| (it / 7) as u8).collect();
        let spools: Vec<Spool> = (0..10)
            .map(|number| {
                let path = directory.path().join(number.to_string());
                let mut spool = Spool::new(&spooled, path);
                bytes
                    .chunks(1000)
                    .for_each(|it| spool.write_all(it).unwrap());
                spool
            })
            .collect();
        assert!(spools.iter().all(|it| read(it) == bytes));
        let in_memory = spools.iter().filter(|it| it.file.is_none()).count();
        assert_eq!(in_memory, ROOM / bytes.len());
        assert!(spooled.0.load(Ordering::Relaxed) <= ROOM);
        drop(spools);
        assert_eq!(spooled.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_grows_large_becomes_a_file_and_so_does_what_has_to() {
        let directory = tempfile::tempdir().unwrap();
        let spooled = Spooled::default();
        let mut large = Spool::new(&spooled, directory.path().join("large"));
        let bytes: Vec<u8> = (0..LARGEST + 5).map(|it| (it / 3) as u8).collect();
        bytes
            .chunks(100_000)
            .for_each(|it| large.write_all(it).unwrap());
        assert!(read(&large) == bytes);
        assert!(large.file.is_some() && large.memory.is_empty());
        let mut small = Spool::new(&spooled, directory.path().join("small"));
        small.write_all(b"small").unwrap();
        small.settle().unwrap();
        assert_eq!(read(&small), b"small");
        assert_eq!(
            std::fs::read(directory.path().join("small")).unwrap(),
            b"small"
        );
        assert_eq!(spooled.0.load(Ordering::Relaxed), 0);
    }
}
