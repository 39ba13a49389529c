//! Sessions of callers that policy would not let start any more: they take nothing new, and end with
//! the last of their flows. Until then policy is followed as in any session (N19).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;
use tracing::warn;

use super::sessions::Opened;
use crate::daemon::Daemon;

/// How long their ends may take to be recorded once nothing of them goes on.
const GRACE: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Default)]
pub(super) struct Leaving {
    sessions: Arc<Mutex<Sessions>>,
    ends: Mutex<JoinSet<()>>,
}

/// By their ids.
type Sessions = BTreeMap<String, Opened>;

impl Leaving {
    /// One that was told to drain.
    pub(super) fn add(&self, daemon: &Arc<Daemon>, opened: Opened) {
        let (daemon, sessions) = (Arc::clone(daemon), Arc::clone(&self.sessions));
        let id = opened.caller.gate().session().id.clone();
        locked(&sessions).insert(id.clone(), opened.clone());
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        while ends.try_join_next().is_some() {}
        ends.spawn(async move {
            opened.caller.quiet().await;
            opened.end(&daemon).await;
            locked(&sessions).remove(&id);
        });
    }

    /// Those that have not ended.
    pub(super) fn sessions(&self) -> Vec<Opened> {
        locked(&self.sessions).values().cloned().collect()
    }

    /// Waits until all have, after their flows were cut off.
    pub(super) async fn over(&self) {
        let mut ends =
            std::mem::take(&mut *self.ends.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while ends.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            warn!("the ends of sessions that were leaving were not recorded");
        }
    }
}

fn locked(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}
