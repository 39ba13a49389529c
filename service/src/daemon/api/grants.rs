//! Folders of running sessions: handed over, changed, taken back, and where a path lies in them.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use cordon_policy::{GrantMode, GrantSource};
use cordon_session::grants::is_name;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Caller, Daemon,
    decide::{Verdict, look},
    operation::{Access, Wanted},
    problem::{Code, Problem},
    sessions::{GrantView, find, read},
};
use crate::{
    control::{Answer, GrantAsked, GrantLine, Holder, SessionAnswer},
    daemon::{grants, live::Live},
};

/// A folder that is handed over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// Its absolute path on the host.
    #[schema(value_type = String, pattern = "^/[^\\x00]*$")]
    path: PathBuf,
    /// `ro`, `rw` or `rwd`.
    #[schema(value_type = String, pattern = "^(ro|rw|rwd)$")]
    mode: GrantMode,
    /// Its name inside; the last part of its path by default.
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
    name: Option<String>,
}

impl NewGrant {
    /// As it is decided.
    ///
    /// # Errors
    /// Its path is not absolute, or its name none that stands as it is.
    pub(super) fn asked(self) -> Result<GrantAsked, Problem> {
        if !self.path.is_absolute() {
            let why = format!("`{}` is not an absolute path", self.path.display());
            return Err(Problem::new(Code::Malformed, why));
        }
        if self.name.as_ref().is_some_and(|name| !is_name(name)) {
            let why = "`name` is 1 to 64 letters, digits, `.`, `_` and `-`, and begins with neither `.` nor `-`";
            return Err(Problem::new(Code::Malformed, why));
        }
        Ok(GrantAsked {
            path: self.path,
            mode: self.mode,
            name: self.name,
            source: GrantSource::Api,
            inside: None,
        })
    }
}

/// Another mode for a grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherMode {
    /// The grant: its name, or its path on the host or inside.
    #[schema(value_type = String)]
    grant: PathBuf,
    /// `ro`, `rw` or `rwd`. More than before is decided like a new grant.
    #[schema(value_type = String, pattern = "^(ro|rw|rwd)$")]
    mode: GrantMode,
    /// Ends processes that use what is taken away.
    #[serde(default)]
    kill: bool,
}

/// Which grant is taken back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// The grant: its name, or its path on the host or inside.
    #[param(value_type = String)]
    grant: PathBuf,
    /// Ends processes that use it.
    #[serde(default)]
    kill: bool,
}

/// Which path.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichPath {
    /// Absolute, on the host or inside the session.
    #[param(value_type = String, pattern = "^/[^\\x00]*$")]
    path: PathBuf,
}

/// A grant that was given, changed or taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Granted {
    /// As it is, or was.
    grant: GrantView,
    /// Processes that use what was taken, or were ended for it.
    used_by: Vec<UsedBy>,
}

/// A process that uses a grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsedBy {
    /// As the host numbers it.
    pid: u32,
    /// What it calls itself.
    name: String,
    /// Whether it was ended.
    ended: bool,
}

/// A path, and what may be done with it. Nothing of it is recorded: nothing is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct PathView {
    /// On the host.
    #[schema(value_type = String)]
    path: PathBuf,
    /// Inside the session.
    #[schema(value_type = Option<String>)]
    inside: Option<PathBuf>,
    /// The mode of its grant.
    mode: Option<String>,
    /// Whether it may be read.
    read: May,
    /// Whether it may be changed.
    write: May,
    /// Whether it may be made.
    create: May,
    /// Whether it may be removed.
    delete: May,
}

/// Whether something may be done.
#[derive(Debug, Serialize, ToSchema)]
pub struct May {
    /// Whether.
    allowed: bool,
    /// Why.
    #[serde(flatten)]
    verdict: Verdict,
}

/// What is granted.
#[utoipa::path(get, path = "/v1/sessions/{id}/grants", tag = "grants",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = Vec<GrantView>), (status = 404, body = Problem)))]
pub async fn list(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<GrantView>>, Problem> {
    let grants = find(&daemon, &id)?.status().grants;
    Ok(Json(grants.into_iter().map(GrantView::from).collect()))
}

/// Hands a folder over. Answers with its path inside.
#[utoipa::path(post, path = "/v1/sessions/{id}/grants", tag = "grants",
    params(("id" = String, Path, description = "Session id")), request_body = NewGrant,
    responses((status = 201, body = Granted), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub async fn give(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Granted>), Problem> {
    let asked = read::<NewGrant>(&body)?.asked()?;
    let live = find(&daemon, &id)?;
    let home = daemon.user.home.clone().unwrap_or_else(|| "/".into());
    let given = grants::grant(&daemon, &live, &asked, &home, &caller.words()).await;
    Ok((StatusCode::CREATED, granted(given)?))
}

/// Changes what may be done beneath a grant.
#[utoipa::path(patch, path = "/v1/sessions/{id}/grants", tag = "grants",
    params(("id" = String, Path, description = "Session id")), request_body = OtherMode,
    responses((status = 200, body = Granted), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub async fn change(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Granted>, Problem> {
    let asked: OtherMode = read(&body)?;
    let live = find(&daemon, &id)?;
    has(&live, &asked.grant)?;
    let by = caller.words();
    granted(grants::mode(&daemon, &live, &asked.grant, asked.mode, asked.kill, &by).await)
}

/// Takes a grant back.
#[utoipa::path(delete, path = "/v1/sessions/{id}/grants", tag = "grants",
    params(("id" = String, Path, description = "Session id"), Which),
    responses((status = 200, body = Granted), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn take(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Granted>, Problem> {
    let Query(which) = which.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    let live = find(&daemon, &id)?;
    has(&live, &which.grant)?;
    granted(grants::revoke(&live, &which.grant, which.kill, &caller.words()).await)
}

/// Where a path lies in the grants, by symlinks as they are now, and what may be done with it.
#[utoipa::path(get, path = "/v1/sessions/{id}/path", tag = "grants",
    params(("id" = String, Path, description = "Session id"), WhichPath),
    responses((status = 200, body = PathView), (status = 400, body = Problem),
        (status = 404, body = Problem)))]
pub async fn path(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    which: Result<Query<WhichPath>, QueryRejection>,
) -> Result<Json<PathView>, Problem> {
    let Query(which) = which.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    if !which.path.is_absolute() {
        return Err(Problem::new(Code::Malformed, "`path` is not absolute"));
    }
    let live = find(&daemon, &id)?;
    let path = live.on_host(&which.path).unwrap_or(which.path);
    let may = async |access| {
        let verdict = look(&live, Wanted::File(access, path.clone())).await;
        May {
            allowed: verdict.allowed,
            verdict,
        }
    };
    let (read, write) = (may(Access::Read).await, may(Access::Write).await);
    // What is not there yet has a place too: that of what would be made. What has none is nowhere
    // inside, whatever its name looks like.
    let placed = read.verdict.path.as_ref().or(write.verdict.path.as_ref());
    let placed = placed.cloned();
    let place = placed.as_ref().and_then(|placed| live.inside(placed));
    let (inside, mode) = place.map_or((None, None), |(inside, mode)| {
        (Some(inside), Some(mode.to_string()))
    });
    Ok(Json(PathView {
        inside,
        mode,
        read,
        write,
        // What is made is written; that it is not there yet changes nothing.
        create: may(Access::Write).await,
        delete: may(Access::Delete).await,
        path: placed.unwrap_or(path),
    }))
}

fn has(live: &Live, grant: &std::path::Path) -> Result<(), Problem> {
    let grants = live.status().grants;
    let is = |one: &GrantLine| {
        one.path == grant
            || one.inside == grant
            || one.inside.file_name() == Some(grant.as_os_str())
    };
    if grants.iter().any(is) {
        return Ok(());
    }
    let help = format!("GET /v1/sessions/{}/grants lists them", live.id());
    Err(Problem::new(Code::NoGrant, format!("`{}`", grant.display())).help(Some(help)))
}

fn granted(answer: Answer) -> Result<Json<Granted>, Problem> {
    match answer {
        Answer::Session(SessionAnswer::Granted { grant, used }) => Ok(Json(Granted {
            grant: GrantView::from(*grant),
            used_by: used.into_iter().map(UsedBy::from).collect(),
        })),
        Answer::Session(SessionAnswer::Refused(refused)) => {
            let help = refused.allow_with;
            let help = help.map(|rule| format!("a rule that allows it: {rule}"));
            let why = format!("{}: {}", refused.what, refused.why);
            let problem = Problem::new(Code::Denied, why).help(help);
            Err(problem.decision(refused.decision))
        }
        Answer::Failed { message, help } => Err(Problem::failed(message, help)),
        _other => Err(Problem::new(Code::Conflict, "nothing came of it")),
    }
}

impl From<Holder> for UsedBy {
    fn from(holder: Holder) -> Self {
        Self {
            pid: holder.pid,
            name: holder.name,
            ended: holder.ended,
        }
    }
}
