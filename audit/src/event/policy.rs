//! What happens to policy itself: bundles that come into force, are refused, tried out, taken back.

use cordon_policy::{Layer, SessionFacts};
use std::sync::Arc;

/// A change of policy, or one that was refused.
#[derive(Clone, Debug)]
pub struct PolicyEvent {
    /// What happened.
    pub change: PolicyChange,
    /// The bundle, as far as it is known.
    pub bundle: Option<PolicyBundle>,
    /// Where it came from, as configured, or the path that was named.
    pub source: Option<String>,
    /// Who asked for it; absent when the daemon did it by itself.
    pub by: Option<String>,
    /// In words: why, or under what conditions. Bounded when it is recorded.
    pub why: Option<String>,
    /// The one session that it is about, where it is about one.
    pub session: Option<Arc<SessionFacts>>,
}

/// A bundle, as it stands in a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyBundle {
    /// Its name.
    pub name: String,
    /// Its layer.
    pub layer: Layer,
    /// Its revision.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
}

/// What happened to policy: a fixed vocabulary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyChange {
    /// A source brought a bundle, or the last good one was read at start; it is in force.
    Load,
    /// A bundle was refused; what was in force stays.
    Refused,
    /// A bundle waits for a second signature.
    Pending,
    /// A candidate is asked beside what is in force.
    Try,
    /// A candidate decides for some sessions.
    Rollout,
    /// A bundle was put into force by somebody.
    Promote,
    /// A candidate, or what was in force, was taken back.
    Rollback,
}
