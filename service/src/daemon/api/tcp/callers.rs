//! Who calls over TLS; what they may, `manage` says.
//!
//! A request with a connection in; the same with its caller out, or a refusal. Nothing that a caller
//! says of itself counts: only a token, or a certificate that was verified.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cordon_session::config::ApiCaller;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Connection, Daemon, places::Owner};
use crate::{
    daemon::api::{
        Caller, Peer,
        problem::{Code, Problem},
        token::{self, Sent},
    },
    user::User,
};

/// Lets through those who are known, as who they are.
pub async fn identified(
    State((daemon, callers)): State<(Arc<Daemon>, Arc<Vec<ApiCaller>>)>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Peer(0));
    let Connection { names, place } = connection;
    match token::sent(&daemon, request.headers()) {
        // What it opens is looked at behind this, as it is for everybody who sends one.
        Sent::Good(live) if place.belongs_to(&Owner::Session(live.id().into())) => {
            return next.run(request).await;
        }
        Sent::Good(_live) => return crowded(),
        Sent::Wrong => return token::unknown(),
        Sent::None => {}
    }
    let Some(caller) = known(&callers, &names, request.headers()) else {
        if is_discovery(&request) {
            return next.run(request).await;
        }
        let help = "send `Authorization: Bearer TOKEN`, or a certificate that `[api]` names";
        let problem = Problem::new(Code::Unknown, "no caller is known by this");
        let mut response = problem.help(Some(help.into())).into_response();
        let challenge = HeaderValue::from_static("Bearer realm=\"cordon\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        return response;
    };
    if !place.belongs_to(&Owner::Caller(caller.name.clone())) {
        return crowded();
    }
    request.extensions_mut().insert(Caller {
        user: caller.name.clone(),
        groups: groups_of(caller, &daemon.user),
        pid: None,
        session: None,
        commands: caller.commands,
    });
    next.run(request).await
}

/// Those that the configuration says; of the daemon's own user theirs as well, so that what is forbidden
/// to a group holds for them by whichever way they come.
fn groups_of(caller: &ApiCaller, own: &User) -> Vec<String> {
    let mut groups = caller.groups.clone();
    if own.is(&caller.name) {
        groups.extend(own.groups.iter().cloned());
        groups.sort();
        groups.dedup();
    }
    groups
}

/// The answer to a caller who has as many connections as one may have.
fn crowded() -> Response {
    let why = "this caller has as many connections as one may have";
    let help = "use those that are open, or raise `connections_per_caller` in `[api.limits]`";
    let problem = Problem::new(Code::Busy, why).help(Some(help.into()));
    let mut response = problem.into_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// Whether it is what every client of AuthZEN asks before it knows how to show who it is; the answer
/// has addresses in it and nothing else.
fn is_discovery(request: &Request) -> bool {
    request.method() == Method::GET && request.uri().path() == "/.well-known/authzen-configuration"
}

/// By token, or by certificate where none is sent: a wrong token is not made good by anything.
fn known<'a>(
    callers: &'a [ApiCaller],
    names: &[String],
    headers: &HeaderMap,
) -> Option<&'a ApiCaller> {
    let Some(field) = headers.get(header::AUTHORIZATION) else {
        return callers.iter().find(|caller| {
            let wanted = caller.certificate.as_ref();
            wanted.is_some_and(|wanted| names.contains(wanted))
        });
    };
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let digest = Sha256::digest(token.trim().as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut found = None;
    // All are compared, so that the time tells nothing of which.
    for caller in callers {
        let known = caller.token_sha256.as_deref().unwrap_or_default();
        if known.len() == digest.len() && bool::from(known.as_bytes().ct_eq(digest.as_bytes())) {
            found = Some(caller);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_is_in_their_groups_whichever_way_they_come() {
        let own = User {
            name: "ada".into(),
            groups: vec!["contractors".into(), "staff".into()],
            home: None,
        };
        let caller = |name: &str| ApiCaller {
            name: name.into(),
            groups: vec!["staff".into(), "approvers".into()],
            token_sha256: None,
            certificate: None,
            commands: false,
        };
        let groups = groups_of(&caller("ada"), &own);
        assert_eq!(groups, ["approvers", "contractors", "staff"]);
        assert_eq!(groups_of(&caller("bob"), &own), ["staff", "approvers"]);
    }

    #[test]
    fn n18_a_caller_is_known_by_token_or_certificate_and_never_by_a_wrong_one() {
        let digest = |token: &str| {
            let digest = Sha256::digest(token.as_bytes());
            digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let caller = |name: &str, token: Option<&str>, certificate: Option<&str>| ApiCaller {
            name: name.into(),
            groups: Vec::new(),
            token_sha256: token.map(digest),
            certificate: certificate.map(Into::into),
            commands: false,
        };
        let callers = [
            caller("bob", Some("t1"), None),
            caller("eve", Some("t2"), Some("eve.test")),
        ];
        let name = |authorization: Option<&str>, shown: &[&str]| {
            let mut headers = HeaderMap::new();
            if let Some(value) = authorization {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let shown: Vec<String> = shown.iter().map(|name| (*name).into()).collect();
            known(&callers, &shown, &headers).map(|caller| caller.name.clone())
        };
        for (authorization, shown, expected) in [
            (Some("Bearer t1"), &[][..], Some("bob")),
            (Some("bearer t2"), &[], Some("eve")),
            (None, &["eve.test"], Some("eve")),
            (Some("Bearer t3"), &["eve.test"], None),
            (Some("Basic t1"), &[], None),
            (Some("Bearer"), &[], None),
            (Some("Bearer "), &[], None),
            (None, &["bob"], None),
            (None, &[], None),
        ] {
            let found = name(authorization, shown);
            assert_eq!(found.as_deref(), expected, "{authorization:?} {shown:?}");
        }
    }
}
