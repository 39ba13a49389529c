//! The process inside a session that makes a connection: looked for as soon as that is accepted,
//! while its first bytes are read, so that it is known when it is decided.
//!
//! Looked for once for each connection, never for a further request on one that is kept.

use std::{fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use cordon_policy::{LateFact, ProcessFacts};
use tokio::{net::TcpStream, sync::watch, task::spawn_blocking};

use crate::session::Session;

/// The processes of one session, to be asked. Answers may take a while; nothing waits for
/// [`Processes::learn`].
pub trait Processes: Debug + Send + Sync {
    /// Who holds the connection between these two ends. With `work_out_digests` every program's
    /// digest is there that can be, else those that are known already.
    fn find(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        work_out_digests: bool,
    ) -> Option<ProcessFacts>;

    /// Works out digests that were not known.
    fn learn(&self);
}

/// Who made one connection. Clones are about the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadeBy(Option<watch::Receiver<Option<Found>>>);

/// `None` inside: looked for and not found.
type Found = Option<Arc<ProcessFacts>>;

impl MadeBy {
    /// Looks for who made `stream`, which was meant for `to`. Nothing where the session's processes
    /// cannot be asked.
    pub(crate) fn of(session: &Session, stream: &TcpStream, to: Option<SocketAddr>) -> Self {
        let (Some(processes), Some(to)) = (session.processes(), to) else {
            return Self::default();
        };
        let Ok(from) = stream.peer_addr() else {
            return Self::default();
        };
        let processes = Arc::clone(processes);
        // Nobody waits for a digest that no rule looks at.
        let by_rule = session.gate().reads(LateFact::Process);
        let (told, found) = watch::channel(None);
        spawn_blocking(move || {
            let process = processes.find(from, to, by_rule);
            told.send_replace(Some(process.map(Arc::new)));
            if !by_rule {
                processes.learn();
            }
        });
        Self(Some(found))
    }

    /// What is known now; `None` while it is looked for.
    pub(crate) fn known_by_now(&self) -> Option<Option<Arc<ProcessFacts>>> {
        match &self.0 {
            None => Some(None),
            Some(found) => found.borrow().clone(),
        }
    }

    /// Waits until it is known, or for [`PATIENCE`]: then it is not.
    pub(crate) async fn known(&self) -> Option<Arc<ProcessFacts>> {
        let mut found = self.0.clone()?;
        // On a kept connection it is known since the first request.
        if let Some(known) = &*found.borrow() {
            return known.clone();
        }
        let told = found.wait_for(Option::is_some);
        let told = tokio::time::timeout(PATIENCE, told).await.ok()?.ok()?;
        told.clone().flatten()
    }
}

/// How long a decision waits. Mostly some 100 µs are needed; hashing a large program takes longer,
/// once.
const PATIENCE: Duration = Duration::from_secs(2);
