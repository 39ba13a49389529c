//! The outcome of deciding, as types: only [`crate::Snapshot::decide`] can make an allow.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ApprovalRef, Layer, Request, Wall};

/// What was decided. Record it, then act on it.
#[must_use = "record it, then act on it"]
#[derive(Debug)]
pub enum Decision {
    /// Policy permits it and no rule forbids it.
    Allow(Decided<Allow>),
    /// Anything else.
    Deny(Decided<Deny>),
}

/// Proof that verdict `V` was reached. Anyone may make a `Decided<Deny>`; only the engine makes
/// a `Decided<Allow>`. Neither `Clone` nor `Copy`: one decision, one record, one effect.
#[must_use = "record it, then act on it"]
#[derive(Debug)]
pub struct Decided<V>(Box<V>);

/// An allow: what, and why.
#[derive(Debug)]
pub struct Allow {
    /// What was allowed.
    pub request: Request,
    /// Why.
    pub basis: Basis,
}

/// A deny: what, and why.
#[derive(Debug)]
pub struct Deny {
    /// What was refused.
    pub asked: Asked,
    /// The kind of refusal.
    pub reason: DenyReason,
    /// Why, as far as policy was asked.
    pub basis: Basis,
}

/// What was refused: a request, or something that could not even become one.
#[derive(Debug)]
pub enum Asked {
    /// A canonical request.
    Request(Request),
    /// Input that normalising refused.
    Raw(RawRequest),
}

/// Input that could not be normalised: bounded here, escaped wherever it is shown.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// Which session asked.
    pub session: Arc<crate::SessionFacts>,
    /// Through which door: `http`, `socks5`, `capture`, `dns`, `grant`, `start`.
    pub door: &'static str,
    /// The offending text, at most [`RawRequest::MAX_BYTES`] bytes; not valid UTF-8 is replaced.
    pub text: String,
    /// When.
    pub at: std::time::SystemTime,
    /// What was wrong with it, in words, and what to do.
    pub problem: String,
}

/// Why something was refused: a fixed vocabulary, in records and in answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// No rule permits it.
    DefaultDeny,
    /// A `forbid` rule matched.
    Rule,
    /// It would be allowed with an approval, and there is none.
    ApprovalRequired,
    /// A rule could not be evaluated.
    EvaluationError,
    /// The input is not a well-formed request.
    Malformed,
    /// The name resolves to a special-use address that configuration does not permit.
    AddressNotPermitted,
    /// The mode of its grant does not include it.
    GrantMode,
    /// A folder that may never be granted: home, `/`, or a protected one.
    ProtectedFolder,
    /// The path does not exist or cannot be opened by the user.
    Unavailable,
    /// The handshake names another host than the one that was decided.
    TlsMismatch,
    /// The handshake hides its host: no server name, or an encrypted one.
    TlsHidden,
    /// What came over a TLS port is not TLS.
    NotTls,
    /// A limit or a budget is used up.
    Limit,
    /// A credential: its placeholder stands where it does not belong, it cannot be put in, or the
    /// client's own are missing or wrong.
    Credential,
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Basis {
    /// The rules that determined it; empty means that nothing matched (default deny).
    pub rules: Vec<RuleRef>,
    /// Name of the policy set (`default`, or the file or directory given).
    pub policy: Arc<str>,
    /// SHA-256 over the policy set's files, lower-case hex.
    pub digest: Arc<str>,
    /// Revision of the bundle, where the set is one: a counter that only grows.
    pub revision: Option<u64>,
    /// Text of evaluation errors, where there were any; of a refusal by another step what was wrong.
    pub errors: Vec<String>,
    /// What the determining permits ask of the enforcement point.
    pub obligations: Vec<Obligation>,
    /// Set where the answer without observe mode would have been another: it is let through and
    /// recorded, not enforced.
    pub observed: Option<Observed>,
    /// What a candidate bundle says about the same request, where one is tried out beside.
    pub shadow: Option<Box<Shadow>>,
    /// Of an allow the approval that it rests on, of a refusal the one that is waited for.
    pub approval: Option<Box<ApprovalRef>>,
    /// Time spent evaluating.
    #[serde(skip)]
    pub evaluation: Duration,
}

/// What a rule asks of the enforcement point, by annotation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Obligation {
    /// The annotation's name, for example `inspect` or `durability`.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<str>,
}

/// What observe mode let through: the answer that enforcing would have given.
#[derive(Clone, Debug, Serialize)]
pub struct Observed {
    /// The kind of refusal.
    pub reason: DenyReason,
    /// The rules that would have determined it.
    pub rules: Vec<RuleRef>,
}

/// What a candidate bundle says about a request that the live one decided.
#[derive(Clone, Debug, Serialize)]
pub struct Shadow {
    /// Name of the candidate.
    pub policy: Arc<str>,
    /// Its digest.
    pub digest: Arc<str>,
    /// Its revision.
    pub revision: Option<u64>,
    /// What it would have answered.
    pub effect: ShadowEffect,
    /// The rules that would have determined it.
    pub rules: Vec<RuleRef>,
}

/// A candidate's answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShadowEffect {
    /// It would allow it.
    Allow,
    /// It would refuse it.
    Deny,
    /// It would ask for an approval.
    Ask,
    /// It could not evaluate it, which is a refusal.
    Error,
}

/// One determining rule, as a person finds it again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleRef {
    /// `@id`, or `file:line` where a rule has none.
    pub id: Arc<str>,
    /// `@reason`, told to the caller.
    pub reason: Option<Arc<str>>,
    /// Whose rule it is.
    pub layer: Layer,
}

impl Basis {
    /// The values of an obligation, as far as determining permits carry it.
    pub fn obligation<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.obligations.iter().filter(move |o| &*o.name == name);
        named.map(|obligation| &*obligation.value)
    }

    /// Whether a determining permit carries an obligation with this word among its values:
    /// `basis.asks("tls", "no-sni")` for `@tls("no-sni,ech")`.
    pub fn asks(&self, name: &str, word: &str) -> bool {
        self.obligation(name)
            .any(|value| value.split(',').any(|one| one.trim() == word))
    }

    /// The walls that the determining permits ask for: `@walls("second-wall")`.
    pub fn walls(&self) -> BTreeSet<Wall> {
        let asked = Wall::ALL.into_iter();
        asked
            .filter(|wall| self.asks("walls", wall.name()))
            .collect()
    }
}

impl Decision {
    /// Notes what a candidate says, beside the decision that stands.
    pub(crate) fn note_shadow(&mut self, shadow: Shadow) {
        let basis = match self {
            Self::Allow(allow) => &mut allow.0.basis,
            Self::Deny(deny) => &mut deny.0.basis,
        };
        basis.shadow = Some(Box::new(shadow));
    }
}

impl<V> Decided<V> {
    /// The verdict, for reading.
    pub fn verdict(&self) -> &V {
        &self.0
    }
}

impl Decided<Allow> {
    /// Only the engine: an allow cannot be made elsewhere.
    pub(crate) fn allow(request: Request, basis: Basis) -> Self {
        Self(Box::new(Allow { request, basis }))
    }

    /// Takes an allow back before its effect, because acting found a reason not to.
    pub fn refuse(self, reason: DenyReason, asked: Asked) -> Decided<Deny> {
        Decided::<Deny>::deny(asked, reason, self.0.basis)
    }
}

impl Decided<Allow> {
    /// As [`Self::refuse`] of the same request, with the reason in words for the record and for
    /// whoever asked.
    pub fn refuse_for(self, reason: DenyReason, why: String) -> Decided<Deny> {
        let Allow { request, mut basis } = *self.0;
        basis.errors.push(why);
        Decided::<Deny>::deny(Asked::Request(request), reason, basis)
    }
}

impl Decided<Deny> {
    /// The same refusal, with the approval that is waited for, or why there is none.
    pub fn waiting_for(mut self, approval: Option<ApprovalRef>, why: Option<String>) -> Self {
        self.0.basis.approval = approval.map(Box::new);
        self.0.basis.errors.extend(why);
        self
    }

    /// A refusal; anyone may refuse.
    pub fn deny(asked: Asked, reason: DenyReason, basis: Basis) -> Self {
        Self(Box::new(Deny {
            asked,
            reason,
            basis,
        }))
    }
}

impl From<Decided<Deny>> for Decision {
    fn from(deny: Decided<Deny>) -> Self {
        Self::Deny(deny)
    }
}

impl RawRequest {
    /// Longest text kept of a malformed request.
    pub const MAX_BYTES: usize = 512;
}
