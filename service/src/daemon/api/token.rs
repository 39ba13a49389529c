//! Tokens of one session: whoever has one asks in its name, and sees and asks for nothing else.
//!
//! A token is told once and kept as a digest, and it ends with its session. What it opens is listed
//! here, and everything that is not listed is refused.

use std::sync::{Arc, MutexGuard, PoisonError};

use axum::{
    Json,
    body::{Body, HttpBody as _},
    extract::{Extension, Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cordon_audit::{Event, SessionState};
use futures_util::StreamExt as _;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::warn;
use utoipa::ToSchema;

use super::{
    Caller, Daemon,
    hook::HOOK,
    manage::Leave,
    problem::{Code, Problem},
    sessions::find,
};
use crate::{control::State as Stage, daemon::live::Live};

/// A new token.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    /// What to send as `Authorization: Bearer TOKEN`. It is not told again.
    token: String,
    /// The session that it is of.
    session: String,
    /// The record of the decision by which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
}

/// Makes a token for a running session. It is on record before anybody has it; one that nobody gets
/// is taken back.
#[utoipa::path(post, path = "/v1/sessions/{id}/tokens", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 201, body = TokenView), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub async fn give(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Extension(Leave(decision_id)): Extension<Leave>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let live = find(&daemon, &id)?;
    let secret = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    let untold = make(&live, &secret, &caller.user).await?;
    let token = TokenView {
        token: format!("{PREFIX}{}.{secret}", live.id()),
        session: live.id().into(),
        decision_id,
    };
    Ok((StatusCode::CREATED, untold.told_by(Json(token))).into_response())
}

/// Makes a token of this secret, on record and kept.
async fn make(live: &Arc<Live>, secret: &str, by: &str) -> Result<Untold, Problem> {
    let untold = Untold::enter(live, digest(secret))?;
    let short = untold.short();
    on_record(
        live,
        format!("token {short} made by {by}; ends with the session"),
    )
    .await?;
    keep(live)?;
    Ok(untold)
}

/// A token that nobody has been told: it is taken back when this is dropped, so that it does not take
/// the place of one that somebody has.
#[derive(Debug)]
struct Untold {
    live: Arc<Live>,
    kept: String,
    told: bool,
}

impl Untold {
    /// Enters a token as one of the session's, where there is room.
    fn enter(live: &Arc<Live>, kept: String) -> Result<Self, Problem> {
        let mut tokens = tokens(live);
        if tokens.len() >= MOST {
            let why = format!("a session has at most {MOST} tokens");
            let help = format!(
                "DELETE /v1/sessions/{}/tokens takes all of them back",
                live.id()
            );
            return Err(Problem::new(Code::Conflict, why).help(Some(help)));
        }
        tokens.push(kept.clone());
        drop(tokens);
        Ok(Self {
            live: Arc::clone(live),
            kept,
            told: false,
        })
    }

    /// The answer that tells it. It is told once the connection takes the answer's body: one that is
    /// closed by then never does.
    fn told_by(mut self, answer: impl IntoResponse) -> Response {
        let (mut head, body) = answer.into_response().into_parts();
        let length = body.size_hint().exact();
        head.headers
            .extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
        let body = body.into_data_stream().inspect(move |_part| self.is_told());
        Response::from_parts(head, Body::from_stream(body))
    }

    fn is_told(&mut self) {
        self.told = true;
    }

    /// As it is called in records.
    fn short(&self) -> &str {
        self.kept.get(..12).unwrap_or_default()
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let was_good = {
            let mut tokens = tokens(&self.live);
            let before = tokens.len();
            tokens.retain(|known| *known != self.kept);
            before > tokens.len()
        };
        let state = self.live.state();
        // Taken back with all others meanwhile, or gone with its session.
        if !was_good || state == Stage::Ending || state.is_over() {
            return;
        }
        if let Err(error) = self.live.keep() {
            let session = self.live.id();
            warn!(%error, session, "a token that nobody was told is still kept");
        }
        let what = format!("token {} taken back: nobody was told it", self.short());
        self.live.gate().event_later(changed(&self.live, what));
    }
}

/// Takes all tokens of a session back.
#[utoipa::path(delete, path = "/v1/sessions/{id}/tokens", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub async fn take_back(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let live = find(&daemon, &id)?;
    let number = {
        let mut tokens = tokens(&live);
        let number = tokens.len();
        tokens.clear();
        number
    };
    let recorded = match number {
        0 => Ok(()),
        number => {
            let what = format!("tokens taken back by {}: {number}", caller.user);
            on_record(&live, what).await
        }
    };
    // For the next daemon too, whether or not it could be recorded, and also where a call before this
    // one got no further than memory.
    keep(&live)?;
    recorded?;
    Ok(StatusCode::NO_CONTENT)
}

/// Records a change of the tokens.
async fn on_record(live: &Live, what: String) -> Result<(), Problem> {
    let recorded = live.gate().event(changed(live, what)).await;
    recorded.map_err(|error| Problem::new(Code::NotRecorded, error.to_string()))
}

fn changed(live: &Live, what: String) -> Event {
    Event::SessionChanged {
        session: Arc::clone(live.facts()),
        state: SessionState::Grants,
        why: Some(what),
    }
}

/// Keeps them for the next daemon.
fn keep(live: &Live) -> Result<(), Problem> {
    live.keep()
        .map_err(|error| Problem::new(Code::Conflict, format!("it could not be kept: {error}")))
}

fn tokens(live: &Live) -> MutexGuard<'_, Vec<String>> {
    live.tokens().lock().unwrap_or_else(PoisonError::into_inner)
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
        let tokens = tokens(&live);
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
    if !opens(request.method(), &path, &own) {
        let help = "ask as the user of the daemon, by its socket or as a caller of `[api]`";
        return Problem::new(Code::NotOpen, "the token of a session does not open this")
            .help(Some(help.into()))
            .into_response();
    }
    request.extensions_mut().insert(Caller {
        user: live.facts().user.clone(),
        groups: live.facts().groups.clone(),
        pid: None,
        session: Some(own.clone()),
        commands: false,
    });
    next.run(request).await
}

/// By the path as it was sent: one in another spelling is not among them. Of evaluations each
/// subject is compared where it is read, and of the hook the session is the token's own.
fn opens(method: &Method, path: &str, own: &str) -> bool {
    let is_get = method == Method::GET;
    let is_post = method == Method::POST;
    match path {
        "/v1/openapi.json" | "/.well-known/authzen-configuration" => return is_get,
        "/access/v1/evaluation" | "/access/v1/evaluations" | HOOK => return is_post,
        _other => {}
    }
    let beneath = path
        .strip_prefix("/v1/sessions/")
        .and_then(|rest| rest.strip_prefix(own));
    match beneath {
        Some("" | "/events" | "/usage" | "/grants" | "/path" | "/connectors") => is_get,
        Some("/decisions") => is_post,
        Some(rest) => is_post && rest.strip_prefix("/mcp/").is_some_and(opens_of_server),
        None => false,
    }
}

/// Loading a server, and deciding its uses. What its tools are is held on to for all sessions (P08),
/// so no single one says it.
fn opens_of_server(rest: &str) -> bool {
    let what = rest.split_once('/').map(|(_server, what)| what);
    matches!(what, None | Some("decisions" | "refusals"))
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
    use std::pin::pin;

    use futures_util::future::poll_immediate;

    use super::*;
    use crate::daemon::live::of_tests::{policies, session};

    /// Whoever hangs up while a token is made, or before its answer is taken, takes no place.
    #[tokio::test]
    async fn a_token_that_nobody_was_told_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (policies, log) = policies(folder.path());
        let live = Arc::new(session(&policies, "0193-a").await);
        {
            let making = pin!(make(&live, "first", "ada"));
            let _so_far = poll_immediate(making).await;
        }
        assert!(tokens(&live).is_empty(), "broken off");
        let answer = make(&live, "second", "ada")
            .await
            .unwrap()
            .told_by("secret");
        assert_eq!(*tokens(&live), [digest("second")], "the control");
        drop(answer);
        assert!(tokens(&live).is_empty(), "answered, and not taken");
        let answer = make(&live, "third", "ada").await.unwrap().told_by("secret");
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "6");
        let told = axum::body::to_bytes(answer.into_body(), 16).await.unwrap();
        assert_eq!(
            (&told[..], &*tokens(&live)),
            (&b"secret"[..], &vec![digest("third")])
        );
        // One that is taken back with the others is so once.
        let answer = make(&live, "fourth", "ada")
            .await
            .unwrap()
            .told_by("secret");
        tokens(&live).clear();
        drop(answer);
        for _place in 0..MOST {
            let answer = make(&live, &uuid::Uuid::new_v4().to_string(), "ada").await;
            let answer = answer.unwrap().told_by("secret");
            let _told = axum::body::to_bytes(answer.into_body(), 16).await.unwrap();
        }
        assert!(make(&live, "one more", "ada").await.is_err());
        let records = log.session("0193-a").unwrap();
        let said = |what: &str| {
            let words = records
                .iter()
                .filter_map(|record| record.message.as_deref());
            words.filter(|words| words.contains(what)).count()
        };
        assert_eq!(said("nobody was told it"), 2);
    }

    #[test]
    fn n26_a_token_opens_its_own_session_and_nothing_else() {
        let own = "0193-a";
        for (method, path, expected) in [
            (Method::GET, "/v1/sessions/0193-a", true),
            (Method::GET, "/v1/sessions/0193-a/events", true),
            (Method::POST, "/v1/sessions/0193-a/decisions", true),
            (
                Method::POST,
                "/v1/sessions/0193-a/mcp/notes/decisions",
                true,
            ),
            (Method::POST, "/v1/sessions/0193-a/mcp/notes", true),
            (Method::POST, "/v1/sessions/0193-a/mcp/notes/refusals", true),
            (Method::POST, "/v1/sessions/0193-a/mcp/notes/listing", false),
            (
                Method::POST,
                "/v1/sessions/0193-a/mcp/notes/x/decisions",
                false,
            ),
            (Method::GET, "/v1/sessions/0193-a/mcp/notes", false),
            (Method::POST, "/access/v1/evaluation", true),
            (Method::POST, "/access/v1/evaluations", true),
            (Method::POST, HOOK, true),
            (Method::GET, "/v1/openapi.json", true),
            (Method::DELETE, "/v1/sessions/0193-a", false),
            (Method::POST, "/v1/sessions/0193-a/tokens", false),
            (Method::DELETE, "/v1/sessions/0193-a/tokens", false),
            (Method::POST, "/v1/sessions/0193-a/grants", false),
            (Method::POST, "/v1/sessions/0193-a/cancel", false),
            (Method::GET, "/v1/sessions/0193-ab", false),
            (Method::GET, "/v1/sessions/0193-ab/events", false),
            (Method::GET, "/v1/sessions/0193-b", false),
            (Method::GET, "/v1/sessions//0193-a", false),
            (Method::GET, "/v1/sessions/%30193-a", false),
            (Method::GET, "/v1/sessions", false),
            (Method::POST, "/v1/sessions", false),
            (Method::GET, "/v1/events", false),
            (Method::GET, "/v1/approvals", false),
            (Method::POST, "/v1/approvals/x", false),
            (Method::POST, "/access/v1/search/resource", false),
            (Method::POST, "/v1/hooks/claude-code/session-end", false),
        ] {
            assert_eq!(opens(&method, path, own), expected, "{method} {path}");
        }
    }
}
