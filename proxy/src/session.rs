//! What all connections of one session share: its gate, its synthetic names, its counters.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use cordon_session::Gate;
use tokio::sync::Semaphore;

use crate::{dns::SyntheticNames, egress::Egress, flow::Bytes, limits};

/// One session as its connections see it. Identity is this value: it came with the listener.
#[derive(Debug)]
pub(crate) struct Session {
    gate: Gate,
    egress: Arc<Egress>,
    names: SyntheticNames,
    connections: Arc<Semaphore>,
    moved: Moved,
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
        Self {
            gate,
            egress,
            names: SyntheticNames::default(),
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS_PER_SESSION)),
            moved: Moved::default(),
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
