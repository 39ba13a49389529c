//! The HTTP/1.1 forward proxy: absolute-form requests one by one, CONNECT as a tunnel.
//!
//! One task per client connection owns all of it: the client's side, its upstream connections
//! and, after a CONNECT, the tunnel. Each request is decided on its own; nothing is sent on
//! before its decision is recorded.

pub(crate) mod body;
pub(crate) mod exchange;
mod fields;
pub(crate) mod inside;
mod normalize;
pub(crate) mod tasks;
mod upgraded;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use cordon_policy::Transport;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, header::HeaderValue,
    server::conn::http1, service::service_fn, upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use self::{body::Body, exchange::forward, upstream::Upstreams};
pub(crate) use self::{body::BodyError, normalize::Asked};
use crate::{
    flow::Flow,
    limits, linger,
    refuse::{DECISION_FIELD, Fault, Refusal},
    relay::relay,
    session::Session,
    tunnel,
};

const DOOR: &str = "http";

/// Serves one client connection to its end.
pub(crate) async fn serve(session: Arc<Session>, stream: TcpStream) {
    let connection = Arc::new(Connection {
        session,
        upstreams: Upstreams::default(),
        tunnel: Mutex::new(None),
    });
    // Boxed, so that a tunnel does not carry the memory of the HTTP side along.
    let left = Box::pin(converse(Arc::clone(&connection), stream)).await;
    if let Some(tunnel) = connection.take_tunnel() {
        run_tunnel(&connection.session, tunnel).await;
    } else if let Some(stream) = left {
        linger::close(stream).await;
    }
}

/// What the requests of one client connection share.
struct Connection {
    session: Arc<Session>,
    upstreams: Upstreams,
    tunnel: Mutex<Option<Tunnel>>,
}

/// A tunnel that stands, waiting for the client's side to be handed over.
struct Tunnel {
    client: OnUpgrade,
    upstream: TcpStream,
    flow: Flow,
}

impl Connection {
    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Speaks HTTP with the client until it ends. Gives the socket back where it is still ours.
async fn converse(connection: Arc<Connection>, stream: TcpStream) -> Option<TcpStream> {
    let serving = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let connection = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(answer(&connection, request).await) }
    });
    let mut client = http1::Builder::new()
        // A client may shut its side down after its request and still wait for the answer.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_DEADLINE)
        .max_buf_size(limits::HEAD_BYTES)
        .max_header_size(limits::HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let done = {
        let talk = poll_fn(|cx| drive(&connection.upstreams, Pin::new(&mut client), cx));
        tokio::select! {
            done = talk => done,
            () = idle(&connection.upstreams) => return None,
        }
    };
    // None after an upgrade: the tunnel has the socket.
    let parts = client.into_parts()?;
    if let Err(error) = done {
        // What hyper could not read is left in its buffer.
        record_unread(&connection.session, &error, &parts.read_buf).await;
    }
    Some(parts.io.into_inner())
}

/// Moves the client's side and the upstream sides forward; done when the client's is.
fn drive<F: Future>(
    upstreams: &Upstreams,
    client: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let done = client.poll(cx);
    // After the client, because its turn may have opened a new one.
    upstreams.drive(cx);
    done
}

/// Resolves when no byte has moved upstream for [`limits::IDLE`], at the latest twice that.
async fn idle(upstreams: &Upstreams) {
    loop {
        let before = upstreams.activity();
        tokio::time::sleep(limits::IDLE).await;
        if upstreams.activity() == before {
            return;
        }
    }
}

/// Records a request that hyper refused to read. A client that left in silence asked for nothing.
async fn record_unread(session: &Session, error: &hyper::Error, seen: &[u8]) {
    let problem = if error.is_timeout() && !seen.is_empty() {
        "the request head was not complete in time".into()
    } else if error.is_parse() {
        format!("not a well-formed HTTP/1.1 request: {error}")
    } else {
        return;
    };
    tunnel::fault(session, DOOR, seen, Fault::Malformed, problem).await;
}

async fn answer(connection: &Connection, request: Request<Incoming>) -> Response<Body> {
    let accept = request.headers().get(header::ACCEPT).cloned();
    let answered = if request.method() == Method::CONNECT {
        connect(connection, request).await
    } else {
        forward(connection, request).await
    };
    answered.unwrap_or_else(|refusal| refused(&refusal, accept.as_ref()))
}

async fn connect(
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let session = &connection.session;
    let destination = match normalize::connect_target(&request) {
        Ok(destination) => destination,
        Err(problem) => return Err(malformed(session, &request, problem).await),
    };
    let (upstream, flow) = tunnel::open(session, destination, Transport::HttpConnect).await?;
    let decision = flow.decision().to_string();
    let tunnel = Tunnel {
        client: hyper::upgrade::on(&mut request),
        upstream,
        flow,
    };
    *connection
        .tunnel
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    let mut response = Response::new(Body::empty());
    if let Ok(decision) = HeaderValue::from_str(&decision) {
        response.headers_mut().insert(DECISION_FIELD, decision);
    }
    Ok(response)
}

async fn run_tunnel(session: &Session, tunnel: Tunnel) {
    // Err: the client left before the tunnel stood; dropping the flow says so.
    let Ok(upgraded) = tunnel.client.await else {
        return;
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return;
    };
    let client = parts.io.into_inner();
    let buffers = session.egress().buffers();
    relay(
        client,
        tunnel.upstream,
        &parts.read_buf,
        buffers,
        tunnel.flow,
    )
    .await;
}

/// Records a request that may not be asked.
pub(crate) async fn malformed(
    session: &Session,
    request: &Request<Incoming>,
    problem: normalize::Problem,
) -> Refusal {
    let raw = format!("{} {}", request.method(), request.uri());
    tunnel::fault(session, DOOR, raw.as_bytes(), problem.fault, problem.text).await
}

pub(crate) fn refused(refusal: &Refusal, accept: Option<&HeaderValue>) -> Response<Body> {
    let (media, body) = refusal.body(accept);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = refusal.status();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    if let Some(decision) = refusal.decision()
        && let Ok(decision) = HeaderValue::from_str(&decision.to_string())
    {
        fields.insert(DECISION_FIELD, decision);
    }
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(header::ALLOW, HeaderValue::from_static(normalize::METHODS));
    }
    response
}
