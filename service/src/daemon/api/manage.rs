//! Who may call which operation: each is an act that policy decides, or says here who decides it.
//!
//! A request with its caller in; the same, or a refusal, out. Whoever sends the token of a session may
//! what that opens (`token`) and comes by here unasked. What is not listed is open to nobody.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{FromRequestParts as _, MatchedPath, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cordon_audit::RecordId;
use cordon_policy::SessionAct;

use super::{
    Caller, Daemon,
    problem::{Code, Problem},
    sessions::{find, not_opened},
};
use crate::daemon::live::Live;

/// What leave an operation needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    /// That of policy, for this act with the session that the path names.
    By(SessionAct),
    /// The same; of a session that is over, to be the daemon's own user, who keeps it.
    ByOrKept(SessionAct),
    /// That of policy, where the operation itself asks it: session by session, answer by answer.
    AskedThere,
    /// That of policy to read the log.
    ReadLog,
    /// That of an application of a bundle; the daemon's own user may without.
    Application,
    /// To be the daemon's own user: it is about this machine, or about an agent of it.
    OwnUser,
    /// None.
    Nothing,
}

use Needs::{Application, AskedThere, By, ByOrKept, Nothing, OwnUser, ReadLog};
use SessionAct::{Ask, Change, End, Read, Steer, Token};

/// The record of the decision that let a call through, for the operation to tell.
#[derive(Clone, Debug)]
pub struct Leave(pub Option<String>);

/// Every operation, by its path and method.
const OPERATIONS: &[(&str, &str, Needs)] = &[
    ("/.well-known/authzen-configuration", "GET", Nothing),
    ("/access/v1/evaluation", "POST", Application),
    ("/access/v1/evaluations", "POST", Application),
    ("/access/v1/search/action", "POST", Application),
    ("/access/v1/search/resource", "POST", Application),
    ("/access/v1/search/subject", "POST", Application),
    ("/v1/approvals", "GET", AskedThere),
    ("/v1/approvals/{id}", "GET", AskedThere),
    ("/v1/approvals/{id}", "POST", AskedThere),
    ("/v1/connectors", "GET", OwnUser),
    ("/v1/events", "GET", ReadLog),
    ("/v1/extensions", "GET", OwnUser),
    ("/v1/extensions", "POST", OwnUser),
    ("/v1/extensions/{name}", "DELETE", OwnUser),
    ("/v1/extensions/{name}", "GET", OwnUser),
    ("/v1/extensions/{name}/approve", "POST", OwnUser),
    ("/v1/hooks/claude-code/pre-tool-use", "POST", OwnUser),
    ("/v1/hooks/claude-code/session-end", "POST", OwnUser),
    ("/v1/mcp", "GET", OwnUser),
    ("/v1/mcp/{server}", "DELETE", OwnUser),
    ("/v1/mcp/{server}", "GET", OwnUser),
    ("/v1/mcp/{server}/accept", "POST", OwnUser),
    ("/v1/sessions", "GET", AskedThere),
    ("/v1/sessions", "POST", AskedThere),
    ("/v1/sessions/{id}", "DELETE", By(End)),
    ("/v1/sessions/{id}", "GET", By(Read)),
    ("/v1/sessions/{id}/browser", "DELETE", By(Change)),
    ("/v1/sessions/{id}/browser", "GET", By(Read)),
    ("/v1/sessions/{id}/browser", "PUT", By(Change)),
    ("/v1/sessions/{id}/browser/actions", "POST", By(Ask)),
    ("/v1/sessions/{id}/browser/navigations", "POST", By(Ask)),
    ("/v1/sessions/{id}/browser/proxy.pac", "GET", By(Read)),
    ("/v1/sessions/{id}/cancel", "POST", By(End)),
    ("/v1/sessions/{id}/connectors", "GET", By(Read)),
    ("/v1/sessions/{id}/connectors/{name}", "DELETE", By(Change)),
    ("/v1/sessions/{id}/connectors/{name}", "PUT", By(Change)),
    ("/v1/sessions/{id}/connectors/{name}/mcp", "DELETE", By(Ask)),
    ("/v1/sessions/{id}/connectors/{name}/mcp", "GET", By(Ask)),
    ("/v1/sessions/{id}/connectors/{name}/mcp", "POST", By(Ask)),
    ("/v1/sessions/{id}/connectors/{name}/uses", "POST", By(Ask)),
    ("/v1/sessions/{id}/decisions", "POST", By(Ask)),
    // Also of a session that is over, so it is the log's.
    ("/v1/sessions/{id}/events", "GET", ReadLog),
    (
        "/v1/sessions/{id}/extensions/{name}/permissions",
        "POST",
        By(Ask),
    ),
    ("/v1/sessions/{id}/grants", "DELETE", By(Change)),
    ("/v1/sessions/{id}/grants", "GET", By(Read)),
    ("/v1/sessions/{id}/grants", "PATCH", By(Change)),
    ("/v1/sessions/{id}/grants", "POST", By(Change)),
    ("/v1/sessions/{id}/heartbeat", "POST", By(Ask)),
    ("/v1/sessions/{id}/mcp/{server}", "GET", By(Read)),
    ("/v1/sessions/{id}/mcp/{server}", "POST", By(Change)),
    ("/v1/sessions/{id}/mcp/{server}/decisions", "POST", By(Ask)),
    ("/v1/sessions/{id}/mcp/{server}/listing", "POST", By(Ask)),
    ("/v1/sessions/{id}/mcp/{server}/refusals", "POST", By(Ask)),
    // Only of one that is over.
    ("/v1/sessions/{id}/output", "DELETE", OwnUser),
    ("/v1/sessions/{id}/output", "GET", ByOrKept(Read)),
    ("/v1/sessions/{id}/path", "GET", By(Ask)),
    ("/v1/sessions/{id}/pause", "POST", By(Steer)),
    ("/v1/sessions/{id}/resume", "POST", By(Steer)),
    ("/v1/sessions/{id}/tokens", "DELETE", By(Token)),
    ("/v1/sessions/{id}/tokens", "POST", By(Token)),
    ("/v1/sessions/{id}/usage", "GET", By(Read)),
];

/// Operations of other needs whose answers name in the same field the decision that let them through:
/// their bodies name another one, or none.
const DECIDED_THERE: [(&str, &str); 4] = [
    ("/v1/extensions/{name}", "DELETE"),
    ("/v1/mcp/{server}", "DELETE"),
    ("/v1/mcp/{server}/accept", "POST"),
    ("/v1/sessions", "POST"),
];

/// Lets through whoever may.
pub async fn permitted(
    State(daemon): State<Arc<Daemon>>,
    request: Request,
    next: Next,
) -> Response {
    let needs = needs_of(&request);
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return match needs {
            Some(Nothing) => next.run(request).await,
            _nobody => StatusCode::UNAUTHORIZED.into_response(),
        };
    };
    if caller.session.is_some() {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let named = Path::<BTreeMap<String, String>>::from_request_parts(&mut parts, &()).await;
    let mut request = Request::from_parts(parts, body);
    // As the operation itself reads it, so that both mean the same session.
    let id = named.ok().and_then(|Path(mut named)| named.remove("id"));
    match leave(&daemon, &caller, needs, id.as_deref()).await {
        Ok(decision) => {
            let names_it = naming(decision.as_deref());
            request.extensions_mut().insert(Leave(decision));
            let mut response = next.run(request).await;
            response.headers_mut().extend(names_it);
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// With the record of the decision, where there is one.
async fn leave(
    daemon: &Daemon,
    caller: &Caller,
    needs: Option<Needs>,
    id: Option<&str>,
) -> Result<Option<String>, Problem> {
    let is_own = daemon.user.is(&caller.user);
    let may = match needs {
        Some(By(act)) => {
            let live = find(daemon, id.unwrap_or_default())?;
            return managed(daemon, caller, act, &live).await;
        }
        Some(ByOrKept(act)) => match find(daemon, id.unwrap_or_default()) {
            Ok(live) => return managed(daemon, caller, act, &live).await,
            Err(_over) => is_own,
        },
        Some(ReadLog) => {
            daemon
                .policies
                .authorise_reading(&caller.somebody())
                .await?;
            true
        }
        Some(AskedThere | Nothing) => true,
        Some(Application) => is_own || daemon.policies.serve(&caller.user).await,
        Some(OwnUser) => is_own,
        None => false,
    };
    if may {
        return Ok(None);
    }
    let why = format!("{} is not the user of this daemon", caller.user);
    let help = "docs/api.md, \"Who may do what\", says what policy may open to others";
    Err(Problem::new(Code::NotOpen, why).help(Some(help.into())))
}

/// As a field of an answer.
pub fn decided(by: RecordId) -> [(HeaderName, String); 1] {
    [(DECISION, by.to_string())]
}

/// The same of a record's id, where there is one.
pub fn naming(decision: Option<&str>) -> HeaderMap {
    let value = decision.and_then(|id| HeaderValue::from_str(id).ok());
    value.map(|id| (DECISION, id)).into_iter().collect()
}

/// Whether this operation is carried out by a decision on record: then its answer names it.
pub fn is_decided(method: &str, path: &str) -> bool {
    let needs = OPERATIONS
        .iter()
        .find(|(of, by, _)| *of == path && by.eq_ignore_ascii_case(method));
    needs.is_some_and(|(_, _, needs)| matches!(needs, By(Change | Steer | End | Token)))
        || DECIDED_THERE.contains(&(path, &*method.to_ascii_uppercase()))
}

async fn managed(
    daemon: &Daemon,
    caller: &Caller,
    act: SessionAct,
    live: &Live,
) -> Result<Option<String>, Problem> {
    let who = caller.somebody();
    let decided = daemon.policies.manage(&who, act, live.facts()).await;
    let decided = decided.map_err(|answer| not_opened(daemon, answer))?;
    Ok(decided.map(|id| id.to_string()))
}

fn needs_of(request: &Request) -> Option<Needs> {
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    // What takes a GET takes a HEAD.
    let method = match request.method() {
        &Method::HEAD => "GET",
        other => other.as_str(),
    };
    let found = OPERATIONS
        .iter()
        .find(|(of, by, _)| (*of, *by) == (path, method));
    found.map(|(_, _, needs)| *needs)
}

/// The record of the decision by which a call was carried out, where policy decided who may.
pub const DECISION: HeaderName = HeaderName::from_static("cordon-decision");

#[cfg(test)]
mod tests {
    use super::*;

    /// A new operation cannot be forgotten, nor one that is gone stay.
    #[test]
    fn every_operation_says_what_leave_it_needs() {
        let described = super::super::operations().split_for_parts().1;
        let described = serde_json::to_value(&described).unwrap();
        let mut all: Vec<(String, String)> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, operations)| {
                let methods = operations.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        all.sort();
        let listed = OPERATIONS
            .iter()
            .map(|(path, method, _)| ((*path).to_owned(), (*method).to_owned()));
        assert_eq!(all, listed.collect::<Vec<_>>());
    }

    /// What changes something is never only looked at.
    #[test]
    fn only_what_looks_goes_without_a_record() {
        for (path, method, needs) in OPERATIONS {
            let reads = *method == "GET";
            assert!(
                !reads || !matches!(needs, By(Change | Steer | End | Token)),
                "{method} {path}"
            );
            assert!(
                reads || !matches!(needs, By(Read) | ByOrKept(_) | ReadLog | Nothing),
                "{method} {path}"
            );
        }
    }
}
