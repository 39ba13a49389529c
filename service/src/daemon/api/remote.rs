//! The endpoint of a connector in a session: Streamable HTTP, between a client and the server that the
//! configuration names.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use cordon_policy::Operation;
use cordon_runtime::mcp::{Asked, Fate, Judge, Limits, Listed, Message, Ruling};
use cordon_session::config::ConnectorKind;

use super::{
    Daemon,
    floors::refused,
    mcp::uses,
    problem::{Code, Problem},
    sessions::find,
};
use crate::{
    daemon::{
        live::Live,
        mcp::Servers,
        remote::{Gateway, MOST, Remote},
    },
    mcp::{SESSION, ruling, undecided},
};

/// A message of a client. The first one opens the gateway: a decision about `load_extension`.
#[utoipa::path(post, path = "/v1/sessions/{id}/connectors/{name}/mcp", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    request_body = Object,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 202),
        (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn post(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let live = find(&daemon, &id)?;
    daemon.hosted.touch(live.id());
    if headers.contains_key(SESSION) {
        let gateway = gateway(&daemon, &live, &name, &headers)?;
        return Ok(answered(gateway.front.posted(&headers, &body).await));
    }
    let first = Message::read(&body);
    if !matches!(&first, Ok(Message::Request { method, .. }) if method == "initialize") {
        let why = "the first message is `initialize`; those after it have its `Mcp-Session-Id`";
        return Err(Problem::new(Code::Malformed, why));
    }
    let gateway = open(&daemon, &live, &name).await?;
    let answer = gateway.front.posted(&headers, &body).await;
    let Some(named) = gateway.front.session() else {
        // Nobody can come back to it.
        gateway.stop();
        return Ok(answered(answer));
    };
    daemon.remotes.enter(named, gateway);
    // Whoever disabled it before it was entered did not find it.
    if daemon.connectors.scopes(live.id(), &name).is_none() {
        daemon.remotes.close(live.id(), &name);
        let why = "the connector was disabled meanwhile";
        return Err(Problem::new(Code::Conflict, why));
    }
    Ok(answered(answer))
}

/// What the server says by itself.
#[utoipa::path(get, path = "/v1/sessions/{id}/connectors/{name}/mcp", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn listen(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let live = find(&daemon, &id)?;
    let gateway = gateway(&daemon, &live, &name, &headers)?;
    Ok(answered(gateway.front.listened(&headers)))
}

/// The client is done.
#[utoipa::path(delete, path = "/v1/sessions/{id}/connectors/{name}/mcp", tag = "connectors",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "The connector's name")),
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn end(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let live = find(&daemon, &id)?;
    let gateway = gateway(&daemon, &live, &name, &headers)?;
    Ok(answered(gateway.front.ended(&headers)))
}

fn answered(answer: Result<impl IntoResponse, impl IntoResponse>) -> Response {
    match answer {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn gateway(
    daemon: &Daemon,
    live: &Live,
    name: &str,
    headers: &HeaderMap,
) -> Result<Arc<Gateway>, Problem> {
    let named = headers.get(SESSION).and_then(|named| named.to_str().ok());
    let named =
        named.ok_or_else(|| Problem::new(Code::Malformed, "`Mcp-Session-Id` is missing"))?;
    let found = daemon.remotes.find(named, live.id(), name);
    found.ok_or_else(|| {
        if daemon.remotes.made_place(named) {
            let why = format!(
                "it made place for another: a session has at most {MOST} open at a time, and it \
                 was not used for longest"
            );
            let help = "`initialize` begins a new one; end those that are not used with `DELETE`";
            return Problem::new(Code::NotFound, why).help(Some(help.into()));
        }
        let why = "there is no such session of the protocol; `initialize` begins one";
        Problem::new(Code::NotFound, why)
    })
}

/// Opens a gateway: where the connector has an endpoint, is enabled, and policy lets it be loaded.
async fn open(daemon: &Arc<Daemon>, live: &Arc<Live>, name: &str) -> Result<Arc<Gateway>, Problem> {
    let remote = daemon.connectors.all().get(name).and_then(|connector| {
        let is_mcp = connector.kind == ConnectorKind::Mcp;
        Remote::new(&daemon.egress, live, connector).filter(|_| is_mcp)
    });
    let remote = remote.ok_or_else(|| {
        let why = format!(
            "there is no connector `{}` with an endpoint of kind `mcp`",
            name.escape_default()
        );
        Problem::new(Code::NotFound, why).help(Some(
            "`[connectors]` in the configuration names them".into(),
        ))
    })?;
    if daemon.connectors.scopes(live.id(), name).is_none() {
        let load = Operation::LoadExtension {
            extension: Servers::facts(name),
        };
        let why = "the connector is not enabled in this session: `cordon connector enable`";
        let reason = cordon_policy::DenyReason::DefaultDeny;
        let verdict = refused(live, load, reason, why.into()).await?;
        let problem = Problem::new(Code::Denied, verdict.reason);
        return Err(match verdict.decision_id {
            Some(id) => problem.decision(id),
            None => problem,
        });
    }
    let attached = uses::attach(daemon, live, name).await?;
    let limits = Limits {
        result_bytes: attached.result_bytes,
        arguments: attached.arguments,
    };
    let (gateway, lines) = Gateway::new(live.id(), name);
    let judge = Near {
        daemon: Arc::clone(daemon),
        live: Arc::clone(live),
        server: name.into(),
    };
    let running = Arc::clone(&gateway);
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let mut stop = daemon.stop.subscribe();
        tokio::select! {
            () = running.run(lines, limits, &judge, remote) => {}
            _stopped = stop.wait_for(|stop| *stop) => {}
        }
        daemon.remotes.leave(&running);
    });
    Ok(gateway)
}

/// The gate of a session, in this very process.
struct Near {
    daemon: Arc<Daemon>,
    live: Arc<Live>,
    server: String,
}

impl Judge for Near {
    async fn decide(&self, asked: Asked) -> Ruling {
        if !self.is_loaded() {
            return undecided(NOT_LOADED.into());
        }
        match uses::decide_use(&self.daemon, &self.live, &self.server, asked).await {
            Ok(told) => ruling(serde_json::to_value(told).unwrap_or_default()),
            Err(problem) => undecided(problem.to_string()),
        }
    }

    async fn sort(&self, listed: Vec<Listed>) -> Result<Vec<Fate>, String> {
        if !self.is_loaded() {
            return Err(NOT_LOADED.into());
        }
        let fates = uses::sort(&self.daemon, &self.live, &self.server, &listed).await;
        fates.map_err(|problem| problem.to_string())
    }

    async fn refuse(&self, what: String, why: String) {
        uses::refuse(&self.live, &self.server, &what, &why).await;
    }
}

impl Near {
    /// An extension of the same name was installed or removed meanwhile: it is decided again.
    fn is_loaded(&self) -> bool {
        self.daemon.mcp.is_attached(self.live.id(), &self.server)
    }
}

const NOT_LOADED: &str = "this session has not loaded the server any more";
