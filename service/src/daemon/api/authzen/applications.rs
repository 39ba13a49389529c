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
use tokio::sync::Semaphore;

use super::{Decision, Parts, Refused, refused_item};
use crate::daemon::{
    Daemon,
    api::{Caller, REQUEST_ID},
    late::DEADLINE,
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
        self.daemon.user.is(&self.caller.user)
    }

    /// What is refused to somebody else, recorded.
    pub(super) async fn not_yours(&self, asked: Option<&Parts>) -> Refused {
        let why = format!("{} may not ask about this", self.caller.user);
        match self.refuse(asked, &why).await {
            Ok(_recorded) => Refused(StatusCode::FORBIDDEN, why),
            Err(refused) => refused,
        }
    }

    /// Records a question that is none, or nobody's to ask, and refuses it.
    ///
    /// # Errors
    /// [`Refused`]: it cannot be recorded.
    pub(super) async fn refuse(
        &self,
        asked: Option<&Parts>,
        why: &str,
    ) -> Result<Decision, Refused> {
        let set = self.set().await?;
        let access = asked.map(access).unwrap_or_default();
        self.record(&set, access, failed(false, why)).await?;
        Ok(refused_item(why))
    }

    async fn set(&self) -> Result<Arc<Snapshot>, Refused> {
        let set = self.daemon.policies.applications().await;
        set.map_err(|error| {
            tracing::warn!(%error, "AuthZEN callers are refused: policy is not available");
            Refused(StatusCode::SERVICE_UNAVAILABLE, error.message)
        })
    }

    /// The application that has this type of subject, and the set that it is of.
    pub(super) async fn application(
        &self,
        subject: &str,
        asked: Option<&Parts>,
    ) -> Result<(Arc<Snapshot>, Option<Arc<Application>>), Refused> {
        let set = self.set().await?;
        let mut all = set.applications().iter();
        let found = all.find(|one| one.has_type(subject)).cloned();
        let may = match &found {
            Some(application) => self.is_user() || application.serves(&self.caller.user),
            None => self.is_user(),
        };
        if may {
            Ok((set, found))
        } else {
            Err(self.not_yours(asked).await)
        }
    }

    /// Answers one question whose subject is no session.
    pub(super) async fn decide(&self, asked: &Parts) -> Result<Decision, Refused> {
        let (set, application) = self.application(&asked.subject.kind, Some(asked)).await?;
        let mut access = access(asked);
        let Some(application) = application else {
            let why = "no bundle in force has a type of this name, and it is not `Session`";
            self.record(&set, access, failed(false, why)).await?;
            return Ok(refused_item(why));
        };
        access.said = application.said(&query(asked));
        access.application = Some(application.bundle().to_owned());
        let asked = asked.clone();
        let work = move || application.ask(&query(&asked));
        let Some(answer) = computed(work).await else {
            let why = "not evaluated in time, so it is refused";
            self.record(&set, access, failed(false, why)).await?;
            return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why.into()));
        };
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

/// Evaluates on a thread that nobody else waits for, as many at a time as there are places: facts that
/// a caller gives can make one take long. None where it was not done by the deadline.
pub(super) async fn computed<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let computing = async {
        let place = PLACES.acquire().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = place;
            work()
        });
        done.await.ok()
    };
    tokio::time::timeout(DEADLINE, computing).await.ok()?
}

/// Evaluations of applications at a time; the cores are also those of the proxy.
static PLACES: Semaphore = Semaphore::const_new(2);

fn query(asked: &Parts) -> Query<'_> {
    Query {
        subject: named(&asked.subject),
        action: Act {
            name: &asked.action.name,
            properties: asked.action.properties.as_ref().map(|fields| &fields.0),
        },
        resource: named(&asked.resource),
        context: asked.context.as_ref().map(|fields| &fields.0),
    }
}

fn access(asked: &Parts) -> Access {
    Access {
        action: Some(asked.action.name.clone()),
        resource: Some(entity(&asked.resource)),
        subject: Some(entity(&asked.subject)),
        ..Access::default()
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

/// That there is no answer, and why; `evaluated` where policy was asked.
pub(super) fn failed(evaluated: bool, why: &str) -> AccessOutcome {
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
