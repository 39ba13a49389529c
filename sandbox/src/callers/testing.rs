//! Waiting for descriptors that other tests hold for a moment.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Looks until it is found. What another test starts has all descriptors of this process until it
/// becomes its program: a file that was written by one, or a connection, is closed only then.
pub fn soon<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it stays open");
        thread::yield_now();
    }
}
