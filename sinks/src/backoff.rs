//! When to try again: twice as long after each failure, with jitter, up to a minute.
//!
//! The time and a random number are passed in; nothing here waits.

use std::time::{Duration, Instant};

/// Time between attempts at one receiver.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

impl Backoff {
    /// An attempt at `now` failed; `random` spreads the receivers of many logs.
    pub(crate) fn fail(&mut self, now: Instant, random: u32) {
        let doubled = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        // Between half of it and all of it.
        let half = doubled / 2;
        let spread = half.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(half + spread);
    }

    /// An attempt succeeded.
    pub(crate) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// How long to wait, as of `now`.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// A number that no other process has at this moment; 0 where the system has none.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_a_minute_and_end_with_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(now), Duration::ZERO);
        for (random, low, high) in [
            (0, 250, 250),
            (u32::MAX, 1_000, 1_000),
            (u32::MAX / 2, 1_499, 1_501),
        ] {
            backoff.fail(now, random);
            let wait = backoff.wait(now).as_millis();
            assert!((low..=high).contains(&wait), "{random}: {wait}");
        }
        for _ in 0..40 {
            backoff.fail(now, u32::MAX);
        }
        assert_eq!(backoff.wait(now), LONGEST);
        assert_eq!(backoff.wait(now + LONGEST), Duration::ZERO);
        backoff.succeed();
        assert_eq!((backoff.wait(now), backoff.failures()), (Duration::ZERO, 0));
    }
}
