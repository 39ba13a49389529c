//! Grants of running sessions: decides, records, and has the launcher mount, unmount and change
//! them. Answers what the guard asks about protected paths.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use cordon_audit::{Event, SessionState};
use cordon_policy::{Asked, Basis, Decided, Deny, DenyReason, GrantMode, Operation, Request};
use cordon_session::{Durability, GateError, grants::Names};
use futures_util::future::join_all;
use tracing::warn;

use super::{
    Daemon,
    late::in_time,
    life,
    live::Live,
    open::{Grants, operation},
    withdraw::unmount_made,
};
use crate::control::{
    Answer, CarriedResult, GrantAsked, GrantLine, GrantMade, Holder, LaunchOrder, SessionAnswer,
};

/// Gives a running session one grant more.
/// `by` says for the record who hands it over.
pub async fn grant(
    daemon: &Daemon,
    live: &Arc<Live>,
    asked: &GrantAsked,
    home: &Path,
    by: &str,
) -> Answer {
    if let Err(why) = can_change(live) {
        return failed(why);
    }
    // Before it is decided: what is granted already is not on record as granted otherwise.
    let there = asked.path.canonicalize().ok();
    if let Some(why) = there.and_then(|there| is_granted(live, &there)) {
        return failed(why);
    }
    let mut naming = Naming::new(live);
    let grants = Grants {
        gate: live.gate(),
        protected: daemon.protected(home),
        names: Box::new(|path, wanted| naming.take(path, wanted)),
        store: daemon.paths.state.clone(),
        home: PathBuf::from(format!("/sessions/{}", live.id())),
    };
    let made = match decided(live, asked, grants).await {
        Ok(made) => made,
        Err(Answer::Refused(refused)) => return Answer::Session(SessionAnswer::Refused(refused)),
        Err(other) => return other,
    };
    let changing = live.changing().await;
    // Another may have come first, or the path lead elsewhere by now.
    if let Some(why) = is_granted(live, &made.path) {
        drop(changing);
        told(live, format!("{} not mounted: {why}", shown(&made))).await;
        return failed(why);
    }
    let order = LaunchOrder::Mount {
        grant: Box::new(made.clone()),
    };
    match give(live, order).await {
        Ok(used) => {
            held(live).push(made.clone());
            live.policy().hold([as_operation(&made)]);
            drop(changing);
            let what = format!("{} granted {}, by {by}", shown(&made), made.mode);
            told(live, what).await;
            settled(live, &made, used).await
        }
        Err(NotDone { why, is_known }) => {
            if !is_known {
                let grant = Box::new(made.clone());
                let order = LaunchOrder::Unmount { grant, kill: true };
                make_sure(live, changing, order).await;
            } else {
                drop(changing);
            }
            told(live, format!("{} not mounted: {why}", shown(&made))).await;
            failed(why)
        }
    }
}

/// A name for a folder that is asked for: given to nobody else until the folder is granted with it
/// or not.
struct Naming<'a> {
    live: &'a Live,
    name: Option<String>,
}

impl<'a> Naming<'a> {
    fn new(live: &'a Live) -> Self {
        Self { live, name: None }
    }

    fn take(&mut self, path: &Path, wanted: Option<&str>) -> String {
        let mut asked = lock(self.live.names());
        let mut taken: Vec<String> = asked.iter().cloned().collect();
        // After those: a folder that is granted lets go of its name when it is among these.
        taken.extend(held(self.live).iter().map(name_of));
        let name = Names::with(taken).take(path, wanted);
        asked.insert(name.clone());
        self.name = Some(name.clone());
        name
    }
}

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            lock(self.live.names()).remove(name);
        }
    }
}

/// Has done what leaves a session with no more than is on record, after an order of which nobody
/// knows what came; where that cannot be had either, the session is ended.
async fn make_sure(live: &Arc<Live>, changing: Changing<'_>, order: LaunchOrder) {
    let given = give(live, order).await;
    drop(changing);
    let Err(NotDone { why, .. }) = given else {
        return;
    };
    warn!(session = live.id(), %why, "it may have more than it was granted: it is ended");
    if let Err(why) = life::end(live, true).await {
        warn!(session = live.id(), %why, "nor could it be ended");
    }
}

/// The answer for a grant that policy looks at from now on. One that a policy of meanwhile refuses is
/// taken again: it was decided before that, and nobody watched it (N19).
async fn settled(live: &Arc<Live>, made: &GrantMade, used: Vec<Holder>) -> Answer {
    let Err(deny) = live.gate().review(as_operation(made)) else {
        return kept(live, made, used);
    };
    let taken = unmount_made(live, made).await;
    match (live.gate().refuse(deny).await, taken) {
        (GateError::NotRecorded(error), _) => failed(error.to_string()),
        (GateError::Denied(_deny), true) => {
            failed("policy changed meanwhile, and refuses it now".into())
        }
        (GateError::Denied(_deny), false) => failed(
            "policy changed meanwhile, and refuses it now; it could not be unmounted, so the \
             session is ended"
                .into(),
        ),
    }
}

/// The answer, once the next daemon would know it too.
fn kept(live: &Live, made: &GrantMade, used: Vec<Holder>) -> Answer {
    match keep(live) {
        Ok(()) => granted(made, used),
        Err(why) => failed(why),
    }
}

/// Decides one, in time.
async fn decided(live: &Live, asked: &GrantAsked, grants: Grants<'_>) -> Result<GrantMade, Answer> {
    let said = format!("grant {} {}", asked.mode, asked.path.display());
    in_time(live.gate(), &said, grants.decide_one(asked)).await?
}

/// Why a path cannot be granted once more.
fn is_granted(live: &Live, path: &Path) -> Option<String> {
    let grants = held(live);
    let there = grants.iter().find(|there| there.path == path)?;
    Some(format!(
        "`{}` is granted already, as `{}`: `cordon session mode` changes what may be done",
        there.path.display(),
        there.inside.display()
    ))
}

/// Takes a grant from a running session. Taking needs no permission.
pub async fn revoke(live: &Live, which: &Path, kill: bool, by: &str) -> Answer {
    let changing = live.changing().await;
    let made = match can_change(live).and_then(|()| find(live, which)) {
        Ok(made) => made,
        Err(why) => return failed(why),
    };
    match take(live, changing, &made, kill, by).await {
        Ok(used) => granted(&made, used),
        Err(why) => failed(why),
    }
}

/// Changes what a running session may do beneath a grant. More is decided like a new grant.
pub async fn mode(
    daemon: &Daemon,
    live: &Arc<Live>,
    which: &Path,
    mode: GrantMode,
    kill: bool,
    by: &str,
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
    change(live, &made, changed, kill, by).await
}

/// Has a grant changed as it was decided, or to less.
async fn change(
    live: &Arc<Live>,
    made: &GrantMade,
    changed: GrantMade,
    kill: bool,
    by: &str,
) -> Answer {
    let mode = changed.mode;
    let changing = live.changing().await;
    if !is_there(live, made) {
        drop(changing);
        let why = "it was changed or taken meanwhile";
        told(
            live,
            format!("{} not changed to {mode}: {why}", shown(made)),
        )
        .await;
        return failed(why.into());
    }
    // With what is asked of it from now on, and the mode that it is mounted with.
    let order = LaunchOrder::Remount {
        grant: Box::new(GrantMade {
            mode: made.mode,
            ..changed.clone()
        }),
        mode,
        kill,
    };
    match give(live, order).await {
        Ok(used) => {
            for grant in held(live).iter_mut() {
                if grant.inside == changed.inside {
                    *grant = changed.clone();
                }
            }
            // The new one first: a policy that comes now finds the one or the other.
            live.policy().hold([as_operation(&changed)]);
            live.policy().release(&as_operation(made));
            drop(changing);
            let what = format!("{} changed to {mode}, by {by}", shown(made));
            told(live, what).await;
            // Less needs no permission, but a policy of meanwhile may leave nothing of it: what it
            // refused is not there any more, and would not be taken.
            let is_less = is_narrower(mode, made.mode);
            if is_less && live.gate().review(as_operation(made)).is_ok() {
                return kept(live, &changed, used);
            }
            settled(live, &changed, used).await
        }
        Err(NotDone { why, is_known }) => {
            if !is_known && !is_narrower(mode, made.mode) {
                let back = LaunchOrder::Remount {
                    grant: Box::new(GrantMade {
                        mode,
                        ..made.clone()
                    }),
                    mode: made.mode,
                    kill: true,
                };
                make_sure(live, changing, back).await;
            } else {
                drop(changing);
            }
            let what = format!("{} not changed to {mode}: {why}", shown(made));
            told(live, what).await;
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
        // It has one.
        names: Box::new(|_path, _wanted| name_of(made)),
        store: daemon.paths.state.clone(),
        home: PathBuf::new(),
    };
    match decided(live, &asked, grants).await {
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

/// Records a removal that the guard refused, with policy's own reason where that refuses it too.
/// Nobody is asked for an approval, because none would change it; and nothing is recorded as
/// allowed, because nothing was done.
pub async fn refused_delete(live: &Live, path: PathBuf, why: String) -> Answer {
    let mode = mode_at(live, &path);
    let operation = Operation::DeletePath { path, mode };
    let deny = match live.gate().look(operation.clone()) {
        Err(deny) => deny,
        Ok(basis) => deny_for(live, operation, DenyReason::GrantMode, basis, why),
    };
    noted(live.gate().refuse(deny).await)
}

/// Records a change that the guard refused, because what was there cannot be kept as policy asks.
pub async fn not_kept(live: &Live, path: PathBuf, written: bool, why: String) -> Answer {
    let mode = mode_at(live, &path);
    let operation = match written {
        true => Operation::WritePath { path, mode },
        false => Operation::DeletePath { path, mode },
    };
    let deny = deny_for(
        live,
        operation,
        DenyReason::Unavailable,
        Basis::default(),
        why,
    );
    noted(live.gate().refuse(deny).await)
}

/// Records that a unix socket was not reached or made. Both need the right to write there, so it is a
/// write that the folder's grant does not include.
pub async fn refused_socket(live: &Live, path: PathBuf, why: String) -> Answer {
    let mode = mode_at(live, &path);
    let operation = Operation::WritePath { path, mode };
    let basis = Basis::default();
    let deny = deny_for(live, operation, DenyReason::GrantMode, basis, why);
    noted(live.gate().refuse(deny).await)
}

fn deny_for(
    live: &Live,
    operation: Operation,
    reason: DenyReason,
    basis: Basis,
    why: String,
) -> Decided<Deny> {
    let request = Request {
        session: Arc::clone(live.facts()),
        operation,
        at: SystemTime::now(),
    };
    let basis = Basis {
        errors: vec![why],
        rules: Vec::new(),
        ..basis
    };
    Decided::<Deny>::deny(Asked::Request(request), reason, basis)
}

fn noted(refused: GateError) -> Answer {
    match refused {
        GateError::Denied(_) => Answer::Noted,
        GateError::NotRecorded(error) => failed(error.to_string()),
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
    let permitted = paths.into_iter().map(|path| async {
        let operation = Operation::WritePath {
            mode: mode_at(live, &path),
            path,
        };
        let may = gate.look(operation.clone()).is_ok();
        may && gate.admit(operation, Durability::Synced).await.is_ok()
    });
    // Recorded together: each would otherwise wait for a sync of its own before the session runs.
    let permitted = join_all(permitted).await;
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

/// Whether it is granted, just as it was made.
pub fn is_there(live: &Live, made: &GrantMade) -> bool {
    held(live).contains(made)
}

/// Has a grant unmounted that is there, and notes and records that it is gone.
pub async fn take(
    live: &Live,
    changing: Changing<'_>,
    made: &GrantMade,
    kill: bool,
    by: &str,
) -> Result<Vec<Holder>, String> {
    let order = LaunchOrder::Unmount {
        grant: Box::new(made.clone()),
        kill,
    };
    let used = match give(live, order).await {
        Ok(used) => used,
        Err(NotDone { why, .. }) => {
            drop(changing);
            told(live, format!("{} not unmounted: {why}", shown(made))).await;
            return Err(why);
        }
    };
    live.policy().release(&as_operation(made));
    held(live).retain(|grant| grant.inside != made.inside);
    drop(changing);
    let (ended, left): (Vec<_>, Vec<_>) = used.iter().partition(|holder| holder.ended);
    let mut what = format!("{} taken away by {by}", shown(made));
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

/// See [`Live::changing`].
type Changing<'a> = tokio::sync::MutexGuard<'a, ()>;

/// Why an order was not carried out.
struct NotDone {
    why: String,
    /// Whether the launcher said so; else it may have been, or be yet.
    is_known: bool,
}

async fn give(live: &Live, order: LaunchOrder) -> Result<Vec<Holder>, NotDone> {
    if live.is_hosted() {
        // There are no walls to change: what is granted is what is answered from now on.
        return Ok(Vec::new());
    }
    let (why, is_known) = match live.orders().carry(order).await {
        Ok(CarriedResult::Used { by }) => return Ok(by),
        Ok(CarriedResult::Failed { why }) => (why, true),
        Ok(_other) => {
            let why = "the session's launcher answered something unexpected";
            (why.into(), false)
        }
        Err(why) => (why, false),
    };
    Err(NotDone { why, is_known })
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

pub fn held(live: &Live) -> MutexGuard<'_, Vec<GrantMade>> {
    lock(live.grants())
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_of(made: &GrantMade) -> String {
    let name = made.inside.file_name();
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn shown(made: &GrantMade) -> String {
    format!("{} at {}", made.path.display(), made.inside.display())
}

pub fn as_operation(made: &GrantMade) -> Operation {
    operation(&made.path, made.mode, made.source, &made.inside)
}

fn granted(made: &GrantMade, used: Vec<Holder>) -> Answer {
    Answer::Session(SessionAnswer::Granted {
        grant: Box::new(GrantLine::from(made)),
        used,
    })
}

fn failed(message: String) -> Answer {
    Answer::Failed {
        message,
        help: Some("`cordon session show` lists its grants".into()),
    }
}

#[cfg(test)]
mod tests;
