//! A thread that removes what nobody waits for.
//!
//! Removing an empty directory can take longer than all else about a step that does nothing: a file system without
//! a journal that tells the disk what it frees waits for the disk's answer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::owner::remove_or_leave;

/// The thread, which ends when this is dropped and all is removed.
pub(crate) struct Remover {
    /// `None` where no thread could be started, and everybody has to do it himself.
    queue: Option<Sender<PathBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Remover {
    pub(crate) fn start() -> Self {
        let (queue, paths) = channel();
        let thread = std::thread::Builder::new().name("remover".to_owned());
        let thread = thread.spawn(move || serve(&paths)).ok();
        Self {
            queue: thread.is_some().then_some(queue),
            thread,
        }
    }

    /// Has a tree removed. What cannot be is left to the next sweep.
    pub(crate) fn remove(&self, path: PathBuf) {
        let refused = match &self.queue {
            Some(queue) => queue.send(path).err().map(|it| it.0),
            None => Some(path),
        };
        if let Some(path) = refused {
            remove_or_leave(&path);
        }
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been told already.
            let _ = thread.join();
        }
    }
}

fn serve(paths: &Receiver<PathBuf>) {
    for path in paths {
        // Most are the rest of a layer, of which is known what is in it.
        if remove_rest(&path).is_err() {
            remove_or_leave(&path);
        }
    }
}

/// Removes what a layer that was mounted leaves behind when it is committed: overlayfs's own directories, with nothing
/// in them. Fails where it is anything else.
fn remove_rest(path: &Path) -> io::Result<()> {
    [
        "work/work/incompat/volatile",
        "work/work/incompat",
        "work/work",
        "work",
    ]
    .iter()
    .try_for_each(|name| fs::remove_dir(path.join(name)))?;
    fs::remove_dir(path)
}
