//! What a verdict comes to: the outcome with its reason, after observe mode has had its say.
//!
//! A [`Verdict`] and the time of the request in, an [`Outcome`] out. Observe mode lets through
//! only what rules refuse; never what could not be asked or evaluated, nor what would open the
//! walls or the administration.

use super::{Snapshot, evaluate::Verdict, target::Untargetable};
use crate::{
    Backend, Basis, DenyReason, Obligation, Observed, Operation, Request, RuleRef, Shadow,
    ShadowEffect,
};

/// What a set answers to one request.
pub(crate) struct Outcome {
    /// None for an allow.
    pub(crate) refusal: Option<DenyReason>,
    /// Positions of the determining rules.
    rules: Vec<usize>,
    errors: Vec<String>,
    /// What would have been refused, and by which rules.
    observed: Option<(DenyReason, Vec<usize>)>,
}

impl Outcome {
    pub(crate) fn of(verdict: Verdict) -> Self {
        let refused = |reason, rules, errors| Self {
            refusal: Some(reason),
            rules,
            errors,
            observed: None,
        };
        match verdict {
            Verdict::Allow { rules, observed } => Self {
                refusal: None,
                rules,
                errors: Vec::new(),
                observed: (!observed.is_empty()).then_some((DenyReason::Rule, observed)),
            },
            Verdict::Forbid { rules } => refused(DenyReason::Rule, rules, Vec::new()),
            Verdict::Ask { rules } => refused(DenyReason::ApprovalRequired, rules, Vec::new()),
            Verdict::NoRule => refused(DenyReason::DefaultDeny, Vec::new(), Vec::new()),
            Verdict::Error { errors, rules } => refused(DenyReason::EvaluationError, rules, errors),
            Verdict::Unasked(Untargetable::NeverAllowed) => {
                refused(DenyReason::AddressNotPermitted, Vec::new(), Vec::new())
            }
            Verdict::Unasked(Untargetable::Malformed(problem)) => {
                refused(DenyReason::Malformed, Vec::new(), vec![problem])
            }
        }
    }

    /// The same where the whole set only observes.
    pub(crate) fn observed(self, request: &Request) -> Self {
        match self.refusal {
            Some(
                reason
                @ (DenyReason::DefaultDeny | DenyReason::Rule | DenyReason::ApprovalRequired),
            ) if may_be_observed(request) => Self {
                refusal: None,
                rules: Vec::new(),
                errors: Vec::new(),
                observed: Some((reason, self.rules)),
            },
            _ => self,
        }
    }

    pub(crate) fn basis(self, set: &Snapshot) -> Basis {
        Basis {
            obligations: self.obligations(set),
            observed: self.observed.map(|(reason, rules)| Observed {
                reason,
                rules: set.rule_refs(&rules),
            }),
            rules: set.rule_refs(&self.rules),
            policy: set.name.clone(),
            digest: set.digest.clone(),
            revision: set.revision,
            errors: self.errors,
            shadow: None,
            approval: None,
            evaluation: std::time::Duration::ZERO,
        }
    }

    fn obligations(&self, set: &Snapshot) -> Vec<Obligation> {
        // Of a request that waits for an approval only what concerns that.
        let counts = |obligation: &Obligation| match self.refusal {
            None => true,
            Some(reason) => {
                reason == DenyReason::ApprovalRequired && &*obligation.name == "approvers"
            }
        };
        let mut obligations: Vec<Obligation> = Vec::new();
        let permits = self.rules.iter().filter_map(|at| set.rules().get(*at));
        for obligation in permits.flat_map(|rule| &rule.obligations) {
            if counts(obligation) && !obligations.contains(obligation) {
                obligations.push(obligation.clone());
            }
        }
        obligations
    }

    pub(crate) fn shadow(&self, candidate: &Snapshot) -> Shadow {
        let effect = match self.refusal {
            None => ShadowEffect::Allow,
            Some(DenyReason::ApprovalRequired) => ShadowEffect::Ask,
            Some(DenyReason::EvaluationError) => ShadowEffect::Error,
            Some(
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
                | DenyReason::Credential,
            ) => ShadowEffect::Deny,
        };
        Shadow::of(candidate, effect, candidate.rule_refs(&self.rules))
    }
}

impl Shadow {
    pub(super) fn of(candidate: &Snapshot, effect: ShadowEffect, rules: Vec<RuleRef>) -> Self {
        Self {
            policy: candidate.name.clone(),
            digest: candidate.digest.clone(),
            revision: candidate.revision,
            effect,
            rules,
        }
    }
}

/// Trying a set out never hands out the keys: who may approve, publish and read the log, and a
/// session without walls, are decided as written.
fn may_be_observed(request: &Request) -> bool {
    match &request.operation {
        Operation::Approve { .. }
        | Operation::PublishPolicy { .. }
        | Operation::ManageSession { .. }
        | Operation::ReadLog { .. }
        | Operation::ReachAddress { .. }
        // It opens the session to the host: tried out, it would be open.
        | Operation::PublishPort { .. } => false,
        Operation::StartSession { .. } | Operation::ExecInSession { .. } => matches!(
            request.session.backend,
            Backend::Bubblewrap | Backend::Container
        ),
        Operation::GrantFolder { .. }
        | Operation::DeletePath { .. }
        | Operation::ReadPath { .. }
        | Operation::WritePath { .. }
        | Operation::Connect { .. }
        | Operation::HttpRequest { .. }
        | Operation::EnableConnector { .. }
        | Operation::UseScope { .. }
        | Operation::InstallExtension { .. }
        | Operation::LoadExtension { .. }
        | Operation::UsePermission { .. }
        | Operation::CallTool { .. }
        | Operation::EnableBrowser
        | Operation::OpenOrigin { .. }
        | Operation::ActInOrigin { .. } => true,
    }
}
