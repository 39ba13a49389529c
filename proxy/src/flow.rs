//! A flow: a spent permit, what moved under it, and the record of its end.
//!
//! A [`Flow`] owns its [`Permit`], so one permit makes one flow. However a flow ends (also by a
//! dropped task), dropping it reports the end; no path can forget to. So every allow in the log
//! is followed by its end, or by the refusal that took it back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use cordon_audit::{Event, FlowEnd, Permit, RecordError, RecordId};
use cordon_policy::{Asked, Basis, Decided, Deny, DenyReason, Operation, TlsFacts};
use cordon_session::{GateError, Watch};

use crate::{limits, refuse::Refusal, session::Session};

/// One allowed flow, open until dropped.
#[derive(Debug)]
pub(crate) struct Flow {
    session: Arc<Session>,
    /// `None` once the allow was taken back: then there was no flow to end.
    permit: Option<Permit>,
    decision: RecordId,
    since: Instant,
    meter: Arc<Meter>,
    /// What the meter stood at when this flow began: a kept connection carries several in turn.
    began_at: Bytes,
    peer: Option<SocketAddr>,
    status: Option<u16>,
    /// What its handshake showed.
    tls: Option<Box<TlsFacts>>,
    end: Option<FlowEnd>,
}

/// Counts bytes of one upstream connection, and of its session with it.
#[derive(Debug)]
pub(crate) struct Meter {
    /// `None` where another meter counts the same bytes for the session.
    session: Option<Arc<Session>>,
    out: AtomicU64,
    r#in: AtomicU64,
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
        let meter = Meter::new(Arc::clone(&session));
        Self {
            session,
            decision: permit.id(),
            permit: Some(permit),
            since: Instant::now(),
            meter,
            began_at: Bytes::default(),
            peer: None,
            status: None,
            tls: None,
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
        let mut flow = Self::open(session, permit);
        flow.began_at = meter.read();
        flow.meter = meter;
        flow.peer = peer;
        flow
    }

    /// The decision that opened it.
    pub(crate) fn decision(&self) -> RecordId {
        self.decision
    }

    /// Whose it is.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
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

    /// What was allowed, with what has been seen of it since; `None` once it was taken back.
    pub(crate) fn operation(&self) -> Option<Operation> {
        let mut operation = self.permit.as_ref()?.request().operation.clone();
        if let (Operation::Connect { seen, .. }, Some(tls)) = (&mut operation, &self.tls) {
            seen.tls = Some(tls.clone());
        }
        Some(operation)
    }

    /// What the allow rests on; `None` once it was taken back.
    pub(crate) fn basis(&self) -> Option<&Basis> {
        Some(self.permit.as_ref()?.basis())
    }

    /// Notes what its handshake shows.
    pub(crate) fn saw(&mut self, tls: TlsFacts) {
        self.tls = Some(Box::new(tls));
    }

    /// Watches over it; `None` once the allow was taken back.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let permit = self.permit.as_ref()?;
        let mut watch = self.session.gate().watch(permit);
        if self.tls.is_some()
            && let Some(operation) = self.operation()
        {
            watch.saw(operation);
        }
        Some(watch)
    }

    /// Resolves once the policy in force refuses it; never, while it is allowed (N19).
    pub(crate) async fn revoked(&self) -> Decided<Deny> {
        match self.watch() {
            Some(mut watch) => watch.revoked().await,
            None => std::future::pending().await,
        }
    }

    /// Ends it because policy allows it no more. Its bytes must have stopped already: closing
    /// does not wait for the log longer than [`limits::REVOCATION_RECORD`].
    pub(crate) async fn end_revoked(mut self, deny: Decided<Deny>) -> Refusal {
        // Now, in case the session ends while the refusal is being recorded.
        self.end = Some(FlowEnd::Revoked);
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

    /// Where its bytes are counted.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Notes the address that was connected to.
    pub(crate) fn connected(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// Notes the status of a plain HTTP response.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Ends it; without this it ended as a reset, or with its session.
    pub(crate) fn close(mut self, end: FlowEnd) {
        self.end = Some(end);
    }

    fn end(&self) -> FlowEnd {
        match self.end {
            Some(end) => end,
            None if self.session.is_ending() => FlowEnd::SessionEnded,
            None => FlowEnd::Reset,
        }
    }
}

fn taken_back() -> Refusal {
    Refusal::Gate(GateError::NotRecorded(RecordError {
        message: "the allow was taken back already".into(),
    }))
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.permit.is_none() {
            return;
        }
        let now = self.meter.read();
        self.session.gate().event_later(Event::FlowClosed {
            session: Arc::clone(self.session.gate().session()),
            decision: self.decision,
            peer: self.peer,
            bytes_out: now.out.saturating_sub(self.began_at.out),
            bytes_in: now.r#in.saturating_sub(self.began_at.r#in),
            duration: self.since.elapsed(),
            status: self.status,
            tls: self.tls.take(),
            end: self.end(),
        });
    }
}

impl Meter {
    fn new(session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            session: Some(session),
            out: AtomicU64::new(0),
            r#in: AtomicU64::new(0),
        })
    }

    /// Counts bytes that another meter counts for the session: those of one request among several
    /// in a tunnel.
    pub(crate) fn within() -> Arc<Self> {
        Arc::new(Self {
            session: None,
            out: AtomicU64::new(0),
            r#in: AtomicU64::new(0),
        })
    }

    /// Counts bytes sent to the destination.
    pub(crate) fn count_out(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.out.fetch_add(bytes, Relaxed);
        if let Some(session) = &self.session {
            session.moved().out.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts bytes received from the destination.
    pub(crate) fn count_in(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.r#in.fetch_add(bytes, Relaxed);
        if let Some(session) = &self.session {
            session.moved().r#in.fetch_add(bytes, Relaxed);
        }
    }

    fn read(&self) -> Bytes {
        Bytes {
            out: self.out.load(Relaxed),
            r#in: self.r#in.load(Relaxed),
        }
    }
}
