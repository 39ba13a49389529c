//! What all connections of one session share: its gate, its limits, its synthetic names, its
//! accounts.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use cordon_audit::FlowEnd;
use cordon_session::Gate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};

use crate::{
    accounts::Accounts,
    credentials::Placeholders,
    dns::SyntheticNames,
    egress::Egress,
    flow::Bytes,
    limits::Limits,
    metrics,
    pace::Pace,
    process::{Digesting, Processes},
    tls::Inspector,
};

/// One session as its connections see it. Identity is this value: it came with the listener.
#[derive(Debug)]
pub(crate) struct Session {
    gate: Gate,
    egress: Arc<Egress>,
    limits: Limits,
    names: SyntheticNames,
    connections: Arc<Semaphore>,
    new_connections: Pace,
    accounts: Arc<Accounts>,
    ending: AtomicU8,
    /// Made when the first tunnel is inspected.
    inspector: OnceLock<Option<Inspector>>,
    draining: watch::Sender<bool>,
    /// What it holds in place of secrets, to be looked for.
    placeholders: Option<Placeholders>,
    /// Its processes, where they can be asked.
    processes: Option<(Arc<dyn Processes>, Arc<Digesting>)>,
}

/// Why flows of a session that break off do so.
const RUNNING: u8 = 0;
const ENDING: u8 = 1;
const DRAINED: u8 = 2;

/// A connection's place among those of its session, given back when dropped.
pub(crate) type Seat = OwnedSemaphorePermit;

/// Why there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoSeat {
    /// As many are open as may be: whoever waited would keep the node's room from others.
    Full,
    /// The session takes nothing new, or is over.
    Draining,
}

/// Room for one client connection, given back when dropped.
pub(crate) type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Session {
    pub(crate) fn new(gate: Gate, egress: Arc<Egress>) -> Self {
        let limits = Limits::new(&egress.config().limits.for_session(gate.session()));
        let rate = limits.new_connections_per_second;
        let placeholders = egress.credentials().placeholders(&gate.session().id);
        Self {
            placeholders,
            names: SyntheticNames::default(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            new_connections: Pace::new(rate, rate),
            accounts: Arc::new(Accounts::new(&limits)),
            ending: AtomicU8::new(RUNNING),
            limits,
            gate,
            egress,
            inspector: OnceLock::new(),
            draining: watch::channel(false).0,
            processes: None,
        }
    }

    /// As it is, with processes that can be asked.
    pub(crate) fn with_processes(self, processes: Option<Arc<dyn Processes>>) -> Self {
        let processes = processes.map(|found| (found, Arc::new(Digesting::new())));
        Self { processes, ..self }
    }

    /// The one function that decides and records.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What all sessions share.
    pub(crate) fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Its processes, where they can be asked, and what reads their programs.
    pub(crate) fn processes(&self) -> Option<&(Arc<dyn Processes>, Arc<Digesting>)> {
        self.processes.as_ref()
    }

    /// Whom callers are told to ask when policy refuses, where an admin named somebody.
    pub(crate) fn contact(&self) -> Option<&str> {
        self.egress.config().policy.contact.as_deref()
    }

    /// Its bounds.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What its tunnels are inspected with; `None` where that cannot be made, which is logged.
    pub(crate) fn inspector(&self) -> Option<&Inspector> {
        let made = self.inspector.get_or_init(|| {
            let id = &self.gate.session().id;
            let authority = match self.egress.authority(id) {
                Ok(authority) => authority,
                Err(error) => {
                    tracing::warn!(%error, session = %id, "no TLS can be inspected");
                    return None;
                }
            };
            Inspector::new(&self.egress, authority)
                .inspect_err(|error| {
                    tracing::warn!(%error, session = %id, "no TLS can be inspected");
                })
                .ok()
        });
        made.as_ref()
    }

    /// What it holds in place of secrets; `None` where it holds nothing.
    pub(crate) fn placeholders(&self) -> Option<&Placeholders> {
        self.placeholders.as_ref()
    }

    /// Whether HTTP in a tunnel, where it can be read, is decided request by request: a rule may say
    /// more of requests than of connections, and a placeholder belongs where it is looked for.
    pub(crate) fn decides_requests(&self) -> bool {
        self.placeholders.is_some() || self.gate.speaks_of_requests()
    }

    /// Names behind the addresses that the DNS responder gave out.
    pub(crate) fn names(&self) -> &SyntheticNames {
        &self.names
    }

    /// What it has used of its budgets.
    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Bytes moved so far.
    pub(crate) fn bytes(&self) -> Bytes {
        self.accounts.moved()
    }

    /// Room for one more client connection, of the session and of the node, and in the session's
    /// rate. Until there is some, further clients wait in the backlog.
    pub(crate) async fn room(&self) -> Room {
        if let Ok(room) = self.room_now() {
            return room;
        }
        metrics::PROXY.connections_waited.inc();
        self.new_connections.wait().await;
        let own = Arc::clone(&self.connections).acquire_owned().await;
        let node = Arc::clone(self.egress.connections()).acquire_owned().await;
        match (own, node) {
            (Ok(own), Ok(node)) => (own, node),
            // Only a closed semaphore errs, and nobody closes these; never go on without room.
            _ => std::future::pending().await,
        }
    }

    /// A place for a connection that the node has room for already, once the session's rate lets it
    /// in.
    pub(crate) async fn seat(&self) -> Result<Seat, NoSeat> {
        let seat = Arc::clone(&self.connections).try_acquire_owned();
        if seat.is_ok() {
            self.new_connections.wait().await;
        }
        // Last: from here on [`Self::quiet`] waits for this place, or the session may be over.
        match seat {
            _any if self.is_draining() => Err(NoSeat::Draining),
            Ok(seat) => Ok(seat),
            Err(_none) => Err(NoSeat::Full),
        }
    }

    /// Room, where nothing needs to be waited for.
    fn room_now(&self) -> Result<Room, TryAcquireError> {
        let own = Arc::clone(&self.connections).try_acquire_owned()?;
        let node = Arc::clone(self.egress.connections()).try_acquire_owned()?;
        self.new_connections
            .take()
            .map_err(|_until| TryAcquireError::NoPermits)?;
        Ok((own, node))
    }

    /// From now on flows that break off ended with their session.
    pub(crate) fn end(&self) {
        let _drained_stays =
            self.ending
                .compare_exchange(RUNNING, ENDING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// From now on flows that break off were cut because a drain took too long.
    pub(crate) fn cut(&self) {
        self.ending.store(DRAINED, Ordering::Release);
    }

    /// How flows end that break off, where the session is the reason.
    pub(crate) fn ending(&self) -> Option<FlowEnd> {
        match self.ending.load(Ordering::Acquire) {
            RUNNING => None,
            DRAINED => Some(FlowEnd::Drained),
            _ => Some(FlowEnd::SessionEnded),
        }
    }

    /// From now on its connections take no further request.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it takes no further request.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves once it has no connection that asks and no flow. For one that drains: nobody gets a
    /// seat beside it, nor after it.
    pub(crate) async fn quiet(&self) {
        let seats = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        // Only a closed semaphore errs, and nobody closes this one.
        let _seats = self.connections.acquire_many(seats).await;
        self.accounts.quiet().await;
    }

    /// Resolves once it takes no further request.
    pub(crate) async fn draining(&self) {
        let mut draining = self.draining.subscribe();
        if draining.wait_for(|draining| *draining).await.is_err() {
            // The sender is ours: this cannot be.
            std::future::pending::<()>().await;
        }
    }
}
