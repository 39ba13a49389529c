//! A question about an application of a bundle, or a search, and what came of it.

use cordon_policy::RuleRef;

use crate::record::Access;

/// What a caller of the decision API asked about others than sessions.
#[derive(Clone, Debug)]
pub struct AccessEvent {
    /// The name of the caller who asked.
    pub caller: String,
    /// What was asked, and how much was looked at.
    pub access: Access,
    /// The set that decided.
    pub policy: Option<DecidedBy>,
    /// What came of it; of a search, that it was answered.
    pub outcome: AccessOutcome,
}

/// A policy set, as records name it.
#[derive(Clone, Debug)]
pub struct DecidedBy {
    /// Its name.
    pub set: String,
    /// SHA-256 over its files, lower-case hex.
    pub digest: String,
    /// Its revision, where it is a bundle.
    pub revision: Option<u64>,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub enum AccessOutcome {
    /// It may be done, by these rules; or it was a search.
    Allowed(Vec<RuleRef>),
    /// It may not be done, by these rules.
    Denied(Vec<RuleRef>),
    /// It could not be asked, or evaluating failed.
    Failed {
        /// Whether rules were asked, and failed.
        evaluated: bool,
        /// Why, in words.
        why: String,
    },
}
