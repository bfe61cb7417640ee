//! Network namespaces with nothing but a loopback interface, for sandboxes without a network.
//!
//! The kernel takes longer to make one than for all other namespaces of a sandbox together. A process
//! without the right to administer a network leaves no trace in one but sockets that linger; where there
//! are none, the next sandbox gets it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

/// How many are kept.
const MOST: usize = 16;

static FREE: Mutex<Vec<Quiet>> = Mutex::new(Vec::new());

/// A network namespace, with its loopback interface up.
#[derive(Debug)]
pub(crate) struct Quiet {
    namespace: OwnedFd,
    /// The kernel's counts of its sockets.
    counts: Vec<File>,
}

impl Quiet {
    /// One that nobody uses.
    pub(crate) fn take() -> Option<Quiet> {
        free().pop()
    }

    /// That of a process which was started in a new one and is not waited for yet.
    pub(crate) fn of(pid: Pid) -> Option<Quiet> {
        let path = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let namespace = File::open(path("ns/net")).ok()?.into();
        let mut counts = vec![File::open(path("net/sockstat")).ok()?];
        // Not there where the kernel has no IPv6.
        counts.extend(File::open(path("net/sockstat6")));
        Some(Quiet { namespace, counts })
    }

    /// To be entered.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Keeps it for the next one. All processes in it must be over.
    pub(crate) fn give_back(self) {
        let is_empty = self
            .counts
            .iter()
            .all(|file| is_empty(file).unwrap_or(false));
        let mut free = free();
        if is_empty && free.len() < MOST {
            free.push(self);
        }
    }
}

fn free() -> MutexGuard<'static, Vec<Quiet>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_empty(counts: &File) -> io::Result<bool> {
    let mut text = [0; 1024];
    let length = rustix::io::pread(counts, &mut text, 0)?;
    Ok(has_no_sockets(&String::from_utf8_lossy(&text[..length])))
}

/// Whether such a list of counts speaks of no sockets of any protocol, nor of TCP's that linger on.
fn has_no_sockets(counts: &str) -> bool {
    counts.lines().all(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .windows(2)
            .filter(|pair| matches!(pair[0], "inuse" | "tw"))
            .all(|pair| pair[1] == "0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_linger_are_noticed() {
        let counts = |tw: u32, udp: u32| {
            format!(
                "sockets: used 4\nTCP: inuse 0 orphan 3 tw {tw} alloc 9 mem 1\nUDP: inuse {udp} mem 0\n\
                 UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
            )
        };
        assert!(has_no_sockets(&counts(0, 0)));
        assert!(!has_no_sockets(&counts(1, 0)));
        assert!(!has_no_sockets(&counts(0, 1)));
        assert!(has_no_sockets("TCP6: inuse 0\nUDP6: inuse 0\n"));
        assert!(!has_no_sockets("TCP6: inuse 2\nUDP6: inuse 0\n"));
    }
}
