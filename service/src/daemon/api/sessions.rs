//! Sessions that a runtime holds: create, list, look at, end; and a question without effect.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, Path, State},
    http::{HeaderMap, StatusCode},
};
use cordon_audit::SessionEnd;
use cordon_policy::{GrantMode, GrantSource, SessionPast, ask};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Daemon, Peer,
    decide::{DOOR, Undecided, Verdict, decide_waiting, look_over, preferred_wait},
    fields::Fields,
    operation::{Access, Wanted},
    problem::{Code, Problem},
};
use crate::{
    control::{Answer, GrantLine, Refused, SessionStatus},
    daemon::{
        approvals::own::Holder,
        hosted::{self, Repeatable, Wish},
        is_pack,
        live::Live,
    },
};

/// What a new session is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// What it runs: a program's name, for policy and the log.
    program: String,
    /// Agent profile.
    agent: Option<String>,
    /// Packs by name, and files and folders by absolute path, that decide it, as `--policy` of
    /// `cordon run`; absent: the same as there.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    policy: Vec<PathBuf>,
    /// Folders that it may use.
    #[serde(default)]
    grants: Vec<NewGrant>,
    /// The folder that is worked in: its `.cordon/policy` can narrow.
    #[schema(value_type = Option<String>)]
    workspace: Option<PathBuf>,
}

/// A folder of a new session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// Its absolute path.
    #[schema(value_type = String)]
    path: PathBuf,
    /// `ro`, `rw` or `rwd`.
    #[schema(value_type = String)]
    mode: GrantMode,
}

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
    /// Folders that are granted.
    grants: Vec<GrantView>,
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
}

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

/// Opens a session without a sandbox.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = NewSession,
    responses((status = 201, body = SessionView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 503, body = Problem)))]
pub async fn create(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    key: Option<Extension<Repeatable>>,
    body: Bytes,
) -> Result<(StatusCode, Json<SessionView>), Problem> {
    let asked: NewSession = read(&body)?;
    let named = asked.policy.iter().filter(|path| !is_pack(path));
    let granted = asked.grants.iter().map(|grant| &grant.path);
    for path in granted.chain(&asked.workspace).chain(named) {
        if !path.is_absolute() {
            let why = format!("`{}` is not an absolute path", path.display());
            return Err(Problem::new(Code::Malformed, why));
        }
    }
    let grants = asked.grants.into_iter();
    let wish = Wish {
        program: asked.program,
        agent: asked.agent,
        grants: grants
            .map(|grant| (grant.path, grant.mode, GrantSource::CommandLine))
            .collect(),
        workspace: asked.workspace,
        policy: asked.policy,
        holder: Holder::of(peer.0),
        hook: None,
        key: key.map(|Extension(key)| key),
    };
    match hosted::create(&daemon, wish).await {
        Ok(live) => Ok((StatusCode::CREATED, Json(view(&live)))),
        Err(answer) => Err(not_opened(&daemon, answer)),
    }
}

/// All running sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions",
    responses((status = 200, body = Vec<SessionView>)))]
pub async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<SessionView>> {
    let all = daemon.registry.all();
    Json(all.iter().map(|live| view(live)).collect())
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

/// Ends a session that a runtime holds.
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
        match decide_waiting(&daemon, &live, wanted, preferred_wait(&headers)).await {
            Ok(verdict) => verdict,
            Err(Undecided::NotRecorded(why)) => return Err(Problem::new(Code::NotRecorded, why)),
            Err(Undecided::Late) => {
                return Err(Problem::new(Code::Late, "so it is refused"));
            }
        }
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
        Answer::Refused(Refused {
            what,
            why,
            allow_with,
            decision,
        }) => Problem::new(Code::Denied, format!("{what}: {why}"))
            .help(allow_with.map(|rule| format!("a rule that allows it: {rule}")))
            .decision(decision),
        Answer::Failed { message, help } => {
            let code = match daemon.log.healthy() {
                Ok(()) => Code::Conflict,
                Err(_fault) => Code::NotRecorded,
            };
            Problem::new(code, message).help(help)
        }
        _other => Problem::new(Code::Conflict, "the session was not opened"),
    }
}

/// A session as runtimes see it.
pub(super) fn view(live: &Live) -> SessionView {
    let SessionStatus {
        session,
        state,
        command,
        agent,
        user,
        backend,
        policy,
        age_seconds,
        grants,
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
        grants: grants.into_iter().map(GrantView::from).collect(),
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

impl From<GrantLine> for GrantView {
    fn from(grant: GrantLine) -> Self {
        Self {
            path: grant.path,
            inside: grant.inside,
            mode: grant.mode,
        }
    }
}
