//! Whether the session's first process is there: asked every so often, and given up after a few
//! questions without an answer.

use std::time::{Duration, Instant};

/// Asked at times that its owner passes in; it reads no clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    next: Instant,
    unanswered: u32,
}

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beat {
    /// Nothing yet.
    Wait,
    /// Ask.
    Ask,
    /// It is gone.
    Lost,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: now + interval,
            unanswered: 0,
        }
    }

    /// When [`Self::beat`] is to be called next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// It answered.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// It cannot answer for a while: what it owes is forgotten.
    pub(super) fn pass_over(&mut self, now: Instant) {
        self.unanswered = 0;
        self.next = now + self.interval;
    }

    /// What to do now. Time that passed while we ourselves did not run counts as one interval.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        if now < self.next {
            return Beat::Wait;
        }
        if self.unanswered >= MISSES {
            return Beat::Lost;
        }
        self.unanswered += 1;
        self.next = now + self.interval;
        Beat::Ask
    }
}

/// How often the first process is asked.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// How many questions may stay without an answer.
const MISSES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// What it says at each of `ticks` intervals, answered where `answers` says so.
    fn run(ticks: u32, answers: impl Fn(u32) -> bool) -> Vec<Beat> {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        (1..=ticks)
            .map(|tick| {
                let beat = heartbeat.beat(start + INTERVAL * tick);
                if answers(tick) {
                    heartbeat.heard();
                }
                beat
            })
            .collect()
    }

    #[test]
    fn three_misses_in_a_row_and_no_fewer_are_the_end() {
        assert!(run(100, |_| true).iter().all(|beat| *beat == Beat::Ask));
        assert_eq!(
            run(4, |_| false),
            [Beat::Ask, Beat::Ask, Beat::Ask, Beat::Lost]
        );
        // Two misses, an answer, and the count begins again.
        assert!(
            run(100, |tick| tick % 3 == 0)
                .iter()
                .all(|beat| *beat == Beat::Ask)
        );
    }

    #[test]
    fn time_in_which_we_did_not_run_is_one_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        assert_eq!(heartbeat.beat(start + INTERVAL / 2), Beat::Wait);
        assert_eq!(heartbeat.beat(start + INTERVAL * 1000), Beat::Ask);
        assert_eq!(heartbeat.beat(start + INTERVAL * 1000), Beat::Wait);
    }
}
