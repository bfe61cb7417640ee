//! Calls that nobody waits for any more once the person has given up: a registry may be silent for a long time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use oci::Digest;

use super::{PushError, PushState, PushWatch};

/// How long a call may go on once the person has given up: for what ends in order in that time.
const MOMENT: Duration = Duration::from_secs(1);
/// How often is looked whether he has.
const LOOK: Duration = Duration::from_millis(50);

/// What a call says to whoever waits for it.
enum Said<T> {
    /// So many bytes went out.
    Sent(u64),
    Done(T),
}

/// What a call has of whoever waits for it.
pub(super) struct Line<T> {
    given_up: Arc<AtomicBool>,
    said: Sender<Said<T>>,
}

impl<T> Line<T> {
    /// Tells how many bytes went out so far.
    pub(super) fn sent(&self, bytes: u64) {
        // Perhaps nobody waits any more.
        let _ = self.said.send(Said::Sent(bytes));
    }
}

impl<T: Send> PushWatch for Line<T> {
    fn layer(&self, _: &Digest, _: PushState) {}

    fn is_cancelled(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Makes a call in a thread of its own, which has nothing of the store, and waits for what comes of it, but only
/// a moment longer than the person wants it.
pub(super) fn call<T: Send + 'static>(
    (watch, progress): (&dyn PushWatch, &dyn Fn(u64)),
    call: impl FnOnce(&Line<T>) -> T + Send + 'static,
) -> Result<T, PushError> {
    let (said, hear) = channel();
    let given_up = Arc::new(AtomicBool::new(false));
    let line = Line {
        given_up: Arc::clone(&given_up),
        said: said.clone(),
    };
    let caller = thread::spawn(move || {
        let done = call(&line);
        drop(said.send(Said::Done(done)));
    });
    match wait(&hear, (watch, progress), &given_up) {
        Ok(done) => Ok(done),
        Err(RecvTimeoutError::Timeout) => Err(PushError::Cancelled),
        Err(RecvTimeoutError::Disconnected) => match caller.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a call that ends says so"),
        },
    }
}

fn wait<T>(
    hear: &Receiver<Said<T>>,
    (watch, progress): (&dyn PushWatch, &dyn Fn(u64)),
    given_up: &AtomicBool,
) -> Result<T, RecvTimeoutError> {
    let mut last = None;
    loop {
        match hear.recv_timeout(LOOK) {
            Ok(Said::Done(done)) => return Ok(done),
            Ok(Said::Sent(bytes)) => progress(bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => return Err(error),
        }
        if watch.is_cancelled() {
            given_up.store(true, Ordering::Relaxed);
            let last = *last.get_or_insert_with(|| Instant::now() + MOMENT);
            if Instant::now() > last {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }
}
