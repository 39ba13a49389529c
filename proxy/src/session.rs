//! What all connections of one session share: its gate, its synthetic names, its counters.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use cordon_session::Gate;
use tokio::sync::Semaphore;

use crate::{
    credentials::Placeholders, dns::SyntheticNames, egress::Egress, flow::Bytes, limits,
    tls::Inspector,
};

/// One session as its connections see it. Identity is this value: it came with the listener.
#[derive(Debug)]
pub(crate) struct Session {
    gate: Gate,
    egress: Arc<Egress>,
    names: SyntheticNames,
    connections: Arc<Semaphore>,
    moved: Moved,
    /// Made when the first tunnel is inspected.
    inspector: OnceLock<Option<Inspector>>,
    /// What it holds in place of secrets, to be looked for.
    placeholders: Option<Placeholders>,
    ending: AtomicBool,
}

/// Bytes moved so far, seen from the session.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) out: AtomicU64,
    pub(crate) r#in: AtomicU64,
}

impl Session {
    pub(crate) fn new(gate: Gate, egress: Arc<Egress>) -> Self {
        let id = &gate.session().id;
        Self {
            placeholders: egress.credentials().placeholders(id),
            gate,
            egress,
            names: SyntheticNames::default(),
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS_PER_SESSION)),
            moved: Moved::default(),
            inspector: OnceLock::new(),
            ending: AtomicBool::new(false),
        }
    }

    /// The one function that decides and records.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What all sessions share.
    pub(crate) fn egress(&self) -> &Egress {
        &self.egress
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

    /// Names behind the addresses that the DNS responder gave out.
    pub(crate) fn names(&self) -> &SyntheticNames {
        &self.names
    }

    /// Room for client connections.
    pub(crate) fn connections(&self) -> &Arc<Semaphore> {
        &self.connections
    }

    /// Counters, for writing.
    pub(crate) fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Counters, for reading.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes {
            out: self.moved.out.load(Ordering::Relaxed),
            r#in: self.moved.r#in.load(Ordering::Relaxed),
        }
    }

    /// From now on flows that break off ended with their session.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}
