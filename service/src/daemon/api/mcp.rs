//! What the gateway for tool servers asks: whether a session may use a server, each use of it, and
//! what of its lists may be shown. And for people: what its tools are, and accepting them.

pub mod uses;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderName, StatusCode},
};
use cordon_audit::RecordId;
use cordon_policy::Definition;
use cordon_runtime::mcp::{Asked, Fate, Listed, definition_digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use self::uses::{Attached, facts};
use super::{
    Daemon,
    manage::decided,
    problem::{Code, Problem},
    sessions::{Told, find, read},
};
use crate::daemon::{live::Live, mcp::server_name};

/// What a server lists.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Its entries: kind, name, and a tool's whole definition.
    #[schema(value_type = Vec<Object>)]
    listed: Vec<Listed>,
}

/// What becomes of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fates {
    /// `shown`, `hidden` or `changed` for each, in order.
    #[schema(value_type = Vec<String>)]
    fates: Vec<Fate>,
}

/// Something that is no request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Its beginning.
    what: String,
    /// What is wrong with it.
    why: String,
}

/// A server's tools.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerView {
    /// Its name.
    server: String,
    /// Its tools, by name.
    tools: Vec<ToolView>,
}

/// One tool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolView {
    /// Its name.
    name: String,
    /// `first`, `accepted` or `changed`.
    #[schema(value_type = String)]
    state: Definition,
    /// Digest of what accepting it would accept.
    digest: String,
    /// What holds.
    #[schema(value_type = Object)]
    definition: Value,
    /// What the server says now, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    offered: Option<Value>,
}

/// What a person accepts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accepting {
    /// Tools, each with the digest of the definition that was shown.
    tools: BTreeMap<String, String>,
}

/// Decides whether a session may use a server.
#[utoipa::path(post, path = "/v1/sessions/{id}/mcp/{server}", tag = "mcp",
    params(("id" = String, Path, description = "Session id"),
        ("server" = String, Path, description = "The server's name")),
    responses((status = 200, body = Attached), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn attach(
    State(daemon): State<Arc<Daemon>>,
    Path((id, server)): Path<(String, String)>,
) -> Result<Json<Attached>, Problem> {
    let live = session(&daemon, &id, &server)?;
    uses::attach(&daemon, &live, &server).await.map(Json)
}

/// What passes of a server that the session has loaded.
#[utoipa::path(get, path = "/v1/sessions/{id}/mcp/{server}", tag = "mcp",
    params(("id" = String, Path, description = "Session id"),
        ("server" = String, Path, description = "The server's name")),
    responses((status = 200, body = Attached), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn loaded(
    State(daemon): State<Arc<Daemon>>,
    Path((id, server)): Path<(String, String)>,
) -> Result<Json<Attached>, Problem> {
    attached(&daemon, &id, &server)?;
    Ok(Json(uses::passing(&daemon, &server)))
}

/// Decides one use of a server.
#[utoipa::path(post, path = "/v1/sessions/{id}/mcp/{server}/decisions", tag = "mcp",
    params(("id" = String, Path, description = "Session id"),
        ("server" = String, Path, description = "The server's name")),
    request_body = Object,
    responses((status = 200, body = Told), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub async fn decision(
    State(daemon): State<Arc<Daemon>>,
    Path((id, server)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let asked: Asked = read(&body)?;
    let live = attached(&daemon, &id, &server)?;
    uses::decide_use(&daemon, &live, &server, asked)
        .await
        .map(Json)
}

/// Says what of a list may be shown, and holds on to what tools are. A changed one is recorded.
#[utoipa::path(post, path = "/v1/sessions/{id}/mcp/{server}/listing", tag = "mcp",
    params(("id" = String, Path, description = "Session id"),
        ("server" = String, Path, description = "The server's name")),
    request_body = Listing,
    responses((status = 200, body = Fates), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub async fn listing(
    State(daemon): State<Arc<Daemon>>,
    Path((id, server)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Fates>, Problem> {
    let Listing { listed } = read(&body)?;
    let live = attached(&daemon, &id, &server)?;
    let fates = uses::sort(&daemon, &live, &server, &listed).await?;
    Ok(Json(Fates { fates }))
}

/// Records what was refused because it is no request.
#[utoipa::path(post, path = "/v1/sessions/{id}/mcp/{server}/refusals", tag = "mcp",
    params(("id" = String, Path, description = "Session id"),
        ("server" = String, Path, description = "The server's name")),
    request_body = Refused,
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn refused(
    State(daemon): State<Arc<Daemon>>,
    Path((id, server)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let Refused { what, why } = read(&body)?;
    let live = attached(&daemon, &id, &server)?;
    uses::refuse(&live, &server, &what, &why).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Tool servers whose tools are known.
#[utoipa::path(get, path = "/v1/mcp", tag = "mcp",
    responses((status = 200, body = Vec<String>), (status = 409, body = Problem)))]
pub async fn servers(State(daemon): State<Arc<Daemon>>) -> Result<Json<Vec<String>>, Problem> {
    let names = daemon.mcp.names();
    names
        .map(Json)
        .map_err(|error| Problem::new(Code::Conflict, error.to_string()))
}

/// What is known of a server's tools.
#[utoipa::path(get, path = "/v1/mcp/{server}", tag = "mcp",
    params(("server" = String, Path, description = "The server's name")),
    responses((status = 200, body = ServerView), (status = 404, body = Problem)))]
pub async fn server(
    State(daemon): State<Arc<Daemon>>,
    Path(server): Path<String>,
) -> Result<Json<ServerView>, Problem> {
    known(&daemon, &server)?;
    let pins = daemon.mcp.pins(&server);
    let pins = pins.map_err(|why| Problem::new(Code::Conflict, why))?;
    let tools = pins.tools().map(|(name, pin)| ToolView {
        name: name.into(),
        state: match (&pin.offered, pin.accepted) {
            (Some(_), _) => Definition::Changed,
            (None, true) => Definition::Accepted,
            (None, false) => Definition::First,
        },
        digest: definition_digest(pin.offered.as_ref().unwrap_or(&pin.definition)),
        definition: pin.definition.clone(),
        offered: pin.offered.clone(),
    });
    Ok(Json(ServerView {
        server: server.clone(),
        tools: tools.collect(),
    }))
}

/// Accepts tools of a server as they were shown. Decided as `install_extension` of this user.
#[utoipa::path(post, path = "/v1/mcp/{server}/accept", tag = "mcp",
    params(("server" = String, Path, description = "The server's name")),
    request_body = Accepting,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn accept(
    State(daemon): State<Arc<Daemon>>,
    Path(server): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, [(HeaderName, String); 1]), Problem> {
    let Accepting { tools } = read(&body)?;
    known(&daemon, &server)?;
    let tools: Vec<(String, String)> = tools.into_iter().collect();
    let decision = authorised(&daemon, &server, &format!("{tools:?}")).await?;
    let accepted = daemon.mcp.accept(&server, &tools);
    accepted.map_err(|why| Problem::new(Code::Conflict, why))?;
    Ok((StatusCode::NO_CONTENT, decided(decision)))
}

/// Takes away what is known of a server's tools: what it says next is taken as it is.
#[utoipa::path(delete, path = "/v1/mcp/{server}", tag = "mcp",
    params(("server" = String, Path, description = "The server's name")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn forget(
    State(daemon): State<Arc<Daemon>>,
    Path(server): Path<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1]), Problem> {
    known(&daemon, &server)?;
    let decision = authorised(&daemon, &server, "").await?;
    match daemon.mcp.forget(&server) {
        Ok(_there) => Ok((StatusCode::NO_CONTENT, decided(decision))),
        Err(error) => Err(Problem::new(Code::Conflict, error.to_string())),
    }
}

fn session(daemon: &Daemon, id: &str, server: &str) -> Result<Arc<Live>, Problem> {
    server_name(server).map_err(|why| Problem::new(Code::Malformed, why))?;
    let live = find(daemon, id)?;
    daemon.hosted.touch(live.id());
    Ok(live)
}

fn attached(daemon: &Daemon, id: &str, server: &str) -> Result<Arc<Live>, Problem> {
    let live = session(daemon, id, server)?;
    if daemon.mcp.is_attached(live.id(), server) {
        return Ok(live);
    }
    let why = "this session has not loaded the server";
    let help = format!("POST /v1/sessions/{id}/mcp/{server} decides whether it may");
    Err(Problem::new(Code::Conflict, why).help(Some(help)))
}

fn known(daemon: &Daemon, server: &str) -> Result<(), Problem> {
    let names = daemon.mcp.names();
    let names = names.map_err(|error| Problem::new(Code::Conflict, error.to_string()))?;
    if names.iter().any(|name| name == server) {
        return Ok(());
    }
    let why = format!(
        "no tools of a server `{}` were seen",
        server.escape_default()
    );
    Err(Problem::new(Code::NotFound, why).help(Some("`cordon mcp list` names those".into())))
}

async fn authorised(daemon: &Daemon, server: &str, digest: &str) -> Result<RecordId, Problem> {
    let mut facts = facts(daemon, server)?;
    if !digest.is_empty() && facts.digest.is_empty() {
        facts.digest = definition_digest(&Value::from(digest));
    }
    daemon
        .policies
        .authorise_extension(facts)
        .await
        .map_err(|(why, decision)| {
            let problem = Problem::new(Code::Denied, why);
            match decision {
                Some(id) => problem.decision(id),
                None => problem,
            }
        })
}
