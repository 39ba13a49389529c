//! Fills a record with a question about an application, or a search.

use cordon_policy::DenyReason;

use super::{
    MAX_INT,
    fill::{fill_rules, policy},
    word,
};
use crate::{
    AccessEvent, AccessOutcome, Record,
    record::{Effect, Enforced, Kind, Principal},
};

/// Action of a record: one question.
pub(super) const EVALUATE: &str = "access.evaluate";
/// Action of a record: a search, whatever it found.
pub(super) const SEARCH: &str = "access.search";

pub(super) fn fill_access(record: &mut Record, event: &AccessEvent) {
    record.kind = Kind::Decision;
    let is_search = event.access.sought.is_some();
    record.action = Some(if is_search { SEARCH } else { EVALUATE }.into());
    record.principal = Some(Principal {
        id: event.caller.clone(),
        kind: "user".into(),
    });
    let by = event.policy.as_ref();
    record.policy = by.map(|by| policy(&by.set, &by.digest, by.revision));
    let mut access = event.access.clone();
    for count in [&mut access.evaluated, &mut access.found] {
        *count = count.map(|count| count.min(MAX_INT));
    }
    record.access = Some(access);
    let (effect, enforced, reason) = match &event.outcome {
        AccessOutcome::Allowed(rules) => {
            fill_rules(record, rules);
            (Effect::Allow, Enforced::Allowed, "rule".to_owned())
        }
        AccessOutcome::Denied(rules) => {
            fill_rules(record, rules);
            let reason = match rules.is_empty() {
                true => word(&DenyReason::DefaultDeny),
                false => word(&DenyReason::Rule),
            };
            (Effect::Deny, Enforced::Blocked, reason)
        }
        AccessOutcome::Failed { evaluated, why } => {
            fill_rules(record, &[]);
            record.err = vec![why.clone()];
            match evaluated {
                true => (
                    Effect::Error,
                    Enforced::Blocked,
                    word(&DenyReason::EvaluationError),
                ),
                false => (
                    Effect::Deny,
                    Enforced::Blocked,
                    word(&DenyReason::Malformed),
                ),
            }
        }
    };
    record.effect = Some(effect);
    record.enforced = Some(enforced);
    record.reason = Some(reason);
}
