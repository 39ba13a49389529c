//! Who may answer what a session asks (P06): decided by policy, like everything else, and recorded.
//!
//! The rules of bundles decide, and those of the session that asks where they speak of approving
//! too: neither can lift what the other refuses.

use std::{sync::Arc, time::SystemTime};

use cordon_audit::Recorded;
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, Operation, Request, SessionFacts,
    Snapshot,
};

use super::{
    Policies,
    authority::{APPROVE, READ},
    change::{Stopped, failed},
};
use crate::control::PolicyAnswer;

/// Somebody who wants to answer.
#[derive(Clone, Debug)]
pub struct Approver {
    /// Login name, or the name that the configuration gives to a token or certificate.
    pub user: String,
    /// Groups that policy may name.
    pub groups: Vec<String>,
    /// Why they may not, whatever policy says: they are the session that asks.
    pub own: Option<String>,
}

impl Policies {
    /// Decides and records whether `who` may answer what `asking` asks, which `rules` decide.
    ///
    /// # Errors
    /// [`Stopped::Denied`] with the record, or [`Stopped::Failed`] when it is not recorded.
    pub async fn authorise_answer(
        &self,
        who: &Approver,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
    ) -> Result<(), Stopped> {
        let mut decision = self.answer_of(who, asking, rules).await?;
        if let Some(why) = &who.own {
            let basis = Basis {
                errors: vec![why.clone()],
                ..Basis::default()
            };
            let asked = Asked::Request(who.asks(approve(asking)));
            decision = Decided::<Deny>::deny(asked, DenyReason::DefaultDeny, basis).into();
        }
        let help = "ask somebody whom policy permits `approve`";
        self.recorded("approve", decision, help).await
    }

    /// Whether they may, without a record: nothing is done.
    pub async fn may_answer(
        &self,
        who: &Approver,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
    ) -> bool {
        let decided = self.answer_of(who, asking, rules).await;
        matches!(decided, Ok(Decision::Allow(_)))
    }

    /// Decides and records whether `who` may follow what happens on this node.
    ///
    /// # Errors
    /// As [`Self::authorise_answer`].
    pub async fn authorise_reading(&self, who: &Approver) -> Result<(), Stopped> {
        let rules = self.administration(&READ, false).await?;
        let log = rustix::system::uname();
        let log = log.nodename().to_string_lossy().into_owned();
        let decision = rules.decide(who.asks(Operation::ReadLog { log }));
        let help = "ask somebody whom policy permits `read_log`";
        self.recorded("read log", decision, help).await
    }

    async fn answer_of(
        &self,
        who: &Approver,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
    ) -> Result<Decision, Stopped> {
        // Nobody else is this daemon's user, so only they may where no rule speaks of it.
        let alone = who.user == self.user.name;
        let bundles = self.administration(&APPROVE, alone).await?;
        // Where only the session's rules speak of it, they say who else may.
        if !alone && !APPROVE.is_in(&bundles) && APPROVE.is_in(rules) {
            return Ok(rules.decide(who.asks(approve(asking))));
        }
        let decision = bundles.decide(who.asks(approve(asking)));
        Ok(match decision {
            Decision::Allow(_) if APPROVE.is_in(rules) => rules.decide(who.asks(approve(asking))),
            decision => decision,
        })
    }

    async fn recorded(&self, what: &str, decision: Decision, help: &str) -> Result<(), Stopped> {
        let denied = match self.log.record(decision).await.map_err(failed)? {
            Recorded::Allow(_permit) => return Ok(()),
            Recorded::Deny(denied) => denied,
        };
        let deny = denied.verdict();
        let why = deny.basis.errors.first().cloned();
        Err(Stopped::Denied(PolicyAnswer::Denied {
            message: format!("{what}: {}", why.unwrap_or_else(|| deny.why())),
            decision: Some(denied.id().to_string()),
            help: Some(help.into()),
        }))
    }
}

impl Approver {
    /// A request that they make for themselves.
    fn asks(&self, operation: Operation) -> Request {
        Request {
            session: Arc::new(SessionFacts {
                id: "administration".into(),
                user: self.user.clone(),
                groups: self.groups.clone(),
                agent: None,
                platform: std::env::consts::OS.into(),
                backend: Backend::None,
            }),
            operation,
            at: SystemTime::now(),
        }
    }
}

fn approve(asking: &Arc<SessionFacts>) -> Operation {
    Operation::Approve {
        asking: Arc::clone(asking),
    }
}
