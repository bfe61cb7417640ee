//! Threads that do one task after the other: as many as there are tasks at once, and no more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;

use crate::queue::Queue;

/// What came of a task: its answer, or what it panicked with.
pub(crate) type Told<T> = Result<T, Box<dyn Any + Send>>;

type Task<'scope, T> = Box<dyn FnOnce() -> T + Send + 'scope>;

/// Threads of a scope, which end when this is dropped. Their answers all go the same way.
pub(crate) struct Workers<'scope, 'env, T> {
    scope: &'scope Scope<'scope, 'env>,
    answers: Queue<Told<T>>,
    tasks: Queue<Task<'scope, T>>,
    /// How many threads wait for a task, or are about to and nobody has given them one.
    idle: Arc<AtomicUsize>,
}

impl<'scope, 'env, T: Send + 'scope> Workers<'scope, 'env, T> {
    /// No thread yet.
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, answers: Queue<Told<T>>) -> Self {
        Self {
            scope,
            answers,
            tasks: Queue::new(),
            idle: Arc::default(),
        }
    }

    /// Has a task begun at once, by a thread that has nothing to do or by a new one. It is answered in
    /// any case.
    pub(crate) fn start(&self, task: impl FnOnce() -> T + Send + 'scope) {
        let take = |idle: usize| idle.checked_sub(1);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        if self.idle.fetch_update(set, fetch, take).is_ok() {
            return self.tasks.push(Box::new(task));
        }
        let answers = self.answers.clone();
        let tasks = self.tasks.clone();
        let idle = Arc::clone(&self.idle);
        self.scope.spawn(move || {
            let mut next: Task<'scope, T> = Box::new(task);
            loop {
                let done = catch_unwind(AssertUnwindSafe(next));
                // Before the answer, so that whoever gets it finds a thread for what comes next.
                idle.fetch_add(1, Ordering::AcqRel);
                answers.push(done);
                match tasks.pop() {
                    Some(task) => next = task,
                    None => return,
                }
            }
        });
    }
}

impl<T> Drop for Workers<'_, '_, T> {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn one_task_after_the_other_is_done_by_one_thread() {
        thread::scope(|scope| {
            let told = Queue::new();
            let workers = Workers::new(scope, told.clone());
            let mut threads = HashSet::new();
            for _ in 0..100 {
                workers.start(|| thread::current().id());
                threads.insert(told.pop().unwrap().unwrap());
            }
            assert_eq!(threads.len(), 1);
        });
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_all_begun() {
        thread::scope(|scope| {
            let told = Queue::new();
            let workers = Workers::new(scope, told.clone());
            workers.start(|| 0);
            told.pop().unwrap().unwrap();
            let barrier = Arc::new(std::sync::Barrier::new(4));
            for number in 1..=4 {
                let barrier = Arc::clone(&barrier);
                workers.start(move || {
                    barrier.wait();
                    number
                });
            }
            let told = std::iter::from_fn(|| told.pop());
            let mut numbers: Vec<i32> = told.take(4).map(Result::unwrap).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2, 3, 4]);
        });
    }

    #[test]
    fn a_panic_is_told_and_the_thread_goes_on() {
        thread::scope(|scope| {
            let told = Queue::new();
            let workers = Workers::new(scope, told.clone());
            workers.start(|| std::panic::resume_unwind(Box::new("why")));
            let panic = told.pop().unwrap().unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"why"));
            workers.start(|| 7);
            assert_eq!(told.pop().unwrap().unwrap(), 7);
        });
    }
}
