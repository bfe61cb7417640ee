//! Passes on input, output and signals between a container and whoever started it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use sandbox::{Exit, Handle, Running, WaitError};
use signal_hook::consts::signal;
use signal_hook::iterator::Signals;

use crate::terminal::{self, Raw};

/// Signals that are passed on. Those that stop a process stay: they stop us.
const FORWARDED: [i32; 7] = [
    signal::SIGHUP,
    signal::SIGINT,
    signal::SIGQUIT,
    signal::SIGTERM,
    signal::SIGUSR1,
    signal::SIGUSR2,
    signal::SIGWINCH,
];

/// So many times somebody must want it to end before a container that does not listen is killed.
const PATIENCE: u32 = 3;

/// Whether the container reads what we read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interactive(pub(crate) bool);

/// A container that we are attached to.
#[derive(Debug)]
pub(crate) struct Attached {
    running: Running,
    outputs: Vec<JoinHandle<()>>,
    signals: signal_hook::iterator::Handle,
    _raw: Option<Raw>,
}

/// Attaches the standard streams and signals of this process.
pub(crate) fn attach(mut running: Running, interactive: Interactive) -> io::Result<Attached> {
    let signals = forward(running.handle())?;
    let terminal = running.terminal();
    let raw = if terminal.is_some() {
        Raw::enter()?
    } else {
        None
    };
    let over = running.pidfd().try_clone_to_owned()?;
    let mut outputs = Vec::new();
    match terminal {
        Some(terminal) => {
            outputs.push(copy_out(Arc::clone(&terminal), To::Stdout)?);
            if interactive.0 {
                copy_in(terminal, over)?;
            }
        }
        None => {
            for (from, to) in [
                (running.take_stdout(), To::Stdout),
                (running.take_stderr(), To::Stderr),
            ] {
                if let Some(from) = from {
                    outputs.push(copy_out(Arc::new(from), to)?);
                }
            }
            if let Some(stdin) = running.take_stdin() {
                copy_in(Arc::new(stdin), over)?;
            }
        }
    }
    Ok(Attached {
        running,
        outputs,
        signals,
        _raw: raw,
    })
}

impl Attached {
    /// Waits until the container is over and all it said has been passed on.
    pub(crate) fn wait(self) -> Result<Exit, WaitError> {
        let exit = self.running.wait();
        for output in self.outputs {
            // A thread that panicked has said so.
            let _ = output.join();
        }
        self.signals.close();
        exit
    }
}

fn forward(handle: Handle) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new(FORWARDED)?;
    let closing = signals.handle();
    let mut wishes = 0;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for number in &mut signals {
                let done = match number {
                    signal::SIGWINCH => {
                        let size = terminal::size();
                        handle.resize(size.rows, size.columns)
                    }
                    signal::SIGINT | signal::SIGTERM => {
                        wishes += 1;
                        if wishes < PATIENCE {
                            pass_on(&handle, number)
                        } else {
                            handle.kill()
                        }
                    }
                    other => pass_on(&handle, other),
                };
                if let Err(error) = done {
                    tracing::debug!(number, %error, "a signal does not arrive");
                }
            }
        })?;
    Ok(closing)
}

fn pass_on(handle: &Handle, number: i32) -> io::Result<()> {
    Signal::from_named_raw(number).map_or(Ok(()), |signal| handle.signal(signal))
}

/// Which of our outputs.
#[derive(Debug, Clone, Copy)]
enum To {
    Stdout,
    Stderr,
}

/// Copies until the container has closed its end, or nobody listens to us any more: then it learns
/// that from its own next write.
fn copy_out(from: Arc<OwnedFd>, to: To) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let mut buffer = [0; 16 << 10];
            loop {
                match rustix::io::read(&*from, &mut buffer) {
                    // A terminal says EIO when the last process has let go of it.
                    Ok(0) | Err(Errno::IO) => return,
                    Ok(count) => {
                        let written = match to {
                            To::Stdout => write_all(io::stdout().as_fd(), &buffer[..count]),
                            To::Stderr => write_all(io::stderr().as_fd(), &buffer[..count]),
                        };
                        if written.is_err() {
                            return;
                        }
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        })
}

/// Copies our input until it ends or the container is over. Nobody waits for this thread.
fn copy_in(to: Arc<OwnedFd>, over: OwnedFd) -> io::Result<()> {
    let is_terminal = rustix::termios::isatty(&*to);
    let copy = move || {
        let stdin = io::stdin();
        let mut buffer = [0; 16 << 10];
        loop {
            let mut both = [
                PollFd::new(&stdin, PollFlags::IN),
                PollFd::new(&over, PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) if !both[1].revents().is_empty() => return,
                Ok(_) => {}
            }
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) if is_terminal => {
                    // What a terminal has for the end of input.
                    let _ = write_all(to.as_fd(), b"\x04");
                    return;
                }
                Ok(0) => return,
                Ok(count) => {
                    if write_all(to.as_fd(), &buffer[..count]).is_err() {
                        return;
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(copy)
        .map(drop)
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Somebody made our output non-blocking.
                let mut ready = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                poll(&mut ready, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
