//! OpenID AuthZEN Authorization API 1.0: evaluation, evaluations and the metadata.
//!
//! The subject is a running session (`{"type": "Session", "id": ID}`), and then names of actions,
//! types of resources and facts are those of the schema; or it is a type that the application of a
//! bundle names. Every evaluation is recorded before it is answered.

mod applications;
pub(super) mod search;
mod sessions;
mod token;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::applications::Asker;
use super::{
    Caller, Daemon,
    decide::{PAUSED, Undecided, Verdict, decide_waiting, preferred_wait},
    fields::{Fields, object},
    operation::Question,
};

/// Questions of one call. More is refused whole.
pub const QUESTIONS: usize = 256;

/// Questions of one call that are decided at a time, where all of them are.
const AT_ONCE: usize = 16;

/// A subject or resource.
#[derive(Clone, Debug, ToSchema)]
pub struct Entity {
    /// Its type, for example `Host`.
    #[schema(rename = "type")]
    kind: String,
    /// Its id, for example `api.example.com`.
    id: String,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// An action.
#[derive(Clone, Debug, ToSchema)]
pub struct Action {
    /// Its name, for example `connect`.
    name: String,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// A subject or resource of which a part may be said elsewhere, or be looked for.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct LooseEntity {
    /// Its type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Its id.
    id: Option<String>,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// An action of which a part may be said elsewhere.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct LooseAction {
    /// Its name.
    name: Option<String>,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// One question, or the defaults of several.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Evaluation {
    /// Who.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Entity)]
    subject: Option<LooseEntity>,
    /// What is to be done.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Action)]
    action: Option<LooseAction>,
    /// To what.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Entity)]
    resource: Option<LooseEntity>,
    /// Facts.
    #[schema(value_type = Option<Object>)]
    context: Option<Fields>,
}

/// Several questions.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Evaluations {
    /// What holds for every one that does not say otherwise.
    #[serde(flatten)]
    #[schema(value_type = Defaults)]
    defaults: Evaluation,
    /// The questions, in order; absent or empty: one question.
    #[serde(default)]
    #[schema(value_type = Vec<Defaults>)]
    evaluations: Vec<Value>,
    /// How they are gone through.
    options: Option<Options>,
}

/// A question of which parts may be missing: in a list the call's own stand in for them.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what `Evaluation` reads")]
pub struct Defaults {
    /// Who.
    subject: Option<LooseEntity>,
    /// What is to be done.
    action: Option<LooseAction>,
    /// To what.
    resource: Option<LooseEntity>,
    /// Facts.
    #[schema(value_type = Option<Object>)]
    context: Option<Fields>,
}

/// Options of a call.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Options {
    /// When to stop.
    evaluations_semantic: Option<Semantic>,
}

/// When a call with several questions stops.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    /// Never.
    #[default]
    ExecuteAll,
    /// After the first that is refused.
    DenyOnFirstDeny,
    /// After the first that is allowed.
    PermitOnFirstPermit,
}

/// The answer to one question.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decision {
    /// Whether it may be done.
    decision: bool,
    /// Why.
    #[schema(value_type = Object)]
    context: Value,
}

/// The answer to a call that may have several questions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answered {
    /// It had several.
    Several(Decisions),
    /// It had one.
    One(Decision),
}

/// The answers to several.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decisions {
    /// In the order of the questions, as far as they were gone through.
    evaluations: Vec<Decision>,
}

/// A whole call that is refused; the standard asks for a text.
#[derive(Debug)]
pub struct Refused(StatusCode, String);

impl Refused {
    fn malformed(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Decides one question.
#[utoipa::path(post, path = "/access/v1/evaluation", tag = "authzen",
    request_body = Evaluation,
    responses((status = 200, body = Decision), (status = 400, body = String),
              (status = 403, body = String), (status = 503, body = String)))]
pub async fn evaluation(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Decision>, Refused> {
    let asked: Evaluation = read(&headers, &body)?;
    let asker = Asker::new(&daemon, &caller, &headers);
    let whole = complete(&asker, asked).await?;
    Ok(Json(
        answer(&asker, &whole, preferred_wait(&headers)).await?,
    ))
}

/// Decides several questions.
#[utoipa::path(post, path = "/access/v1/evaluations", tag = "authzen",
    request_body = Evaluations,
    responses((status = 200, body = Answered), (status = 400, body = String),
              (status = 403, body = String), (status = 503, body = String)))]
pub async fn evaluations(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Answered>, Refused> {
    let asked: Evaluations = read(&headers, &body)?;
    let asker = Asker::new(&daemon, &caller, &headers);
    if asked.evaluations.is_empty() {
        let whole = complete(&asker, asked.defaults).await?;
        let one = answer(&asker, &whole, preferred_wait(&headers)).await?;
        return Ok(Json(Answered::One(one)));
    }
    if asked.evaluations.len() > QUESTIONS {
        let why = format!("more than {QUESTIONS} evaluations in one call");
        return Err(Refused::malformed(why));
    }
    let options = asked
        .options
        .and_then(|options| options.evaluations_semantic);
    let semantic = options.unwrap_or_default();
    // Where one may end the call, none after it may be asked.
    let at_once = match semantic {
        Semantic::ExecuteAll => AT_ONCE,
        Semantic::DenyOnFirstDeny | Semantic::PermitOnFirstPermit => 1,
    };
    let (asker, defaults) = (&asker, &asked.defaults);
    let mut answers = Vec::with_capacity(asked.evaluations.len());
    for one in &asked.evaluations {
        answers.push(item(asker, one, defaults));
    }
    let mut answers = stream::iter(answers).buffered(at_once);
    let mut decisions = Vec::with_capacity(asked.evaluations.len());
    while let Some(decision) = answers.next().await {
        let decision = decision?;
        let last = match semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !decision.decision,
            Semantic::PermitOnFirstPermit => decision.decision,
        };
        decisions.push(decision);
        if last {
            break;
        }
    }
    Ok(Json(Answered::Several(Decisions {
        evaluations: decisions,
    })))
}

/// One of several. What cannot be read is refused by itself.
async fn item(asker: &Asker<'_>, one: &Value, defaults: &Evaluation) -> Result<Decision, Refused> {
    if !one.is_object() {
        return asker.refuse(None, "it is no object").await;
    }
    let read = match Evaluation::deserialize(one) {
        Ok(read) => read,
        Err(error) => {
            // The words of the error repeat what was sent, which is the caller's to see alone (A08).
            let why = "a part of it is not of the type that it has to be";
            asker.refuse(None, why).await?;
            return Ok(refused_item(&error.to_string()));
        }
    };
    match read.over(defaults).whole() {
        Ok(whole) => answer(asker, &whole, Duration::ZERO).await,
        Err(why) => asker.refuse(None, &why).await,
    }
}

/// The whole of a call's one question. One of which a part is missing is recorded too.
async fn complete(asker: &Asker<'_>, asked: Evaluation) -> Result<Parts, Refused> {
    match asked.whole() {
        Ok(whole) => Ok(whole),
        Err(why) => {
            asker.refuse(None, &why).await?;
            Err(Refused::malformed(why))
        }
    }
}

/// What there is, and where.
#[utoipa::path(get, path = "/.well-known/authzen-configuration", tag = "authzen",
    responses((status = 200, body = Metadata)))]
pub async fn metadata(State(daemon): State<Arc<Daemon>>, headers: HeaderMap) -> Json<Metadata> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let as_called = || format!("https://{}", host.unwrap_or("localhost"));
    let base = daemon.api_url.clone().unwrap_or_else(as_called);
    Json(Metadata {
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        search_subject_endpoint: format!("{base}/access/v1/search/subject"),
        search_resource_endpoint: format!("{base}/access/v1/search/resource"),
        search_action_endpoint: format!("{base}/access/v1/search/action"),
        policy_decision_point: base,
    })
}

/// What there is, and where: section 9 of the standard.
#[derive(Debug, Serialize, ToSchema)]
pub struct Metadata {
    /// The base of all that follows.
    policy_decision_point: String,
    /// One question.
    access_evaluation_endpoint: String,
    /// Several.
    access_evaluations_endpoint: String,
    /// Who may.
    search_subject_endpoint: String,
    /// To what.
    search_resource_endpoint: String,
    /// What may be done.
    search_action_endpoint: String,
}

/// One question, complete.
#[derive(Clone)]
struct Parts {
    subject: Entity,
    action: Action,
    resource: Entity,
    context: Option<Fields>,
}

impl Evaluation {
    /// This one, with `defaults` for each part that it does not have. Parts are not merged; but a
    /// default that is no whole entity, a type without an id, is there to be filled in.
    fn over(self, defaults: &Self) -> Self {
        let entity = |own: Option<LooseEntity>, other: &Option<LooseEntity>| match (own, other) {
            (Some(own), Some(other)) if other.kind.is_none() || other.id.is_none() => {
                Some(LooseEntity {
                    kind: own.kind.or_else(|| other.kind.clone()),
                    id: own.id.or_else(|| other.id.clone()),
                    properties: own.properties,
                })
            }
            (own, other) => own.or_else(|| other.clone()),
        };
        Self {
            subject: entity(self.subject, &defaults.subject),
            action: self.action.or_else(|| defaults.action.clone()),
            resource: entity(self.resource, &defaults.resource),
            context: self.context.or_else(|| defaults.context.clone()),
        }
    }

    /// Itself, where nothing that is needed is missing.
    fn whole(self) -> Result<Parts, String> {
        let missing = |what: &str| format!("`{what}` is missing");
        let entity = |name: &str, entity: Option<LooseEntity>| {
            let entity = entity.ok_or_else(|| missing(name))?;
            Ok::<_, String>(Entity {
                kind: entity
                    .kind
                    .ok_or_else(|| missing(&format!("{name}.type")))?,
                id: entity.id.ok_or_else(|| missing(&format!("{name}.id")))?,
                properties: entity.properties,
            })
        };
        let action = self.action.ok_or_else(|| missing("action"))?;
        Ok(Parts {
            subject: entity("subject", self.subject)?,
            action: Action {
                name: action.name.ok_or_else(|| missing("action.name"))?,
                properties: action.properties,
            },
            resource: entity("resource", self.resource)?,
            context: self.context,
        })
    }
}

async fn answer(asker: &Asker<'_>, asked: &Parts, wait: Duration) -> Result<Decision, Refused> {
    // Compared as it was parsed: a second reading of the body could find another subject.
    let own = asker.caller.session.as_ref();
    if own.is_some_and(|own| asked.subject.kind != sessions::TYPE || asked.subject.id != *own) {
        return Err(asker.not_yours(Some(asked)).await);
    }
    if asked.subject.kind != sessions::TYPE {
        return asker.decide(asked).await;
    }
    if !asker.is_user() {
        return Err(asker.not_yours(Some(asked)).await);
    }
    let daemon = asker.daemon;
    let live = match daemon.registry.of_id(&asked.subject.id) {
        Some(live) => live,
        None => {
            let why = "there is no running session of this id";
            return asker.refuse(Some(asked), why).await;
        }
    };
    daemon.hosted.touch(live.id());
    let facts = [
        asked.context.as_ref(),
        asked.action.properties.as_ref(),
        asked.resource.properties.as_ref(),
    ];
    let question = Question::new(
        &asked.action.name,
        &asked.resource.kind,
        &asked.resource.id,
        facts.into_iter().flatten().collect(),
    );
    let wanted = match question.wanted() {
        Ok(wanted) => wanted,
        Err(why) => {
            // What is no request is a recorded refusal, as on every other way in.
            let said = format!("{} {} {}", question.action, question.kind, question.id);
            let _refused = live
                .gate()
                .refuse_raw(super::decide::DOOR, said.as_bytes(), why.clone())
                .await;
            return Ok(refused_item(&why));
        }
    };
    match decide_waiting(daemon, &live, wanted, wait).await {
        Ok(verdict) => Ok(decision(&verdict)),
        Err(Undecided::NotRecorded(why)) => Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why)),
        Err(Undecided::Paused) => Err(Refused(StatusCode::SERVICE_UNAVAILABLE, PAUSED.into())),
        Err(Undecided::Late) => Err(Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "not decided in time, so it is refused".into(),
        )),
    }
}

fn decision(verdict: &Verdict) -> Decision {
    Decision {
        decision: verdict.allowed,
        context: serde_json::to_value(verdict).unwrap_or_default(),
    }
}

/// The answer to a question that is none: refused, never an error of the whole call.
fn refused_item(why: &str) -> Decision {
    Decision {
        decision: false,
        context: json!({"code": "malformed", "reason": why, "error": {"status": 400, "message": why}}),
    }
}

/// Reads a body. Whatever is wrong with it is a 400 here, as the standard asks.
fn read<'de, T: Deserialize<'de>>(headers: &HeaderMap, body: &'de [u8]) -> Result<T, Refused> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    let essence = media
        .and_then(|media| media.split(';').next())
        .unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refused::malformed(
            "`Content-Type` is not `application/json`",
        ));
    }
    // Once for unique keys, once for what it says.
    serde_json::from_slice::<Fields>(body)
        .and_then(|_unique| serde_json::from_slice(body))
        .map_err(|error| Refused::malformed(format!("not a well-formed request: {error}")))
}
