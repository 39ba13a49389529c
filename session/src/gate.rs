//! The gate: decides and records, for every kind of request. There is no other way to a permit.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use cordon_audit::{Denied, Event, Log, Permit, Record, RecordError, Recorded, SessionState};
use cordon_policy::{
    Allow, ApprovalRef, Asked, Basis, Decided, Decision, Deny, DenyReason, History, LateFact,
    NormalizedHost, Operation, RawRequest, Request, SessionFacts, Snapshot, labels_in,
};

use tokio::sync::{Semaphore, watch};

use crate::{
    approvals::{Approvals, MOST_PENDING, Wanted},
    feed::{InForce, PolicyFeed},
    metrics::GATE,
    past::{Ledger, Review, Turn},
    tally::Tally,
};

/// One session's gate: its facts, the policy in force for it and the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    session: Arc<SessionFacts>,
    policy: Arc<PolicyFeed>,
    log: Log,
    tally: Arc<Tally>,
    past: Arc<Ledger>,
    paused: watch::Sender<bool>,
    /// The same, for whoever looks at it with every part that moves.
    is_paused: Arc<AtomicBool>,
    /// Where people are asked, once the session is open.
    approvals: Arc<OnceLock<Arc<Approvals>>>,
    /// Places for requests that people are being asked about.
    asking: Arc<Semaphore>,
}

/// Watches over something long-lived that was allowed: a tunnel, a download.
#[derive(Debug)]
pub struct Watch {
    gate: Gate,
    operation: Operation,
    changes: watch::Receiver<u64>,
    /// Whether what is in force is what decided it last.
    known: bool,
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
            // Its record is what counts the use.
            Decision::Allow(allow) if allow.verdict().basis.approval.is_some() => true,
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
    /// Opens the gate of one session whose policy stays as it is.
    pub fn new(session: Arc<SessionFacts>, snapshot: Arc<Snapshot>, log: Log) -> Self {
        let feed = PolicyFeed::new(InForce::alone(snapshot));
        Self::following(session, Arc::new(feed), log)
    }

    /// Opens the gate of one session that is decided by whatever `policy` holds at the time.
    pub fn following(session: Arc<SessionFacts>, policy: Arc<PolicyFeed>, log: Log) -> Self {
        Self {
            session,
            policy,
            log,
            tally: Arc::default(),
            past: Arc::default(),
            paused: watch::Sender::new(false),
            is_paused: Arc::default(),
            approvals: Arc::default(),
            asking: Arc::new(Semaphore::new(MOST_PENDING)),
        }
    }

    /// From now on people may be asked about what policy allows with an approval. Once.
    pub fn ask_people(&self, approvals: Arc<Approvals>) {
        let _once = self.approvals.set(approvals);
    }

    /// Whether the session is paused from here on: then its flows do not move.
    pub fn pause(&self, paused: bool) {
        // Both in one turn, so that they cannot differ after two of these at once.
        self.paused.send_modify(|now| {
            self.is_paused.store(paused, Ordering::Release);
            *now = paused;
        });
    }

    /// Whether it is paused now, and when that changes.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// Whether it is paused now.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    /// Resolves at once, or when the session is not paused any more.
    pub async fn not_paused(&self) {
        if self.is_paused() {
            // Boxed, because hardly anything meets a pause.
            Box::pin(async {
                let mut paused = self.paused.subscribe();
                // It outlives us: the sender is ours too.
                let _gone = paused.wait_for(|paused| !paused).await;
            })
            .await;
        }
    }

    /// Whose gate it is.
    pub fn session(&self) -> &Arc<SessionFacts> {
        &self.session
    }

    /// What decides now.
    pub fn policy(&self) -> Arc<Snapshot> {
        Arc::clone(&self.policy.load().live)
    }

    /// What the session did so far, counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What it did so far, as policy is told it.
    pub fn past(&self) -> &Ledger {
        &self.past
    }

    /// Counts what the records of the session tell of it, before anything more is decided.
    pub fn recall(&self, records: &[Record]) {
        let live = self.policy();
        self.past
            .recall(records, |operation| self.labels_of(&live, operation));
    }

    /// Host groups of the policy set that `host` is in, by name.
    pub fn host_groups(&self, host: &NormalizedHost) -> Vec<Arc<str>> {
        self.policy.load().live.host_groups_of(host)
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
        let (decision, taken) = self.decide(operation);
        let decision = match (decision, self.approvals.get()) {
            (Decision::Deny(deny), Some(approvals)) if wants_approval(&deny) => {
                // Boxed: mostly nobody is asked.
                return Box::pin(self.ask(deny, Arc::clone(approvals), durability)).await;
            }
            (decision, _) => decision,
        };
        // Before what is read is: a session that was killed between has the label all the same.
        self.take_on(&taken).await.map_err(GateError::NotRecorded)?;
        self.record(decision, durability).await
    }

    /// Has a person asked, and records the refusal: to its end, also where whoever wanted it goes away
    /// meanwhile. What is asked on record and known to nobody could not be answered.
    async fn ask(
        &self,
        deny: Decided<Deny>,
        approvals: Arc<Approvals>,
        durability: Durability,
    ) -> Result<Permit, GateError> {
        let gate = self.clone();
        // Whoever goes away before there is one has asked nobody.
        let place = Arc::clone(&self.asking).acquire_owned().await;
        let asked = tokio::spawn(async move {
            let _place = place;
            let asked = approvals.ask(deny).await;
            let asked = asked.map_err(GateError::NotRecorded)?;
            gate.record(Decision::Deny(asked), durability).await
        });
        asked.await.unwrap_or_else(|broken| {
            let message = format!("it broke off while a person was asked: {broken}");
            Err(GateError::NotRecorded(RecordError { message }))
        })
    }

    /// Records the labels that the session takes on, each once.
    async fn take_on(&self, labels: &[Arc<str>]) -> Result<(), RecordError> {
        for label in labels {
            let event = Event::SessionChanged {
                session: Arc::clone(&self.session),
                state: SessionState::Labels,
                why: Some(label.to_string()),
            };
            self.event(event).await?;
            self.past.recorded(label);
        }
        if !labels.is_empty() && self.policy.load().reads_past() {
            // What is open may be refused by them.
            self.policy.ask_again();
        }
        Ok(())
    }

    /// Watches over what `permit` allowed, from its decision on: no change since is missed.
    pub fn watch(&self, permit: &Permit) -> Watch {
        // Subscribed first: a change after this is news, one before it is seen in what is in force.
        let changes = self.policy.changes();
        Watch {
            known: self.decided_now(permit.basis()),
            gate: self.clone(),
            operation: permit.request().operation.clone(),
            changes,
        }
    }

    /// Watches over what was allowed, from its decision on, and keeps nothing of its own for that:
    /// what is asked again is put together only when policy changes. `basis` is what the decision
    /// rests on. Resolves once the policy in force refuses it; with nothing once it is allowed on
    /// terms that `differ`: then it cannot go on as it is, and whoever asks again may have it on
    /// the new ones.
    pub async fn over(
        &self,
        basis: &Basis,
        operation: impl Fn() -> Option<Operation>,
        differ: impl Fn(&Basis) -> bool,
    ) -> Option<Decided<Deny>> {
        // As in `watch`: subscribed first.
        let mut changes = self.policy.changes();
        let mut known = self.decided_now(basis);
        loop {
            if !known && let Some(operation) = operation() {
                match self.review(operation) {
                    Err(deny) => return Some(deny),
                    Ok(basis) if differ(&basis) => return None,
                    Ok(_same) => {}
                }
            }
            known = false;
            if changes.changed().await.is_err() {
                // As in `Watch::revoked`: this cannot be.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Decides again what was allowed before, by what has been seen of it since. Nothing is
    /// recorded, because nothing new is done; the answer says what the permits ask for now. What an
    /// approval let begin stays approved, also once that is used up.
    ///
    /// # Errors
    /// The refusal, to be recorded with [`Gate::refuse`].
    pub fn review(&self, operation: Operation) -> Result<Basis, Decided<Deny>> {
        self.reviewed(operation, Review::Done, Approvals::covers)
    }

    /// Says what would be decided now. Nothing is recorded and no approval is used.
    ///
    /// # Errors
    /// The refusal.
    pub fn look(&self, operation: Operation) -> Result<Basis, Decided<Deny>> {
        let now = SystemTime::now();
        self.reviewed(operation, Review::New, |approvals, wanted| {
            approvals.usable(wanted, now)
        })
    }

    fn reviewed(
        &self,
        operation: Operation,
        is_done: Review,
        find: impl Fn(&Approvals, &Wanted<'_>) -> Option<ApprovalRef>,
    ) -> Result<Basis, Decided<Deny>> {
        let live = &self.policy.load().live;
        let past = match live.reads_past() {
            true => self.past.before(&operation, is_done),
            false => History::default(),
        };
        let deny = match live.decide_after(&past, self.request(operation), None) {
            Decision::Allow(still) => return Ok(still.verdict().basis.clone()),
            Decision::Deny(deny) => deny,
        };
        let Some((request, approval)) = self.approved(&deny, find) else {
            return Err(deny);
        };
        match live.decide_after(&past, request, Some(approval)) {
            Decision::Allow(still) => Ok(still.verdict().basis.clone()),
            Decision::Deny(deny) => Err(deny),
        }
    }

    /// The approval that there is of what was refused for want of one.
    fn approved(
        &self,
        deny: &Decided<Deny>,
        find: impl Fn(&Approvals, &Wanted<'_>) -> Option<ApprovalRef>,
    ) -> Option<(Request, ApprovalRef)> {
        let approvals = self.approvals.get()?;
        let Asked::Request(request) = &deny.verdict().asked else {
            return None;
        };
        if !wants_approval(deny) {
            return None;
        }
        let wanted = Wanted::by(&self.session.id, deny)?;
        let approval = find(approvals, &wanted)?;
        Some((request.clone(), approval))
    }

    /// Whether some rule in force can look at what is seen of a connection after it was decided:
    /// then what was seen is reviewed, else it cannot change the answer.
    pub fn reads(&self, fact: LateFact) -> bool {
        self.policy.load().live.reads(fact)
    }

    /// Whether some rule in force speaks of HTTP requests apart from the network as a whole.
    pub fn speaks_of_requests(&self) -> bool {
        self.policy.load().live.speaks_of_requests()
    }

    /// The decision, and the labels that have to be recorded before it.
    fn decide(&self, operation: Operation) -> (Decision, Vec<Arc<str>>) {
        let now = self.policy.load();
        // Where a rule looks at counts they stand still until this is counted: of two requests at
        // once the second sees the first.
        let turn = now.reads_past().then(|| self.past.turn(&operation));
        let nothing = History::default();
        let past = turn.as_ref().map_or(&nothing, Turn::before);
        let request = self.request(operation);
        let at = request.at;
        let mut decision = judge(&now, past, request, None);
        if let Decision::Deny(deny) = &decision {
            let take = |approvals: &Approvals, wanted: &Wanted<'_>| approvals.take(wanted, at);
            if let Some((request, approval)) = self.approved(deny, take) {
                let id = Arc::clone(&approval.id);
                decision = judge(&now, past, request, Some(approval));
                if let (Decision::Deny(_), Some(approvals)) = (&decision, self.approvals.get()) {
                    approvals.put_back(&self.session.id, &id);
                }
            }
        }
        if let Some(beside) = &now.beside {
            beside.comparison.count(&decision, beside.role, at);
        }
        let mut taken = Vec::new();
        if let Decision::Allow(allow) = &decision {
            let allow = allow.verdict();
            let operation = &allow.request.operation;
            let labels = self.labels(&now.live, allow);
            taken = match turn {
                Some(turn) => turn.count(operation, labels),
                None => self.past.count(operation, labels),
            };
        }
        (decision, taken)
    }

    /// Labels that the session takes on by what was allowed.
    fn labels(&self, live: &Snapshot, allow: &Allow) -> Vec<Arc<str>> {
        let operation = &allow.request.operation;
        let mut labels = self.labels_of(live, operation);
        for given in allow.basis.obligation("label") {
            labels.extend(labels_in(given).map(Arc::from));
        }
        labels
    }

    /// Those that the data of the set gives.
    fn labels_of(&self, live: &Snapshot, operation: &Operation) -> Vec<Arc<str>> {
        match self.past.is_read_by(operation) {
            true => live.labels_of(operation),
            false => Vec::new(),
        }
    }

    fn request(&self, operation: Operation) -> Request {
        Request {
            session: Arc::clone(&self.session),
            operation,
            at: SystemTime::now(),
        }
    }

    /// Whether a decision was made by the very snapshot that is in force. Each snapshot has one
    /// text of its digest, shared by its decisions, so the place in memory tells.
    fn decided_now(&self, basis: &Basis) -> bool {
        std::ptr::eq(
            basis.digest.as_ptr(),
            self.policy.load().live.digest().as_ptr(),
        )
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
        self.tally.happened(&event);
        self.log.event_later(event);
    }

    /// Reports something that is not a decision; resolves when it is durable.
    ///
    /// # Errors
    /// [`RecordError`] when the log cannot take it.
    pub async fn event(&self, event: Event) -> Result<(), RecordError> {
        self.tally.happened(&event);
        self.log.event(event).await.map(|_id| ())
    }

    async fn record(
        &self,
        decision: Decision,
        durability: Durability,
    ) -> Result<Permit, GateError> {
        if let Decision::Deny(deny) = &decision {
            self.tally.denied(deny.verdict());
        }
        GATE.decided(&decision);
        let since = Instant::now();
        let recorded = match (&decision, durability.for_decision(&decision)) {
            // Only a further allow may be recorded without a wait: a deny is another outcome.
            (Decision::Allow(_), Durability::Written) => self.log.record_written(decision).await,
            // Boxed: whatever waits for the disk is not moved about meanwhile.
            (Decision::Allow(_) | Decision::Deny(_), _) => {
                Box::pin(self.log.record(decision)).await
            }
        };
        let outcome = match &recorded {
            Ok(Recorded::Allow(_)) => Some(Ok(())),
            Ok(Recorded::Deny(denied)) => Some(Err(denied.verdict().reason)),
            Err(_) => None,
        };
        GATE.recorded(since, outcome);
        match recorded {
            Ok(Recorded::Allow(permit)) => {
                self.tally.allowed(&permit);
                Ok(permit)
            }
            Ok(Recorded::Deny(denied)) => Err(GateError::Denied(denied)),
            Err(error) => Err(GateError::NotRecorded(error)),
        }
    }
}

/// What is in force says, with what is tried out beside it.
fn judge(
    now: &InForce,
    past: &History,
    request: Request,
    approval: Option<ApprovalRef>,
) -> Decision {
    match &now.beside {
        None => now.live.decide_after(past, request, approval),
        Some(beside) => now
            .live
            .decide_beside(past, request, approval, &beside.snapshot),
    }
}

fn wants_approval(deny: &Decided<Deny>) -> bool {
    deny.verdict().reason == DenyReason::ApprovalRequired
}

impl Watch {
    /// Watches over what `operation` says from now on: the same as was allowed, with what has been
    /// seen of it since. Call it after that was reviewed.
    pub fn saw(&mut self, operation: Operation) {
        self.operation = operation;
    }

    /// What is watched over.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Resolves once the policy in force refuses it; never, while it is allowed (N19). End it,
    /// and record the refusal with [`Gate::refuse`].
    pub async fn revoked(&mut self) -> Decided<Deny> {
        loop {
            if !self.known
                && let Err(deny) = self.gate.review(self.operation.clone())
            {
                return deny;
            }
            self.known = false;
            if self.changes.changed().await.is_err() {
                // The gate holds the feed, and the feed holds the sender: this cannot be.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cordon_policy::{
        Backend, Destination, Transport,
        source::{PolicyFile, PolicySource},
    };

    use super::*;

    #[test]
    fn a_rule_can_ask_for_more_durability_and_never_for_less() {
        let decide = |rule: &str| {
            let files = vec![PolicyFile::new("test.cedar", rule)];
            let snapshot = Snapshot::load(&PolicySource::new("test", files)).unwrap();
            snapshot.decide(Request {
                session: Arc::new(SessionFacts {
                    id: "s".into(),
                    user: "alice".into(),
                    groups: Vec::new(),
                    agent: None,
                    platform: "linux".into(),
                    backend: Backend::Bubblewrap,
                }),
                operation: Operation::Connect {
                    destination: Destination::from_parts(b"a.test", 443).unwrap(),
                    transport: Transport::HttpConnect,
                    seen: cordon_policy::Seen::default(),
                },
                at: SystemTime::UNIX_EPOCH,
            })
        };
        let plain = decide("permit (principal, action, resource);");
        let each = decide("@durability(\"each\") permit (principal, action, resource);");
        let denied = decide("");
        let (synced, written) = (Durability::Synced, Durability::Written);
        for (decision, asked, expected) in [
            (&plain, written, written),
            (&plain, synced, synced),
            (&each, written, synced),
            (&each, synced, synced),
            (&denied, written, written),
        ] {
            assert_eq!(asked.for_decision(decision), expected, "{decision:?}");
        }
    }
}
