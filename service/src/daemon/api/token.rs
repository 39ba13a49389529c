//! Tokens of one session: whoever has one asks in its name, and sees and asks for nothing else.
//!
//! A token is told once and kept as a digest, and it ends with its session. What it opens is listed
//! here, and everything that is not listed is refused.

use std::sync::{Arc, PoisonError};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{
    BODY_BYTES, Caller, Daemon,
    hook::HOOK,
    problem::{Code, Problem},
    sessions::find,
};
use crate::daemon::live::Live;

/// A new token.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    /// What to send as `Authorization: Bearer TOKEN`. It is not told again.
    token: String,
    /// The session that it is of.
    session: String,
}

/// Makes a token for a running session.
#[utoipa::path(post, path = "/v1/sessions/{id}/tokens", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 201, body = TokenView), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn give(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<TokenView>), Problem> {
    let live = find(&daemon, &id)?;
    let secret = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    let kept = {
        let mut tokens = live.tokens().lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            let why = format!("a session has at most {MOST} tokens");
            let help = format!("DELETE /v1/sessions/{id}/tokens takes all of them back");
            return Err(Problem::new(Code::Conflict, why).help(Some(help)));
        }
        tokens.push(digest(&secret));
        drop(tokens);
        live.keep()
    };
    kept.map_err(|error| Problem::new(Code::Conflict, format!("it could not be kept: {error}")))?;
    let token = TokenView {
        token: format!("{PREFIX}{}.{secret}", live.id()),
        session: live.id().into(),
    };
    Ok((StatusCode::CREATED, Json(token)))
}

/// Takes all tokens of a session back.
#[utoipa::path(delete, path = "/v1/sessions/{id}/tokens", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn take_back(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let live = find(&daemon, &id)?;
    live.tokens()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    let kept = live.keep();
    kept.map_err(|error| Problem::new(Code::Conflict, format!("it could not be kept: {error}")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who asks by the token of a session, where one is sent.
#[derive(Debug)]
pub enum Sent {
    /// None that is of a session.
    None,
    /// One that is good.
    Good(Arc<Live>),
    /// One that is not, or not any more.
    Wrong,
}

/// The session whose token is sent.
pub fn sent(daemon: &Daemon, headers: &HeaderMap) -> Sent {
    let field = headers.get(header::AUTHORIZATION);
    let field = field.and_then(|field| field.to_str().ok());
    let Some((scheme, token)) = field.and_then(|field| field.split_once(' ')) else {
        return Sent::None;
    };
    let token = token.trim();
    let Some(token) = token
        .strip_prefix(PREFIX)
        .filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    else {
        return Sent::None;
    };
    let live = token.split_once('.').and_then(|(session, secret)| {
        let live = daemon.registry.of_id(session)?;
        let asked = digest(secret);
        let tokens = live.tokens().lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = false;
        // All are compared, so that the time tells nothing of which.
        for known in tokens.iter() {
            found |= bool::from(known.as_bytes().ct_eq(asked.as_bytes()));
        }
        drop(tokens);
        (found && !live.state().is_over()).then_some(live)
    });
    live.map_or(Sent::Wrong, Sent::Good)
}

/// Lets a caller who sends a session's token do what that opens, whoever they are beside.
pub async fn limited(
    State(daemon): State<Arc<Daemon>>,
    mut request: Request,
    next: Next,
) -> Response {
    let live = match sent(&daemon, request.headers()) {
        Sent::None => return next.run(request).await,
        Sent::Good(live) => live,
        Sent::Wrong => return unknown(),
    };
    let own = live.id().to_owned();
    let path = request.uri().path().to_owned();
    let opens = opens(request.method(), &path, &own);
    if opens == Opens::Nothing {
        return Problem::new(Code::Denied, "the token of a session does not open this")
            .into_response();
    }
    request.extensions_mut().insert(Caller {
        user: live.facts().user.clone(),
        groups: live.facts().groups.clone(),
        pid: None,
        session: Some(own.clone()),
    });
    if opens != Opens::Subjects {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        let most = format!("a body is at most {BODY_BYTES} bytes");
        return Problem::new(Code::TooLarge, most).into_response();
    };
    let body = body.to_bytes();
    // What is no JSON is refused by who reads it.
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !subjects(&asked).all(|subject| is_session(subject, &own)) {
        let why = "the subject is not the session that the token is of";
        return Problem::new(Code::Denied, why).into_response();
    }
    next.run(Request::from_parts(head, Body::from(body))).await
}

/// What a token opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Opens {
    /// Not this.
    Nothing,
    /// This, as it is.
    This,
    /// This, where every subject in its body is the session.
    Subjects,
}

/// By the path as it was sent: one in another spelling is not among them.
fn opens(method: &Method, path: &str, own: &str) -> Opens {
    let is_get = method == Method::GET;
    let is_post = method == Method::POST;
    match path {
        "/v1/openapi.json" | "/.well-known/authzen-configuration" if is_get => return Opens::This,
        "/access/v1/evaluation" | "/access/v1/evaluations" if is_post => return Opens::Subjects,
        HOOK if is_post => return Opens::This,
        _other => {}
    }
    let beneath = path
        .strip_prefix("/v1/sessions/")
        .and_then(|rest| rest.strip_prefix(own));
    let opens = match beneath {
        Some("" | "/events" | "/usage" | "/grants" | "/path" | "/connectors") => is_get,
        Some("/decisions") => is_post,
        Some(rest) => is_post && rest.starts_with("/mcp/"),
        None => false,
    };
    if opens { Opens::This } else { Opens::Nothing }
}

/// Every subject that an evaluation, or several, are about.
fn subjects(asked: &Value) -> impl Iterator<Item = &Value> {
    let several = asked.get("evaluations").and_then(Value::as_array);
    let each = several
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("subject"));
    asked.get("subject").into_iter().chain(each)
}

fn is_session(subject: &Value, own: &str) -> bool {
    let is = |name: &str, text: &str| subject.get(name).and_then(Value::as_str) == Some(text);
    is("type", "Session") && is("id", own)
}

/// The answer to a token that is not good.
pub fn unknown() -> Response {
    let why = "no session is known by this token";
    let challenge = HeaderValue::from_static("Bearer realm=\"cordon\"");
    let mut response = Problem::new(Code::Unknown, why).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn digest(secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How every token begins; the session's id follows, a dot, and the secret.
const PREFIX: &str = "cordon-session.";

/// Most tokens of one session.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn n26_a_token_opens_its_own_session_and_nothing_else() {
        use Opens::{Nothing, Subjects, This};
        let own = "0193-a";
        for (method, path, expected) in [
            (Method::GET, "/v1/sessions/0193-a", This),
            (Method::GET, "/v1/sessions/0193-a/events", This),
            (Method::POST, "/v1/sessions/0193-a/decisions", This),
            (
                Method::POST,
                "/v1/sessions/0193-a/mcp/notes/decisions",
                This,
            ),
            (Method::POST, "/access/v1/evaluation", Subjects),
            (Method::POST, "/access/v1/evaluations", Subjects),
            (Method::POST, HOOK, This),
            (Method::GET, "/v1/openapi.json", This),
            (Method::DELETE, "/v1/sessions/0193-a", Nothing),
            (Method::POST, "/v1/sessions/0193-a/tokens", Nothing),
            (Method::DELETE, "/v1/sessions/0193-a/tokens", Nothing),
            (Method::POST, "/v1/sessions/0193-a/grants", Nothing),
            (Method::POST, "/v1/sessions/0193-a/cancel", Nothing),
            (Method::GET, "/v1/sessions/0193-ab", Nothing),
            (Method::GET, "/v1/sessions/0193-ab/events", Nothing),
            (Method::GET, "/v1/sessions/0193-b", Nothing),
            (Method::GET, "/v1/sessions//0193-a", Nothing),
            (Method::GET, "/v1/sessions/%30193-a", Nothing),
            (Method::GET, "/v1/sessions", Nothing),
            (Method::POST, "/v1/sessions", Nothing),
            (Method::GET, "/v1/events", Nothing),
            (Method::GET, "/v1/approvals", Nothing),
            (Method::POST, "/v1/approvals/x", Nothing),
            (Method::POST, "/access/v1/search/resource", Nothing),
            (Method::POST, "/v1/hooks/claude-code/session-end", Nothing),
        ] {
            assert_eq!(opens(&method, path, own), expected, "{method} {path}");
        }
    }

    #[test]
    fn every_subject_counts() {
        let own = json!({"type": "Session", "id": "a"});
        let other = json!({"type": "Session", "id": "b"});
        let all = |asked: &Value| subjects(asked).all(|subject| is_session(subject, "a"));
        assert!(all(&json!({"subject": own})));
        assert!(all(
            &json!({"subject": own, "evaluations": [{}, {"subject": own}]})
        ));
        assert!(!all(&json!({"subject": other})));
        assert!(!all(
            &json!({"subject": own, "evaluations": [{"subject": own}, {"subject": other}]})
        ));
        assert!(!all(&json!({"subject": {"type": "User", "id": "a"}})));
        assert!(!all(&json!({"subject": "a"})));
    }
}
