//! OpenID AuthZEN Authorization API 1.0: evaluation, evaluations and the metadata.
//!
//! The subject is a running session (`{"type": "Session", "id": ID}`); names of actions, types of
//! resources and facts are those of the schema. Every evaluation is recorded before it is answered.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    Daemon,
    decide::{Undecided, Verdict, decide_waiting, preferred_wait},
    fields::Fields,
    operation::Question,
};

/// Questions of one call. More is refused whole.
pub const QUESTIONS: usize = 256;

/// A subject or resource.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Entity {
    /// Its type in the schema, for example `Host`.
    #[serde(rename = "type")]
    kind: String,
    /// Its id, for example `api.example.com`.
    id: String,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// An action.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Action {
    /// Its name in the schema, for example `connect`.
    name: String,
    /// Facts about it.
    #[schema(value_type = Option<Object>)]
    properties: Option<Fields>,
}

/// One question, or the defaults of several.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Evaluation {
    /// Who: a running session.
    subject: Option<Entity>,
    /// What is to be done.
    action: Option<Action>,
    /// To what.
    resource: Option<Entity>,
    /// Facts.
    #[schema(value_type = Option<Object>)]
    context: Option<Fields>,
}

/// Several questions.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Evaluations {
    /// What holds for every one that does not say otherwise.
    #[serde(flatten)]
    defaults: Evaluation,
    /// The questions, in order; absent or empty: one question.
    #[serde(default)]
    #[schema(value_type = Vec<Evaluation>)]
    evaluations: Vec<Value>,
    /// How they are gone through.
    options: Option<Options>,
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
    responses((status = 200, body = Decision), (status = 400, body = String)))]
pub async fn evaluation(
    State(daemon): State<Arc<Daemon>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Decision>, Refused> {
    let asked: Evaluation = read(&headers, &body)?;
    Ok(Json(
        answer(
            &daemon,
            &asked.whole().map_err(Refused::malformed)?,
            preferred_wait(&headers),
        )
        .await?,
    ))
}

/// Decides several questions.
#[utoipa::path(post, path = "/access/v1/evaluations", tag = "authzen",
    request_body = Evaluations,
    responses((status = 200, body = Decisions), (status = 400, body = String)))]
pub async fn evaluations(
    State(daemon): State<Arc<Daemon>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let asked: Evaluations = read(&headers, &body)?;
    if asked.evaluations.is_empty() {
        let whole = asked.defaults.whole().map_err(Refused::malformed)?;
        let wait = preferred_wait(&headers);
        return Ok(Json(answer(&daemon, &whole, wait).await?).into_response());
    }
    if asked.evaluations.len() > QUESTIONS {
        let why = format!("more than {QUESTIONS} evaluations in one call");
        return Err(Refused::malformed(why));
    }
    let options = asked
        .options
        .and_then(|options| options.evaluations_semantic);
    let semantic = options.unwrap_or_default();
    let mut decisions = Vec::with_capacity(asked.evaluations.len());
    for one in &asked.evaluations {
        // One that cannot be read is refused by itself.
        let decision = match Evaluation::deserialize(one) {
            Err(error) => refused_item(&error.to_string()),
            Ok(one) => match one.over(&asked.defaults).whole() {
                Ok(whole) => answer(&daemon, &whole, Duration::ZERO).await?,
                Err(why) => refused_item(&why),
            },
        };
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
    Ok(Json(Decisions {
        evaluations: decisions,
    })
    .into_response())
}

/// What there is, and where.
#[utoipa::path(get, path = "/.well-known/authzen-configuration", tag = "authzen",
    responses((status = 200, body = Object)))]
pub async fn metadata(State(daemon): State<Arc<Daemon>>, headers: HeaderMap) -> Json<Value> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let as_called = || format!("https://{}", host.unwrap_or("localhost"));
    let base = daemon.api_url.clone().unwrap_or_else(as_called);
    Json(json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": format!("{base}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{base}/access/v1/evaluations"),
    }))
}

/// One question, complete.
struct Whole<'a> {
    subject: &'a Entity,
    action: &'a Action,
    resource: &'a Entity,
    context: Option<&'a Fields>,
}

impl Evaluation {
    /// This one, with `defaults` for each key that it does not have. Keys are not merged.
    fn over(&self, defaults: &Self) -> Self {
        Self {
            subject: self.subject.clone().or_else(|| defaults.subject.clone()),
            action: self.action.clone().or_else(|| defaults.action.clone()),
            resource: self.resource.clone().or_else(|| defaults.resource.clone()),
            context: self.context.clone().or_else(|| defaults.context.clone()),
        }
    }

    fn whole(&self) -> Result<Whole<'_>, String> {
        let missing = |what: &str| format!("`{what}` is missing");
        Ok(Whole {
            subject: self.subject.as_ref().ok_or_else(|| missing("subject"))?,
            action: self.action.as_ref().ok_or_else(|| missing("action"))?,
            resource: self.resource.as_ref().ok_or_else(|| missing("resource"))?,
            context: self.context.as_ref(),
        })
    }
}

async fn answer(daemon: &Daemon, asked: &Whole<'_>, wait: Duration) -> Result<Decision, Refused> {
    if asked.subject.kind != "Session" {
        return Ok(refused_item(
            "the subject is a running session: its type is `Session`",
        ));
    }
    let live = match daemon.registry.of_id(&asked.subject.id) {
        Some(live) => live,
        None => return Ok(refused_item("there is no running session of this id")),
    };
    let facts = [
        asked.context,
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
