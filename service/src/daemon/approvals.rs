//! Asks people: opens sessions to it, lets what is late expire, tells who is to be told, and takes
//! answers from those who may give them.

mod notify;
pub mod own;

use std::{sync::Arc, time::SystemTime};

use cordon_audit::Record;
use cordon_session::{
    Gate,
    approvals::{Answer, AnswerError, Approval},
};
use tokio::time::Instant;

use super::{
    Daemon,
    policies::{Approver, Stopped},
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

    /// Whether a caller may see an approval: this daemon's user all, others what they may answer.
    pub(super) async fn may_see(&self, user: &str, who: &Approver, approval: &Approval) -> bool {
        if user == self.user.name {
            return true;
        }
        let Some(live) = self.registry.of_id(&approval.session.id) else {
            return false;
        };
        let rules = Arc::clone(&live.policy().current().live);
        self.policies.may_answer(who, live.facts(), &rules).await
    }

    /// Takes an answer of `who`, by the process `pid`, where policy permits them to give it.
    ///
    /// # Errors
    /// [`NotTaken`]; then nothing has changed.
    pub(super) async fn answer(
        &self,
        id: &str,
        mut who: Approver,
        pid: Option<u32>,
        answer: &Answer,
        why: Option<String>,
    ) -> Result<Approval, NotTaken> {
        let unknown = || NotTaken::Answer(AnswerError::Unknown);
        let approval = self.approvals.get(id).ok_or_else(unknown)?;
        let live = self.registry.of_id(&approval.session.id);
        let live = live.ok_or_else(unknown)?;
        who.own = pid.and_then(|pid| own::process_of(&live, pid));
        let rules = Arc::clone(&live.policy().current().live);
        let permitted = self.policies.authorise_answer(&who, live.facts(), &rules);
        permitted.await.map_err(NotTaken::Who)?;
        let taken = self.approvals.answer(id, &who.user, answer, why).await;
        taken.map_err(NotTaken::Answer)
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
