//! What the gateway for tool servers asks: whether a session may use a server, each use of it, and
//! what of its lists may be shown. And for people: what its tools are, and accepting them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use cordon_policy::{Definition, DenyReason, ExtensionFacts, Operation, ToolCall, ToolKind};
use cordon_runtime::mcp::{
    Asked, Fate, INSTRUCTIONS, Listed, Standing, definition_digest, hints_of,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Daemon,
    decide::{DOOR, Undecided, Verdict, decide},
    extensions::held_back,
    floors::{refused as refuse_by_floor, switched_off, unapproved},
    operation::Wanted,
    problem::{Code, Problem},
    sessions::{Told, find, read},
};
use crate::daemon::{
    live::Live,
    mcp::{Servers, server_name},
};

/// What passes of a server, for its gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attached {
    /// Largest answer that is passed on, in bytes.
    result_bytes: usize,
    /// Names of arguments that are facts for policy.
    arguments: Vec<String>,
    /// The recorded decision.
    decision_id: Option<String>,
}

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
    if let Some(verdict) = held_back(&daemon, &live, &server).await? {
        return Err(denied(&format!("load extension {server}"), verdict));
    }
    let load = Operation::LoadExtension {
        extension: facts(&daemon, &server)?,
    };
    let verdict = decided(&live, load).await?;
    if !verdict.allowed {
        return Err(denied(&format!("load extension {server}"), verdict));
    }
    let lives = |session: &str| daemon.registry.of_id(session).is_some();
    daemon.mcp.attach(live.id(), &server, lives);
    let config = daemon.mcp.config();
    Ok(Json(Attached {
        result_bytes: config.result_bytes(),
        arguments: config.arguments(&server).to_vec(),
        decision_id: verdict.decision_id,
    }))
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
    let definition = match (&asked.digest, asked.kind) {
        (Some(digest), ToolKind::Tool) => daemon
            .mcp
            .standing(&server, &asked.name, digest)
            .map_err(|why| Problem::new(Code::Conflict, why))?,
        _undefined => Definition::Unseen,
    };
    let call = ToolCall {
        kind: asked.kind,
        definition,
        hints: asked.hints,
        arguments: asked.arguments,
        input: asked.input.map(Into::into),
    };
    let operation = called(facts(&daemon, &server)?, asked.name, call);
    // It can have changed, gone or been switched off since it was loaded.
    let installed = daemon.extensions.get(&server);
    let installed = installed.map_err(|why| Problem::new(Code::Conflict, why))?;
    let off = || switched_off(&daemon, &live, &server);
    let stops = installed.as_ref().and_then(unapproved).or_else(off);
    let verdict = if let Some((reason, why)) = stops {
        let refused = refuse_by_floor(&live, operation, reason, why).await;
        refused.map_err(not_decided)?
    } else if definition == Definition::Changed {
        changed(&live, operation, &server).await?
    } else {
        decided(&live, operation).await?
    };
    Ok(Json(Told {
        allowed: verdict.allowed,
        verdict,
    }))
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
    let extension = facts(&daemon, &server)?;
    let defined: Vec<(&str, &Value)> = listed
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.definition.as_ref()?)))
        .collect();
    let seen = daemon.mcp.see(&server, &defined);
    let seen = seen.map_err(|why| Problem::new(Code::Conflict, why))?;
    let mut standings = defined.iter().zip(seen);
    let mut fates = Vec::with_capacity(listed.len());
    for one in &listed {
        let fate = match &one.definition {
            None => look(&daemon, &live, &extension, one, Definition::Unseen),
            Some(definition) => match standings.next() {
                Some((_, Standing::Changed)) => {
                    tell_changed(&daemon, &live, &extension, one, definition).await?;
                    Fate::Changed
                }
                Some((_, Standing::New | Standing::Same)) if one.name == INSTRUCTIONS => {
                    Fate::Shown
                }
                Some((_, Standing::New | Standing::Same)) => {
                    let digest = definition_digest(definition);
                    let standing = daemon.mcp.standing(&server, &one.name, &digest);
                    let standing = standing.map_err(|why| Problem::new(Code::Conflict, why))?;
                    look(&daemon, &live, &extension, one, standing)
                }
                None => Fate::Hidden,
            },
        };
        fates.push(fate);
    }
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
    let why = format!("{server}: {why}");
    let _refused = live.gate().refuse_raw(DOOR, what.as_bytes(), why).await;
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
) -> Result<StatusCode, Problem> {
    let Accepting { tools } = read(&body)?;
    known(&daemon, &server)?;
    let tools: Vec<(String, String)> = tools.into_iter().collect();
    authorised(&daemon, &server, &format!("{tools:?}")).await?;
    let accepted = daemon.mcp.accept(&server, &tools);
    accepted.map_err(|why| Problem::new(Code::Conflict, why))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes away what is known of a server's tools: what it says next is taken as it is.
#[utoipa::path(delete, path = "/v1/mcp/{server}", tag = "mcp",
    params(("server" = String, Path, description = "The server's name")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn forget(
    State(daemon): State<Arc<Daemon>>,
    Path(server): Path<String>,
) -> Result<StatusCode, Problem> {
    known(&daemon, &server)?;
    authorised(&daemon, &server, "").await?;
    match daemon.mcp.forget(&server) {
        Ok(_there) => Ok(StatusCode::NO_CONTENT),
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

async fn authorised(daemon: &Daemon, server: &str, digest: &str) -> Result<(), Problem> {
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

async fn decided(live: &Live, operation: Operation) -> Result<Verdict, Problem> {
    match decide(live, Wanted::Operation(operation)).await {
        Ok(verdict) => Ok(verdict),
        Err(undecided) => Err(not_decided(undecided)),
    }
}

fn not_decided(undecided: Undecided) -> Problem {
    match undecided {
        Undecided::NotRecorded(why) => Problem::new(Code::NotRecorded, why),
        Undecided::Late => Problem::new(Code::Late, "so it is refused"),
    }
}

fn denied(what: &str, verdict: Verdict) -> Problem {
    let help = verdict
        .allow_with
        .map(|rule| format!("a rule that allows it: {rule}"));
    let problem = Problem::new(Code::Denied, format!("{what}: {}", verdict.reason)).help(help);
    match verdict.decision_id {
        Some(id) => problem.decision(id),
        None => problem,
    }
}

/// What is known of a server: its record where it is installed as an extension.
fn facts(daemon: &Daemon, server: &str) -> Result<ExtensionFacts, Problem> {
    match daemon.extensions.get(server) {
        Ok(Some(installed)) => Ok(installed.facts()),
        Ok(None) => Ok(Servers::facts(server)),
        Err(why) => Err(Problem::new(Code::Conflict, why)),
    }
}

fn called(extension: ExtensionFacts, tool: String, call: ToolCall) -> Operation {
    Operation::CallTool {
        extension,
        tool,
        call: Box::new(call),
    }
}

/// The recorded refusal of a tool that is not what it was, whatever policy says of it (P08).
async fn changed(live: &Live, operation: Operation, server: &str) -> Result<Verdict, Problem> {
    let why = format!(
        "its description, schema or annotations are not what they were: `cordon mcp show {server}` \
         says what changed, `cordon mcp accept {server}` accepts it"
    );
    let verdict = refuse_by_floor(live, operation, DenyReason::ApprovalRequired, why).await;
    verdict.map_err(not_decided)
}

/// Records a change when it is first seen, also where nobody calls the tool.
async fn tell_changed(
    daemon: &Daemon,
    live: &Live,
    extension: &ExtensionFacts,
    one: &Listed,
    definition: &Value,
) -> Result<(), Problem> {
    let server = extension.id.as_str();
    let digest = definition_digest(definition);
    if !daemon.mcp.is_news(server, &one.name, &digest) {
        return Ok(());
    }
    let call = ToolCall {
        kind: one.kind,
        definition: Definition::Changed,
        hints: hints_of(definition),
        arguments: Vec::new(),
        input: None,
    };
    let operation = called(extension.clone(), one.name.clone(), call);
    changed(live, operation, server).await.map(|_refused| ())
}

/// Whether an entry could be allowed: with an approval, or with other arguments, is enough.
fn look(
    daemon: &Daemon,
    live: &Live,
    extension: &ExtensionFacts,
    one: &Listed,
    definition: Definition,
) -> Fate {
    let call = ToolCall {
        kind: one.kind,
        definition,
        hints: one.definition.as_ref().map(hints_of).unwrap_or_default(),
        arguments: Vec::new(),
        input: None,
    };
    match live
        .gate()
        .review(called(extension.clone(), one.name.clone(), call))
    {
        Ok(_basis) => Fate::Shown,
        Err(deny) => match deny.verdict().reason {
            DenyReason::ApprovalRequired => Fate::Shown,
            DenyReason::DefaultDeny | DenyReason::Rule
                if one.kind == ToolKind::Tool
                    && !daemon.mcp.config().arguments(&extension.id).is_empty()
                    && reads_arguments(live) =>
            {
                Fate::Shown
            }
            _never => Fate::Hidden,
        },
    }
}

/// Whether a rule in force looks at arguments. The word in a comment is enough: then more is shown,
/// and each call is decided all the same.
fn reads_arguments(live: &Live) -> bool {
    let policy = live.gate().policy();
    let mut rules = policy.rules().iter();
    rules.any(|rule| rule.text.contains("arguments"))
}
