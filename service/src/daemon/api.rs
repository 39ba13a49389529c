//! The decision API: HTTP/1.1 and JSON over a unix socket of the user's own.
//!
//! Who may connect is who may read the directory (0700) and is this very user by the socket's peer
//! credentials; what they may call, policy decides (`manage`). No session reaches it: it is no network
//! address, and unix sockets of the host are not visible inside. What is asked is decided by the
//! session's gate, like everything else.

mod approvals;
mod authzen;
mod browser;
mod connectors;
mod create;
mod decide;
mod document;
mod events;
mod extensions;
mod fields;
mod floors;
mod grants;
mod hook;
mod manage;
mod mcp;
mod operation;
mod output;
mod patient;
mod place;
mod problem;
mod remote;
mod repeat;
mod serve;
mod sessions;
mod steer;
mod tcp;
mod token;
mod unknown;

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{Extensions, HeaderValue, header},
    middleware::{self, Next},
    response::Response,
};
use cordon_session::config::ApiLimits;
use rustix::process::Uid;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tracing::debug;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{decide::DOOR, mcp::uses::load, unknown::tell_left_out};

pub(super) use self::{approvals::view as approval_view, repeat::Repeated, tcp::Remote};
use self::{
    problem::{Code, Problem},
    serve::{Times, accept, stopped, talk},
};
use super::{Daemon, policies::Somebody};
use crate::user::User;

/// Longest body of a request, in bytes. Beyond it: 413.
const BODY_BYTES: usize = 1024 * 1024;

/// Open connections to the socket. Further ones wait.
const CONNECTIONS: usize = 256;

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
    /// Whether it may start commands here.
    commands: bool,
}

impl Caller {
    /// Who asks, for records: the user, and the process where it is on this machine.
    fn words(&self) -> String {
        match self.pid {
            Some(pid) => format!("{} by the API, process {pid}", self.user),
            None => format!("{} by the API, over TLS", self.user),
        }
    }

    /// As somebody who acts for themselves.
    fn somebody(&self) -> Somebody {
        Somebody {
            user: self.user.clone(),
            groups: self.groups.clone(),
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
    limits: ApiLimits,
    stop: watch::Receiver<bool>,
) {
    let times = Times::new(&limits);
    let router = router(&daemon, times);
    let remote = remote.map(|remote| {
        let (daemon, router) = (Arc::clone(&daemon), router.clone());
        tokio::spawn(tcp::serve(daemon, router, remote, times, stop.clone()))
    });
    let leave = stop.clone();
    accept(listener, CONNECTIONS, stop, |stream| {
        let (router, user, leave) = (router.clone(), daemon.user.clone(), leave.clone());
        converse(router, user, stream, times, leave)
    })
    .await;
    if let Some(remote) = remote {
        // A panic in it was reported already.
        let _ended = remote.await;
    }
}

async fn converse(
    router: Router,
    user: User,
    stream: UnixStream,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
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
        commands: true,
    };
    let known = move |extensions: &mut Extensions| {
        extensions.insert(Peer(pid.unwrap_or(0)));
        extensions.insert(caller.clone());
    };
    talk(router, stream, times, known, stopped(&mut stop)).await;
}

/// Every operation, with its description.
fn operations() -> OpenApiRouter<Arc<Daemon>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(authzen::evaluation))
        .routes(routes!(authzen::evaluations))
        .routes(routes!(authzen::metadata))
        .routes(routes!(authzen::search::subject))
        .routes(routes!(authzen::search::resource))
        .routes(routes!(authzen::search::action))
        .routes(routes!(create::create, sessions::list))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::ask))
        .routes(routes!(output::read, output::remove))
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
        .routes(routes!(steer::heartbeat))
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
}

/// Every route, with all that holds for each.
fn router(daemon: &Arc<Daemon>, times: Times) -> Router {
    let (router, document) = operations().split_for_parts();
    let document = serde_json::to_value(&document).unwrap_or_default();
    let text = document::complete(document).to_string();
    let served = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    router
        // Behind what is repeated: the answer of a call that was carried out is its caller's.
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(daemon),
            manage::permitted,
        ))
        // Of what is taken here alone: what is not is told so, whatever key it has.
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(daemon),
            repeat::once,
        ))
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
            token::limited,
        ))
        .layer(middleware::from_fn_with_state(times, serve::whole))
        .layer(middleware::from_fn(around))
        .layer(middleware::from_fn_with_state(
            Arc::clone(daemon),
            unknown::noted,
        ))
        .layer(middleware::from_fn(hook::always))
        .with_state(Arc::clone(daemon))
}

/// Gives the caller's request id back, and lets nobody keep an answer.
async fn around(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    let fields = response.headers_mut();
    if let Some(id) = id {
        fields.insert(REQUEST_ID, id);
    }
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Source: OpenID AuthZEN Authorization API 1.0, section 10.1.3.
const REQUEST_ID: &str = "x-request-id";
