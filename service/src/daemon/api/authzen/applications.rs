//! Answers questions about the applications of bundles, and records them.
//!
//! The daemon's user may ask all of them; another caller of the API only the one whose mapping
//! names it. Every question is one record, written before it is answered.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use cordon_audit::{
    AccessEvent, AccessOutcome, DecidedBy, Event, RecordId,
    record::{Access, AccessEntity},
};
use cordon_policy::{
    Application, Snapshot,
    application::{Act, Answer, Named, Query},
};
use serde_json::json;

use super::{Decision, Parts, Refused, refused_item};
use crate::daemon::{
    Daemon,
    api::{Caller, REQUEST_ID},
};

/// Who asks, by which call.
pub(super) struct Asker<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) caller: &'a Caller,
    /// `X-Request-ID`, where it is text.
    pub(super) request: Option<String>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(daemon: &'a Daemon, caller: &'a Caller, headers: &HeaderMap) -> Self {
        let request = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        Self {
            daemon,
            caller,
            request: request.map(str::to_owned),
        }
    }

    /// Whether it is the daemon's user, who may ask everything.
    pub(super) fn is_user(&self) -> bool {
        self.caller.user == self.daemon.user.name
    }

    /// What is refused to somebody else.
    pub(super) fn not_yours(&self) -> Refused {
        let why = format!("{} may not ask about this", self.caller.user);
        Refused(StatusCode::FORBIDDEN, why)
    }

    /// The application that has this type of subject, and the set that it is of.
    pub(super) async fn application(
        &self,
        subject: &str,
    ) -> Result<(Arc<Snapshot>, Option<Arc<Application>>), Refused> {
        let set = self.daemon.policies.applications().await;
        let set = set.map_err(|error| {
            tracing::warn!(%error, "AuthZEN callers are refused: policy is not available");
            Refused(StatusCode::SERVICE_UNAVAILABLE, error.message)
        })?;
        let mut all = set.applications().iter();
        let found = all.find(|one| one.has_type(subject)).cloned();
        let may = match &found {
            Some(application) => self.is_user() || application.serves(&self.caller.user),
            None => self.is_user(),
        };
        if may {
            Ok((set, found))
        } else {
            Err(self.not_yours())
        }
    }

    /// Answers one question whose subject is no session.
    pub(super) async fn decide(&self, asked: &Parts) -> Result<Decision, Refused> {
        let (set, application) = self.application(&asked.subject.kind).await?;
        let query = Query {
            subject: named(&asked.subject),
            action: Act {
                name: &asked.action.name,
                properties: asked.action.properties.as_ref().map(|fields| &fields.0),
            },
            resource: named(&asked.resource),
            context: asked.context.as_ref().map(|fields| &fields.0),
        };
        let mut access = Access {
            action: Some(asked.action.name.clone()),
            resource: Some(entity(&asked.resource)),
            subject: Some(entity(&asked.subject)),
            ..Access::default()
        };
        let Some(application) = application else {
            let why = "no bundle in force has a type of this name, and it is not `Session`";
            self.record(&set, access, failed(false, why)).await?;
            return Ok(refused_item(why));
        };
        access.said = application.said(&query);
        access.application = Some(application.bundle().to_owned());
        let answer = application.ask(&query);
        let id = self.record(&set, access, outcome(&answer)).await?;
        Ok(decision(&set, &answer, id))
    }

    /// Records a question or a search.
    ///
    /// # Errors
    /// [`Refused`]: then there is no answer.
    pub(super) async fn record(
        &self,
        set: &Snapshot,
        access: Access,
        outcome: AccessOutcome,
    ) -> Result<RecordId, Refused> {
        let event = AccessEvent {
            caller: self.caller.user.clone(),
            access: Access {
                request: self.request.clone(),
                ..access
            },
            policy: Some(DecidedBy {
                set: set.name().to_owned(),
                digest: set.digest().to_owned(),
                revision: set.revision(),
            }),
            outcome,
        };
        let recorded = self.daemon.log.event(Event::Access(Box::new(event))).await;
        recorded.map_err(|error| Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
    }
}

fn named(entity: &super::Entity) -> Named<'_> {
    Named {
        kind: &entity.kind,
        id: &entity.id,
        properties: entity.properties.as_ref().map(|fields| &fields.0),
    }
}

fn entity(entity: &super::Entity) -> AccessEntity {
    AccessEntity {
        id: Some(entity.id.clone()),
        kind: entity.kind.clone(),
    }
}

fn outcome(answer: &Answer) -> AccessOutcome {
    match answer.code {
        "allowed" => AccessOutcome::Allowed(answer.rules.clone()),
        "rule" | "default_deny" => AccessOutcome::Denied(answer.rules.clone()),
        code => failed(code == "evaluation_error", &answer.reason),
    }
}

fn failed(evaluated: bool, why: &str) -> AccessOutcome {
    AccessOutcome::Failed {
        evaluated,
        why: why.into(),
    }
}

fn decision(set: &Snapshot, answer: &Answer, id: RecordId) -> Decision {
    let rules: Vec<&str> = answer.rules.iter().map(|rule| &*rule.id).collect();
    let mut context = json!({
        "decision_id": id,
        "code": answer.code,
        "reason": answer.reason,
        "rules": rules,
        "policy": {"name": set.name(), "digest": set.digest()},
    });
    if let (Some(revision), Some(policy)) = (set.revision(), context.get_mut("policy")) {
        *policy = json!({"name": set.name(), "digest": set.digest(), "revision": revision});
    }
    if matches!(answer.code, "unknown" | "malformed")
        && let Some(fields) = context.as_object_mut()
    {
        let error = json!({"status": 400, "message": answer.reason});
        fields.insert("error".into(), error);
    }
    Decision {
        decision: answer.allowed,
        context,
    }
}
