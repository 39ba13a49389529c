//! What is kept of a session that a runtime holds, so that it outlives a daemon that is killed.
//!
//! One file of JSON for each, whole or not there, written before the session is answered for and
//! gone with it. What it did, and which approvals it has, is in the log alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_audit::{
    Event, Kind, Record, SessionEnd, SessionOrigin, durable, find::of_sessions, read::Reader,
};
use cordon_policy::{Operation, SeccompProfile, SessionFacts};
use cordon_session::{Durability, past::was_let_through};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Daemon, SESSIONS, hold};
use crate::{
    control::{GrantMade, State},
    daemon::{
        approvals::own::Holder, browser::SWITCHED_OFF, live::Live, open::operation,
        policies::Follower,
    },
};

/// What a session is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What policy knows of it.
    pub facts: SessionFacts,
    /// What it runs.
    pub program: String,
    /// Packs, files and folders that decide it.
    pub policy: Vec<PathBuf>,
    /// The folder that is worked in.
    pub workspace: Option<PathBuf>,
    /// What is granted.
    pub grants: Vec<GrantMade>,
    /// The process that holds it.
    pub holder: Holder,
    /// The agent's own session, where it asks by a hook.
    pub hook: Option<String>,
    /// How the call that opened it can be repeated.
    pub key: Option<Repeatable>,
    /// SHA-256 of each of its tokens, lower-case hex.
    pub tokens: Vec<String>,
    /// When it ends, in seconds since 1970; none: until somebody ends it, or of idleness.
    #[serde(default)]
    pub ends: Option<u64>,
    /// Seconds without a question after which it ends; none: the usual time.
    #[serde(default)]
    pub idle_seconds: Option<u64>,
    /// The record of the decision that let somebody open it.
    #[serde(default)]
    pub leave: Option<String>,
}

/// A call that is done once, however often it is sent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repeatable {
    /// Whose, and its `Idempotency-Key`.
    pub key: String,
    /// SHA-256 over what was asked, lower-case hex.
    pub asked: String,
}

/// Longest file that is read back, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// So many seconds from now, as it is kept.
pub fn in_seconds(seconds: u64) -> u64 {
    since_1970().as_secs().saturating_add(seconds)
}

/// A moment as it is kept, by the clock that is slept by. One that is over is now.
pub fn as_instant(kept: u64) -> Instant {
    let left = Duration::from_secs(kept).saturating_sub(since_1970());
    // Beyond what the clock can tell is as good as never.
    Instant::now() + left.min(LONGEST_TIME)
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// A session's longest time that is told from never: a hundred years.
const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Keeps a session; durable when this returns.
///
/// # Errors
/// When it cannot be written.
pub fn write(directory: &Path, kept: &Kept) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let bytes = serde_json::to_vec(kept)?;
    durable::replace(&path(directory, &kept.facts.id), &bytes)
}

/// Lets go of a session that is over. Where that fails the next daemon decides it again, and it
/// ends of idleness.
pub fn remove(directory: &Path, id: &str) {
    if let Err(error) = fs::remove_file(path(directory, id)) {
        warn!(session = id, %error, "a session that is over is still kept");
    }
    // The last one leaves nothing.
    let _others = fs::remove_dir(directory);
}

/// Goes on with what a killed daemon held: each is decided again, by the policy of now.
pub async fn restore(daemon: &Arc<Daemon>) {
    let directory = daemon.paths.hosted();
    let all = read_all(&directory);
    // The log is gone through once for many of them.
    let mut rest = all.into_iter().peekable();
    while rest.peek().is_some() {
        let some: Vec<Kept> = rest.by_ref().take(READ_AT_ONCE).collect();
        let ids = some.iter().map(|kept| kept.facts.id.clone()).collect();
        let mut pasts = read_log(daemon, ids).await;
        let some = some.into_iter().map(|kept| {
            let past = match &mut pasts {
                Ok(pasts) => Ok(pasts.remove(&kept.facts.id).unwrap_or_default()),
                Err(why) => Err(why.clone()),
            };
            (kept, past)
        });
        // Together, so that many share one write of the log.
        stream::iter(some)
            .for_each_concurrent(DECIDED_AT_ONCE, async |(kept, past)| {
                go_on(daemon, kept, past).await;
            })
            .await;
    }
    // Where none is left.
    let _others = fs::remove_dir(directory);
}

/// Sessions whose records are in memory at the same time.
const READ_AT_ONCE: usize = 1_000;

/// Sessions that are decided again at the same time.
const DECIDED_AT_ONCE: usize = 64;

/// What is kept, as far as it can be read.
fn read_all(directory: &Path) -> Vec<Kept> {
    let mut all = Vec::new();
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    for file in files.take(SESSIONS) {
        if file.path().extension().is_some_and(|end| end == "tmp") {
            // Its writer was killed before it stood in its place: nobody was answered by it.
            let _gone = fs::remove_file(file.path());
            continue;
        }
        match read(&file.path()) {
            Ok(kept) => all.push(kept),
            Err(error) => {
                let file = file.path();
                warn!(%error, file = %file.display(), "a kept session could not be read");
            }
        }
    }
    all
}

/// Goes on with one session, or ends it where that cannot be.
async fn go_on(daemon: &Arc<Daemon>, kept: Kept, past: Result<Vec<Record>, String>) {
    let facts = Arc::new(kept.facts.clone());
    let gone_on = match past {
        Ok(past) => again(daemon, &facts, kept, &past).await,
        Err(why) => Err(why),
    };
    let Err(why) = gone_on else { return };
    warn!(session = %facts.id, %why, "a session of the daemon before could not go on");
    remove(&daemon.paths.hosted(), &facts.id);
    if why == OVER {
        return;
    }
    let over = Event::SessionEnded {
        session: Arc::clone(&facts),
        end: SessionEnd::Stopped,
        exit_code: None,
        totals: None,
    };
    if let Err(error) = daemon.log.event(over).await {
        warn!(session = %facts.id, %error, "the end of a session was not recorded");
    }
}

/// The daemon before ended it and was killed before it let go of it.
const OVER: &str = "it was over already";

async fn again(
    daemon: &Arc<Daemon>,
    facts: &Arc<SessionFacts>,
    kept: Kept,
    past: &[Record],
) -> Result<(), String> {
    if past.iter().any(|record| record.kind == Kind::SessionEnd) {
        return Err(OVER.to_owned());
    }
    let policies = &daemon.policies;
    let workspace = kept.workspace.clone();
    let follower = policies
        .follow(Arc::clone(facts), &kept.policy, workspace)
        .await
        .map_err(|error| error.to_string())?;
    follower.gate().past().asks_for_each_file();
    follower.gate().recall(past);
    let start = Operation::StartSession {
        command: kept.program.clone(),
        profile: SeccompProfile::default(),
    };
    let started = follower.gate().admit(start, Durability::Synced).await;
    let started = started.map_err(|_refused| "policy does not allow it any more".to_owned())?;
    let grants = still_granted(&follower, &kept.grants).await;
    let live = Live::new(
        follower,
        &kept.program,
        kept.holder.pid,
        String::new(),
        grants,
    );
    let live = live.decided_by(started.id().to_string());
    let live = live.by_leave_of(kept.leave.clone());
    if let Some(hook) = &kept.hook {
        let mut known = daemon.hook_sessions.lock().await;
        known.enter(hook.clone(), facts.id.clone());
    }
    if let Some(key) = &kept.key {
        daemon.repeated.opened(key.clone(), &live);
    }
    let live = Arc::new(live.kept_in(daemon.paths.hosted(), kept));
    if had_browser(past) {
        live.lose_browser();
    }
    hold(daemon, &live, None, past);
    if was_paused(past) {
        live.gate().pause(true);
        live.enter(State::Paused);
    }
    if past.iter().all(|record| record.kind != Kind::SessionStart) {
        // The daemon before was killed after it had kept the session and before it said so.
        live.gate().event_later(Event::SessionStarted {
            session: Arc::clone(live.facts()),
            origin: SessionOrigin::default(),
        });
    }
    info!(session = live.id(), "session without a sandbox goes on");
    Ok(())
}

/// Whether it stood still at the end of what the log tells.
fn was_paused(past: &[Record]) -> bool {
    let states = past
        .iter()
        .rev()
        .filter(|record| record.kind == Kind::SessionState);
    let steered = |record: &&Record| matches!(record.state.as_deref(), Some("paused" | "running"));
    let mut steered = states.filter(steered);
    steered
        .next()
        .is_some_and(|record| record.state.as_deref() == Some("paused"))
}

/// Whether its browser was on at the end of what the log tells.
fn had_browser(past: &[Record]) -> bool {
    let last = past.iter().rev().find_map(|record| {
        // Refused, it was refused to go on: policy changed.
        let was_decided = record.action.as_deref() == Some("browser.enable");
        let was_switched_off =
            record.kind == Kind::SessionState && record.message.as_deref() == Some(SWITCHED_OFF);
        (was_decided || was_switched_off).then(|| was_decided && was_let_through(record))
    });
    last == Some(true)
}

/// What policy still allows; of the rest the refusal is recorded.
async fn still_granted(follower: &Follower, grants: &[GrantMade]) -> Vec<GrantMade> {
    let mut still = Vec::new();
    for grant in grants {
        let asked = operation(&grant.path, grant.mode, grant.source, &grant.inside);
        match follower.gate().review(asked) {
            Ok(_basis) => still.push(grant.clone()),
            Err(deny) => drop(follower.gate().refuse(deny).await),
        }
    }
    let held = still.iter();
    follower
        .hold(held.map(|grant| operation(&grant.path, grant.mode, grant.source, &grant.inside)));
    still
}

async fn read_log(
    daemon: &Daemon,
    ids: BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<Record>>, String> {
    let log = daemon.paths.log();
    let read = tokio::task::spawn_blocking(move || of_sessions(&Reader::open(&log)?, &ids)).await;
    let read = read.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}

fn read(path: &Path) -> io::Result<Kept> {
    if fs::metadata(path)?.len() > LONGEST {
        return Err(io::Error::other("too long"));
    }
    let kept: Kept = serde_json::from_slice(&fs::read(path)?)?;
    if Some(kept.facts.id.as_str()) != path.file_stem().and_then(|stem| stem.to_str()) {
        return Err(io::Error::other(
            "it tells of another session than its name",
        ));
    }
    Ok(kept)
}

fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.json"))
}
