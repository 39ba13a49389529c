//! Connectors in a session: enabling with named scopes, using one, disabling at once (P10).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use cordon_policy::Operation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Daemon,
    decide::{by_policy, decide, in_time},
    operation::Wanted,
    problem::{Code, Problem},
    sessions::{Told, find, read},
};
use crate::daemon::{grants::told as told_of, live::Live};

/// A connector.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectorView {
    /// Its name.
    name: String,
    /// What it is.
    description: String,
    /// Who offers it.
    publisher: String,
    /// `mcp` or `http`.
    kind: &'static str,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Which credential it is spoken to with, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    /// Its scopes, each with what it is for.
    scopes: BTreeMap<String, String>,
    /// Scopes that are enabled in the session that was asked about; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<BTreeSet<String>>,
}

/// How a connector is enabled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enabling {
    /// The scopes, all of those that were enabled before included; each is decided.
    scopes: BTreeSet<String>,
}

/// What came of enabling: every decision.
#[derive(Debug, Serialize, ToSchema)]
pub struct Enabled {
    /// Whether it is enabled now. Where one scope is refused, nothing changes.
    allowed: bool,
    /// The decision about the connector.
    connector: Told,
    /// The decision about each scope, as far as they were asked.
    scopes: BTreeMap<String, Told>,
}

/// What of a connector is used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsingScope {
    /// The scope.
    scope: String,
}

/// The connectors that there are.
#[utoipa::path(get, path = "/v1/connectors", tag = "connectors",
    responses((status = 200, body = Vec<ConnectorView>)))]
pub async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<ConnectorView>> {
    Json(views(&daemon, None))
}

/// The connectors that there are, with what is enabled in a session.
#[utoipa::path(get, path = "/v1/sessions/{id}/connectors", tag = "connectors",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Vec<ConnectorView>), (status = 404, body = Problem)))]
pub async fn of_session(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<ConnectorView>>, Problem> {
    let live = find(&daemon, &id)?;
    Ok(Json(views(&daemon, Some(live.id()))))
}

/// Enables a connector with scopes: a decision about it and one about each scope, all recorded; all of
/// it or nothing.
#[utoipa::path(put, path = "/v1/sessions/{id}/connectors/{name}", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    request_body = Enabling,
    responses((status = 200, body = Enabled), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub async fn enable(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Enabled>, Problem> {
    let Enabling { scopes } = read(&body)?;
    let live = session(&daemon, &id)?;
    let known = known(&daemon, &name)?;
    if scopes.is_empty() {
        return Err(Problem::new(Code::Malformed, "name at least one scope"));
    }
    if let Some(unknown) = scopes.iter().find(|scope| !known.contains_key(*scope)) {
        let why = format!("`{name}` has no scope `{}`", unknown.escape_default());
        return Err(Problem::new(Code::Malformed, why)
            .help(Some("GET /v1/connectors lists the scopes of each".into())));
    }
    let connector = Operation::EnableConnector {
        connector: name.clone(),
    };
    let lives = |session: &str| daemon.registry.of_id(session).is_some();
    let turn = daemon.connectors.enabled().begin(live.id(), &name, lives);
    // From before it is decided: a change of policy meanwhile switches it off again.
    live.policy().hold([connector.clone()]);
    let held = connector.clone();
    let mut answer = Enabled {
        allowed: true,
        connector: permitted(&live, connector).await?,
        scopes: BTreeMap::new(),
    };
    answer.allowed = answer.connector.allowed;
    for scope in &scopes {
        if !answer.allowed {
            break;
        }
        let told = permitted(&live, use_of(&name, scope)).await?;
        answer.allowed = told.allowed;
        answer.scopes.insert(scope.clone(), told);
    }
    if answer.allowed {
        let finished = daemon.connectors.enabled().finish(&turn, scopes);
        finished.map_err(|_scopes| {
            let why = "it was disabled, or enabled once more, while this was decided";
            Problem::new(Code::Conflict, why)
        })?;
    } else if daemon.connectors.scopes(live.id(), &name).is_none() {
        live.policy().release(&held);
    }
    Ok(Json(answer))
}

/// Disables a connector: from now on nothing of it is allowed.
#[utoipa::path(delete, path = "/v1/sessions/{id}/connectors/{name}", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn disable(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let live = session(&daemon, &id)?;
    known(&daemon, &name)?;
    // Off first: a gateway that opens meanwhile looks after it was entered.
    let off = daemon.connectors.enabled().off(live.id(), &name);
    daemon.remotes.close(live.id(), &name);
    live.policy().release(&Operation::EnableConnector {
        connector: name.clone(),
    });
    // Whoever asks for it wants it off, which it is either way.
    if off.is_some() {
        told_of(&live, format!("connector {name} disabled")).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Decides the use of a scope. One that is not enabled in this session is refused whatever policy
/// says.
#[utoipa::path(post, path = "/v1/sessions/{id}/connectors/{name}/uses", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    request_body = UsingScope,
    responses((status = 200, body = Told), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn use_scope(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let UsingScope { scope } = read(&body)?;
    let live = session(&daemon, &id)?;
    known(&daemon, &name)?;
    let wanted = Wanted::Operation(use_of(&name, &scope));
    Ok(Json(decide(&daemon, &live, wanted).await?.into()))
}

fn use_of(connector: &str, scope: &str) -> Operation {
    Operation::UseScope {
        connector: connector.into(),
        scope: scope.into(),
    }
}

fn session(daemon: &Daemon, id: &str) -> Result<Arc<Live>, Problem> {
    let live = find(daemon, id)?;
    daemon.hosted.touch(live.id());
    Ok(live)
}

fn known<'a>(daemon: &'a Daemon, name: &str) -> Result<&'a BTreeMap<String, String>, Problem> {
    let found = daemon.connectors.all().get(name);
    found.map(|connector| &connector.scopes).ok_or_else(|| {
        let why = format!("there is no connector `{}`", name.escape_default());
        Problem::new(Code::NotFound, why).help(Some(
            "`[connectors]` in the configuration names them".into(),
        ))
    })
}

/// Asks policy alone: what is about to be switched on is still off.
async fn permitted(live: &Live, operation: Operation) -> Result<Told, Problem> {
    let asked = operation.to_string();
    let deciding = async || by_policy(live, Wanted::Operation(operation)).await;
    Ok(in_time(live, &asked, deciding).await?.into())
}

fn views(daemon: &Daemon, session: Option<&str>) -> Vec<ConnectorView> {
    let all = daemon.connectors.all().iter();
    all.map(|(name, connector)| ConnectorView {
        name: name.clone(),
        description: connector.description.clone(),
        publisher: connector.publisher.clone(),
        kind: connector.kind.as_str(),
        endpoint: connector.endpoint.clone(),
        credential: connector.credential.clone(),
        scopes: connector.scopes.clone(),
        enabled: session.and_then(|session| daemon.connectors.scopes(session, name)),
    })
    .collect()
}
