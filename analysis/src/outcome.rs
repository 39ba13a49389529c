//! A decision's outcome in the words of records, and how two of them compare.

use cordon_audit::{Effect, Record};
use cordon_policy::{
    ApprovalRef, ApprovalScope, Decision, DenyReason, GivenApproval, Request, RuleRef, Snapshot,
};
use serde::Serialize;

/// What a policy set says about a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// Allow, deny, ask or error.
    pub effect: Effect,
    /// The kind of refusal; absent for an allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DenyReason>,
    /// Ids of the determining rules; empty is the default deny.
    pub rules: Vec<String>,
}

/// The approval that a recorded decision rested on.
pub(crate) fn given(record: &Record) -> Option<ApprovalRef> {
    let approval = record.approval.as_ref()?;
    let scope = match approval.scope.as_deref()? {
        "once" => ApprovalScope::Once,
        "uses" => ApprovalScope::Uses,
        "session" => ApprovalScope::Session,
        _unknown => return None,
    };
    Some(ApprovalRef {
        id: approval.reference.as_str().into(),
        digest: approval.digest.as_str().into(),
        given: Some(GivenApproval {
            scope,
            by: approval.by.iter().map(|by| by.as_str().into()).collect(),
            at: std::time::UNIX_EPOCH
                + std::time::Duration::from_micros(approval.at_us.unwrap_or_default()),
        }),
    })
}

/// What becomes of a request when one policy set follows another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was refused and is allowed.
    NewlyAllowed,
    /// It was allowed and is refused.
    NewlyDenied,
    /// It is refused as before, but now an approval would help, or no longer.
    OtherRefusal,
}

impl Outcome {
    /// Decides `request`: what the policy itself says, also where observe mode lets it through.
    /// Records have it the same way.
    pub fn of(snapshot: &Snapshot, request: &Request) -> Self {
        Self::from(snapshot.decide(request.clone()))
    }

    pub(crate) fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow(allow) => match &allow.verdict().basis.observed {
                Some(observed) => Self::refused(observed.reason, &observed.rules),
                None => Self {
                    effect: Effect::Allow,
                    reason: None,
                    rules: ids(&allow.verdict().basis.rules),
                },
            },
            Decision::Deny(deny) => {
                let deny = deny.verdict();
                Self::refused(deny.reason, &deny.basis.rules)
            }
        }
    }

    fn refused(reason: DenyReason, rules: &[RuleRef]) -> Self {
        Self {
            effect: match reason {
                DenyReason::ApprovalRequired => Effect::Ask,
                DenyReason::EvaluationError => Effect::Error,
                DenyReason::DefaultDeny
                | DenyReason::Rule
                | DenyReason::Malformed
                | DenyReason::AddressNotPermitted
                | DenyReason::GrantMode
                | DenyReason::ProtectedFolder
                | DenyReason::Unavailable
                | DenyReason::TlsMismatch
                | DenyReason::TlsHidden
                | DenyReason::NotTls
                | DenyReason::Limit
                | DenyReason::Credential => Effect::Deny,
            },
            reason: Some(reason),
            rules: ids(rules),
        }
    }

    /// In words: `allow by rule a`, `deny: no rule allows it`.
    pub fn words(&self) -> String {
        let rules = self.rules.join("`, `");
        match (self.reason, self.rules.is_empty()) {
            (None, _) => format!("allow by `{rules}`"),
            (Some(reason), true) => format!("{}: {}", word(self.effect), reason.words()),
            (Some(_), false) => format!("{} by `{rules}`", word(self.effect)),
        }
    }
}

impl Change {
    /// What has changed between two effects; none where nothing has.
    pub fn between(was: Effect, now: Effect) -> Option<Self> {
        match (was == Effect::Allow, now == Effect::Allow) {
            (false, true) => Some(Self::NewlyAllowed),
            (true, false) => Some(Self::NewlyDenied),
            (false, false) if was != now => Some(Self::OtherRefusal),
            (false, false) | (true, true) => None,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly allowed",
            Self::NewlyDenied => "newly denied",
            Self::OtherRefusal => "refused otherwise",
        }
    }
}

fn ids(rules: &[RuleRef]) -> Vec<String> {
    rules.iter().map(|rule| rule.id.to_string()).collect()
}

/// An effect as it stands in records.
pub fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Ask => "ask",
        Effect::Error => "error",
    }
}
