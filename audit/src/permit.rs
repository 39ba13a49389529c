//! Permits: the only thing that lets an effect happen, handed out by [`crate::Log::record`] alone.

use cordon_policy::{Allow, Asked, Basis, Decided, Deny, DenyReason, Request};

use crate::RecordId;

/// A decision that is in the log.
#[must_use = "act on it, or say why not"]
#[derive(Debug)]
pub enum Recorded {
    /// Go ahead, once.
    Allow(Permit),
    /// Refuse.
    Deny(Denied),
}

/// A recorded allow, spent by the effect: one decision, one record, one effect. Cannot be made,
/// cloned or used twice.
#[must_use = "spend it, or refuse it"]
#[derive(Debug)]
pub struct Permit {
    decided: Decided<Allow>,
    id: RecordId,
}

/// A recorded deny.
#[derive(Debug)]
pub struct Denied {
    decided: Decided<Deny>,
    id: RecordId,
}

impl Permit {
    pub(crate) fn new(decided: Decided<Allow>, id: RecordId) -> Self {
        Self { decided, id }
    }

    /// What is permitted; nothing else may be done with this permit.
    pub fn request(&self) -> &Request {
        &self.decided.verdict().request
    }

    /// What the decision rests on.
    pub fn basis(&self) -> &Basis {
        &self.decided.verdict().basis
    }

    /// The record's id, for answers and for the record of the flow's end.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Turns the permit back into a refusal (a resolved address was not permitted, say), to be
    /// recorded like any other.
    pub fn refuse(self, reason: DenyReason, asked: Asked) -> Decided<Deny> {
        self.decided.refuse(reason, asked)
    }

    /// As [`Self::refuse`] of the same request, with what was wrong in words.
    pub fn refuse_for(self, reason: DenyReason, why: String) -> Decided<Deny> {
        self.decided.refuse_for(reason, why)
    }
}

impl Denied {
    pub(crate) fn new(decided: Decided<Deny>, id: RecordId) -> Self {
        Self { decided, id }
    }

    /// What was refused, and why.
    pub fn verdict(&self) -> &Deny {
        self.decided.verdict()
    }

    /// The record's id, returned to the caller.
    pub fn id(&self) -> RecordId {
        self.id
    }
}
