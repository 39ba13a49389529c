//! Running sessions: list, look at, end; and a question in words.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use cordon_audit::SessionEnd;
use cordon_policy::{SessionAct, SessionPast, ask};
use cordon_sandbox::limits::Held;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Caller, Daemon,
    decide::{DOOR, Verdict, decide_waiting, look_over, preferred_wait},
    fields::Fields,
    operation::{Access, Wanted},
    problem::{Code, Problem},
};
use crate::{
    control::{Answer, GrantLine, Refused, SessionStatus},
    daemon::{hosted, life, live::Live},
};

/// A running session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    id: String,
    /// `starting`, `running`, `paused`, `ending`, `ended` or `failed`.
    state: &'static str,
    /// What it runs.
    command: String,
    /// Agent profile.
    agent: Option<String>,
    /// Login name of its user.
    user: String,
    /// What holds its walls; `none`: nothing does, Cordon decides and records only.
    backend: String,
    /// Name, revision and digest of what decides it now.
    policy: String,
    /// Seconds since it was opened.
    age_seconds: u64,
    /// The record of the decision that let it start; a gateway's session has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
    /// Folders that are granted.
    grants: Vec<GrantView>,
    /// Its first process, as this machine numbers it, once its walls stand.
    pid: Option<u32>,
    /// Its limits that are in force, and by what each is held.
    limits: Vec<LimitView>,
    /// What stops its processes when it is paused, once its walls stand.
    #[serde(skip_serializing_if = "String::is_empty")]
    pauses_by: String,
    /// What it did so far, as policy is told it; absent where that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    past: Option<PastView>,
}

/// What a session did so far: `context.session` of rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct PastView {
    /// Labels of what it read.
    labels: Vec<String>,
    /// Connections, HTTP requests that could be read, and pages opened.
    requests: u64,
    /// Different destinations of those.
    destinations: u64,
    /// Bytes to all destinations.
    bytes_sent: u64,
    /// Bytes from all destinations.
    bytes_received: u64,
    /// Removals that were asked one by one.
    deletes: u64,
    /// Calls of tools.
    tool_calls: u64,
}

/// A folder of a running session.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantView {
    /// On the host.
    #[schema(value_type = String)]
    path: PathBuf,
    /// Inside.
    #[schema(value_type = String)]
    inside: PathBuf,
    /// `ro`, `rw` or `rwd`.
    mode: String,
    /// The record of the decision that granted it.
    decision_id: String,
    /// Where policy wants originals kept and they are copied: the largest file, in bytes, that is; a
    /// larger one is not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_up_to: Option<u64>,
}

/// A limit of a running session.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitView {
    /// Its name, with its unit.
    name: String,
    /// Its value.
    value: u64,
    /// By what it is held.
    by: String,
    /// What is weaker about that than it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    weaker: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Only sessions whose id comes after this one.
    after: Option<String>,
    /// Most sessions. Default and most: 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Most sessions of a page of the list, and how many there are where the caller does not say.
const MOST_LISTED: usize = 1_000;

/// A question in words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InWords {
    /// `connect api.example.com:443`, `read /home/u/project/a`, ...: as `cordon policy explain`
    /// takes them.
    ask: Vec<String>,
    /// Only look: nothing is done after it, so nothing is recorded.
    #[serde(default)]
    look: bool,
}

/// What came of a question in words.
#[derive(Debug, Serialize, ToSchema)]
pub struct Told {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl From<Verdict> for Told {
    fn from(verdict: Verdict) -> Self {
        Self {
            allowed: verdict.allowed,
            verdict,
        }
    }
}

/// Running sessions, in the order of their ids: that in which they began.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(Part),
    responses((status = 200, body = Vec<SessionView>, headers(("link" = Option<String>,
            description = "Where the list goes on (`rel=\"next\"`), where it does."))),
        (status = 400, body = Problem)))]
pub async fn list(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<(HeaderMap, Json<Vec<SessionView>>), Problem> {
    let Query(part) = part.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    let limit = part.limit.unwrap_or(MOST_LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        let why = format!("`limit` is 1 to {MOST_LISTED}");
        return Err(Problem::new(Code::Malformed, why));
    }
    // One more tells whether there are more.
    let mut seen = readable(&daemon, &caller, part.after.as_deref(), limit + 1).await;
    let mut headers = HeaderMap::new();
    if seen.len() > limit {
        seen.truncate(limit);
        let last = seen.last().map_or("", |last| last.id());
        let next = format!("</v1/sessions?after={last}&limit={limit}>; rel=\"next\"");
        headers.extend(HeaderValue::try_from(next).map(|next| (header::LINK, next)));
    }
    if let (true, None) = (seen.is_empty(), &part.after) {
        may_see_any(&daemon, &caller).await?;
    }
    Ok((headers, Json(seen.iter().map(|live| view(live)).collect())))
}

/// At most `most` of those that the caller may see, from `after` on.
async fn readable(
    daemon: &Daemon,
    caller: &Caller,
    after: Option<&str>,
    most: usize,
) -> Vec<Arc<Live>> {
    let who = caller.somebody();
    let mut seen = Vec::new();
    let mut after = after.map(str::to_owned);
    loop {
        let (page, more) = daemon.registry.page(after.as_deref(), MOST_LISTED);
        after = page.last().map(|last| last.id().to_owned());
        for live in page {
            if seen.len() < most && daemon.policies.may_read(&who, live.facts()).await {
                seen.push(live);
            }
        }
        if !more || seen.len() == most {
            return seen;
        }
    }
}

/// Of somebody who sees no session though some run: the refusal of the first.
async fn may_see_any(daemon: &Daemon, caller: &Caller) -> Result<(), Problem> {
    let (first, _more) = daemon.registry.page(None, 1);
    let Some(first) = first.first() else {
        return Ok(());
    };
    let who = caller.somebody();
    let asked = daemon
        .policies
        .manage(&who, SessionAct::Read, first.facts());
    let asked = asked.await.map(drop);
    asked.map_err(|answer| not_opened(daemon, answer))
}

/// One running session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = SessionView), (status = 404, body = Problem)))]
pub async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<SessionView>, Problem> {
    Ok(Json(view(&*find(&daemon, &id)?)))
}

/// Ends a session that a runtime holds, or that was started for one.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn end(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let live = find(&daemon, &id)?;
    if hosted::end(&daemon, live.id(), SessionEnd::Exited).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    if daemon.launches.output(live.id()).is_some() {
        let ended = life::end(&live, false).await;
        ended.map_err(|why| Problem::new(Code::Conflict, why))?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let why = "a launcher holds this session, not a runtime";
    Err(Problem::new(Code::Conflict, why).help(Some(format!(
        "end it with `cordon session end {}`",
        live.id()
    ))))
}

/// Decides a request in words for a session.
#[utoipa::path(post, path = "/v1/sessions/{id}/decisions", tag = "sessions",
    params(("id" = String, Path, description = "Session id")), request_body = InWords,
    responses((status = 200, body = Told), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn ask(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let asked: InWords = read(&body)?;
    let live = find(&daemon, &id)?;
    daemon.hosted.touch(live.id());
    let wanted = match in_words(&asked.ask) {
        Ok(wanted) => wanted,
        Err((why, help)) => {
            let said = asked.ask.join(" ");
            let _refused = live
                .gate()
                .refuse_raw(DOOR, said.as_bytes(), why.clone())
                .await;
            return Err(Problem::new(Code::Malformed, why).help(Some(help)));
        }
    };
    let verdict = if asked.look {
        look_over(&daemon, &live, wanted).await
    } else {
        decide_waiting(&daemon, &live, wanted, preferred_wait(&headers)).await?
    };
    Ok(Json(Told {
        allowed: verdict.allowed,
        verdict,
    }))
}

/// What words ask for. Where a file lies is looked up, whatever the words say about its mode.
fn in_words(words: &[String]) -> Result<Wanted, (String, String)> {
    use cordon_policy::Operation;
    let operation = ask::parse_words(words).map_err(|error| (error.to_string(), error.hint()))?;
    Ok(match operation {
        Operation::ReadPath { path, .. } => Wanted::File(Access::Read, path),
        Operation::WritePath { path, .. } => Wanted::File(Access::Write, path),
        Operation::DeletePath { path, .. } => Wanted::File(Access::Delete, path),
        Operation::StartSession { .. }
        | Operation::ExecInSession { .. }
        | Operation::PublishPort { .. }
        | Operation::Approve { .. }
        | Operation::PublishPolicy { .. }
        | Operation::ManageSession { .. }
        | Operation::ReadLog { .. } => {
            return Err((
                "this is not for a running session to ask".into(),
                "`cordon policy explain` says what policy would answer".into(),
            ));
        }
        other => Wanted::Operation(other),
    })
}

/// The session of this id.
pub(super) fn find(daemon: &Daemon, id: &str) -> Result<Arc<Live>, Problem> {
    daemon.registry.of_id(id).ok_or_else(|| {
        Problem::new(Code::NoSession, "no running session has this id")
            .help(Some("GET /v1/sessions lists those that run".into()))
    })
}

/// Reads a body of the API's own.
pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Problem> {
    serde_json::from_slice::<Fields>(body)
        .and_then(|_unique| serde_json::from_slice(body))
        .map_err(|error| Problem::new(Code::Malformed, error.to_string()))
}

pub(super) fn not_opened(daemon: &Daemon, answer: Answer) -> Problem {
    match answer {
        Answer::Refused(refusal) => refused(refusal),
        Answer::Failed { message, help } => match daemon.log.healthy() {
            Ok(()) => Problem::failed(message, help),
            Err(_fault) => Problem::new(Code::NotRecorded, message).help(help),
        },
        _other => Problem::new(Code::Conflict, "the session was not opened"),
    }
}

/// What policy refuses.
pub(super) fn refused(refused: Refused) -> Problem {
    let Refused {
        what,
        why,
        allow_with,
        decision,
    } = refused;
    Problem::new(Code::Denied, format!("{what}: {why}"))
        .help(allow_with.map(|rule| format!("a rule that allows it: {rule}")))
        .decision(decision)
}

/// A session as runtimes see it.
pub(super) fn view(live: &Live) -> SessionView {
    let SessionStatus {
        session,
        decision,
        state,
        command,
        agent,
        user,
        backend,
        policy,
        age_seconds,
        grants,
        first_process,
        limits,
        pauses_by,
        past,
        ..
    } = live.status();
    SessionView {
        id: session,
        state: state.as_str(),
        command,
        agent,
        user,
        backend,
        policy,
        age_seconds,
        decision_id: decision,
        grants: grants.into_iter().map(GrantView::from).collect(),
        pid: first_process,
        limits: limits.into_iter().map(LimitView::from).collect(),
        pauses_by,
        past: past.map(PastView::from),
    }
}

impl From<SessionPast> for PastView {
    fn from(past: SessionPast) -> Self {
        Self {
            labels: past.labels.iter().map(ToString::to_string).collect(),
            requests: past.requests,
            destinations: past.destinations,
            bytes_sent: past.bytes_sent,
            bytes_received: past.bytes_received,
            deletes: past.deletes,
            tool_calls: past.tool_calls,
        }
    }
}

impl From<Held> for LimitView {
    fn from(held: Held) -> Self {
        Self {
            name: held.name,
            value: held.value,
            by: held.by,
            weaker: held.weaker,
        }
    }
}

impl From<GrantLine> for GrantView {
    fn from(grant: GrantLine) -> Self {
        Self {
            path: grant.path,
            inside: grant.inside,
            mode: grant.mode,
            decision_id: grant.decision,
            copied_up_to: grant.copied_up_to,
        }
    }
}
