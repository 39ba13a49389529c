//! Keeps what `--policy` names up to date while a gateway runs: files that change are read again,
//! and so they are on SIGHUP.
//!
//! Changes of files and signals in, sessions that are decided by the new set out; open flows are
//! decided again by it. A set that cannot be used replaces none: what was in force stays, which is
//! logged, recorded and counted. Never decides anything.

use std::{path::Path, sync::Arc, time::Duration};

use cordon_audit::{Event, PolicyChange, PolicyEvent};
use cordon_policy::source::LoadError;
use cordon_session::metrics;
use futures_util::future::select_all;
use prometheus::IntCounterVec;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tracing::{info, warn};

use super::{Desk, sessions::Opened};
use crate::{
    daemon::policies::{Brought, is_pack},
    error::Failure,
    policy_sources::Changes,
};

/// Changes within this time are one: an editor, or a copy, writes several files.
const SETTLE: Duration = Duration::from_millis(200);

/// A directory that never rests is read all the same.
const SETTLE_ROUNDS: usize = 20;

/// A task that reads again what changes; it ends when dropped.
#[derive(Debug)]
pub(super) struct Reload(JoinHandle<()>);

struct Watcher {
    desk: Arc<Desk>,
    strangers: Opened,
    changes: Vec<Changes>,
    hangups: Signal,
    outcomes: IntCounterVec,
}

impl Reload {
    /// Begins to watch what `--policy` names.
    ///
    /// # Errors
    /// [`Failure`] when no signal can be waited for.
    pub(super) fn start(desk: &Arc<Desk>, strangers: &Opened) -> Result<Self, Failure> {
        let files = desk.policy.iter().filter(|path| !is_pack(path));
        let mut watcher = Watcher {
            desk: Arc::clone(desk),
            strangers: strangers.clone(),
            changes: files.filter_map(|path| changes(path)).collect(),
            hangups: signal(SignalKind::hangup())?,
            outcomes: metrics::counters(
                "cordon_gateway_policy_reads_total",
                "Times that what `--policy` names was read anew, by what came of it.",
                "outcome",
            ),
        };
        Ok(Self(tokio::spawn(async move {
            // What changed between the first reading and now.
            watcher.watch();
            watcher.again().await;
            loop {
                watcher.next().await;
                watcher.watch();
                watcher.again().await;
            }
        })))
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watcher {
    /// Before reading, so that no change after it is missed.
    fn watch(&self) {
        for changes in &self.changes {
            changes.watch();
        }
    }

    /// Resolves when there may be something new, and nothing has changed for a moment.
    async fn next(&mut self) {
        tokio::select! {
            _hangup = self.hangups.recv() => return info!("asked to read the policy again"),
            () = any(&self.changes) => {}
        }
        for _round in 0..SETTLE_ROUNDS {
            if tokio::time::timeout(SETTLE, any(&self.changes))
                .await
                .is_err()
            {
                break;
            }
        }
    }

    async fn again(&self) {
        let (outcome, change, why) = match self.read().await {
            Ok(false) => return,
            Ok(true) => {
                info!("the policy was read anew and is in force");
                ("loaded", PolicyChange::Load, None)
            }
            Err(error) => {
                warn!(%error, "the policy was not read anew; what was in force stays");
                let why = format!("what was in force stays: {error}");
                ("refused", PolicyChange::Refused, Some(why))
            }
        };
        self.outcomes.with_label_values(&[outcome]).inc();
        let paths: Vec<String> = self
            .desk
            .policy
            .iter()
            .map(|at| at.display().to_string())
            .collect();
        self.desk
            .daemon
            .log
            .event_later(Event::Policy(Box::new(PolicyEvent {
                change,
                bundle: None,
                source: Some(paths.join(" ")),
                by: None,
                why,
                session: None,
            })));
    }

    /// Whether there was something new, which every session is decided by now.
    async fn read(&self) -> Result<bool, LoadError> {
        let brought = Arc::new(Brought::of_paths(&self.desk.policy, None).await?);
        // Nobody's session is opened meanwhile, so that none is left behind.
        let _still = self.desk.open.still().await;
        if brought.is_as(&self.desk.opener.brought()) {
            return Ok(false);
        }
        // In this order: whoever begins to leave between the two is in one of them.
        let open = self.desk.open.all();
        let leaving = self.desk.leaving.sessions();
        let sessions = open.iter().chain(&leaving).chain([&self.strangers]);
        let followers: Vec<_> = sessions.map(|open| &open.follower).collect();
        let policies = &self.desk.daemon.policies;
        // Of all or of none.
        for follower in &followers {
            policies.could_bring(follower, &brought).await?;
        }
        self.desk.opener.bring(Arc::clone(&brought));
        for follower in followers {
            policies.bring(follower, &brought).await;
        }
        Ok(true)
    }
}

/// What tells of changes at a path. Where nothing can, SIGHUP is left.
fn changes(path: &Path) -> Option<Changes> {
    let watched = std::path::absolute(path).and_then(|path| Changes::new(&path));
    watched
        .inspect_err(|error| {
            warn!(%error, path = %path.display(), "not watched; send SIGHUP when it has changed");
        })
        .ok()
}

async fn any(changes: &[Changes]) {
    if changes.is_empty() {
        return std::future::pending().await;
    }
    select_all(changes.iter().map(|changes| Box::pin(changes.next()))).await;
}
