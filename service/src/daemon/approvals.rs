//! Asks people: opens sessions to it, lets what is late expire, tells who is to be told, and takes
//! answers from those who may give them.

mod notify;
pub mod own;

use std::{sync::Arc, time::SystemTime};

use cordon_audit::{Record, RecordId};
use cordon_session::{
    Gate,
    approvals::{Answer, AnswerError, Approval},
};
use tokio::time::Instant;

use super::{
    Daemon,
    policies::{AnswerRule, Somebody, Stopped},
};

/// Why an answer was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// There is no such approval, it does not count any more, or the log does not take it.
    Answer(AnswerError),
    /// They may not, or that could not be decided.
    Who(Stopped),
}

impl Daemon {
    /// Lets a session that is open ask people; `records` is what the log has of it already.
    pub(super) fn ask_people(&self, gate: &Gate, records: &[Record]) {
        self.approvals.enter(gate.session(), records);
        gate.ask_people(Arc::clone(&self.approvals));
    }

    /// Whether a caller may see an approval: this daemon's user those of each session that they may see,
    /// also when it is over; others what they may answer.
    pub(super) async fn may_see(&self, who: &Somebody, approval: &Approval) -> bool {
        if self.user.is(&who.user) {
            return self.policies.may_read(who, &approval.session).await;
        }
        let Some(live) = self.registry.of_id(&approval.session.id) else {
            return false;
        };
        let rules = Arc::clone(&live.policy().current().live);
        self.policies.may_answer(who, live.facts(), &rules).await
    }

    /// The rules on who may answer one, in words; none once its session is over.
    ///
    /// # Errors
    /// The rules could not be put together.
    pub(super) async fn rules_on_answers(
        &self,
        approval: &Approval,
    ) -> Result<Vec<AnswerRule>, Stopped> {
        let Some(live) = self.registry.of_id(&approval.session.id) else {
            return Ok(Vec::new());
        };
        let rules = Arc::clone(&live.policy().current().live);
        self.policies.rules_on_answers(&rules).await
    }

    /// Takes an answer of `who`, by the process `pid`, where policy permits them to give it; with the
    /// record of that.
    ///
    /// # Errors
    /// [`NotTaken`]; then nothing has changed.
    pub(super) async fn answer(
        &self,
        id: &str,
        who: &Somebody,
        pid: Option<u32>,
        answer: &Answer,
        why: Option<String>,
    ) -> Result<(Approval, RecordId), NotTaken> {
        let unknown = || NotTaken::Answer(AnswerError::Unknown);
        let approval = self.approvals.get(id).ok_or_else(unknown)?;
        let live = self.registry.of_id(&approval.session.id);
        let live = live.ok_or_else(unknown)?;
        let own = pid.and_then(|pid| own::process_of(&live, pid));
        let rules = Arc::clone(&live.policy().current().live);
        let policies = &self.policies;
        let permitted = policies.authorise_answer(who, live.facts(), &rules, own.as_deref());
        let decision = permitted.await.map_err(NotTaken::Who)?;
        let taken = self.approvals.answer(id, &who.user, answer, why).await;
        let approval = taken.map_err(NotTaken::Answer)?;
        Ok((approval, decision))
    }
}

/// Lets what is late expire and tells of what is new, as long as the daemon lives.
pub(super) async fn tend(daemon: Arc<Daemon>) {
    let mut changes = daemon.approvals.changes();
    let mut notices = notify::Notices::new(&daemon);
    loop {
        // What changes while this is at work is looked at again at once.
        changes.mark_unchanged();
        let next = daemon.approvals.expire().await;
        notices.tell(&daemon.approvals.all());
        let until = next.map(|at| {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            Instant::now() + left
        });
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = super::sleep_until(until) => {}
        }
    }
}
