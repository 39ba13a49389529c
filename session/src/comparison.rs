//! Compares what two policies answer to the same requests: counts since the start, and a window
//! that tells when a candidate refuses too much of what the other allows.
//!
//! Pairs of outcomes in, counts out. Never acts: whoever owns the rollout waits for
//! [`Comparison::tripped`].

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use cordon_policy::{Decision, ShadowEffect};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::feed::Role;

/// What came of asking two policies the same. Shared by the sessions of one trial or rollout.
#[derive(Debug)]
pub struct Comparison {
    bound: Option<Bound>,
    both_allow: AtomicU64,
    both_refuse: AtomicU64,
    newly_refused: AtomicU64,
    newly_allowed: AtomicU64,
    window: Mutex<Window>,
    tripped: watch::Sender<bool>,
}

/// How much more a candidate may refuse than what it would replace.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Largest share of requests that only the candidate refuses, in per mille.
    pub refused_per_mille: u16,
    /// Over how long, in seconds.
    pub window_seconds: u64,
    /// Fewer requests than this in a window prove nothing.
    pub at_least: u64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Requests that both allow.
    pub both_allow: u64,
    /// Requests that both refuse.
    pub both_refuse: u64,
    /// Requests that the candidate refuses and the other allows.
    pub newly_refused: u64,
    /// Requests that the candidate allows and the other refuses.
    pub newly_allowed: u64,
}

/// A window in parts, so that its beginning moves on without a list of every request.
#[derive(Debug, Default)]
struct Window {
    parts: [Part; PARTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Which stretch of time since the epoch it counts.
    stretch: u64,
    requests: u64,
    newly_refused: u64,
}

const PARTS: usize = 20;

impl Comparison {
    /// An empty one; with a bound it tells when that is passed.
    pub fn new(bound: Option<Bound>) -> Self {
        Self {
            bound,
            both_allow: AtomicU64::new(0),
            both_refuse: AtomicU64::new(0),
            newly_refused: AtomicU64::new(0),
            newly_allowed: AtomicU64::new(0),
            window: Mutex::default(),
            tripped: watch::channel(false).0,
        }
    }

    /// Counts what `decision` and what was asked beside it came to, at `at`.
    pub fn count(&self, decision: &Decision, role: Role, at: SystemTime) {
        let (decided, basis) = match decision {
            Decision::Allow(allow) => (true, &allow.verdict().basis),
            Decision::Deny(deny) => (false, &deny.verdict().basis),
        };
        let Some(shadow) = &basis.shadow else {
            return;
        };
        let beside = match shadow.effect {
            ShadowEffect::Allow => true,
            ShadowEffect::Deny | ShadowEffect::Ask | ShadowEffect::Error => false,
        };
        match role {
            Role::Trial => self.count_pair(decided, beside, at),
            Role::Rollout => self.count_pair(beside, decided, at),
        }
    }

    fn count_pair(&self, other_allows: bool, candidate_allows: bool, at: SystemTime) {
        let counter = match (other_allows, candidate_allows) {
            (true, true) => &self.both_allow,
            (false, false) => &self.both_refuse,
            (true, false) => &self.newly_refused,
            (false, true) => &self.newly_allowed,
        };
        counter.fetch_add(1, Relaxed);
        let Some(bound) = self.bound else {
            return;
        };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, refused) = window.add(bound, at, other_allows && !candidate_allows);
        if bound.is_passed(requests, refused) {
            self.tripped.send_if_modified(|tripped| {
                let first = !*tripped;
                *tripped = true;
                first
            });
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        Counts {
            both_allow: self.both_allow.load(Relaxed),
            both_refuse: self.both_refuse.load(Relaxed),
            newly_refused: self.newly_refused.load(Relaxed),
            newly_allowed: self.newly_allowed.load(Relaxed),
        }
    }

    /// The bound it was made with.
    pub fn bound(&self) -> Option<Bound> {
        self.bound
    }

    /// Becomes true, for good, when the bound is passed.
    pub fn tripped(&self) -> watch::Receiver<bool> {
        self.tripped.subscribe()
    }
}

impl Bound {
    fn is_passed(self, requests: u64, newly_refused: u64) -> bool {
        requests >= self.at_least
            && u128::from(newly_refused) * 1000
                > u128::from(requests) * u128::from(self.refused_per_mille)
    }

    /// Milliseconds that one part of the window counts.
    fn part_ms(self) -> u64 {
        let parts = u64::try_from(PARTS).unwrap_or(1);
        (self.window_seconds.saturating_mul(1000) / parts).max(1)
    }
}

impl Window {
    /// Adds one request; how many there were in the window, and how many of them newly refused.
    fn add(&mut self, bound: Bound, at: SystemTime, newly_refused: bool) -> (u64, u64) {
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX) / bound.part_ms();
        let parts = u64::try_from(PARTS).unwrap_or(1);
        let slot = usize::try_from(now % parts).unwrap_or(0);
        if let Some(part) = self.parts.get_mut(slot) {
            if part.stretch != now {
                *part = Part {
                    stretch: now,
                    ..Part::default()
                };
            }
            part.requests += 1;
            part.newly_refused += u64::from(newly_refused);
        }
        let oldest = now.saturating_sub(parts - 1);
        self.parts
            .iter()
            .filter(|part| part.stretch >= oldest && part.stretch <= now)
            .fold((0, 0), |(requests, refused), part| {
                (requests + part.requests, refused + part.newly_refused)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound {
        refused_per_mille: 50,
        window_seconds: 600,
        at_least: 20,
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_bound_is_passed_by_what_only_the_candidate_refuses() {
        let tally = Comparison::new(Some(BOUND));
        for _ in 0..95 {
            tally.count_pair(true, true, at(0));
            tally.count_pair(false, false, at(0));
            tally.count_pair(false, true, at(0));
        }
        for _ in 0..15 {
            tally.count_pair(true, false, at(1));
        }
        assert!(!*tally.tripped().borrow(), "15 of 300 is the bound itself");
        tally.count_pair(true, false, at(1));
        assert!(*tally.tripped().borrow());
        assert_eq!(
            tally.counts(),
            Counts {
                both_allow: 95,
                both_refuse: 95,
                newly_refused: 16,
                newly_allowed: 95
            }
        );
    }

    #[test]
    fn few_requests_prove_nothing_and_old_ones_are_forgotten() {
        let tally = Comparison::new(Some(BOUND));
        for _ in 0..19 {
            tally.count_pair(true, false, at(0));
        }
        assert!(!*tally.tripped().borrow());
        // Eleven minutes later the window holds one request.
        tally.count_pair(true, false, at(660));
        assert!(!*tally.tripped().borrow());
        for _ in 0..19 {
            tally.count_pair(true, false, at(661));
        }
        assert!(*tally.tripped().borrow());
    }
}
