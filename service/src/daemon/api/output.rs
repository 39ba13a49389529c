//! What the command of a session says that the API started.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Daemon,
    problem::{Code, Problem},
};
use crate::daemon::output::{self, Page, Said};

/// Which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Where to begin: `next` of the page before. Default: with the first that is kept.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// About how many bytes. Default 65536, at most 1048576.
    #[param(minimum = 1, maximum = 1_048_576)]
    limit: Option<usize>,
    /// Seconds to wait for something where there is nothing yet. Default 0, at most 300.
    #[param(maximum = 300)]
    wait: Option<u64>,
}

/// What a command said.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputPage {
    /// In the order in which it came.
    said: Vec<Said>,
    /// What to give as `after` for what follows.
    next: u64,
    /// Whether something before it is not kept any more: the newest 4 MiB are.
    cut: bool,
    /// Whether nothing will follow: the session is over, and this is the last page.
    over: bool,
}

/// What the command of a session said that the API started, also when it is over.
#[utoipa::path(get, path = "/v1/sessions/{id}/output", tag = "sessions",
    params(("id" = String, Path, description = "Session id"), Part),
    responses((status = 200, body = OutputPage), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn read(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<OutputPage>, Problem> {
    let Query(part) = part.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    let limit = part.limit.unwrap_or(PAGE_BYTES);
    let (mut after, wait) = (part.after.unwrap_or(0), part.wait.unwrap_or(0));
    if !(1..=LONGEST_PAGE).contains(&limit) || wait > LONGEST_WAIT || after > LARGEST {
        let why = format!(
            "`limit` is 1 to {LONGEST_PAGE}, `wait` at most {LONGEST_WAIT}, `after` at most {LARGEST}"
        );
        return Err(Problem::new(Code::Malformed, why));
    }
    if !is_id(&id) {
        return Err(nothing());
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let mut stop = daemon.stop.subscribe();
    let mut cut = false;
    loop {
        // Before it is read, so that the last of it is not missed.
        let running = daemon.launches.output(&id);
        let mut grown = running.as_ref().map(|running| running.follow());
        let page = page(&daemon, &id, after, limit).await?;
        cut |= page.cut;
        if page.said.is_empty() && page.next > after {
            // What began within something that was said goes on behind it.
            after = page.next;
            continue;
        }
        let over = running.is_none();
        if let (true, Some(grown)) = (page.said.is_empty() && !over, &mut grown) {
            let waited = tokio::select! {
                more = grown.wait_for(|end| *end > page.next) => more.map(drop).map_err(drop),
                () = daemon.launches.left(&id) => Ok(()),
                () = tokio::time::sleep_until(until) => Err(()),
                _left = stop.wait_for(|stop| *stop) => Err(()),
            };
            if waited.is_ok() {
                continue;
            }
        }
        let over = over && page.said.is_empty();
        return Ok(Json(OutputPage {
            said: page.said,
            next: page.next,
            cut,
            over,
        }));
    }
}

/// Removes what is kept of what a command said whose session is over.
#[utoipa::path(delete, path = "/v1/sessions/{id}/output", tag = "sessions",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if !is_id(&id) {
        return Err(nothing());
    }
    if daemon.launches.output(&id).is_some() {
        let why = "the session runs, and its command may say more";
        return Err(Problem::new(Code::Conflict, why));
    }
    match output::remove(&daemon.paths.output(), &id) {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(nothing()),
        Err(error) => {
            let why = format!("it cannot be removed: {error}");
            Err(Problem::new(Code::Conflict, why))
        }
    }
}

/// Whether it is an id and so no other path than one name.
fn is_id(id: &str) -> bool {
    Uuid::parse_str(id).is_ok_and(|parsed| parsed.to_string() == id)
}

async fn page(daemon: &Daemon, id: &str, after: u64, limit: usize) -> Result<Page, Problem> {
    let (all, id) = (daemon.paths.output(), id.to_owned());
    let read = tokio::task::spawn_blocking(move || output::read(&all, &id, after, limit)).await;
    let failed = |why: String| Problem::new(Code::Conflict, why);
    let read = read.map_err(|error| failed(error.to_string()))?;
    let read = read.map_err(|error| failed(format!("it cannot be read: {error}")))?;
    read.ok_or_else(nothing)
}

fn nothing() -> Problem {
    let why = "nothing is kept of what a command of this session said";
    let help = "it is of sessions that POST /v1/sessions started with a `command`";
    Problem::new(Code::NotFound, why).help(Some(help.into()))
}

/// A page where nothing is said, in bytes.
const PAGE_BYTES: usize = 64 * 1024;

const LONGEST_PAGE: usize = 1024 * 1024;

const LONGEST_WAIT: u64 = 300;

/// As of every number in JSON that is read as it was written.
const LARGEST: u64 = (1 << 53) - 1;
