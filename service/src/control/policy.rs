//! What is asked and answered about policies.

use std::path::PathBuf;

use cordon_policy::{Effect, Layer};
use cordon_session::comparison::{Bound, Counts};
use serde::{Deserialize, Serialize};

/// From a command to the daemon.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyAsk {
    /// Sources, what is in force, what is tried out.
    Status,
    /// What a running session is decided by.
    Effective {
        /// Session id, or a unique prefix of one.
        session: String,
    },
    /// Ask a candidate beside what is in force.
    Try {
        /// The bundle; absent: the one that waits.
        bundle: Option<PathBuf>,
        /// Its layer, where no bundle is named.
        layer: Option<Layer>,
        /// For how long, seconds.
        seconds: u64,
    },
    /// Let a candidate decide for some sessions.
    Rollout {
        /// The bundle; absent: the one that is tried out, or waits.
        bundle: Option<PathBuf>,
        /// Its layer, where no bundle is named.
        layer: Option<Layer>,
        /// Sessions of a thousand.
        per_mille: u16,
        /// Groups of users.
        groups: Vec<String>,
        /// Users.
        users: Vec<String>,
        /// When it is taken back by itself.
        bound: Option<Bound>,
    },
    /// Put the candidate, or the bundle that waits, into force for all.
    Promote {
        /// Its layer, where nothing is tried out.
        layer: Option<Layer>,
    },
    /// Put a bundle into force for all.
    Publish {
        /// The bundle.
        bundle: PathBuf,
        /// It is the one that waits for a second signature, and no other.
        second: bool,
    },
    /// Take the candidate back; without one, what is in force.
    Rollback {
        /// The layer, where nothing is tried out.
        layer: Option<Layer>,
        /// To this revision instead of the one before.
        to: Option<u64>,
    },
}

/// From the daemon.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyAnswer {
    /// To a status request.
    Status(Box<PolicyStatus>),
    /// What a session is decided by.
    Effective(Box<Effective>),
    /// It is done.
    Done {
        /// What, in a sentence.
        message: String,
        /// Whether it waits for a second signature and is not in force.
        pending: bool,
    },
    /// Policy, or the trust file, does not let this user do it.
    Denied {
        /// What and why.
        message: String,
        /// The record.
        decision: Option<String>,
        /// What to do.
        help: Option<String>,
    },
}

/// Sources, what is in force, what is tried out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStatus {
    /// One for each layer that has a bundle, from the most to the least trusted. Empty: the
    /// built-in pack, or what `--policy` names.
    pub layers: Vec<LayerStatus>,
    /// Trust file, where signatures are needed.
    pub trust: Option<PathBuf>,
    /// What is tried out or rolled out.
    pub candidate: Option<CandidateStatus>,
    /// What waits for a second signature, in words, one for each layer at most.
    pub pending: Vec<String>,
    /// What went wrong that no layer is to blame for: a rollout that was taken back by itself, a
    /// state that could not be read.
    pub notes: Vec<String>,
}

/// One layer's bundles.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerStatus {
    /// Which.
    pub layer: Layer,
    /// Where its bundles come from.
    pub source: String,
    /// In force; absent: nothing, or its validity is over, and so no session may start.
    pub live: Option<BundleLine>,
    /// Waits for `promote`.
    pub waiting: Option<BundleLine>,
    /// What could be gone back to, the newest first.
    pub former: Vec<BundleLine>,
    /// Why the source's last answer did not come into force, or what was in force is not any more.
    pub fault: Option<String>,
}

/// One bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundleLine {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// Who signed it.
    pub signers: Vec<String>,
    /// Until when it only observes, where it does.
    pub observe: Option<String>,
}

/// A bundle that is tried out or rolled out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateStatus {
    /// Its layer.
    pub layer: Layer,
    /// Which.
    pub bundle: BundleLine,
    /// For whom, until when, under what bound: in words.
    pub stage: String,
    /// Who began it.
    pub by: String,
    /// What it and what is in force answered to the same requests, since the daemon started.
    pub counts: Counts,
}

/// What a running session is decided by.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Effective {
    /// Session id.
    pub session: String,
    /// Name of the whole set.
    pub set: String,
    /// Digest of the whole set, as in its records.
    pub digest: String,
    /// Revision, where it has one.
    pub revision: Option<u64>,
    /// Whether the session's policy follows changes, or stays as it began.
    pub follows: bool,
    /// Until when the whole set only observes, where it does.
    pub observe: Option<String>,
    /// The bundles in it.
    pub bundles: Vec<(Layer, BundleLine)>,
    /// The candidate's part in it, in words.
    pub candidate: Option<String>,
    /// Its rules, in the order of their layers.
    pub rules: Vec<RuleLine>,
    /// Grants that would be refused now.
    pub refused_grants: Vec<String>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleLine {
    /// Its id.
    pub id: String,
    /// Whose.
    pub layer: Layer,
    /// What it does.
    pub effect: String,
    /// What it says to the caller.
    pub reason: Option<String>,
    /// Until when it only observes, where it does.
    pub observe: Option<String>,
    /// Its text.
    pub text: String,
    /// File and line.
    pub place: String,
}

impl BundleLine {
    /// `house revision 7 (0123456789ab)`.
    pub fn words(&self) -> String {
        let digest = self.digest.get(..12).unwrap_or(&self.digest);
        let mut words = format!("{} revision {} ({digest})", self.name, self.revision);
        if !self.signers.is_empty() {
            words.push_str(", signed by ");
            words.push_str(&self.signers.join(", "));
        }
        if let Some(until) = &self.observe {
            words.push_str(", ONLY OBSERVES until ");
            words.push_str(until);
        }
        words
    }
}

/// `permit` or `forbid`.
pub fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}
