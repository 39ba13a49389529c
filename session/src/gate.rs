//! The gate: decides and records, for every kind of request. There is no other way to a permit.

use std::{sync::Arc, time::SystemTime};

use cordon_audit::{Denied, Event, Log, Permit, RecordError, Recorded};
use cordon_policy::{
    Asked, Basis, Decided, Decision, Deny, DenyReason, NormalizedHost, Operation, RawRequest,
    Request, SessionFacts, Snapshot,
};

/// One session's gate: its facts, its policy snapshot and the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    session: Arc<SessionFacts>,
    snapshot: Arc<Snapshot>,
    log: Log,
}

/// When a record counts as made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// On stable storage: the opening of a flow, a grant, a session.
    Synced,
    /// Written, synced within 20 ms: a further request on a kept connection, same destination,
    /// same outcome.
    Written,
}

impl Durability {
    /// A rule may ask for more than the caller does (`@durability("each")`), never for less.
    fn for_decision(self, decision: &Decision) -> Self {
        let asks_for_each = match decision {
            Decision::Allow(allow) => {
                let obligations = &allow.verdict().basis.obligations;
                obligations.iter().any(|o| &*o.name == "durability")
            }
            Decision::Deny(_) => false,
        };
        if asks_for_each { Self::Synced } else { self }
    }
}

/// Why there is no permit.
#[derive(Debug)]
pub enum GateError {
    /// Refused, and recorded. Answer with its reason and id.
    Denied(Denied),
    /// It could not be recorded, so it must not happen. Answer 503.
    NotRecorded(RecordError),
}

impl Gate {
    /// Opens the gate of one session.
    pub fn new(session: Arc<SessionFacts>, snapshot: Arc<Snapshot>, log: Log) -> Self {
        Self {
            session,
            snapshot,
            log,
        }
    }

    /// Whose gate it is.
    pub fn session(&self) -> &Arc<SessionFacts> {
        &self.session
    }

    /// Host groups of the policy set that `host` is in, by name.
    pub fn host_groups(&self, host: &NormalizedHost) -> Vec<Arc<str>> {
        self.snapshot.host_groups_of(host)
    }

    /// Decides and records one operation of this session.
    ///
    /// # Errors
    /// [`GateError::Denied`] when refused, [`GateError::NotRecorded`] when the log cannot take it.
    pub async fn admit(
        &self,
        operation: Operation,
        durability: Durability,
    ) -> Result<Permit, GateError> {
        let request = Request {
            session: Arc::clone(&self.session),
            operation,
            at: SystemTime::now(),
        };
        self.record(self.snapshot.decide(request), durability).await
    }

    /// Records the refusal of something that could not be normalised. `door` names where it came
    /// in, `raw` is what came in (cut here), `problem` says what is wrong and what to do.
    pub async fn refuse_raw(&self, door: &'static str, raw: &[u8], problem: String) -> GateError {
        let kept = raw
            .get(..raw.len().min(RawRequest::MAX_BYTES))
            .unwrap_or(raw);
        let asked = Asked::Raw(RawRequest {
            session: Arc::clone(&self.session),
            door,
            text: String::from_utf8_lossy(kept).into_owned(),
            at: SystemTime::now(),
            problem,
        });
        self.refuse(Decided::<Deny>::deny(
            asked,
            DenyReason::Malformed,
            Basis::default(),
        ))
        .await
    }

    /// Records a refusal that was reached outside the engine (an unpermitted address, a
    /// protected folder).
    pub async fn refuse(&self, deny: Decided<Deny>) -> GateError {
        match self.record(Decision::Deny(deny), Durability::Synced).await {
            Err(error) => error,
            // A deny that comes back as a permit cannot be built; refuse all the same.
            Ok(_permit) => GateError::NotRecorded(RecordError {
                message: "a refusal was answered with a permit".into(),
            }),
        }
    }

    /// Reports something that is not a decision; does not wait.
    pub fn event_later(&self, event: Event) {
        self.log.event_later(event);
    }

    /// Reports something that is not a decision; resolves when it is durable.
    ///
    /// # Errors
    /// [`RecordError`] when the log cannot take it.
    pub async fn event(&self, event: Event) -> Result<(), RecordError> {
        self.log.event(event).await.map(|_id| ())
    }

    async fn record(
        &self,
        decision: Decision,
        durability: Durability,
    ) -> Result<Permit, GateError> {
        let recorded = match (&decision, durability.for_decision(&decision)) {
            // Only a further allow may be recorded without a wait: a deny is another outcome.
            (Decision::Allow(_), Durability::Written) => self.log.record_written(decision).await,
            (Decision::Allow(_) | Decision::Deny(_), _) => self.log.record(decision).await,
        };
        match recorded {
            Ok(Recorded::Allow(permit)) => Ok(permit),
            Ok(Recorded::Deny(denied)) => Err(GateError::Denied(denied)),
            Err(error) => Err(GateError::NotRecorded(error)),
        }
    }
}
