//! What is kept of a session that a runtime holds, so that it outlives a daemon that is killed.
//!
//! One file of JSON for each, whole or not there, written before the session is answered for and
//! gone with it. What it did, and which approvals it has, is in the log alone.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cordon_audit::{Event, Kind, Record, SessionEnd, SessionOrigin, durable};
use cordon_policy::{Operation, SeccompProfile, SessionFacts};
use cordon_session::Durability;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Daemon, SESSIONS, hold};
use crate::{
    control::GrantMade,
    daemon::{approvals::own::Holder, live::Live, open::operation, policies::Follower},
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
    let files = fs::read_dir(&directory).into_iter().flatten().flatten();
    for file in files.take(SESSIONS) {
        if file.path().extension().is_some_and(|end| end == "tmp") {
            // Its writer was killed before it stood in its place: nobody was answered by it.
            let _gone = fs::remove_file(file.path());
            continue;
        }
        let kept = match read(&file.path()) {
            Ok(kept) => kept,
            Err(error) => {
                let file = file.path();
                warn!(%error, file = %file.display(), "a kept session could not be read");
                continue;
            }
        };
        let facts = Arc::new(kept.facts.clone());
        if let Err(why) = again(daemon, &facts, kept).await {
            warn!(session = %facts.id, %why, "a session of the daemon before could not go on");
            remove(&directory, &facts.id);
            if why == OVER {
                continue;
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
    }
    // Where none is left.
    let _others = fs::remove_dir(directory);
}

/// The daemon before ended it and was killed before it let go of it.
const OVER: &str = "it was over already";

async fn again(daemon: &Arc<Daemon>, facts: &Arc<SessionFacts>, kept: Kept) -> Result<(), String> {
    let past = read_log(daemon, &facts.id).await?;
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
    follower.gate().recall(&past);
    let start = Operation::StartSession {
        command: kept.program.clone(),
        profile: SeccompProfile::default(),
    };
    let started = follower.gate().admit(start, Durability::Synced).await;
    let _started = started.map_err(|_refused| "policy does not allow it any more".to_owned())?;
    let grants = still_granted(&follower, &kept.grants).await;
    let live = Live::new(
        follower,
        &kept.program,
        kept.holder.pid,
        String::new(),
        grants,
    );
    if let Some(hook) = &kept.hook {
        let mut known = daemon.hook_sessions.lock().await;
        known.insert(hook.clone(), facts.id.clone());
    }
    if let Some(key) = &kept.key {
        daemon.repeated.opened(key.clone(), &live);
    }
    let live = Arc::new(live.kept_in(daemon.paths.hosted(), kept));
    hold(daemon, &live, None, &past);
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

/// What policy still allows; of the rest the refusal is recorded.
async fn still_granted(follower: &Follower, grants: &[GrantMade]) -> Vec<GrantMade> {
    let mut still = Vec::new();
    for grant in grants {
        let asked = operation(&grant.path, grant.mode, grant.source);
        match follower.gate().review(asked) {
            Ok(_basis) => still.push(grant.clone()),
            Err(deny) => drop(follower.gate().refuse(deny).await),
        }
    }
    let held = still.iter();
    follower.hold(held.map(|grant| operation(&grant.path, grant.mode, grant.source)));
    still
}

async fn read_log(daemon: &Arc<Daemon>, id: &str) -> Result<Vec<Record>, String> {
    let (log, id) = (daemon.log.clone(), id.to_owned());
    let read = tokio::task::spawn_blocking(move || log.session(&id)).await;
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
