//! Sessions as they run: paused, resumed, cancelled, and what they use.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Daemon,
    problem::{Code, Problem},
    sessions::{find, read},
};
use crate::{
    control::{Answer, SessionAnswer, SessionAsk, SessionStatus},
    daemon::life,
};

/// The state that a session is in now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stands {
    /// Its id.
    id: String,
    /// `starting`, `running`, `paused`, `ending`, `ended` or `failed`.
    state: &'static str,
}

/// How a session is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cancel {
    /// At once, without asking its command to end.
    now: bool,
}

/// What a session uses.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// Its id.
    id: String,
    /// Seconds since it was opened.
    age_seconds: u64,
    /// Of its processes; absent where nothing counts them.
    processes: Option<Processes>,
    /// Decisions that allowed something.
    allowed: u64,
    /// Decisions that refused something.
    denied: u64,
    /// Flows that are open.
    open_flows: u64,
    /// Bytes to the session, of flows that are over.
    bytes_in: u64,
    /// Bytes from the session, of flows that are over.
    bytes_out: u64,
}

/// What the processes of a session use.
#[derive(Debug, Serialize, ToSchema)]
pub struct Processes {
    /// How many there are.
    count: u64,
    /// Processor time, in microseconds.
    cpu_us: u64,
    /// Memory, in bytes.
    memory_bytes: u64,
    /// Bytes read from storage so far; null where the kernel does not count it.
    read_bytes: Option<u64>,
    /// Bytes written to storage so far; null where the kernel does not count it.
    written_bytes: Option<u64>,
}

/// Pauses a session: its flows and what is asked for it wait; every process of a sandboxed one stops.
#[utoipa::path(post, path = "/v1/sessions/{id}/pause", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Stands), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn pause(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Stands>, Problem> {
    let session = find(&daemon, &id)?.id().into();
    stands(life::answer(&daemon, SessionAsk::Pause { session }).await)
}

/// Lets a paused session run again.
#[utoipa::path(post, path = "/v1/sessions/{id}/resume", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Stands), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn resume(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Stands>, Problem> {
    let session = find(&daemon, &id)?.id().into();
    stands(life::answer(&daemon, SessionAsk::Resume { session }).await)
}

/// Says that the runtime that holds a session is still there: without a question or this it ends
/// after its `idle_seconds`. Answers with its state.
#[utoipa::path(post, path = "/v1/sessions/{id}/heartbeat", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Stands), (status = 404, body = Problem)))]
pub async fn heartbeat(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Stands>, Problem> {
    let live = find(&daemon, &id)?;
    daemon.hosted.touch(live.id());
    Ok(Json(Stands {
        id: live.id().into(),
        state: live.state().as_str(),
    }))
}

/// Ends a session, sandboxed or not, and answers once it is over.
#[utoipa::path(post, path = "/v1/sessions/{id}/cancel", tag = "sessions",
    params(("id" = String, Path, description = "Session id")), request_body = Option<Cancel>,
    responses((status = 200, body = Stands), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Stands>, Problem> {
    let asked: Cancel = if matches!(body.trim_ascii(), b"" | b"null") {
        Cancel::default()
    } else {
        read(&body)?
    };
    let live = find(&daemon, &id)?;
    let session = live.id().into();
    let now = asked.now;
    stands(life::answer(&daemon, SessionAsk::End { session, now }).await)
}

/// What a session uses now.
#[utoipa::path(get, path = "/v1/sessions/{id}/usage", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Usage), (status = 404, body = Problem)))]
pub async fn usage(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Usage>, Problem> {
    let live = find(&daemon, &id)?;
    let SessionStatus {
        session,
        age_seconds,
        used,
        network,
        ..
    } = life::status(&live, true).await;
    Ok(Json(Usage {
        id: session,
        age_seconds,
        processes: used.map(|used| Processes {
            count: used.processes,
            cpu_us: used.cpu_us,
            memory_bytes: used.memory_bytes,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
        }),
        allowed: network.allowed,
        denied: network.denied,
        open_flows: network.open,
        bytes_in: network.bytes_in,
        bytes_out: network.bytes_out,
    }))
}

fn stands(answer: Answer) -> Result<Json<Stands>, Problem> {
    match answer {
        Answer::Session(SessionAnswer::State { session, state }) => Ok(Json(Stands {
            id: session,
            state: state.as_str(),
        })),
        Answer::Failed { message, help } => Err(Problem::new(Code::Conflict, message).help(help)),
        _other => Err(Problem::new(Code::Conflict, "nothing came of it")),
    }
}
