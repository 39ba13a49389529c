//! How a caller's session is opened, by a decision, and ended.
//!
//! A caller in, a session that follows its policy out, or why there is none. Knows no connections and
//! not who else has a session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cordon_audit::{Event, SessionEnd, SessionOrigin};
use cordon_policy::{Backend, Operation, SeccompProfile, SessionFacts};
use cordon_proxy::{Caller, Stranger};
use cordon_session::{Durability, config::CallerConfig};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    control::State,
    daemon::{
        Daemon,
        live::Live,
        policies::{Brought, Follower},
    },
    error::Failure,
};

/// What sessions are opened by.
pub(super) struct Opener {
    daemon: Arc<Daemon>,
    /// What `--policy` says, as it was read last and could be used.
    brought: Mutex<Arc<Brought>>,
}

/// A caller's session.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) caller: Caller,
    /// Keeps its policy up to date.
    pub(super) follower: Arc<Follower>,
}

const COMMAND: &str = "gateway";

const UNUSABLE: &str = "no session can be opened for you: the policy in force is not usable";

impl Opener {
    pub(super) fn new(daemon: &Arc<Daemon>, brought: Brought) -> Self {
        Self {
            daemon: Arc::clone(daemon),
            brought: Mutex::new(Arc::new(brought)),
        }
    }

    pub(super) fn brought(&self) -> Arc<Brought> {
        Arc::clone(&self.lock_brought())
    }

    /// From now on sessions open by this.
    pub(super) fn bring(&self, brought: Arc<Brought>) {
        *self.lock_brought() = brought;
    }

    fn lock_brought(&self) -> MutexGuard<'_, Arc<Brought>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session for a caller where policy lets it start.
    pub(super) async fn open(self: Arc<Self>, caller: CallerConfig) -> Result<Opened, Stranger> {
        let agent = caller.agent.as_deref();
        let followed = self.follow(caller.user(), &caller.name, &caller.groups, agent);
        let opened = followed.await.map_err(|error| {
            warn!(caller = %caller.name, %error, "no session for a caller");
            Stranger::Unavailable(UNUSABLE)
        })?;
        let gate = opened.caller.gate();
        // Spent by the session that starts.
        if let Err(error) = gate.admit(start(), Durability::Synced).await {
            opened.forget(&self.daemon).await;
            return Err(Stranger::Refused(error));
        }
        let session = Arc::clone(gate.session());
        info!(caller = %caller.name, session = %session.id, "session of a caller opened");
        gate.event_later(Event::SessionStarted {
            session,
            origin: SessionOrigin::default(),
        });
        Ok(opened)
    }

    /// A session that is listed and decided by its policy, whether it may start or not.
    pub(super) async fn follow(
        &self,
        user: &str,
        name: &str,
        groups: &[String],
        agent: Option<&str>,
    ) -> Result<Opened, Failure> {
        let facts = Arc::new(SessionFacts {
            id: Uuid::now_v7().to_string(),
            user: user.into(),
            groups: groups.to_vec(),
            agent: agent.map(Into::into),
            platform: std::env::consts::OS.into(),
            backend: Backend::Gateway,
        });
        let follower = self
            .daemon
            .policies
            .follow_by(Arc::clone(&facts), self.brought())
            .await?;
        let live = Live::new(
            Arc::clone(&follower),
            &format!("{COMMAND}: {}", if name.is_empty() { user } else { name }),
            0,
            String::new(),
            Vec::new(),
        );
        live.enter(State::Running);
        self.daemon.ask_people(live.gate(), &[]);
        self.daemon.registry.stay(Arc::new(live));
        let caller = Caller::new(&self.daemon.egress, follower.gate().clone());
        Ok(Opened { caller, follower })
    }
}

impl Opened {
    /// Whether policy would let it start now.
    pub(super) fn may_start(&self) -> bool {
        self.caller.gate().review(start()).is_ok()
    }

    /// It is over, and that is on record.
    pub(super) async fn end(&self, daemon: &Daemon) {
        self.forget(daemon).await;
        let gate = self.caller.gate();
        let ended = Event::SessionEnded {
            session: Arc::clone(gate.session()),
            end: SessionEnd::Stopped,
            exit_code: None,
            totals: Some(Box::new(gate.tally().totals())),
        };
        if let Err(error) = gate.event(ended).await {
            warn!(%error, "the end of a caller's session was not recorded");
        }
    }

    /// Nobody is asked about it any more, and it is listed no longer.
    async fn forget(&self, daemon: &Daemon) {
        let id = &self.caller.gate().session().id;
        daemon.approvals.leave(id).await;
        daemon.registry.leave(id);
    }
}

fn start() -> Operation {
    Operation::StartSession {
        command: COMMAND.into(),
        profile: SeccompProfile::Default,
    }
}
