//! Sessions without a launcher: a runtime holds them by the API, and Cordon only decides and
//! records.
//!
//! Their backend is `none`, so policy must allow `run_without_sandbox`. One that nobody asks
//! anything of for [`IDLE`] ends. They outlive a daemon that is killed: what they are is kept in a
//! file each, and the next daemon decides them again and goes on.

mod kept;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use cordon_audit::{Event, Record, SessionEnd, SessionOrigin};
use cordon_policy::{Backend, GrantMode, GrantSource, SeccompProfile, SessionFacts};
use cordon_session::config::SandboxLimits;
use tokio::{task::AbortHandle, time::Instant};
use tracing::{info, warn};

pub use self::kept::{Kept, Repeatable, restore, write};
use super::{
    Daemon,
    approvals::own::Holder,
    grants,
    live::Live,
    open::{self, Open},
};
use crate::control::{Answer, GrantAsked, OpenSession, State};

/// The sessions that runtimes hold.
#[derive(Debug, Default)]
pub struct Hosted {
    sessions: Mutex<BTreeMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    live: Arc<Live>,
    asked: Instant,
    /// Takes away what policy comes to refuse.
    withdrawing: AbortHandle,
    /// Its authority stays with it; one that was read back has none.
    _open: Option<Open>,
}

/// What a runtime says about a session that it wants to hold.
#[derive(Debug, Default)]
pub struct Wish {
    /// What it runs, for the record: a name, no arguments.
    pub program: String,
    /// Agent profile.
    pub agent: Option<String>,
    /// Folders, each with its mode.
    pub grants: Vec<(PathBuf, GrantMode, GrantSource)>,
    /// The folder that is worked in: its `.cordon/policy` can narrow.
    pub workspace: Option<PathBuf>,
    /// Packs, files and folders that decide it, as `--policy` of `cordon run`; empty: the same as
    /// there.
    pub policy: Vec<PathBuf>,
    /// The process that holds it.
    pub holder: Holder,
    /// The agent's own session, where it asks by a hook.
    pub hook: Option<String>,
    /// How the call that opens it can be repeated.
    pub key: Option<Repeatable>,
}

/// Sessions that runtimes hold at the same time. Beyond it: refused.
pub const SESSIONS: usize = 10_000;

/// Time without a question after which a session ends.
pub const IDLE: Duration = Duration::from_secs(12 * 60 * 60);

impl Hosted {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// A question came: the session is in use.
    pub fn touch(&self, id: &str) {
        if let Some(held) = self.lock().get_mut(id) {
            held.asked = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides and opens a session.
///
/// # Errors
/// The answer to give: it, or a folder of it, is refused, or it could not be decided.
pub async fn create(daemon: &Arc<Daemon>, wish: Wish) -> Result<Arc<Live>, Answer> {
    if daemon.hosted.len() >= SESSIONS {
        return Err(Answer::Failed {
            message: format!("{SESSIONS} sessions are held already"),
            help: Some("end those that are over".into()),
        });
    }
    let grants = wish
        .grants
        .into_iter()
        .map(|(path, mode, source)| GrantAsked {
            path,
            mode,
            name: None,
            source,
            inside: None,
        });
    let request = OpenSession {
        command: wish.program.clone(),
        program: wish.program.clone(),
        agent: wish.agent,
        backend: Backend::None,
        image: None,
        parent: None,
        // There are no walls that one could be a part of.
        profile: SeccompProfile::default(),
        publish: Vec::new(),
        limits: SandboxLimits::default(),
        policy: wish.policy.clone(),
        workspace: wish.workspace.clone(),
        grants: grants.collect(),
        home: daemon.user.home.clone().unwrap_or_else(|| "/".into()),
        loads: None,
    };
    let open = open::open_with(daemon, request, open::Files::Asked).await?;
    let kept = Kept {
        facts: SessionFacts::clone(open.gate.session()),
        program: wish.program.clone(),
        policy: wish.policy,
        workspace: wish.workspace,
        grants: open.opened.grants.clone(),
        holder: wish.holder,
        hook: wish.hook,
        key: wish.key,
        tokens: Vec::new(),
    };
    // A session that a restart would not know is not opened.
    kept::write(&daemon.paths.hosted(), &kept).map_err(|error| Answer::Failed {
        message: format!("the session could not be kept: {error}"),
        help: Some(format!("check `{}`", daemon.paths.hosted().display())),
    })?;
    let live = Live::new(
        Arc::clone(&open.follower),
        &wish.program,
        wish.holder.pid,
        String::new(),
        open.opened.grants.clone(),
    );
    let live = Arc::new(live.kept_in(daemon.paths.hosted(), kept));
    hold(daemon, &live, Some(open), &[]);
    live.gate().event_later(Event::SessionStarted {
        session: Arc::clone(live.facts()),
        origin: SessionOrigin::default(),
    });
    info!(session = live.id(), "session without a sandbox opened");
    Ok(live)
}

/// Enters a session that was decided.
fn hold(daemon: &Arc<Daemon>, live: &Arc<Live>, open: Option<Open>, past: &[Record]) {
    live.enter(State::Running);
    daemon.ask_people(live.gate(), past);
    daemon.registry.stay(Arc::clone(live));
    let held = Held {
        live: Arc::clone(live),
        asked: Instant::now(),
        withdrawing: tokio::spawn(grants::withdraw(Arc::clone(live))).abort_handle(),
        _open: open,
    };
    daemon.hosted.lock().insert(live.id().into(), held);
    tokio::spawn(end_when_idle(Arc::downgrade(daemon), live.id().into()));
}

/// Ends a session. False when there is none of this id.
pub async fn end(daemon: &Daemon, id: &str, how: SessionEnd) -> bool {
    let Some(held) = daemon.hosted.lock().remove(id) else {
        return false;
    };
    held.live.enter(State::Ending);
    held.withdrawing.abort();
    daemon.browsers.off(id).await;
    daemon.approvals.leave(id).await;
    let event = Event::SessionEnded {
        session: Arc::clone(held.live.facts()),
        end: how,
        exit_code: None,
        totals: Some(Box::new(held.live.gate().tally().totals())),
    };
    if let Err(error) = held.live.gate().event(event).await {
        warn!(session = id, %error, "the end of a session was not recorded");
    }
    kept::remove(&daemon.paths.hosted(), id);
    held.live.enter(State::Ended);
    daemon.registry.leave(id);
    info!(session = id, ?how, "session without a sandbox ended");
    true
}

/// Ends them all: the daemon leaves.
pub async fn end_all(daemon: &Daemon) {
    let all: Vec<String> = daemon.hosted.lock().keys().cloned().collect();
    for id in all {
        end(daemon, &id, SessionEnd::Stopped).await;
    }
}

async fn end_when_idle(daemon: Weak<Daemon>, id: String) {
    loop {
        let until = {
            let Some(daemon) = daemon.upgrade() else {
                return;
            };
            let Some(asked) = daemon.hosted.lock().get(&id).map(|held| held.asked) else {
                return;
            };
            if asked.elapsed() >= IDLE {
                end(&daemon, &id, SessionEnd::Stopped).await;
                return;
            }
            asked + IDLE
        };
        tokio::time::sleep_until(until).await;
    }
}
