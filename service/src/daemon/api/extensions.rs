//! Installing, approving and removing extensions, and the permissions that they use in a session.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderName, StatusCode},
};
use cordon_audit::RecordId;
use cordon_policy::{DenyReason, ExtensionFacts, Operation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Daemon,
    decide::{Verdict, decide},
    floors::{refused, unapproved},
    manage::decided,
    operation::Wanted,
    problem::{Code, Problem},
    sessions::{Told, find, read},
};
use crate::daemon::{
    extensions::Installed,
    live::Live,
    mcp::{Servers, server_name},
};

/// What is to be installed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Installing {
    /// A folder or an archive (`.mcpb`), by its absolute path.
    #[schema(value_type = String, pattern = "^/[^\\x00]*$")]
    path: PathBuf,
    /// In place of what is installed under its name; otherwise nothing may be.
    #[serde(default)]
    update: bool,
}

/// An installed extension.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExtensionView {
    /// `new`, `approved` or `changed` since it was approved.
    state: &'static str,
    /// The record of the decision by which it was installed or approved just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
    /// Where its content lies.
    #[schema(value_type = String)]
    folder: PathBuf,
    /// Its record.
    #[serde(flatten)]
    installed: Installed,
}

/// What a user approves.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approving {
    /// The digest that was shown.
    digest: String,
}

/// What an extension wants to use.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Using {
    /// The permission, as it declared it.
    permission: String,
}

/// Installs an extension. Decided as `install_extension` of this user, with what came of its
/// signature.
#[utoipa::path(post, path = "/v1/extensions", tag = "extensions", request_body = Installing,
    responses((status = 201, body = ExtensionView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem)))]
pub async fn install(
    State(daemon): State<Arc<Daemon>>,
    body: Bytes,
) -> Result<(StatusCode, Json<ExtensionView>), Problem> {
    let Installing { path, update } = read(&body)?;
    if !path.is_absolute() {
        return Err(Problem::new(Code::Malformed, "`path` is not absolute"));
    }
    let registry = Arc::clone(&daemon);
    let laid = tokio::task::spawn_blocking(move || registry.extensions.lay(&path));
    let laid = laid.await.map_err(|error| conflict(error.to_string()))?;
    let laid = laid.map_err(|why| Problem::new(Code::Malformed, why))?;
    let facts = laid.facts();
    let there = daemon.extensions.get(&facts.id).map_err(conflict)?;
    if there.is_some() != update {
        let why = match &there {
            Some(there) => format!("`{}` {} is installed already", there.name, there.version),
            None => format!("`{}` is not installed", facts.id),
        };
        let help =
            "`cordon extension install` is for new ones, `cordon extension update` for others";
        return Err(conflict(why).help(Some(help.into())));
    }
    let decision = authorised(&daemon, facts).await?;
    let installed = daemon.extensions.install(&laid).map_err(conflict)?;
    // What was loaded is not what is there now.
    daemon.mcp.detach(&installed.name);
    let (name, version) = (&installed.name, &installed.version);
    let what = match &there {
        None => format!("extension {name} {version} installed"),
        Some(before) => format!(
            "extension {name} updated from {} to {version}",
            before.version
        ),
    };
    daemon.policies.tell(what).await;
    let view = view(&daemon, installed).decided(decision);
    Ok((StatusCode::CREATED, Json(view)))
}

/// What is installed.
#[utoipa::path(get, path = "/v1/extensions", tag = "extensions",
    responses((status = 200, body = Vec<ExtensionView>), (status = 409, body = Problem)))]
pub async fn list(State(daemon): State<Arc<Daemon>>) -> Result<Json<Vec<ExtensionView>>, Problem> {
    let names = daemon.extensions.names();
    let mut all = Vec::new();
    for name in names.map_err(|error| conflict(error.to_string()))? {
        let installed = daemon.extensions.get(&name).map_err(conflict)?;
        all.extend(installed.map(|installed| view(&daemon, installed)));
    }
    Ok(Json(all))
}

/// One of them.
#[utoipa::path(get, path = "/v1/extensions/{name}", tag = "extensions",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = ExtensionView), (status = 404, body = Problem)))]
pub async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Result<Json<ExtensionView>, Problem> {
    let installed = there(&daemon, &name)?;
    Ok(Json(view(&daemon, installed)))
}

/// The user approves one as it was shown.
#[utoipa::path(post, path = "/v1/extensions/{name}/approve", tag = "extensions",
    params(("name" = String, Path, description = "Its name")), request_body = Approving,
    responses((status = 200, body = ExtensionView), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn approve(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<ExtensionView>, Problem> {
    let Approving { digest } = read(&body)?;
    let installed = there(&daemon, &name)?;
    let decision = authorised(&daemon, installed.facts()).await?;
    let approved = daemon.extensions.approve(&name, &digest);
    let installed = approved.map_err(conflict)?;
    let what = format!("extension {name} {} approved", installed.version);
    daemon.policies.tell(what).await;
    Ok(Json(view(&daemon, installed).decided(decision)))
}

/// Takes one away. Decided as `install_extension` of this user: who may install may remove.
#[utoipa::path(delete, path = "/v1/extensions/{name}", tag = "extensions",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1]), Problem> {
    server_name(&name).map_err(|why| Problem::new(Code::Malformed, why))?;
    let (facts, version) = match daemon.extensions.get(&name) {
        Ok(None) => return Err(absent(&name)),
        Ok(Some(installed)) => (installed.facts(), installed.version),
        // Of what is damaged nothing is believed, and it can be taken away.
        Err(_damaged) => (Servers::facts(&name), "(damaged)".into()),
    };
    let decision = authorised(&daemon, facts).await?;
    match daemon.extensions.remove(&name) {
        Ok(()) => {
            daemon.mcp.detach(&name);
            let what = format!("extension {name} {version} removed");
            daemon.policies.tell(what).await;
            Ok((StatusCode::NO_CONTENT, decided(decision)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(absent(&name)),
        Err(error) => Err(conflict(error.to_string())),
    }
}

/// Decides whether an extension may use a permission. What it did not declare, and what the user did
/// not approve, is refused whatever policy says (P09).
#[utoipa::path(post, path = "/v1/sessions/{id}/extensions/{name}/permissions", tag = "extensions",
    params(("id" = String, Path, description = "Session id"),
        ("name" = String, Path, description = "Its name")),
    request_body = Using,
    responses((status = 200, body = Told), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn permission(
    State(daemon): State<Arc<Daemon>>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let Using { permission } = read(&body)?;
    let live = find(&daemon, &id)?;
    daemon.hosted.touch(live.id());
    let installed = there(&daemon, &name)?;
    let operation = Operation::UsePermission {
        extension: installed.facts(),
        permission,
    };
    let verdict = decide(&daemon, &live, Wanted::Operation(operation)).await?;
    Ok(Json(verdict.into()))
}

/// The recorded refusal of loading what was not approved as it is, or is not what was installed;
/// none where it may be decided.
pub(super) async fn held_back(
    daemon: &Arc<Daemon>,
    live: &Live,
    name: &str,
) -> Result<Option<Verdict>, Problem> {
    let Some(installed) = daemon.extensions.get(name).map_err(conflict)? else {
        return Ok(None);
    };
    let load = Operation::LoadExtension {
        extension: installed.facts(),
    };
    if let Some((reason, why)) = unapproved(&installed) {
        let verdict = refused(live, load, reason, why).await;
        return Ok(Some(verdict?));
    }
    let registry = Arc::clone(daemon);
    let whole = tokio::task::spawn_blocking(move || registry.extensions.is_whole(&installed));
    let why = match whole.await {
        Ok(Ok(true)) => return Ok(None),
        Ok(Ok(false)) => "its content is not what was installed: `cordon extension update`".into(),
        Ok(Err(why)) => why,
        Err(error) => error.to_string(),
    };
    let verdict = refused(live, load, DenyReason::Unavailable, why).await;
    Ok(Some(verdict?))
}

async fn authorised(daemon: &Daemon, facts: ExtensionFacts) -> Result<RecordId, Problem> {
    let what = format!("install extension {}", facts.id);
    let decided = daemon.policies.authorise_extension(facts).await;
    decided.map_err(|(why, decision)| {
        let problem = Problem::new(Code::Denied, format!("{what}: {why}"));
        match decision {
            Some(id) => problem.decision(id),
            None => problem,
        }
    })
}

impl ExtensionView {
    fn decided(self, by: RecordId) -> Self {
        Self {
            decision_id: Some(by.to_string()),
            ..self
        }
    }
}

fn there(daemon: &Daemon, name: &str) -> Result<Installed, Problem> {
    server_name(name).map_err(|why| Problem::new(Code::Malformed, why))?;
    let installed = daemon.extensions.get(name).map_err(conflict)?;
    installed.ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("`{name}` is not installed"))
        .help(Some("`cordon extension list` names those that are".into()))
}

fn conflict(why: String) -> Problem {
    Problem::new(Code::Conflict, why)
}

fn view(daemon: &Daemon, installed: Installed) -> ExtensionView {
    ExtensionView {
        decision_id: None,
        state: match &installed.approved {
            _ if installed.is_approved() => "approved",
            Some(_) => "changed",
            None => "new",
        },
        folder: daemon.extensions.folder(&installed),
        installed,
    }
}
