//! Who may do what with sessions from outside, and read the log: decided by the rules of bundles, and
//! recorded.
//!
//! [`Somebody`], an act and a session in; leave, or a refusal, out. Files that a launcher names have no
//! say: who may open a session is not for whoever opens it to write. What a session is given is
//! decided by its own rules beside this.

use std::sync::{Arc, MutexGuard, PoisonError};

use cordon_audit::{RecordId, Recorded};
use cordon_policy::{
    Decision, DenyReason, Layer, Operation, Request, SessionAct, SessionFacts, Snapshot,
    source::{PolicyFile, PolicySource},
};

use super::{
    Policies,
    change::{Stopped, failed},
    somebody::Somebody,
};
use crate::{control::Answer, daemon::open::refused};

/// What this daemon's own user may, where no rule forbids it: the sessions and the log are theirs.
const OWN: &str = r#"
@id("own-user-manages")
@reason("the sessions of a daemon are its user's own")
permit (principal, action in Action::"manage_sessions", resource);

@id("own-user-reads")
@reason("the log of a daemon is its user's own")
permit (principal, action == Action::"read_log", resource);
"#;

/// The rules that decide about sessions from outside.
#[derive(Debug)]
pub(super) struct Managing {
    /// Those of bundles.
    bundles: Arc<Snapshot>,
    /// [`OWN`].
    own: Arc<Snapshot>,
}

impl Policies {
    /// Decides whether `who` may do this with a session: with the record of it where something is done,
    /// without one where they only look and may. What somebody else asks in its name is done: the
    /// session's own records name its user alone.
    ///
    /// # Errors
    /// The answer to give: policy refuses it, or it could not be decided or recorded.
    pub async fn manage(
        &self,
        who: &Somebody,
        act: SessionAct,
        of: &Arc<SessionFacts>,
    ) -> Result<Option<RecordId>, Answer> {
        // What the own user asks in a session's name its rules decide, however often it is asked.
        if act == SessionAct::Ask && self.user.is(&who.user) {
            return Ok(None);
        }
        let decision = self.managed(who, act, of).await.map_err(not_decided)?;
        if act == SessionAct::Read && matches!(decision, Decision::Allow(_)) {
            return Ok(None);
        }
        // Nothing of a session stands before the records of its start are synced, and this with them.
        // To end only takes: it is not waited for, so that it is carried out whoever hangs up, and
        // synced with the record of the end. What is asked is decided and recorded behind this.
        let synced = !matches!(act, SessionAct::Open | SessionAct::End | SessionAct::Ask);
        match self.enter(decision, synced).await.map_err(not_decided)? {
            Recorded::Allow(permit) => Ok(Some(permit.id())),
            Recorded::Deny(denied) => Err(Answer::Refused(refused(&denied))),
        }
    }

    /// Whether `who` may see a session; nothing is recorded.
    pub async fn may_read(&self, who: &Somebody, of: &Arc<SessionFacts>) -> bool {
        let decided = self.managed(who, SessionAct::Read, of).await;
        matches!(decided, Ok(Decision::Allow(_)))
    }

    /// Decides whether `who` may see a session; recorded where they may not.
    ///
    /// # Errors
    /// [`Stopped::Denied`] with the record, or [`Stopped::Failed`] when it is not recorded.
    pub(super) async fn authorise_looking(
        &self,
        who: &Somebody,
        of: &Arc<SessionFacts>,
    ) -> Result<(), Stopped> {
        let decision = self.managed(who, SessionAct::Read, of).await?;
        if matches!(decision, Decision::Allow(_)) {
            return Ok(());
        }
        let help = "ask somebody whom policy permits `read_session`";
        self.recorded("read session", decision, help)
            .await
            .map(drop)
    }

    /// Decides whether `who` may follow what happens on this node. That of the own user is recorded
    /// where it is refused alone: whoever reads page by page would read that they did.
    ///
    /// # Errors
    /// [`Stopped::Denied`] with the record, or [`Stopped::Failed`] when it is not recorded.
    pub async fn authorise_reading(&self, who: &Somebody) -> Result<(), Stopped> {
        let log = rustix::system::uname();
        let log = log.nodename().to_string_lossy().into_owned();
        let managing = self.managing().await?;
        let decision = managing.decide(
            who.asks(Operation::ReadLog { log }),
            self.user.is(&who.user),
        );
        if self.user.is(&who.user) && matches!(decision, Decision::Allow(_)) {
            return Ok(());
        }
        let help = "ask somebody whom policy permits `read_log`";
        self.recorded("read log", decision, help).await.map(drop)
    }

    async fn managed(
        &self,
        who: &Somebody,
        act: SessionAct,
        of: &Arc<SessionFacts>,
    ) -> Result<Decision, Stopped> {
        let managing = self.managing().await?;
        let of = Arc::clone(of);
        let request = who.asks(Operation::ManageSession { act, of });
        // No bundle takes that away: to end only takes, and a session that nobody could end would run
        // on with all that it was given.
        if act == SessionAct::End && self.user.is(&who.user) {
            return Ok(managing.own.decide(request));
        }
        Ok(managing.decide(request, self.user.is(&who.user)))
    }

    /// The rules as of now, made once for each change of policy.
    async fn managing(&self) -> Result<Arc<Managing>, Stopped> {
        let generation = self.generation();
        if let Some((at, managing)) = &*self.lock_managing()
            && *at == generation
        {
            return Ok(Arc::clone(managing));
        }
        let own = PolicyFile {
            layer: Layer::Organisation,
            ..PolicyFile::new("own-user.cedar", OWN)
        };
        let own = PolicySource::new("own-user", vec![own]);
        let made = async |source| self.cache.snapshot(source).await.map_err(failed);
        let managing = Arc::new(Managing {
            bundles: made(self.bundles()?).await?,
            own: made(own).await?,
        });
        *self.lock_managing() = Some((generation, Arc::clone(&managing)));
        Ok(managing)
    }

    fn lock_managing(&self) -> MutexGuard<'_, Option<(u64, Arc<Managing>)>> {
        self.managing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Managing {
    /// What bundles say; of the own user what they leave open [`OWN`] permits.
    fn decide(&self, request: Request, is_own: bool) -> Decision {
        match self.bundles.decide(request.clone()) {
            Decision::Deny(deny) if is_own && deny.verdict().reason == DenyReason::DefaultDeny => {
                self.own.decide(request)
            }
            decided => decided,
        }
    }
}

fn not_decided(stopped: Stopped) -> Answer {
    let (message, help) = match stopped {
        Stopped::Failed(message, help) => (message, help),
        Stopped::Denied(_) | Stopped::OnePerson => ("policy does not permit it".into(), None),
    };
    Answer::Failed { message, help }
}
