//! Grants of running sessions: decides, records, and has the launcher mount, unmount and change
//! them. Answers what the guard asks about protected paths.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, PoisonError},
};

use cordon_audit::{Event, SessionState};
use cordon_policy::{Asked, Basis, Decided, Deny, DenyReason, GrantMode, Operation};
use cordon_session::{Durability, GateError, grants::Names};
use tracing::warn;

use super::{
    Daemon, life,
    live::Live,
    open::{Grants, operation},
};
use crate::control::{
    Answer, CarriedResult, GrantAsked, GrantChanges, GrantLine, GrantMade, Holder, LaunchOrder,
    SessionAnswer,
};

/// Gives a running session one grant more.
pub async fn grant(daemon: &Daemon, live: &Live, asked: &GrantAsked, home: &Path) -> Answer {
    if let Err(why) = can_change(live) {
        return failed(why);
    }
    let taken = held(live).iter().map(name_of).collect::<Vec<_>>();
    let grants = Grants {
        gate: live.gate(),
        protected: daemon.protected(home),
        names: Names::with(taken),
        home: PathBuf::from(format!("/sessions/{}", live.id())),
    };
    let made = match grants.decide_one(asked).await {
        Ok(made) => made,
        Err(Answer::Refused(refused)) => return Answer::Session(SessionAnswer::Refused(refused)),
        Err(other) => return other,
    };
    if let Some(there) = held(live).iter().find(|there| there.path == made.path) {
        return failed(format!(
            "`{}` is granted already, as `{}`: `cordon session mode` changes what may be done",
            there.path.display(),
            there.inside.display()
        ));
    }
    let order = LaunchOrder::Mount {
        grant: Box::new(made.clone()),
    };
    match give(live, order).await {
        Ok(used) => {
            live.policy().hold([as_operation(&made)]);
            held(live).push(made.clone());
            told(live, format!("{} granted {}", shown(&made), made.mode)).await;
            match keep(live) {
                Ok(()) => granted(&made, used),
                Err(why) => failed(why),
            }
        }
        Err(why) => {
            told(live, format!("{} not mounted: {why}", shown(&made))).await;
            failed(why)
        }
    }
}

/// Takes a grant from a running session. Taking needs no permission.
pub async fn revoke(live: &Live, which: &Path, kill: bool) -> Answer {
    let made = match can_change(live).and_then(|()| find(live, which)) {
        Ok(made) => made,
        Err(why) => return failed(why),
    };
    match take(live, &made, kill).await {
        Ok(used) => granted(&made, used),
        Err(why) => failed(why),
    }
}

/// Changes what a running session may do beneath a grant. More is decided like a new grant.
pub async fn mode(
    daemon: &Daemon,
    live: &Live,
    which: &Path,
    mode: GrantMode,
    kill: bool,
) -> Answer {
    let made = match can_change(live).and_then(|()| find(live, which)) {
        Ok(made) => made,
        Err(why) => return failed(why),
    };
    if made.mode == mode {
        return granted(&made, Vec::new());
    }
    let changed = if is_narrower(mode, made.mode) {
        // Taking needs no permission.
        GrantMade {
            mode,
            ..made.clone()
        }
    } else {
        match decide_again(daemon, live, &made, mode).await {
            Ok(changed) => changed,
            Err(answer) => return answer,
        }
    };
    let order = LaunchOrder::Remount {
        grant: Box::new(made.clone()),
        mode,
        kill,
    };
    match give(live, order).await {
        Ok(used) => {
            live.policy().release(&as_operation(&made));
            live.policy().hold([as_operation(&changed)]);
            for grant in held(live).iter_mut() {
                if grant.inside == changed.inside {
                    *grant = changed.clone();
                }
            }
            told(live, format!("{} changed to {mode}", shown(&made))).await;
            match keep(live) {
                Ok(()) => granted(&changed, used),
                Err(why) => failed(why),
            }
        }
        Err(why) => {
            told(
                live,
                format!("{} not changed to {mode}: {why}", shown(&made)),
            )
            .await;
            failed(why)
        }
    }
}

/// More than was granted, decided and recorded like a new grant of the same folder.
async fn decide_again(
    daemon: &Daemon,
    live: &Live,
    made: &GrantMade,
    mode: GrantMode,
) -> Result<GrantMade, Answer> {
    let asked = GrantAsked {
        path: made.path.clone(),
        mode,
        name: None,
        source: made.source,
        inside: Some(made.inside.clone()),
    };
    let grants = Grants {
        gate: live.gate(),
        protected: daemon.protected(Path::new("/")),
        names: Names::default(),
        home: PathBuf::new(),
    };
    match grants.decide_one(&asked).await {
        Ok(changed) if changed.identity == made.identity => Ok(changed),
        Ok(_other) => Err(failed(
            "the folder was exchanged since it was granted".into(),
        )),
        Err(Answer::Refused(refused)) => Err(Answer::Session(SessionAnswer::Refused(refused))),
        Err(other) => Err(other),
    }
}

fn is_narrower(mode: GrantMode, than: GrantMode) -> bool {
    let reach = |mode| match mode {
        GrantMode::Ro => 0,
        GrantMode::Rw => 1,
        GrantMode::Rwd => 2,
    };
    reach(mode) < reach(than)
}

/// What a running session did to the files of its grants so far.
pub async fn changes(live: &Live) -> Result<SessionAnswer, String> {
    match live.orders().carry(LaunchOrder::Changes).await? {
        CarriedResult::Changes { grants } => Ok(SessionAnswer::Changes {
            session: live.id().into(),
            grants,
        }),
        CarriedResult::Failed { why } => Err(why),
        _other => Err("the session's launcher answered something unexpected".into()),
    }
}

/// Records what a session did to the files of its grants, one record for each grant.
pub async fn changed(live: &Live, grants: &[GrantChanges]) -> Answer {
    for grant in grants {
        let mut what = format!(
            "files in {}: {} created, {} changed, {} deleted, {} moved",
            grant.inside.display(),
            grant.created,
            grant.changed,
            grant.deleted,
            grant.moved
        );
        if !grant.first_deleted.is_empty() {
            let paths = grant.first_deleted.iter().take(MAX_PATHS);
            let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
            what.push_str(&format!("; deleted first: {}", paths.join(", ")));
        }
        // Paths are the session's to choose: a bound on the record, not on what is told.
        if let Some((cut, _)) = what.char_indices().nth(MAX_TEXT) {
            what.truncate(cut);
        }
        told(live, what).await;
    }
    Answer::Noted
}

/// Paths and characters that one record tells.
const MAX_PATHS: usize = 20;
const MAX_TEXT: usize = 4000;

/// Unmounts what policy comes to refuse while the session runs, and ends the processes that still
/// have something of it open: by a directory they would go on reading what is refused. A grant that
/// cannot be unmounted ends the session. Never returns; dropped with the session.
pub async fn withdraw(live: Arc<Live>) {
    let Some(mut refusals) = live.policy().take_refusals() else {
        return;
    };
    while let Some(refused) = refusals.recv().await {
        let Operation::GrantFolder { path, mode, source } = refused else {
            continue;
        };
        let made = held(&live)
            .iter()
            .find(|made| made.path == path && made.mode == mode && made.source == source)
            .cloned();
        let Some(made) = made else { continue };
        let Err(why) = take(&live, &made, true).await else {
            continue;
        };
        warn!(session = live.id(), path = %path.display(), %why,
            "a folder that policy refuses now is still mounted: the session is ended");
        if let Err(why) = life::end(&live, true).await {
            warn!(session = live.id(), %why, "nor could the session be ended");
        }
        return;
    }
}

/// Changing a path that is protected in its grant: refused unless policy permits `write` for it.
pub async fn protected_write(live: &Live, path: PathBuf, why: String) -> Answer {
    let gate = live.gate();
    let operation = Operation::WritePath {
        mode: mode_at(live, &path),
        path,
    };
    let outcome = match gate.look(operation.clone()) {
        // A person is asked, or has been.
        Err(deny) if deny.verdict().reason == DenyReason::ApprovalRequired => {
            gate.admit(operation, Durability::Synced).await.map(drop)
        }
        Ok(_permitted) => gate.admit(operation, Durability::Synced).await.map(drop),
        Err(deny) => Err(gate.refuse(protected(&deny, why)).await),
    };
    match outcome {
        Ok(()) => Answer::Permitted,
        Err(GateError::Denied(_)) => Answer::Noted,
        Err(GateError::NotRecorded(error)) => failed(error.to_string()),
    }
}

/// What of `paths`, which are there and protected, need not be held: nothing was asked for yet, so
/// only what policy permits is recorded.
pub async fn protected_paths(live: &Live, paths: Vec<PathBuf>) -> Answer {
    let gate = live.gate();
    let mut permitted = Vec::with_capacity(paths.len());
    for path in paths {
        let operation = Operation::WritePath {
            mode: mode_at(live, &path),
            path,
        };
        let may = gate.look(operation.clone()).is_ok();
        permitted.push(may && gate.admit(operation, Durability::Synced).await.is_ok());
    }
    Answer::ProtectedPaths { permitted }
}

/// The mode of the innermost grant that `path` lies in.
pub fn mode_at(live: &Live, path: &Path) -> GrantMode {
    let grants = held(live);
    let within = grants.iter().filter(|grant| path.starts_with(&grant.path));
    within
        .max_by_key(|grant| grant.path.components().count())
        .map_or(GrantMode::Ro, |grant| grant.mode)
}

/// The refusal with the reason that tells more than that no rule permits it.
fn protected(deny: &Decided<Deny>, why: String) -> Decided<Deny> {
    let verdict = deny.verdict();
    let asked = match &verdict.asked {
        Asked::Request(request) => Asked::Request(request.clone()),
        Asked::Raw(raw) => Asked::Raw(raw.clone()),
    };
    let basis = Basis {
        errors: vec![why],
        ..verdict.basis.clone()
    };
    Decided::<Deny>::deny(asked, verdict.reason, basis)
}

/// Has a grant unmounted, and notes and records that it is gone.
async fn take(live: &Live, made: &GrantMade, kill: bool) -> Result<Vec<Holder>, String> {
    let order = LaunchOrder::Unmount {
        grant: Box::new(made.clone()),
        kill,
    };
    let used = match give(live, order).await {
        Ok(used) => used,
        Err(why) => {
            told(live, format!("{} not unmounted: {why}", shown(made))).await;
            return Err(why);
        }
    };
    live.policy().release(&as_operation(made));
    held(live).retain(|grant| grant.inside != made.inside);
    let (ended, left): (Vec<_>, Vec<_>) = used.iter().partition(|holder| holder.ended);
    let mut what = format!("{} taken away", shown(made));
    if !ended.is_empty() {
        what.push_str(&format!(", {} process(es) ended for it", ended.len()));
    }
    if !left.is_empty() {
        what.push_str(&format!(", {} process(es) still have it open", left.len()));
    }
    told(live, what).await;
    keep(live)?;
    Ok(used)
}

/// A runtime's session outlives a daemon that is killed, with the grants of now.
fn keep(live: &Live) -> Result<(), String> {
    live.keep()
        .map_err(|error| format!("done, but a restart would not know it: {error}"))
}

async fn give(live: &Live, order: LaunchOrder) -> Result<Vec<Holder>, String> {
    if live.is_hosted() {
        // There are no walls to change: what is granted is what is answered from now on.
        return Ok(Vec::new());
    }
    match live.orders().carry(order).await? {
        CarriedResult::Used { by } => Ok(by),
        CarriedResult::Failed { why } => Err(why),
        _other => Err("the session's launcher answered something unexpected".into()),
    }
}

/// Records a change of what a running session has.
pub async fn told(live: &Live, what: String) {
    let event = Event::SessionChanged {
        session: Arc::clone(live.facts()),
        state: SessionState::Grants,
        why: Some(what),
    };
    if let Err(error) = live.gate().event(event).await {
        warn!(session = live.id(), %error, "a change of what a session has was not recorded");
    }
}

fn can_change(live: &Live) -> Result<(), String> {
    if live.orders().followed() || live.is_hosted() {
        Ok(())
    } else {
        Err(format!(
            "session {} takes no orders: it is starting or ending",
            live.id()
        ))
    }
}

/// By its name, or its path on the host or inside.
fn find(live: &Live, which: &Path) -> Result<GrantMade, String> {
    let grants = held(live);
    let named = |made: &&GrantMade| {
        made.path == which || made.inside == which || Path::new(&name_of(made)) == which
    };
    grants.iter().find(named).cloned().ok_or_else(|| {
        let there: Vec<String> = grants.iter().map(name_of).collect();
        format!(
            "`{}` is not granted to this session; its grants are {}",
            which.display(),
            if there.is_empty() {
                "none".into()
            } else {
                there.join(", ")
            }
        )
    })
}

fn held(live: &Live) -> MutexGuard<'_, Vec<GrantMade>> {
    live.grants().lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_of(made: &GrantMade) -> String {
    let name = made.inside.file_name();
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn shown(made: &GrantMade) -> String {
    format!("{} at {}", made.path.display(), made.inside.display())
}

fn as_operation(made: &GrantMade) -> Operation {
    operation(&made.path, made.mode, made.source)
}

fn granted(made: &GrantMade, used: Vec<Holder>) -> Answer {
    Answer::Session(SessionAnswer::Granted {
        grant: GrantLine::from(made),
        used,
    })
}

fn failed(message: String) -> Answer {
    Answer::Failed {
        message,
        help: Some("`cordon session show` lists its grants".into()),
    }
}
