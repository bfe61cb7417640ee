//! The standard input, read so that whoever gives up need not wait for it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Cancel;

/// How long at most nobody looks whether it is still wanted: 50 ms.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The standard input. Once cancelled, reading it is an error.
pub(crate) struct Stdin<'a> {
    file: File,
    cancel: &'a Cancel,
}

impl<'a> Stdin<'a> {
    /// The standard input as it is now.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open(cancel: &'a Cancel) -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, cancel })
    }
}

impl Read for Stdin<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("canceled"));
            }
            let mut ready = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut ready, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.file.read(out),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
