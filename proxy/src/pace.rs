//! A rate: so many per second, after so many at once.
//!
//! Never refuses; whoever is too fast waits.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lets `per_second` through, after a burst.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: u32,
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    since: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            state: Mutex::new(State {
                left: burst,
                since: Instant::now(),
            }),
        }
    }

    /// Takes one turn, once there is one.
    pub(crate) async fn wait(&self) {
        while let Err(until) = self.take() {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Takes one turn, or says when to ask again.
    pub(crate) fn take(&self) -> Result<(), Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.since.elapsed().as_millis();
        let earned = passed.saturating_mul(u128::from(self.per_second)) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            state.left = state.left.saturating_add(earned).min(self.burst);
            state.since = Instant::now();
        }
        match state.left.checked_sub(1) {
            Some(left) => {
                state.left = left;
                Ok(())
            }
            None => {
                // A tenth of a second's worth at a time, so that a long queue wakes up seldom;
                // and no longer than one turn takes to be earned.
                let turn = Duration::from_secs(1) / self.per_second.max(1);
                Err(state.since + turn.max(Duration::from_millis(100)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n24_a_burst_passes_and_the_rest_waits() {
        let pace = Pace::new(1, 3);
        assert!((0..3).all(|_| pace.take().is_ok()));
        let until = pace.take().unwrap_err();
        assert!(until > Instant::now());
        // A turn is earned with time, never more than the burst.
        pace.state.lock().unwrap().since -= Duration::from_secs(100);
        assert!((0..3).all(|_| pace.take().is_ok()));
        assert!(pace.take().is_err());
    }
}
