//! The API over TLS, for other machines and other people.
//!
//! Callers are known by a bearer token (compared by digest, in constant time) or a name in their
//! certificate, and by nothing that they say. One who is not the daemon's own user may see and
//! answer approvals as policy permits `approve`, follow events as it permits `read_log`, and ask
//! about the applications whose mapping names them; everything else is the user's alone.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use cordon_proxy::{door_names, door_tls};
use cordon_session::config::{ApiCaller, ApiConfig};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    CONNECTIONS, Caller, Daemon, Peer, hook,
    problem::{Code, Problem},
    stopped, talk,
    token::{self, Sent},
};
use crate::error::Failure;

/// The API's listener for other machines.
pub struct Remote {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    callers: Arc<Vec<ApiCaller>>,
}

/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Remote {
    /// Binds it, where the configuration says so.
    ///
    /// # Errors
    /// [`Failure`] names the file or address that cannot be used.
    pub async fn bind(config: &ApiConfig) -> Result<Option<Self>, Failure> {
        let (Some(listen), Some(certificate), Some(key)) =
            (config.listen, &config.certificate, &config.key)
        else {
            return Ok(None);
        };
        let tls = door_tls(certificate, key, config.client_ca.as_deref());
        let tls = tls.map_err(|error| {
            Failure::new(format!("the API is not served: {error}")).help("correct `[api]`")
        })?;
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            Failure::new(format!("the API is not served on `{listen}`: {error}"))
                .help("choose another `listen` in `[api]`")
        })?;
        Ok(Some(Self {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            callers: Arc::new(config.callers.clone()),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// Serves until `stop`; requests in hand are still answered.
pub async fn serve(
    daemon: Arc<Daemon>,
    router: Router,
    remote: Remote,
    mut stop: watch::Receiver<bool>,
) {
    let router = router
        .layer(middleware::from_fn_with_state(Arc::clone(&daemon), limited))
        .layer(middleware::from_fn_with_state(
            (daemon, Arc::clone(&remote.callers)),
            identified,
        ))
        .layer(middleware::from_fn(hook::always));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
            place = Arc::clone(&room).acquire_owned() => place,
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => {}
            accepted = remote.listener.accept() => match accepted {
                Ok((stream, _from)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    let acceptor = remote.acceptor.clone();
                    connections.spawn(async move {
                        converse(router, acceptor, stream, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "accept on the API's port failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Names in the certificate that a connection showed.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<Vec<String>>);

async fn converse(
    router: Router,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    stop: watch::Receiver<bool>,
) {
    let accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "a handshake with the API failed"),
        Err(_late) => return debug!("a handshake with the API took too long"),
    };
    let (_tcp, session) = stream.get_ref();
    let names = door_names(session.peer_certificates());
    talk(
        router.layer(Extension(Shown(Arc::new(names)))),
        stream,
        stop,
    )
    .await;
}

/// Lets through those who are known, as who they are.
async fn identified(
    State((daemon, callers)): State<(Arc<Daemon>, Arc<Vec<ApiCaller>>)>,
    Extension(Shown(names)): Extension<Shown>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Peer(0));
    match token::sent(&daemon, request.headers()) {
        // What it opens is looked at behind this, as it is for everybody who sends one.
        Sent::Good(_live) => return next.run(request).await,
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
    request.extensions_mut().insert(Caller {
        user: caller.name.clone(),
        groups: caller.groups.clone(),
        pid: None,
        session: None,
    });
    next.run(request).await
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

/// Lets others than the daemon's user do what policy may permit them, and nothing else.
async fn limited(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let by_token = matches!(token::sent(&daemon, request.headers()), Sent::Good(_));
    if by_token || is_discovery(&request) {
        return next.run(request).await;
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let Some(caller) = caller else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if caller.user == daemon.user.name {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let is_get = request.method() == Method::GET;
    let is_event =
        path == "/v1/events" || (path.starts_with("/v1/sessions/") && path.ends_with("/events"));
    let open = is_get && path == "/v1/openapi.json";
    // What of these a caller sees, and may answer, is decided one by one.
    let approvals = path == "/v1/approvals" || path.starts_with("/v1/approvals/");
    // Of these each application says who may ask.
    let access = path.starts_with("/access/v1/") && daemon.policies.serve(&caller.user).await;
    if open || approvals || access {
        return next.run(request).await;
    }
    if is_get && is_event {
        return match daemon.policies.authorise_reading(&caller.approver()).await {
            Ok(()) => next.run(request).await,
            Err(stopped) => Problem::from(stopped).into_response(),
        };
    }
    let why = format!("{} is not the user of this daemon", caller.user);
    Problem::new(Code::Denied, why).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

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
