//! A queue between threads, whose reader sleeps while there is nothing.
//!
//! Channels look out for a while before they sleep. What comes here is as long in coming as a step takes, and a
//! processor that looks out for it is one less for the step.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// First in, first out; clones are the same queue.
pub(crate) struct Queue<T>(Arc<Shared<T>>);

struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    news: Condvar,
}

struct Waiting<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let waiting = Waiting {
            items: VecDeque::new(),
            is_closed: false,
        };
        Self(Arc::new(Shared {
            waiting: Mutex::new(waiting),
            news: Condvar::new(),
        }))
    }

    /// Adds an item. Nobody may be waiting any more, which is fine.
    pub(crate) fn push(&self, item: T) {
        self.waiting().items.push_back(item);
        self.0.news.notify_one();
    }

    /// Waits for the next item; `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let lacks = |it: &mut Waiting<T>| it.items.is_empty() && !it.is_closed;
        let waited = self.0.news.wait_while(self.waiting(), lacks);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .items
            .pop_front()
    }

    /// Lets nobody wait any longer.
    pub(crate) fn close(&self) {
        self.waiting().is_closed = true;
        self.0.news.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_out_in_order_and_then_the_end() {
        let queue = Queue::new();
        std::thread::scope(|scope| {
            let popped = scope.spawn(|| std::iter::from_fn(|| queue.pop()).collect::<Vec<i32>>());
            (0..100).for_each(|number| queue.clone().push(number));
            queue.close();
            assert_eq!(popped.join().unwrap(), (0..100).collect::<Vec<i32>>());
        });
    }

    #[test]
    fn everybody_who_waits_hears_of_the_end() {
        let queue = Queue::<()>::new();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| queue.pop())).collect();
            queue.close();
            all.into_iter()
                .for_each(|it| assert_eq!(it.join().unwrap(), None));
        });
    }
}
