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
    authority::APPROVE,
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
        let request = Request {
            session: Arc::new(SessionFacts {
                id: "administration".into(),
                user: who.user.clone(),
                groups: who.groups.clone(),
                agent: None,
                platform: std::env::consts::OS.into(),
                backend: Backend::None,
            }),
            operation: Operation::Approve {
                asking: Arc::clone(asking),
            },
            at: SystemTime::now(),
        };
        // Nobody else is this daemon's user, so only they may where no rule speaks of it.
        let alone = who.user == self.user.name;
        let bundles = self.administration(&APPROVE, alone).await?;
        let mut decision = bundles.decide(request.clone());
        if matches!(decision, Decision::Allow(_)) && APPROVE.is_in(rules) {
            decision = rules.decide(request.clone());
        }
        if let Some(why) = &who.own {
            let basis = Basis {
                errors: vec![why.clone()],
                ..Basis::default()
            };
            let asked = Asked::Request(request);
            decision = Decided::<Deny>::deny(asked, DenyReason::DefaultDeny, basis).into();
        }
        let denied = match self.log.record(decision).await.map_err(failed)? {
            Recorded::Allow(_permit) => return Ok(()),
            Recorded::Deny(denied) => denied,
        };
        let deny = denied.verdict();
        let why = deny.basis.errors.first().cloned();
        Err(Stopped::Denied(PolicyAnswer::Denied {
            message: format!("approve: {}", why.unwrap_or_else(|| deny.why())),
            decision: Some(denied.id().to_string()),
            help: Some("ask somebody whom policy permits `approve`".into()),
        }))
    }
}
