//! The decision API: HTTP/1.1 and JSON over a unix socket of the user's own.
//!
//! Who may connect is who may read the directory (0700) and is this very user by the socket's peer
//! credentials. No session reaches it: it is no network address, and unix sockets of the host are
//! not visible inside. What is asked is decided by the session's gate, like everything else.

mod approvals;
mod authzen;
mod browser;
mod connectors;
mod decide;
mod events;
mod extensions;
mod fields;
mod floors;
mod grants;
mod hook;
mod mcp;
mod operation;
mod place;
mod problem;
mod remote;
mod repeat;
mod sessions;
mod steer;
mod tcp;
mod token;

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Extension, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::Uid;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tracing::{debug, warn};
use utoipa::{OpenApi, openapi::OpenApi as Document};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::mcp::uses::load;

use self::problem::{Code, Problem};
pub(super) use self::{approvals::view as approval_view, repeat::Repeated, tcp::Remote};
use super::{Daemon, policies::Approver};
use crate::user::User;

/// Longest body of a request, in bytes. Beyond it: 413.
const BODY_BYTES: usize = 1024 * 1024;

/// Open connections. Further ones wait.
const CONNECTIONS: usize = 256;

/// Time for a client to send one request head, also the longest a kept connection may rest. Then
/// it closes.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);

/// The process that asks, by the socket's peer credentials.
#[derive(Clone, Copy, Debug)]
struct Peer(u32);

/// Who asks: this daemon's user, whoever else the configuration lets in.
#[derive(Clone, Debug)]
struct Caller {
    user: String,
    groups: Vec<String>,
    /// The process, where it is on this machine.
    pid: Option<u32>,
    /// The session in whose name alone it asks, by that session's token.
    session: Option<String>,
}

impl Caller {
    /// As somebody who acts for themselves.
    fn approver(&self) -> Approver {
        Approver {
            user: self.user.clone(),
            groups: self.groups.clone(),
            own: None,
        }
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Cordon",
    description = "Sessions and decisions. Errors are RFC 9457 problem details; the AuthZEN \
                   endpoints follow OpenID Authorization API 1.0.",
))]
struct Api;

/// Binds the socket, 0600 in a 0700 directory, in place of one that a killed daemon left.
///
/// # Errors
/// When the directory is not writable.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `stop`; requests in hand are still answered.
pub(super) async fn serve(
    daemon: Arc<Daemon>,
    listener: UnixListener,
    remote: Option<Remote>,
    mut stop: watch::Receiver<bool>,
) {
    let (router, _document) = router(&daemon);
    let remote = remote.map(|remote| {
        let (daemon, router) = (Arc::clone(&daemon), router.clone());
        tokio::spawn(tcp::serve(daemon, router, remote, stop.clone()))
    });
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
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    let user = daemon.user.clone();
                    connections.spawn(async move {
                        converse(router, user, stream, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "accept on the API's socket failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
    if let Some(remote) = remote {
        // A panic in it was reported already.
        let _ended = remote.await;
    }
}

async fn converse(router: Router, user: User, stream: UnixStream, stop: watch::Receiver<bool>) {
    let peer = match stream.peer_cred() {
        Ok(peer) if Uid::from_raw(peer.uid()) == rustix::process::geteuid() => peer,
        Ok(_) | Err(_) => return debug!("a connection of another user to the API was closed"),
    };
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    let caller = Caller {
        user: user.name,
        groups: user.groups,
        pid,
        session: None,
    };
    let router = router
        .layer(Extension(Peer(pid.unwrap_or(0))))
        .layer(Extension(caller));
    talk(router, stream, stop).await;
}

/// Answers on one connection until it closes; on `stop` what is in hand is still answered.
async fn talk<S>(router: Router, stream: S, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off asks again.
        _gone = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _gone = connection.await;
        }
    }
}

/// Resolves once the daemon leaves.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _left = stop.wait_for(|stop| *stop).await;
}

/// Every route, and the description made of them.
fn router(daemon: &Arc<Daemon>) -> (Router, Document) {
    let (router, document) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(authzen::evaluation))
        .routes(routes!(authzen::evaluations))
        .routes(routes!(authzen::metadata))
        .routes(routes!(authzen::search::subject))
        .routes(routes!(authzen::search::resource))
        .routes(routes!(authzen::search::action))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::ask))
        .routes(routes!(
            grants::list,
            grants::give,
            grants::change,
            grants::take
        ))
        .routes(routes!(grants::path))
        .routes(routes!(steer::pause))
        .routes(routes!(steer::resume))
        .routes(routes!(steer::cancel))
        .routes(routes!(steer::usage))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show, approvals::answer))
        .routes(routes!(events::all))
        .routes(routes!(events::of_session))
        .routes(routes!(hook::pre_tool_use))
        .routes(routes!(hook::session_end))
        .routes(routes!(token::give, token::take_back))
        .routes(routes!(browser::enable, browser::disable, browser::show))
        .routes(routes!(browser::pac))
        .routes(routes!(browser::navigate))
        .routes(routes!(browser::act))
        .routes(routes!(connectors::list))
        .routes(routes!(connectors::of_session))
        .routes(routes!(connectors::enable, connectors::disable))
        .routes(routes!(connectors::use_scope))
        .routes(routes!(remote::post, remote::listen, remote::end))
        .routes(routes!(extensions::install, extensions::list))
        .routes(routes!(extensions::show, extensions::remove))
        .routes(routes!(extensions::approve))
        .routes(routes!(extensions::permission))
        .routes(routes!(mcp::attach, mcp::loaded))
        .routes(routes!(mcp::decision))
        .routes(routes!(mcp::listing))
        .routes(routes!(mcp::refused))
        .routes(routes!(mcp::servers))
        .routes(routes!(mcp::server, mcp::forget))
        .routes(routes!(mcp::accept))
        .split_for_parts();
    let text = document.to_json().unwrap_or_default();
    let served = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    let router = router
        .route("/v1/openapi.json", axum::routing::get(served))
        .fallback(|| async { Problem::new(Code::NotFound, "GET /v1/openapi.json lists what is") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Code::Method,
                "GET /v1/openapi.json lists what is taken here",
            )
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(daemon),
            repeat::once,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(daemon),
            token::limited,
        ))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(around))
        .layer(middleware::from_fn(hook::always))
        .with_state(Arc::clone(daemon));
    (router, document)
}

/// Gives the caller's request id back, and every refusal of the library in the API's own form.
async fn around(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let most = format!("a body is at most {BODY_BYTES} bytes");
        response = Problem::new(Code::TooLarge, most).into_response();
    }
    let fields = response.headers_mut();
    if let Some(id) = id {
        fields.insert(REQUEST_ID, id);
    }
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Source: OpenID AuthZEN Authorization API 1.0, section 10.1.3.
const REQUEST_ID: &str = "x-request-id";
