//! What a process writes, passed on as it comes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use solve::progress::Stream;

const BUFFER: usize = 32 << 10;

/// Passes on what comes through the pipes (output, errors), until the last process has let go of both.
pub(crate) fn pass_on(
    pipes: [Option<OwnedFd>; 2],
    log: &(dyn Fn(Stream, &[u8]) + Sync),
) -> io::Result<()> {
    let [output, errors] = pipes;
    let mut open: Vec<(Stream, OwnedFd)> = [(Stream::Stdout, output), (Stream::Stderr, errors)]
        .into_iter()
        .filter_map(|(stream, pipe)| Some((stream, pipe?)))
        .collect();
    let mut buffer = vec![0; BUFFER];
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, pipe)| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let mut failure = None;
        open.retain(|(stream, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    log(*stream, &buffer[..length]);
                    true
                }
                Err(Errno::INTR) => true,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
    Ok(())
}
