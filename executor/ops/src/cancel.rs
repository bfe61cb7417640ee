//! The word to stop, passed to whatever is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Says whether to give up. Clones share it; once cancelled it stays so.
#[derive(Clone, Default)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    actions: Mutex<Actions>,
}

#[derive(Default)]
struct Actions {
    next: u64,
    waiting: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
}

/// An action of [`Cancel::on_cancel`]; dropped, it is withdrawn.
#[must_use = "dropped, the action is withdrawn"]
pub struct OnCancel {
    cancel: Cancel,
    number: Option<u64>,
}

/// A reader that can be stopped; see [`Cancel::read`].
#[derive(Debug)]
pub struct Cancellable<R> {
    input: R,
    cancel: Cancel,
}

impl Cancel {
    /// Says to give up, and runs the actions that wait for it. Does nothing the second time.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::SeqCst);
        let actions = std::mem::take(&mut self.actions().waiting);
        for action in actions.into_values() {
            action();
        }
    }

    /// Whether to give up.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::SeqCst)
    }

    /// Runs `action` once when cancelled, on the thread that cancels; at once if that has happened.
    /// It must be short and must not use this `Cancel`: killing a process, waking a thread.
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) -> OnCancel {
        let mut actions = self.actions();
        // Looked at under the lock: whoever cancels takes the lock after setting the flag.
        if self.is_cancelled() {
            drop(actions);
            action();
            return OnCancel {
                cancel: self.clone(),
                number: None,
            };
        }
        let number = actions.next;
        actions.next += 1;
        actions.waiting.insert(number, Box::new(action));
        OnCancel {
            cancel: self.clone(),
            number: Some(number),
        }
    }

    /// Reads `input` until cancelled; then each read is an error.
    pub fn read<R: Read>(&self, input: R) -> Cancellable<R> {
        Cancellable {
            input,
            cancel: self.clone(),
        }
    }

    fn actions(&self) -> std::sync::MutexGuard<'_, Actions> {
        self.inner
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other("canceled")),
            false => self.input.read(out),
        }
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.cancel.actions().waiting.remove(&number);
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Clone + Send + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = Arc::clone(&count);
        (count, move || {
            inner.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn an_action_runs_once_and_one_that_comes_late_at_once() {
        let (count, action) = counter();
        let cancel = Cancel::default();
        let _early = cancel.on_cancel(action.clone());
        assert_eq!(
            (cancel.is_cancelled(), count.load(Ordering::SeqCst)),
            (false, 0)
        );
        cancel.clone().cancel();
        cancel.cancel();
        assert_eq!(
            (cancel.is_cancelled(), count.load(Ordering::SeqCst)),
            (true, 1)
        );
        let _late = cancel.on_cancel(action);
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_dropped_action_is_withdrawn() {
        let (count, action) = counter();
        let cancel = Cancel::default();
        drop(cancel.on_cancel(action));
        cancel.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}
