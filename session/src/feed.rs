//! What a session is decided by now, and news of a change.
//!
//! Whoever owns policy puts an [`InForce`] in; gates read it without a lock, and everything
//! long-lived waits for the next one. Never decides.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use cordon_policy::Snapshot;
use tokio::sync::watch;

use crate::comparison::Comparison;

/// The policy of one session, replaced as a whole while the session runs.
#[derive(Debug)]
pub struct PolicyFeed {
    now: ArcSwap<InForce>,
    changes: watch::Sender<u64>,
}

/// What decides, and what is asked beside it.
#[derive(Debug)]
pub struct InForce {
    /// What decides.
    pub live: Arc<Snapshot>,
    /// What is asked the same, without a say.
    pub beside: Option<Beside>,
}

/// The other side of a trial or a rollout.
#[derive(Clone, Debug)]
pub struct Beside {
    /// What is asked.
    pub snapshot: Arc<Snapshot>,
    /// Which of the two is the candidate.
    pub role: Role,
    /// Where the answers are compared.
    pub comparison: Arc<Comparison>,
}

/// Which of two snapshots is the candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The one beside: it is tried out and decides nothing.
    Trial,
    /// The one that decides: this session is in the rollout, and the bundle it would replace is
    /// asked beside it.
    Rollout,
}

impl InForce {
    /// Whether a rule of what decides, or of what is asked beside it, looks at what the session did
    /// before.
    pub fn reads_past(&self) -> bool {
        let beside = self.beside.as_ref();
        self.live.reads_past() || beside.is_some_and(|beside| beside.snapshot.reads_past())
    }

    /// One snapshot that decides alone.
    pub fn alone(live: Arc<Snapshot>) -> Self {
        Self { live, beside: None }
    }
}

impl PolicyFeed {
    /// A feed that begins with `first`.
    pub fn new(first: InForce) -> Self {
        Self {
            now: ArcSwap::from_pointee(first),
            changes: watch::channel(0).0,
        }
    }

    /// What is in force now, for one decision.
    pub fn load(&self) -> Guard<Arc<InForce>> {
        self.now.load()
    }

    /// What is in force now, to keep.
    pub fn current(&self) -> Arc<InForce> {
        self.now.load_full()
    }

    /// Puts `next` into force for every decision from now on, then tells who waits. The former is
    /// given back: freeing a large set takes milliseconds, and should not fall to a decision.
    pub fn replace(&self, next: InForce) -> Arc<InForce> {
        let former = self.now.swap(Arc::new(next));
        self.changes.send_modify(|count| *count += 1);
        former
    }

    /// Says that the same policy has to be asked again: time has passed that it depends on.
    pub fn ask_again(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// News of changes from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
