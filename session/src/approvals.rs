//! Approvals: requests that policy allows once a person has said yes (P04, P06).
//!
//! The gate asks here whether exactly this request was approved, and has it asked about where it
//! was not. Whoever may answer does so with [`Approvals::answer`]; that they may is decided before.
//! Each step is in the log before it counts, and the log alone is where approvals are kept:
//! [`Approvals::enter`] reads them back. An approval never becomes a rule.

mod past;
mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use cordon_audit::{ApprovalEvent, ApprovalStep, Event, Log, Record, RecordError, record};
use cordon_policy::{ApprovalRef, Asked, Decided, Deny, SessionFacts};
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

pub use state::{Answer, Approval, Given, NotAnswered, REFUSED_FOR, State};

/// The approvals of all sessions of a daemon.
#[derive(Debug)]
pub struct Approvals {
    log: Log,
    wait: Duration,
    sessions: Mutex<BTreeMap<String, Vec<Approval>>>,
    /// One step that is recorded first and counts then at a time.
    turn: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

/// Why an answer was not taken.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// There is no such approval.
    #[error("there is no approval of this id")]
    Unknown,
    /// It does not count.
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
    /// The log does not take it.
    #[error(transparent)]
    NotRecorded(#[from] RecordError),
}

/// Longest text about a request that is kept, in bytes.
pub const LONGEST_SHOWN: usize = 4_096;

/// When a step that the log did not take is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Requests of one session that wait for an answer. Further ones are refused unasked.
pub const MOST_PENDING: usize = 64;

/// Approvals of one session that are remembered, the newest.
const MOST_KEPT: usize = 1_024;

impl Approvals {
    /// None yet. A request waits for an answer for `wait`.
    pub fn new(log: Log, wait: Duration) -> Self {
        Self {
            log,
            wait,
            sessions: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// A session may ask from now on. `records` is what the log has of it already.
    pub fn enter(&self, session: &Arc<SessionFacts>, records: &[Record]) {
        let mut known = past::approvals(session, records);
        known.drain(..known.len().saturating_sub(MOST_KEPT));
        self.lock().insert(session.id.clone(), known);
        self.changed();
    }

    /// A session is over: what is open is withdrawn, and nothing is taken any more.
    pub async fn leave(&self, session: &str) {
        let _turn = self.turn.lock().await;
        let left = self.lock().remove(session).unwrap_or_default();
        let now = SystemTime::now();
        for approval in left.iter().filter(|approval| approval.is_open()) {
            let why = Some("its session ended".to_owned());
            let withdrawn = event(
                approval,
                ApprovalStep::Withdrawn,
                &State::Withdrawn,
                now,
                why,
            );
            self.log.event_later(withdrawn);
        }
        self.changed();
    }

    /// Takes one use of an approval of exactly this request, where there is one by so many people as
    /// it takes now: what a session did since, or another policy, may want more.
    pub fn take(&self, wanted: &Wanted<'_>, now: SystemTime) -> Option<ApprovalRef> {
        let taken = self.find(wanted, |approval| approval.take(now));
        if taken.is_some() {
            self.changed();
        }
        taken
    }

    /// Puts back what came to nothing.
    pub fn put_back(&self, session: &str, id: &str) {
        let mut sessions = self.lock();
        let mut known = sessions.get_mut(session).into_iter().flatten();
        if let Some(approval) = known.find(|approval| &*approval.id == id) {
            approval.put_back();
        }
    }

    /// The approval that a use would take now.
    pub fn usable(&self, wanted: &Wanted<'_>, now: SystemTime) -> Option<ApprovalRef> {
        self.find(wanted, |approval| approval.usable(now))
    }

    /// The approval that something was begun under and that still stands for it.
    pub fn covers(&self, wanted: &Wanted<'_>) -> Option<ApprovalRef> {
        self.find(wanted, |approval| approval.covers())
    }

    fn find(
        &self,
        wanted: &Wanted<'_>,
        fits: impl FnMut(&mut Approval) -> Option<ApprovalRef>,
    ) -> Option<ApprovalRef> {
        let mut sessions = self.lock();
        let same = sessions.get_mut(wanted.session)?.iter_mut();
        same.filter(|approval| *approval.digest == *wanted.digest)
            .filter(|approval| approval.people() >= wanted.people)
            .find_map(fits)
    }

    /// Has a person asked about what was refused for want of an approval: gives the refusal back
    /// with the id to ask by. The same request waits once, however often it is made.
    ///
    /// # Errors
    /// [`RecordError`] when the log does not take it; then nobody is asked.
    pub async fn ask(&self, deny: Decided<Deny>) -> Result<Decided<Deny>, RecordError> {
        let Asked::Request(request) = &deny.verdict().asked else {
            return Ok(deny);
        };
        let session = Arc::clone(&request.session);
        let digest: Arc<str> = request.operation.approval_digest(&session.id).into();
        let _turn = self.turn.lock().await;
        let now = SystemTime::now();
        let new = {
            let mut sessions = self.lock();
            let Some(known) = sessions.get_mut(&session.id) else {
                // It is not open yet, or over: there is nobody to wait.
                return Ok(deny);
            };
            let same = known
                .iter_mut()
                .find(|known| known.digest == digest && known.stands_for(now));
            if let Some(same) = same {
                let wanted = approvers(&deny);
                if same.needs < wanted {
                    same.needs = wanted;
                    self.changed();
                }
                let (reference, why) = (same.waited_for(), standing(same));
                return Ok(deny.waiting_for(Some(reference), why));
            }
            let pending = known.iter().filter(|known| known.state.word() == "pending");
            if pending.count() >= MOST_PENDING {
                let why = format!("{MOST_PENDING} requests of this session wait for an approval");
                return Ok(deny.waiting_for(None, Some(why)));
            }
            Approval {
                id: Uuid::now_v7().to_string().into(),
                session: Arc::clone(&session),
                operation: request.operation.clone(),
                digest,
                needs: approvers(&deny),
                asked: now,
                deadline: now + self.wait,
                shown: None,
                state: State::Pending(None),
            }
        };
        let asked = event(&new, ApprovalStep::Requested, &new.state, now, None);
        self.log.event(asked).await?;
        let reference = new.waited_for();
        if let Some(known) = self.lock().get_mut(&session.id) {
            known.push(new);
            if known.len() > MOST_KEPT
                && let Some(over) = known.iter().position(|known| !known.is_open())
            {
                known.remove(over);
            }
        }
        self.changed();
        Ok(deny.waiting_for(Some(reference), None))
    }

    /// What whoever asks says about a request that waits, cut to [`LONGEST_SHOWN`] bytes. The first
    /// that is said stays.
    pub fn describe(&self, id: &str, shown: &str) {
        let end = shown.floor_char_boundary(LONGEST_SHOWN);
        let mut sessions = self.lock();
        let mut all = sessions.values_mut().flatten();
        if let Some(known) = all.find(|known| &*known.id == id)
            && known.shown.is_none()
        {
            known.shown = shown.get(..end).map(Into::into);
        }
    }

    /// Takes an answer of `by`, who may give it.
    ///
    /// # Errors
    /// [`AnswerError`]; then nothing has changed.
    pub async fn answer(
        &self,
        id: &str,
        by: &str,
        answer: &Answer,
        why: Option<String>,
    ) -> Result<Approval, AnswerError> {
        let _turn = self.turn.lock().await;
        let now = SystemTime::now();
        let by: Arc<str> = by.into();
        let approval = self.get(id).ok_or(AnswerError::Unknown)?;
        let (next, step) = approval.answered(&by, answer, now)?;
        let mut recorded = event(&approval, step, &next, now, why);
        if let Event::Approval(step) = &mut recorded
            && step.approval.by.is_empty()
        {
            step.approval.by = vec![by.to_string()];
        }
        self.log.event(recorded).await?;
        Ok(self.enter_state(id, next).unwrap_or(approval))
    }

    /// Records what has expired; when to come again.
    pub async fn expire(&self) -> Option<SystemTime> {
        let _turn = self.turn.lock().await;
        let now = SystemTime::now();
        let over: Vec<(Approval, State)> = {
            let sessions = self.lock();
            let all = sessions.values().flatten();
            all.filter_map(|known| Some((known.clone(), known.expired(now)?)))
                .collect()
        };
        for (approval, next) in over {
            let expired = event(&approval, ApprovalStep::Expired, &next, now, None);
            // Whether it is recorded or not, nothing is allowed by it any more.
            if self.log.event(expired).await.is_err() {
                return Some(now + RETRY);
            }
            self.enter_state(&approval.id, next);
        }
        let sessions = self.lock();
        sessions
            .values()
            .flatten()
            .filter_map(Approval::expires)
            .min()
    }

    /// The approval of this id.
    pub fn get(&self, id: &str) -> Option<Approval> {
        let sessions = self.lock();
        let mut all = sessions.values().flatten();
        all.find(|known| &*known.id == id).cloned()
    }

    /// All that are remembered, oldest first.
    pub fn all(&self) -> Vec<Approval> {
        let mut all: Vec<Approval> = self.lock().values().flatten().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// News of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn enter_state(&self, id: &str, next: State) -> Option<Approval> {
        let entered = {
            let mut sessions = self.lock();
            let mut all = sessions.values_mut().flatten();
            let known = all.find(|known| &*known.id == id)?;
            known.state = next;
            known.clone()
        };
        self.changed();
        Some(entered)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Approval>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of which request an approval is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    session: &'a str,
    digest: String,
    people: usize,
}

impl<'a> Wanted<'a> {
    /// By what was refused for want of one; `None` where that was no request.
    pub fn by(session: &'a str, deny: &Decided<Deny>) -> Option<Self> {
        let Asked::Request(request) = &deny.verdict().asked else {
            return None;
        };
        Some(Self {
            session,
            digest: request.operation.approval_digest(session),
            people: approvers(deny),
        })
    }
}

/// What is told to whoever asks again.
fn standing(known: &Approval) -> Option<String> {
    match &known.state {
        State::Refused { by, .. } => Some(format!("{by} said no to exactly this")),
        State::Pending(_) | State::Given(_) | State::Expired(_) | State::Withdrawn => None,
    }
}

/// How many people the rules that would permit it want; the most careful rule counts.
fn approvers(deny: &Decided<Deny>) -> usize {
    let basis = &deny.verdict().basis;
    let wanted = basis.obligation("approvers");
    wanted
        .filter_map(|value| value.parse().ok())
        .fold(1, usize::max)
}

/// The record of a step to `next`.
fn event(
    approval: &Approval,
    step: ApprovalStep,
    next: &State,
    now: SystemTime,
    why: Option<String>,
) -> Event {
    let given = match next {
        State::Pending(given) | State::Expired(given) => given.as_ref(),
        State::Given(given) => Some(given),
        State::Refused { .. } | State::Withdrawn => None,
    };
    let left = |until: SystemTime| until.duration_since(now).unwrap_or_default();
    let until = match next {
        State::Pending(None) => Some(approval.deadline),
        _ => given.and_then(|given| given.until),
    };
    Event::Approval(Box::new(ApprovalEvent {
        session: Arc::clone(&approval.session),
        operation: approval.operation.clone(),
        step,
        approval: record::Approval {
            at_us: given.map(|given| micros(given.at)),
            by: given.map_or_else(Vec::new, |given| {
                given.by.iter().map(ToString::to_string).collect()
            }),
            digest: approval.digest.to_string(),
            needs: u64::try_from(approval.needs)
                .ok()
                .filter(|needs| *needs > 1),
            reference: approval.id.to_string(),
            scope: given.map(|given| given.scope().as_str().into()),
            ttl_s: until.map(|until| left(until).as_secs()),
            uses: given.and_then(|given| given.uses).map(u64::from),
        },
        at: now,
        why,
    }))
}

fn micros(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
