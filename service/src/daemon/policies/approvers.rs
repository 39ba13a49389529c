//! Who may answer what a session asks (P06): decided by policy, like everything else, and recorded.
//!
//! The rules of bundles decide, and those of the session that asks where they speak of approving
//! too: neither can lift what the other refuses.

use std::sync::Arc;

use cordon_audit::{RecordId, Recorded};
use cordon_policy::{
    Asked, Basis, Decided, Decision, Deny, DenyReason, Operation, SessionFacts, Snapshot,
    plain_words,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Policies, authority::APPROVE, change::Stopped, somebody::Somebody};
use crate::control::PolicyAnswer;

/// A rule on who may answer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct AnswerRule {
    /// Its id.
    rule: String,
    /// What it says, in plain English.
    words: String,
}

impl Policies {
    /// Decides and records whether `who` may answer what `asking` asks, which `rules` decide; `own` says
    /// why they may not whatever policy says: they are the session that asks.
    ///
    /// # Errors
    /// [`Stopped::Denied`] with the record, or [`Stopped::Failed`] when it is not recorded.
    pub async fn authorise_answer(
        &self,
        who: &Somebody,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
        own: Option<&str>,
    ) -> Result<RecordId, Stopped> {
        let mut decision = self.answer_of(who, asking, rules).await?;
        if let Some(why) = own {
            let basis = Basis {
                errors: vec![why.to_owned()],
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
        who: &Somebody,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
    ) -> bool {
        let decided = self.answer_of(who, asking, rules).await;
        matches!(decided, Ok(Decision::Allow(_)))
    }

    /// The rules that speak of who may answer what `asking` asks, in words.
    ///
    /// # Errors
    /// The rules could not be put together.
    pub async fn rules_on_answers(&self, rules: &Snapshot) -> Result<Vec<AnswerRule>, Stopped> {
        let bundles = self.administration(&APPROVE, true).await?;
        let mut said: Vec<AnswerRule> = Vec::new();
        for rule in bundles.rules().iter().chain(rules.rules()) {
            let one = AnswerRule {
                rule: rule.id.to_string(),
                words: plain_words::rule(rule),
            };
            if APPROVE.speaks(&rule.text) && !said.contains(&one) {
                said.push(one);
            }
        }
        Ok(said)
    }

    async fn answer_of(
        &self,
        who: &Somebody,
        asking: &Arc<SessionFacts>,
        rules: &Snapshot,
    ) -> Result<Decision, Stopped> {
        // Nobody else is this daemon's user, so only they may where no rule speaks of it.
        let alone = self.user.is(&who.user);
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

    /// Records it, in time; with the record where it is allowed.
    pub(super) async fn recorded(
        &self,
        what: &str,
        decision: Decision,
        help: &str,
    ) -> Result<RecordId, Stopped> {
        let denied = match self.enter(decision, true).await? {
            Recorded::Allow(permit) => return Ok(permit.id()),
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

fn approve(asking: &Arc<SessionFacts>) -> Operation {
    Operation::Approve {
        asking: Arc::clone(asking),
    }
}
