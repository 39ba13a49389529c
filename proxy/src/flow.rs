//! A flow: a spent permit, what moved under it, and the record of its end.
//!
//! A [`Flow`] owns its [`Permit`], so one permit makes one flow. However a flow ends (also by a
//! dropped task), dropping it reports the end; no path can forget to. So every allow in the log
//! is followed by its end, or by the refusal that took it back.

mod meter;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use cordon_audit::{Event, FlowEnd, Permit, RecordError, RecordId};
use cordon_policy::{
    Asked, Basis, Decided, Deny, DenyReason, Handshake, LateFact, Operation, Request, Seen,
    TlsFacts,
};
use cordon_session::{GateError, past::Bytes as Told};
use tracing::{
    Id, Span,
    field::{Empty, display},
};

pub(crate) use meter::Meter;

use crate::{limits, metrics, refuse::Refusal, session::Session};

/// One allowed flow, open until dropped.
#[derive(Debug)]
pub(crate) struct Flow {
    session: Arc<Session>,
    /// `None` once the allow was taken back: then there was no flow to end.
    permit: Option<Permit>,
    decision: RecordId,
    /// What was allowed, with what has been seen of it since.
    seen: Option<Box<Operation>>,
    since: Instant,
    meter: Arc<Meter>,
    /// What the meter stood at when this flow began: a kept connection carries several in turn.
    began_at: Bytes,
    /// Whether the connection was there before it.
    kept: bool,
    /// Whether its bytes, which nobody looks at, began as an HTTP request.
    requests: bool,
    peer: Option<SocketAddr>,
    status: Option<u16>,
    end: Option<FlowEnd>,
    /// Where flows are traced, and this one is.
    span: Option<Box<Span>>,
}

/// Watches over one flow: until policy allows it no more, or a limit ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    policy: cordon_session::Watch,
    meter: Arc<Meter>,
    session: Arc<Session>,
    ends: tokio::time::Instant,
}

/// Bytes moved, seen from the session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bytes {
    /// From the session to its destinations.
    pub out: u64,
    /// From the destinations to the session.
    pub r#in: u64,
}

impl Flow {
    /// Spends a permit.
    pub(crate) fn open(session: Arc<Session>, permit: Permit) -> Self {
        let destination = permit.request().operation.destination();
        let place = session.accounts().enter(destination);
        let meter = Meter::new(Some(place), session.gate().past().bytes(destination));
        Self::with(session, permit, meter)
    }

    /// Spends a permit on a connection that leads into the session.
    pub(crate) fn open_inwards(session: Arc<Session>, permit: Permit) -> Self {
        // What others send into it is no traffic of its own.
        let meter = Meter::new(Some(session.accounts().inwards()), Told::default());
        Self::with(session, permit, meter)
    }

    fn with(session: Arc<Session>, permit: Permit, meter: Arc<Meter>) -> Self {
        session.accounts().began();
        metrics::PROXY.flows_open.inc();
        Self {
            span: traced(&session, &permit),
            session,
            decision: permit.id(),
            permit: Some(permit),
            seen: None,
            since: Instant::now(),
            meter,
            began_at: Bytes::default(),
            kept: false,
            requests: false,
            peer: None,
            status: None,
            end: None,
        }
    }

    /// Spends a permit on an upstream connection that is already open.
    pub(crate) fn open_on(
        session: Arc<Session>,
        permit: Permit,
        meter: Arc<Meter>,
        peer: Option<SocketAddr>,
    ) -> Self {
        let began_at = meter.read();
        let mut flow = Self::with(session, permit, meter);
        flow.began_at = began_at;
        flow.kept = true;
        flow.peer = peer;
        flow
    }

    /// The decision that opened it.
    pub(crate) fn decision(&self) -> RecordId {
        self.decision
    }

    /// Its span, for what is done for it.
    pub(crate) fn span(&self) -> Option<Id> {
        self.span.as_ref()?.id()
    }

    /// Whose it is.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What was allowed, with what has been seen of it since; `None` once it was taken back.
    pub(crate) fn operation(&self) -> Option<Operation> {
        let permit = self.permit.as_ref()?;
        let operation = self.seen.as_deref();
        Some(operation.unwrap_or(&permit.request().operation).clone())
    }

    /// What the allow rests on; `None` once it was taken back.
    pub(crate) fn basis(&self) -> Option<&Basis> {
        Some(self.permit.as_ref()?.basis())
    }

    /// Takes the allow back before anything was done under it, and records that.
    pub(crate) async fn refuse(mut self, reason: DenyReason, asked: Asked) -> Refusal {
        match self.permit.take() {
            Some(permit) => {
                let deny = permit.refuse(reason, asked);
                Refusal::Gate(self.session.gate().refuse(deny).await)
            }
            None => taken_back(),
        }
    }

    /// As [`Self::refuse`] of what was allowed itself, with what was wrong in words.
    pub(crate) async fn refuse_for(mut self, reason: DenyReason, why: String) -> Refusal {
        match self.permit.take() {
            Some(permit) => {
                let deny = permit.refuse_for(reason, why);
                Refusal::Gate(self.session.gate().refuse(deny).await)
            }
            None => taken_back(),
        }
    }

    /// As [`Self::refuse`], where policy itself refuses what has been seen since.
    pub(crate) async fn refuse_as(mut self, deny: Decided<Deny>) -> Refusal {
        self.permit = None;
        Refusal::Gate(self.session.gate().refuse(deny).await)
    }

    /// As [`Self::refuse`], with what has been seen of it and `detail` in words.
    pub(crate) async fn refuse_saying(mut self, reason: DenyReason, detail: String) -> Refusal {
        let Some(operation) = self.operation() else {
            return taken_back();
        };
        let deny = self.denied(reason, operation, detail);
        self.permit = None;
        Refusal::Gate(self.session.gate().refuse(deny).await)
    }

    /// What of its session's limits is used up.
    pub(crate) fn excess(&self) -> Option<String> {
        // A kept connection has its place already.
        self.meter.excess(!self.kept)
    }

    fn denied(&self, reason: DenyReason, operation: Operation, detail: String) -> Decided<Deny> {
        let decided_by = self.permit.as_ref().map(Permit::basis);
        denied(&self.session, reason, operation, decided_by, detail)
    }

    /// Goes on only where the session's limits leave room for it (N24).
    ///
    /// # Errors
    /// The recorded refusal, which names the limit.
    pub(crate) async fn within_limits(self) -> Result<Self, Refusal> {
        let Some(excess) = self.excess() else {
            return Ok(self);
        };
        metrics::PROXY.limits_hit.inc();
        Err(Box::pin(self.refuse_saying(DenyReason::Limit, excess)).await)
    }

    /// Notes what was seen of its connection, and has that reviewed where a rule in force looks at
    /// such a fact. Later reviews know it too (N19).
    ///
    /// # Errors
    /// The recorded refusal.
    pub(crate) async fn review(
        mut self,
        fact: LateFact,
        see: impl FnOnce(&mut Seen),
    ) -> Result<Self, Refusal> {
        self.note(see);
        if !self.session.gate().reads(fact) {
            return Ok(self);
        }
        self.reviewed().await.map(|(flow, _basis)| flow)
    }

    /// Has it reviewed with what has been seen of it; with what the permits ask for now.
    ///
    /// # Errors
    /// The recorded refusal.
    pub(crate) async fn reviewed(self) -> Result<(Self, Basis), Refusal> {
        let Some(operation) = self.operation() else {
            return Err(taken_back());
        };
        match self.session.gate().review(operation) {
            Ok(basis) => Ok((self, basis)),
            Err(deny) => Err(Box::pin(self.refuse_as(deny)).await),
        }
    }

    /// Notes what its handshake shows.
    pub(crate) fn saw(&mut self, tls: TlsFacts) {
        self.note(|seen| seen.tls = Some(Arc::new(tls)));
    }

    /// Notes what was seen of its connection; reviewing it is the caller's.
    pub(crate) fn note(&mut self, see: impl FnOnce(&mut Seen)) {
        let Some(mut operation) = self.operation() else {
            return;
        };
        if let Some(seen) = operation.seen_mut() {
            see(seen);
            if !self.kept {
                self.meter.remember(seen);
            }
        }
        self.seen = Some(Box::new(operation));
    }

    /// What was seen of the upstream connection that this flow goes on with.
    pub(crate) fn route(&self) -> Option<&Seen> {
        self.meter.route()
    }

    /// Watches over it; `None` once the allow was taken back.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let permit = self.permit.as_ref()?;
        let mut policy = self.session.gate().watch(permit);
        if let Some(seen) = &self.seen {
            policy.saw((**seen).clone());
        }
        Some(Watch {
            policy,
            meter: Arc::clone(&self.meter),
            session: Arc::clone(&self.session),
            ends: self.ends(),
        })
    }

    /// Resolves once the policy in force refuses it or a limit ends it; never, while it is allowed
    /// (N19, N24).
    pub(crate) async fn revoked(&self) -> Decided<Deny> {
        self.revoked_before(self.session.limits().flow).await
    }

    /// As [`Self::revoked`], for what is over after `deadline`: it makes nothing before it must.
    pub(crate) async fn revoked_before(&self, deadline: Duration) -> Decided<Deny> {
        match self.over_before(deadline, |_same_terms| false).await {
            Some(deny) => deny,
            None => std::future::pending().await,
        }
    }

    async fn over_before(
        &self,
        deadline: Duration,
        differ: impl Fn(&Basis) -> bool,
    ) -> Option<Decided<Deny>> {
        let Some(basis) = self.basis() else {
            return std::future::pending().await;
        };
        let operation = || self.operation();
        let over = self.session.gate().over(basis, operation, differ);
        let may_end = self.may_end_within(deadline);
        if !may_end && !self.meter.is_bounded() {
            return over.await;
        }
        // Boxed, because most flows have no limit that they could reach.
        let limits = Box::pin(async {
            tokio::select! {
                excess = self.meter.spent() => excess,
                excess = too_long(&self.session, self.ends()), if may_end => excess,
            }
        });
        let excess = tokio::select! {
            over = over => return over,
            excess = limits => excess,
        };
        metrics::PROXY.limits_hit.inc();
        self.operation()
            .map(|operation| denied(&self.session, DenyReason::Limit, operation, None, excess))
    }

    /// Whether it can be open for too long before `deadline` is over. A timer costs something.
    fn may_end_within(&self, deadline: Duration) -> bool {
        self.ends() <= tokio::time::Instant::now() + deadline
    }

    /// Until when it may be open at most.
    fn ends(&self) -> tokio::time::Instant {
        (self.since + self.session.limits().flow).into()
    }

    /// As [`Self::revoked`], for a tunnel whose content is not looked into: resolves with nothing
    /// once the policy in force wants the requests inside to be decided, which cannot begin in the
    /// middle of it (N19).
    pub(crate) async fn over(&self) -> Option<Decided<Deny>> {
        let is_tls = match self.seen.as_deref() {
            Some(Operation::Connect { seen, .. }) => seen
                .tls
                .as_ref()
                .is_some_and(|tls| tls.kind == Handshake::Hello),
            _other => false,
        };
        let differ = |basis: &Basis| {
            basis.asks("inspect", "tls") && (is_tls || !basis.asks("tls", "not-tls"))
                || self.requests && self.session.decides_requests()
        };
        let most = self.session.limits().flow;
        self.over_before(most, differ).await
    }

    /// Ends it because policy or a limit allows it no more. Its bytes must have stopped already:
    /// closing does not wait for the log longer than [`limits::REVOCATION_RECORD`].
    pub(crate) async fn end_revoked(mut self, deny: Decided<Deny>) -> Refusal {
        let is_limit = deny.verdict().reason == DenyReason::Limit;
        let end = if is_limit {
            FlowEnd::Limit
        } else {
            FlowEnd::Revoked
        };
        // Now, in case the session ends while the refusal is being recorded.
        self.end = Some(end);
        let recorded = self.session.gate().refuse(deny);
        let recorded = tokio::time::timeout(limits::REVOCATION_RECORD, recorded)
            .await
            .unwrap_or_else(|_elapsed| {
                GateError::NotRecorded(RecordError {
                    message: "the log is busy".into(),
                })
            });
        if let GateError::NotRecorded(error) = &recorded {
            tracing::warn!(%error, "a flow was ended by policy, and its refusal is not recorded");
        }
        Refusal::Gate(recorded)
    }

    /// Ends it because what came back may not go on, and records that.
    pub(crate) async fn end_refused(mut self, reason: DenyReason, why: String) -> Refusal {
        let Some(operation) = self.operation() else {
            return taken_back();
        };
        self.end = Some(FlowEnd::Refused);
        let deny = self.denied(reason, operation, why);
        Refusal::Gate(self.session.gate().refuse(deny).await)
    }

    /// Where its bytes are counted.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Notes that its bytes, which nobody looks at, may be HTTP requests.
    pub(crate) fn may_carry_requests(&mut self) {
        self.requests = true;
    }

    /// Notes the address that was connected to.
    pub(crate) fn connected(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// The address that was connected to, where it is known.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Notes the status of a plain HTTP response.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Notes how it ends, unless [`Self::close`] says otherwise.
    pub(crate) fn will_end(&mut self, end: FlowEnd) {
        self.end = Some(end);
    }

    /// Ends it; without this it ended as a reset, or with its session.
    pub(crate) fn close(mut self, end: FlowEnd) {
        self.end = Some(end);
    }

    fn end(&self) -> FlowEnd {
        self.end
            .or_else(|| self.session.ending())
            .unwrap_or(FlowEnd::Reset)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.session.accounts().ended();
        metrics::PROXY.flows_open.dec();
        if self.permit.is_none() {
            if let Some(span) = &self.span {
                span.record("cordon.end", "refused");
            }
            return;
        }
        let end = self.end();
        metrics::PROXY.ended(end);
        let tls = self
            .seen
            .as_deref_mut()
            .and_then(Operation::seen_mut)
            .and_then(|seen| seen.tls.take());
        let now = self.meter.read();
        let bytes_out = now.out.saturating_sub(self.began_at.out);
        let bytes_in = now.r#in.saturating_sub(self.began_at.r#in);
        if let Some(span) = &self.span {
            span.record("cordon.end", metrics::word(end));
            span.record("cordon.bytes_out", bytes_out);
            span.record("cordon.bytes_in", bytes_in);
            if let Some(status) = self.status {
                span.record("http.response.status_code", status);
            }
        }
        self.session.gate().event_later(Event::FlowClosed {
            session: Arc::clone(self.session.gate().session()),
            decision: self.decision,
            peer: self.peer,
            bytes_out,
            bytes_in,
            duration: self.since.elapsed(),
            status: self.status,
            tls,
            end,
        });
    }
}

impl Watch {
    /// Resolves once the flow may not go on: with what policy says, or with the limit it has hit.
    pub(crate) async fn revoked(&mut self) -> Decided<Deny> {
        let excess = tokio::select! {
            deny = self.policy.revoked() => return deny,
            excess = self.meter.spent() => excess,
            excess = too_long(&self.session, self.ends) => excess,
        };
        metrics::PROXY.limits_hit.inc();
        let operation = self.policy.operation().clone();
        denied(&self.session, DenyReason::Limit, operation, None, excess)
    }
}

/// A flow's span, where spans are sent anywhere. Of what a session says it has the destination
/// alone.
fn traced(session: &Session, permit: &Permit) -> Option<Box<Span>> {
    let span = tracing::debug_span!(
        parent: None,
        "flow",
        otel.kind = "client",
        cordon.decision = %permit.id(),
        cordon.session = %session.gate().session().id,
        cordon.end = Empty,
        cordon.bytes_out = Empty,
        cordon.bytes_in = Empty,
        http.response.status_code = Empty,
        server.address = Empty,
        server.port = Empty,
    );
    if span.is_disabled() {
        return None;
    }
    if let Some(destination) = permit.request().operation.destination() {
        span.record("server.address", display(&destination.host));
        span.record("server.port", destination.port.get());
    }
    Some(Box::new(span))
}

/// Resolves at `ends`, with the limit that this is.
async fn too_long(session: &Session, ends: tokio::time::Instant) -> String {
    tokio::time::sleep_until(ends).await;
    let seconds = session.limits().flow.as_secs_f64();
    format!("it is open for {seconds} s (`limits.flow_seconds`)")
}

/// A refusal that was reached outside the engine, with `detail` in words. `decided_by` names the
/// policy that was in force.
pub(crate) fn denied(
    session: &Session,
    reason: DenyReason,
    operation: Operation,
    decided_by: Option<&Basis>,
    detail: String,
) -> Decided<Deny> {
    let request = Request {
        session: Arc::clone(session.gate().session()),
        operation,
        at: SystemTime::now(),
    };
    let basis = decided_by.map_or_else(Basis::default, |basis| Basis {
        policy: Arc::clone(&basis.policy),
        digest: Arc::clone(&basis.digest),
        revision: basis.revision,
        ..Basis::default()
    });
    let basis = Basis {
        errors: vec![detail],
        ..basis
    };
    Decided::<Deny>::deny(Asked::Request(request), reason, basis)
}

fn taken_back() -> Refusal {
    Refusal::Gate(GateError::NotRecorded(RecordError {
        message: "the allow was taken back already".into(),
    }))
}
