//! Work on threads whose stack is large enough for Cedar's parser and validator.
//!
//! With the bounds on nesting the stack cannot be used up; on the caller's own it could be.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const STACK_BYTES: usize = 64 << 20;
/// Most threads that compile one policy set.
const MOST_THREADS: usize = 4;

/// Runs on a large stack.
///
/// # Errors
/// In words, when there is no thread or the work panicked.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("cordon-policy-load".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread to parse on: {error}"))?
            .join()
            .map_err(|_| "the policy parser failed; please report the file that did it".to_owned())
    })
}

/// Does the same work on every item, on several threads where there are several items, and
/// answers in their order. Called on a large stack, which one item alone is worked on.
pub(super) fn on_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(MOST_THREADS).min(items.len());
    let next = AtomicUsize::new(0);
    let work_through = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match items.get(at) {
                Some(item) => done.push((at, work(item))),
                None => return done,
            }
        }
    };
    let mut done = thread::scope(|scope| {
        // The caller is one of the threads; without any other it does everything.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| {
                let builder = thread::Builder::new().stack_size(STACK_BYTES);
                builder.spawn_scoped(scope, work_through).ok()
            })
            .collect();
        let mut done = work_through();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 2, 1_000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = on_each(&items, |item| item * 2);
            assert!(doubled.iter().enumerate().all(|(at, item)| *item == at * 2));
            assert_eq!(doubled.len(), count);
        }
    }

    #[test]
    fn a_panic_is_an_error_and_no_lost_work() {
        let failed = on_large_stack(|| on_each(&[1, 2, 3], |item| assert!(*item < 3)));
        assert!(failed.is_err());
        assert_eq!(on_large_stack(|| 7), Ok(7));
    }
}
