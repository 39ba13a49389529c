//! Takes back what policy comes to refuse while a session runs: a mounted folder, its browser, a
//! connector, a tool server.
//!
//! What was refused in, by the follower of its policy, which has recorded it; the same switched off
//! or unmounted out. Never decides.

use std::sync::{Arc, Weak};

use cordon_policy::Operation;
use tracing::warn;

use super::{Daemon, grants, life, live::Live};
use crate::control::GrantMade;

/// Goes on for as long as the session is there; dropped with it.
pub async fn withdraw(daemon: Weak<Daemon>, live: Arc<Live>) {
    let Some(mut refusals) = live.policy().take_refusals() else {
        return;
    };
    while let Some(refused) = refusals.recv().await {
        let Some(daemon) = daemon.upgrade() else {
            return;
        };
        let was_on = match &refused {
            Operation::GrantFolder { .. } => {
                unmount(&live, &refused).await;
                continue;
            }
            Operation::EnableBrowser => daemon.browsers.off(live.id()).await,
            Operation::EnableConnector { connector } => {
                let was_on = daemon.connectors.enabled().off(live.id(), connector);
                daemon.remotes.close(live.id(), connector);
                was_on.is_some()
            }
            Operation::LoadExtension { extension } => {
                let was_on = daemon.mcp.detach_from(live.id(), &extension.id);
                daemon.remotes.close(live.id(), &extension.id);
                was_on
            }
            _other => continue,
        };
        live.policy().release(&refused);
        if was_on {
            let why = format!("{refused} taken back: policy refuses it now");
            grants::told(&live, why).await;
        }
    }
}

/// Ends the processes that still have something of the folder open too: by a directory they would go
/// on reading what is refused. One that cannot be unmounted ends the session.
async fn unmount(live: &Arc<Live>, refused: &Operation) {
    let made = grants::held(live)
        .iter()
        .find(|made| grants::as_operation(made) == *refused)
        .cloned();
    if let Some(made) = made {
        unmount_made(live, &made).await;
    }
}

/// As [`unmount`]; false where the session is ended.
pub(super) async fn unmount_made(live: &Arc<Live>, made: &GrantMade) -> bool {
    let changing = live.changing().await;
    // Whoever changed it meanwhile has had policy look at what it is now.
    if !grants::is_there(live, made) {
        return true;
    }
    let Err(why) = grants::take(live, changing, made, true, "policy").await else {
        return true;
    };
    // What was taken and could not be kept for a restart is decided again by that.
    if !grants::is_there(live, made) {
        warn!(session = live.id(), path = %made.path.display(), %why, "a grant was withdrawn");
        return true;
    }
    warn!(session = live.id(), path = %made.path.display(), %why,
        "a folder that policy refuses now is still mounted: the session is ended");
    if let Err(why) = life::end(live, true).await {
        warn!(session = live.id(), %why, "nor could the session be ended");
    }
    false
}
