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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cordon_audit::{Event, Record, SessionEnd, SessionOrigin};
use cordon_policy::{Backend, SeccompProfile, SessionFacts};
use cordon_session::config::SandboxLimits;
use futures_util::{StreamExt as _, stream};
use tokio::{task::AbortHandle, time::Instant};
use tracing::{info, warn};

pub use self::kept::{Kept, Repeatable, restore, write};
use super::{
    Daemon,
    approvals::own::Holder,
    live::Live,
    open::{self, Open},
    policies::Somebody,
    withdraw::withdraw,
};
use crate::control::{Answer, GrantAsked, OpenSession, State};

/// The sessions that runtimes hold.
#[derive(Debug, Default)]
pub struct Hosted {
    sessions: Mutex<BTreeMap<String, Held>>,
    /// Those that are being opened, and have no place among them yet.
    opening: AtomicUsize,
}

/// The right to open one more; given back when dropped.
struct Opening<'a>(&'a Hosted);

#[derive(Debug)]
struct Held {
    live: Arc<Live>,
    asked: Instant,
    /// When it ends, however much it is asked.
    ends: Option<Instant>,
    /// Time without a question after which it ends.
    idle: Duration,
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
    /// Folders.
    pub grants: Vec<GrantAsked>,
    /// The folder that is worked in: its `.cordon/policy` can narrow.
    pub workspace: Option<PathBuf>,
    /// Packs, files and folders that decide it, as `--policy` of `cordon run`; empty: the same as
    /// there.
    pub policy: Vec<PathBuf>,
    /// Who opens it.
    pub by: Somebody,
    /// The process that holds it.
    pub holder: Holder,
    /// The agent's own session, where it asks by a hook.
    pub hook: Option<String>,
    /// How the call that opens it can be repeated.
    pub key: Option<Repeatable>,
    /// What it says that it runs on; absent: this machine.
    pub platform: Option<String>,
    /// Time from start to end, in seconds; none: until somebody ends it, or of idleness.
    pub wall_seconds: Option<u64>,
    /// Seconds without a question or a heartbeat after which it ends; [`IDLE`] where not said.
    pub idle_seconds: Option<u64>,
}

/// Sessions that runtimes hold at the same time. Beyond it: refused.
pub const SESSIONS: usize = 10_000;

/// Sessions that end at the same time when all do.
const ENDED_AT_ONCE: usize = 256;

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

    /// When a session ends if nobody asks anything of it, and when it does in any case.
    fn times(&self, id: &str) -> Option<(Instant, Option<Instant>)> {
        let sessions = self.lock();
        sessions
            .get(id)
            .map(|held| (held.asked + held.idle, held.ends))
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
    let _opening = Opening::begin(&daemon.hosted)?;
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
        limits: SandboxLimits {
            wall_seconds: wish.wall_seconds,
            ..SandboxLimits::default()
        },
        policy: wish.policy.clone(),
        workspace: wish.workspace.clone(),
        grants: wish.grants,
        home: daemon.user.home.clone().unwrap_or_else(|| "/".into()),
        loads: None,
        platform: wish.platform,
    };
    let open = open::open_with(daemon, request, &wish.by, open::Files::Asked).await?;
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
        ends: open.opened.limits.wall_seconds.map(kept::in_seconds),
        idle_seconds: wish.idle_seconds,
        leave: open.leave.map(|id| id.to_string()),
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
    let live = live.decided_by(&open.opened.decision);
    let live = live.by_leave_of(kept.leave.clone());
    let live = Arc::new(live.kept_in(daemon.paths.hosted(), kept));
    hold(daemon, &live, Some(open), &[]);
    live.gate().event_later(Event::SessionStarted {
        session: Arc::clone(live.facts()),
        origin: SessionOrigin::default(),
    });
    info!(session = live.id(), "session without a sandbox opened");
    Ok(live)
}

impl<'a> Opening<'a> {
    /// # Errors
    /// As many as may are held, or about to be.
    fn begin(hosted: &'a Hosted) -> Result<Self, Answer> {
        // Counted first, so that those who ask at the same time see each other.
        let before = hosted.opening.fetch_add(1, Relaxed);
        let opening = Self(hosted);
        if before + hosted.len() >= SESSIONS {
            return Err(Answer::Failed {
                message: format!("{SESSIONS} sessions are held already"),
                help: Some("end those that are over".into()),
            });
        }
        Ok(opening)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Relaxed);
    }
}

/// Enters a session that was decided.
fn hold(daemon: &Arc<Daemon>, live: &Arc<Live>, open: Option<Open>, past: &[Record]) {
    live.enter(State::Running);
    daemon.ask_people(live.gate(), past);
    daemon.registry.stay(Arc::clone(live));
    let held = Held {
        live: Arc::clone(live),
        asked: Instant::now(),
        ends: live.ends().map(kept::as_instant),
        idle: live.idle_seconds().map_or(IDLE, Duration::from_secs),
        withdrawing: tokio::spawn(withdraw(Arc::downgrade(daemon), Arc::clone(live)))
            .abort_handle(),
        _open: open,
    };
    daemon.hosted.lock().insert(live.id().into(), held);
    tokio::spawn(end_in_time(Arc::downgrade(daemon), live.id().into()));
}

/// Ends a session, also where whoever asks goes away meanwhile. False when there is none of this id.
pub async fn end(daemon: &Arc<Daemon>, id: &str, how: SessionEnd) -> bool {
    let Some(held) = daemon.hosted.lock().remove(id) else {
        return false;
    };
    // Nobody could end what is half ended.
    let ended = tokio::spawn(finish(Arc::clone(daemon), held, how)).await;
    if let Err(error) = ended {
        warn!(session = id, %error, "a session was not ended whole");
    }
    true
}

async fn finish(daemon: Arc<Daemon>, held: Held, how: SessionEnd) {
    let id = held.live.id();
    held.live.enter(State::Ending);
    if how != SessionEnd::Stopped {
        daemon.hook_sessions.lock().await.ended(id);
    }
    held.withdrawing.abort();
    daemon.browsers.off(id).await;
    daemon.remotes.end(id).await;
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
    // Nobody finds the session any more, so it cannot be switched on again.
    daemon.browsers.off(id).await;
    info!(session = id, ?how, "session without a sandbox ended");
}

/// Ends them all: the daemon leaves.
pub async fn end_all(daemon: &Arc<Daemon>) {
    let all: Vec<String> = daemon.hosted.lock().keys().cloned().collect();
    // Together, so that many share one write of the log.
    stream::iter(all)
        .for_each_concurrent(ENDED_AT_ONCE, async |id| {
            end(daemon, &id, SessionEnd::Stopped).await;
        })
        .await;
}

/// Ends a session whose time is up, or that nobody asks anything of.
async fn end_in_time(daemon: Weak<Daemon>, id: String) {
    loop {
        let until = {
            let Some(daemon) = daemon.upgrade() else {
                return;
            };
            let Some((idle, ends)) = daemon.hosted.times(&id) else {
                return;
            };
            let now = Instant::now();
            if ends.is_some_and(|ends| ends <= now) {
                end(&daemon, &id, SessionEnd::OverLimit).await;
                return;
            }
            if idle <= now {
                end(&daemon, &id, SessionEnd::Stopped).await;
                return;
            }
            ends.map_or(idle, |ends| ends.min(idle))
        };
        tokio::time::sleep_until(until).await;
    }
}
