//! What happens to a person's approval, from the request to its end. Its uses are decisions.

use std::{sync::Arc, time::SystemTime};

use cordon_policy::{Operation, SessionFacts};
use serde::{Deserialize, Serialize};

use crate::record::Approval;

/// One step of an approval.
#[derive(Clone, Debug)]
pub struct ApprovalEvent {
    /// Which session asks.
    pub session: Arc<SessionFacts>,
    /// What it asks for.
    pub operation: Operation,
    /// What happened.
    pub step: ApprovalStep,
    /// The approval itself.
    pub approval: Approval,
    /// When it happened, as the one who decides its deadlines saw it.
    pub at: SystemTime,
    /// Why, in words, where somebody or something said so.
    pub why: Option<String>,
}

/// What happened to an approval: a fixed vocabulary, in a record's `state`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStep {
    /// A session asks, and a person may answer.
    Requested,
    /// One of several people who must say yes has.
    Seconded,
    /// It is given.
    Granted,
    /// A person said no.
    Refused,
    /// Nobody answered in time, or it was not used in time.
    Expired,
    /// The session is over, or whoever may approve took it back.
    Withdrawn,
}

impl ApprovalStep {
    /// As it stands in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Seconded => "seconded",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}
