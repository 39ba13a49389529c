//! Ends a tunnel's TLS and decides every request inside, in HTTP/1.1 and HTTP/2; where there is no
//! TLS and a request came first, the same without.
//!
//! A tunnel whose first bytes were checked in; everything that comes of it out. First TLS with the
//! destination, verified strictly, then with the client, in the version of HTTP that both can. Each
//! request is decided like one that the proxy is asked itself, by the same code (N13). Never lets
//! through what is not HTTP.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Context,
    time::SystemTime,
};

use cordon_audit::FlowEnd;
use cordon_policy::{Asked, DenyReason, Destination, Operation, RawRequest, Scheme, Seen};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tracing::Instrument;

use super::{
    check::Checked,
    offer::{HTTP1, HTTP2, Offer},
    prefixed::Prefixed,
};
use crate::{
    flow::Flow,
    http::{
        accept_of,
        body::Body,
        clock::Clock,
        closing,
        exchange::carry,
        grpc,
        hops::{self, Hops},
        idle, inside, malformed,
        normalize::Problem,
        options, refuse_raw, refused,
        screen::{Flaw, Screen},
        socket::Leaving,
        tasks::Tasks,
        turn::Turn,
        unread,
        upstream::Upstreams,
        wire::Wire,
    },
    limits,
    refuse::{Refusal, Trouble},
    session::Session,
};

/// Serves a tunnel to its end. `first` is what the client has said.
pub(crate) async fn inspect(checked: Checked, upstream: TcpStream) {
    let Checked {
        client,
        flow,
        first,
        inside: _,
    } = checked;
    let (
        Some(inspector),
        Some(Operation::Connect {
            destination, seen, ..
        }),
    ) = (flow.session().inspector(), flow.operation())
    else {
        return flow.close(FlowEnd::Reset);
    };
    let Some(offer) = Offer::of(&seen) else {
        return refuse_protocol(flow, client, &first).await;
    };
    let both = async {
        let upstream = inspector
            .reach(upstream, &destination, offer.protocols())
            .await;
        let protocol = match &upstream {
            Ok(stream) => offer.settled(stream.get_ref().1.alpn_protocol()),
            // Told in whatever the client prefers.
            Err(_) => offer.protocols().first().copied(),
        };
        let client = inspector
            .accept(client, first, &destination, protocol)
            .await;
        (upstream, client)
    };
    let prepared = tokio::time::timeout(limits::TLS_DEADLINE, both.instrument(span(&flow)));
    let (upstream, client) = match prepared.await {
        Ok((upstream, Ok(client))) => (upstream, client),
        Ok((_, Err(error))) => {
            // Mostly: it does not trust the session's authority.
            tracing::info!(%error, host = %destination.host, "a client broke off an inspected handshake");
            return flow.close(FlowEnd::Reset);
        }
        Err(_elapsed) => return flow.close(FlowEnd::TimedOut),
    };
    let client = Client {
        http2: client.get_ref().1.alpn_protocol() == Some(HTTP2),
        leaving: client.get_ref().0.leaving(),
        stream: client,
        scheme: Scheme::Https,
    };
    let upstream = upstream.map(|stream| Wire::Tls(Box::new(stream)));
    converse(client, upstream, destination, seen, flow).await;
}

/// Serves a tunnel of requests without TLS to its end. What the client has said begins one.
pub(crate) async fn decide_plain(checked: Checked, upstream: TcpStream) {
    let Checked {
        client,
        flow,
        first,
        inside: _,
    } = checked;
    let Some(Operation::Connect {
        destination,
        mut seen,
        ..
    }) = flow.operation()
    else {
        return flow.close(FlowEnd::Reset);
    };
    // As one that the proxy is asked itself: not in TLS, and nothing is said of TLS.
    seen.tls = None;
    let http2 = first.starts_with(PREFACE);
    let stream = Prefixed::new(first, client);
    let client = Client {
        http2,
        leaving: stream.leaving(),
        stream,
        scheme: Scheme::Http,
    };
    let upstream = Ok(Wire::clear(upstream, http2));
    converse(client, upstream, destination, seen, flow).await;
}

/// The first line of the client's preface (RFC 9113 section 3.4); `hyper` reads it all.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Speaks TLS on a further connection to a destination, for a request whose tunnel's own is gone.
///
/// # Errors
/// [`Refusal::Unreachable`]; the flow is closed then.
pub(crate) async fn reach(
    stream: TcpStream,
    flow: Flow,
    destination: &Destination,
    http2: bool,
) -> Result<(Wire, Flow), Refusal> {
    let protocols: &[&[u8]] = if http2 { &[HTTP2, HTTP1] } else { &[HTTP1] };
    let reached = match flow.session().inspector() {
        Some(inspector) => {
            let reach = inspector.reach(stream, destination, protocols);
            let reach = reach.instrument(span(&flow));
            tokio::time::timeout(limits::TLS_DEADLINE, reach)
                .await
                .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        }
        None => Err(io::Error::other("TLS cannot be inspected here")),
    };
    match reached {
        Ok(stream) => Ok((Wire::Tls(Box::new(stream)), flow)),
        Err(error) => {
            let refusal = broken(&flow, Scheme::Https, &error);
            flow.close(FlowEnd::ConnectFailed);
            Err(refusal)
        }
    }
}

fn span(flow: &Flow) -> tracing::Span {
    tracing::debug_span!(parent: flow.span(), "tls", cordon.decision = %flow.decision())
}

fn broken(flow: &Flow, scheme: Scheme, error: &io::Error) -> Refusal {
    let protocol = match scheme {
        Scheme::Https => "TLS",
        Scheme::Http => "HTTP",
    };
    Refusal::Unreachable {
        decision: flow.decision(),
        trouble: Trouble::Broken,
        problem: format!("{protocol} with the destination failed: {error}"),
    }
}

/// A client inside TLS that offers nothing that could be decided.
async fn refuse_protocol(flow: Flow, client: TcpStream, first: &[u8]) {
    let asked = Asked::Raw(RawRequest {
        session: Arc::clone(flow.session().gate().session()),
        door: "tls",
        text: first.get(..64).unwrap_or(first).escape_ascii().to_string(),
        at: SystemTime::now(),
        problem: "requests in this tunnel are to be decided, and the client offers no HTTP".into(),
    });
    let _told_by_alert = flow.refuse(DenyReason::Malformed, asked).await;
    super::check::close(client, first).await;
}

/// The client's side of a tunnel, as far as it is HTTP.
struct Client<S> {
    stream: S,
    /// To be told when it leaves.
    leaving: Leaving,
    http2: bool,
    /// Whether it is inside TLS.
    scheme: Scheme,
}

/// What the requests of one tunnel share.
struct Tunnel {
    session: Arc<Session>,
    destination: Destination,
    scheme: Scheme,
    seen: Seen,
    upstreams: Upstreams,
    /// Why the destination cannot be reached.
    unreachable: Option<Refusal>,
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    client: Client<S>,
    upstream: io::Result<Wire>,
    destination: Destination,
    seen: Seen,
    mut flow: Flow,
) {
    let Client {
        stream: client,
        leaving,
        http2,
        scheme,
    } = client;
    let tasks = Tasks::default();
    let upstreams = Upstreams::inside(Arc::clone(flow.meter()), http2.then(|| tasks.clone()));
    let unreachable = match upstream {
        Ok(wire) => match upstreams.open(destination.clone(), wire, &flow).await {
            Ok(upstream) => {
                upstreams.keep(upstream);
                None
            }
            Err(error) => Some(broken(&flow, scheme, &io::Error::other(error))),
        },
        Err(error) => Some(broken(&flow, scheme, &error)),
    };
    if unreachable.is_some() {
        flow.will_end(FlowEnd::ConnectFailed);
    }
    let tunnel = Arc::new(Tunnel {
        session: Arc::clone(flow.session()),
        destination,
        scheme,
        seen,
        upstreams,
        unreachable,
    });
    let limits = tunnel.session.limits();
    let gone = leaving.gone(
        || tunnel.upstreams.activity(&tunnel.session),
        limits.half_closed,
    );
    let talk = async {
        if http2 {
            serve_http2(&tunnel, client, tasks).await
        } else {
            serve_http1(&tunnel, client).await
        }
    };
    let end = tokio::select! {
        done = talk => done,
        () = idle(&tunnel.upstreams, &tunnel.session, limits.idle) => FlowEnd::TimedOut,
        () = gone => FlowEnd::Reset,
        deny = flow.revoked() => {
            let _nobody_left = flow.end_revoked(deny).await;
            return;
        }
    };
    // Where it never was reached, that is how it ended.
    if tunnel.unreachable.is_none() {
        flow.close(end);
    }
}

async fn serve_http1<S>(tunnel: &Arc<Tunnel>, client: S) -> FlowEnd
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serving = Arc::clone(tunnel);
    let service = service_fn(move |request| {
        let tunnel = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(answer(&tunnel, request).await) }
    });
    let mut client = http1::Builder::new()
        .half_close(true)
        .timer(Clock::default())
        .header_read_timeout(tunnel.session.limits().head)
        .max_buf_size(limits::INSIDE_BUFFER_BYTES)
        .serve_connection(TokioIo::new(Screen::new(client)), service)
        .with_upgrades();
    let turn = Turn::new();
    let upstreams = |cx: &mut Context<'_>, woken| tunnel.upstreams.drive_woken(cx, woken);
    let done = poll_fn(|cx| turn.poll(cx, |cx| Pin::new(&mut client).poll(cx), upstreams)).await;
    match client.into_parts() {
        Some(parts) => {
            let screen = parts.io.into_inner();
            close_http1(tunnel, screen, &parts.read_buf, done.as_ref().err()).await;
        }
        // What was HTTP once may go on for long.
        None => {
            let mut aside = pin!(tunnel.upstreams.finish());
            poll_fn(|cx| {
                tunnel.upstreams.drive(cx);
                aside.as_mut().poll(cx)
            })
            .await;
        }
    }
    ended(done)
}

/// Tells the client, and the log, what was wrong with what could not be read.
async fn close_http1<S: AsyncRead + AsyncWrite + Unpin>(
    tunnel: &Tunnel,
    mut screen: Screen<S>,
    buffered: &[u8],
    error: Option<&hyper::Error>,
) {
    let flaw = match (screen.take_flaw(), error) {
        (None, Some(error)) => unread(error, tunnel.session.limits().head, &screen, buffered),
        (flaw, _) => flaw,
    };
    let (mut client, _not_given_on) = screen.into_parts();
    let (problem, seen) = match flaw {
        Some(Flaw::Refused(problem, seen)) => (problem, seen),
        Some(Flaw::Answered(problem, seen)) => {
            refuse_raw(&tunnel.session, &seen, problem).await;
            return;
        }
        Some(Flaw::Http2(seen)) => {
            let problem = Problem::malformed("HTTP/2 where HTTP/1.1 was agreed on");
            (problem, seen)
        }
        None => {
            // So that the client sees an end, not a break.
            let _gone = client.shutdown().await;
            return;
        }
    };
    let accept = accept_of(&seen);
    let refusal = refuse_raw(&tunnel.session, &seen, problem).await;
    // A client that is gone needs no answer.
    let _gone = client
        .write_all(&refusal.http_answer(tunnel.session.contact(), accept.as_ref()))
        .await;
    let _gone = client.shutdown().await;
}

async fn serve_http2<S>(tunnel: &Arc<Tunnel>, client: S, tasks: Tasks) -> FlowEnd
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serving = Arc::clone(tunnel);
    let service = service_fn(move |request| {
        let tunnel = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(answer(&tunnel, request).await) }
    });
    let done = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_frame_size(limits::HTTP2_FRAME)
        .max_header_list_size(limits::HTTP2_HEADER_LIST)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .serve_connection(TokioIo::new(client), service)
        .await;
    ended(done)
}

fn ended(done: hyper::Result<()>) -> FlowEnd {
    match done {
        Ok(()) => FlowEnd::Completed,
        Err(error) if error.is_timeout() => FlowEnd::TimedOut,
        Err(_broken) => FlowEnd::Reset,
    }
}

/// Answers one request. Where the client was refused another protocol nobody reads on: the screen
/// takes what follows for its first bytes.
async fn answer(tunnel: &Tunnel, request: Request<Incoming>) -> Response<Body> {
    let changes = request.version() != Version::HTTP_2
        && (request.method() == Method::CONNECT || !matches!(inside::upgrade(&request), Ok(None)));
    let response = decide(tunnel, request).await;
    if changes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return closing(response);
    }
    response
}

async fn decide(tunnel: &Tunnel, mut request: Request<Incoming>) -> Response<Body> {
    let accept = request.headers().get(header::ACCEPT).cloned();
    let is_call = grpc::is_call(&request);
    let told = |refusal: &Refusal| {
        if is_call {
            grpc::refused(&tunnel.session, refusal)
        } else {
            refused(&tunnel.session, refusal, accept.as_ref())
        }
    };
    if let Some(refusal) = &tunnel.unreachable {
        return told(refusal);
    }
    let target = inside::target(
        &mut request,
        &tunnel.destination,
        tunnel.scheme,
        &tunnel.seen,
    );
    let answered = match target.and_then(|asked| Ok((hops::count(&mut request)?, asked))) {
        Ok((Hops::On, asked)) => {
            let (asked, request) = (Box::new(asked), Box::new(request));
            Box::pin(carry(&tunnel.session, &tunnel.upstreams, asked, request)).await
        }
        Ok((Hops::Last, _asked)) => Ok(options()),
        Err(problem) => Err(Box::pin(malformed(&tunnel.session, &request, problem)).await),
    };
    answered.unwrap_or_else(|refusal| told(&refusal))
}
