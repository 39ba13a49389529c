//! Who may change policy: decided by the policy in force, like everything else, and recorded.
//!
//! A daemon of one user serves that user alone. Where the rules say nothing of administration,
//! that user may; where they do, only what they permit.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use cordon_audit::{Event, Log, RecordId, Recorded, SessionState};
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, ExtensionFacts, Layer, Operation,
    RawRequest, Request, SessionFacts, Snapshot,
    bundle::Accepted,
    source::{PolicyFile, PolicySource},
};
use tracing::warn;

use super::{
    Policies,
    change::{Stopped, failed},
};
use crate::{
    control::PolicyAnswer,
    daemon::{
        api::DOOR,
        late::{DEADLINE, HELP, LATE},
    },
};

/// An act of administration, and what holds where no rule speaks of it.
pub(super) struct Act {
    /// How a rule that speaks of it names it, or its group.
    names: [&'static str; 2],
    /// What its user may do then.
    single_user: &'static str,
}

/// Putting policy into force.
const PUBLISH: Act = Act {
    names: ["publish_policy", ADMINISTRATION],
    single_user: r#"
@id("single-user-publishes")
@reason("no rule speaks of administration, and this daemon is its user's own")
permit (principal, action == Action::"publish_policy", resource);
"#,
};

/// Answering what sessions ask.
pub(super) const APPROVE: Act = Act {
    names: ["\"approve\"", ADMINISTRATION],
    single_user: r#"
@id("single-user-approves")
@reason("no rule speaks of approving, and this daemon is its user's own")
permit (principal, action == Action::"approve", resource);
"#,
};

/// Installing extensions, and accepting what tool servers offer.
const EXTEND: Act = Act {
    names: ["install_extension", "extensions"],
    single_user: r#"
@id("single-user-extends")
@reason("no rule speaks of installing extensions, and this daemon is its user's own")
permit (principal, action == Action::"install_extension", resource)
unless { resource.signature == "broken" };
"#,
};

/// The group of actions that change or read what others rest on.
const ADMINISTRATION: &str = "\"administration\"";

impl Policies {
    /// Decides and records whether this user may change this bundle.
    ///
    /// # Errors
    /// [`Stopped::Denied`], with the record; [`Stopped::OnePerson`] where the rule that permits it
    /// wants two people's signatures (`@people("2")`) and there are fewer.
    pub(super) async fn authorise(&self, bundle: &Accepted) -> Result<(), Stopped> {
        let operation = Operation::PublishPolicy {
            bundle: bundle.name.clone(),
        };
        let snapshot = self.administration(&PUBLISH, true).await?;
        let denied = match self.acts(&snapshot, operation).await? {
            Recorded::Allow(permit) if wants_two(permit.basis()) && people(bundle) < 2 => {
                let asked = Asked::Request(permit.request().clone());
                let deny = permit.refuse(DenyReason::ApprovalRequired, asked);
                let _refused = self.log.record(deny.into()).await.map_err(failed)?;
                return Err(Stopped::OnePerson);
            }
            Recorded::Allow(_permit) => return Ok(()),
            Recorded::Deny(denied) => denied,
        };
        let deny = denied.verdict();
        let what = match &deny.asked {
            Asked::Request(request) => request.operation.to_string(),
            Asked::Raw(raw) => raw.problem.clone(),
        };
        Err(Stopped::Denied(PolicyAnswer::Denied {
            message: format!("{what}: {}", deny.why()),
            decision: Some(denied.id().to_string()),
            help: Some("ask somebody who may publish policy".into()),
        }))
    }

    /// Decides and records whether this user may install, accept or take away an extension or the
    /// definitions of a tool server.
    ///
    /// # Errors
    /// Why not, in words, with the record's id.
    pub async fn authorise_extension(
        &self,
        extension: ExtensionFacts,
    ) -> Result<RecordId, (String, Option<String>)> {
        let words = |stopped: Stopped| match stopped {
            Stopped::Failed(what, _help) => (what, None),
            Stopped::Denied(_) | Stopped::OnePerson => ("policy does not allow it".into(), None),
        };
        let snapshot = self.administration(&EXTEND, true).await.map_err(words)?;
        let operation = Operation::InstallExtension { extension };
        match self.acts(&snapshot, operation).await.map_err(words)? {
            Recorded::Allow(permit) => Ok(permit.id()),
            Recorded::Deny(denied) => {
                let why = denied.verdict().why();
                Err((why, Some(denied.id().to_string())))
            }
        }
    }

    /// Decides and records what this user does, outside of any session.
    async fn acts(&self, rules: &Snapshot, operation: Operation) -> Result<Recorded, Stopped> {
        let request = Request {
            session: self.administrator(),
            operation,
            at: SystemTime::now(),
        };
        self.enter(rules.decide(request), true).await
    }

    /// Puts a decision of administration on record, in time; `synced`: on disk before anything is done.
    pub(super) async fn enter(
        &self,
        decision: Decision,
        synced: bool,
    ) -> Result<Recorded, Stopped> {
        let asked = match &decision {
            Decision::Allow(allow) => allow.verdict().request.operation.to_string(),
            Decision::Deny(deny) => match &deny.verdict().asked {
                Asked::Request(request) => request.operation.to_string(),
                Asked::Raw(raw) => raw.text.clone(),
            },
        };
        let recording = async {
            match synced {
                true => self.log.record(decision).await,
                false => self.log.record_written(decision).await,
            }
        };
        match tokio::time::timeout(DEADLINE, recording).await {
            Ok(recorded) => recorded.map_err(failed),
            Err(_elapsed) => {
                let deny = self.refusal(DOOR, &asked, LATE.into());
                // As soon as the log takes it; nobody waits for that.
                tokio::spawn(refused(self.log.clone(), deny));
                Err(Stopped::Failed(LATE.into(), Some(HELP.into())))
            }
        }
    }

    /// Records what came of an act of administration, beside its decision.
    pub async fn tell(&self, what: String) {
        let event = Event::SessionChanged {
            session: self.administrator(),
            state: SessionState::Grants,
            why: Some(what),
        };
        if let Err(error) = self.log.event(event).await {
            warn!(%error, "an act of administration was decided, and not recorded as done");
        }
    }

    /// Records the refusal of something that is about no session that runs.
    pub async fn refuse_raw(&self, door: &'static str, raw: &str, problem: String) {
        refused(self.log.clone(), self.refusal(door, raw, problem)).await;
    }

    fn refusal(&self, door: &'static str, raw: &str, problem: String) -> Decided<Deny> {
        let kept = raw.char_indices().nth(RawRequest::MAX_BYTES / 4);
        let kept = kept.map_or(raw, |(end, _)| raw.get(..end).unwrap_or_default());
        let asked = Asked::Raw(RawRequest {
            session: self.administrator(),
            door,
            text: kept.into(),
            at: SystemTime::now(),
            problem,
        });
        Decided::<Deny>::deny(asked, DenyReason::Malformed, Basis::default())
    }

    /// This user, outside of any session.
    fn administrator(&self) -> Arc<SessionFacts> {
        Arc::new(SessionFacts {
            id: "administration".into(),
            user: self.user.name.clone(),
            groups: self.user.groups.clone(),
            agent: None,
            platform: std::env::consts::OS.into(),
            backend: Backend::None,
        })
    }

    /// The rules of bundles, also of one whose validity is over.
    pub(super) fn bundles(&self) -> Result<PolicySource, Stopped> {
        self.state().bundles(None).map_err(failed)
    }

    /// The rules that decide about administration: bundles alone, never what a launcher names.
    /// A bundle whose validity is over still says who may replace it.
    /// `alone`: where no rule speaks of the act, this daemon's user may.
    pub(super) async fn administration(
        &self,
        act: &Act,
        alone: bool,
    ) -> Result<Arc<Snapshot>, Stopped> {
        let rules = self.bundles()?;
        let snapshot = self.cache.snapshot(rules.clone()).await.map_err(failed)?;
        if !alone || act.is_in(&snapshot) {
            return Ok(snapshot);
        }
        let mut rules = rules;
        rules.files.push(PolicyFile {
            layer: Layer::Organisation,
            ..PolicyFile::new("single-user.cedar", act.single_user)
        });
        self.cache.snapshot(rules).await.map_err(failed)
    }
}

async fn refused(log: Log, deny: Decided<Deny>) {
    if let Err(error) = log.record(Decision::Deny(deny)).await {
        warn!(%error, "a refusal without a session was not recorded");
    }
}

/// Whether the rules that permit it want two people.
fn wants_two(basis: &Basis) -> bool {
    let mut obligations = basis.obligations.iter();
    obligations.any(|obligation| &*obligation.name == "people")
}

/// How many people have signed.
fn people(bundle: &Accepted) -> usize {
    let people: BTreeSet<&str> = bundle
        .signers
        .iter()
        .map(|signer| signer.person.as_str())
        .collect();
    people.len()
}

impl Act {
    /// Whether a rule of the set is about it. A word of it in a comment is enough: then nothing is
    /// permitted that no rule permits.
    pub(super) fn is_in(&self, set: &Snapshot) -> bool {
        set.rules().iter().any(|rule| self.speaks(&rule.text))
    }

    pub(super) fn speaks(&self, rule: &str) -> bool {
        self.names.iter().any(|name| rule.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_names_the_action_or_its_group_speaks_of_administration() {
        let names = "permit (principal, action == Action::\"publish_policy\", resource);";
        let group = "forbid (principal, action in Action::\"administration\", resource);";
        let other = "permit (principal, action == Action::\"connect\", resource);";
        let speaks = |rule| PUBLISH.speaks(rule);
        assert!(speaks(names) && speaks(group) && !speaks(other));
        let approves = "permit (principal, action == Action::\"approve\", resource);";
        assert!(APPROVE.speaks(approves) && APPROVE.speaks(group));
        assert!(!APPROVE.speaks(names) && !speaks(approves));
    }

    #[test]
    fn what_holds_without_rules_on_administration_loads_beside_the_built_in_pack() {
        for (act, id) in [
            (&PUBLISH, "single-user-publishes"),
            (&APPROVE, "single-user-approves"),
        ] {
            let mut source = PolicySource::default_pack();
            source.files.push(PolicyFile {
                layer: Layer::Organisation,
                ..PolicyFile::new("single-user.cedar", act.single_user)
            });
            let snapshot = Snapshot::load(&source).unwrap();
            let rule = snapshot.rules().iter().find(|rule| act.speaks(&rule.text));
            assert_eq!(&*rule.unwrap().id, id);
        }
    }
}
