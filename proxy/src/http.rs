//! The HTTP/1.1 forward proxy: absolute-form requests one by one, CONNECT as a tunnel.
//!
//! One task per client connection owns all of it: the client's side, its upstream connections
//! and, after a CONNECT, the tunnel. Each request is decided on its own; nothing is sent on
//! before its decision is recorded.

pub(crate) mod begin;
pub(crate) mod body;
mod chunks;
pub(crate) mod clock;
pub(crate) mod exchange;
mod expect;
mod fields;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod grpc;
mod head;
pub(crate) mod hops;
mod http2;
pub(crate) mod inside;
mod masked;
mod messages;
pub(crate) mod normalize;
mod pause;
pub(crate) mod screen;
mod seldom;
pub(crate) mod socket;
pub(crate) mod tasks;
pub(crate) mod turn;
mod upgraded;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use cordon_policy::Transport;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    ext::ReasonPhrase,
    header,
    header::HeaderValue,
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use self::{
    body::Body,
    clock::Clock,
    exchange::forward,
    hops::Hops,
    normalize::{Named, Problem},
    screen::{Flaw, Screen},
    seldom::Seldom,
    socket::Socket,
    turn::Turn,
    upstream::Upstreams,
};
pub(crate) use self::{body::BodyError, normalize::Asked};
use crate::{
    door::Who,
    flow::Flow,
    limits, linger,
    process::MadeBy,
    refuse::{DECISION_FIELD, Fault, Refusal, of_allow},
    relay::{Buffers, relay},
    session::Session,
    status::{self, Reached},
    tunnel,
};

const DOOR: &str = "http";

// `hyper` reads as many fields by itself; told how many, it takes memory for them with each head.
const _: () = assert!(
    limits::HEAD_FIELDS <= 100,
    "the screen, and not `hyper`, refuses them"
);

/// Source: RFC 7617 section 2.
const CHALLENGE: &str = "Basic realm=\"cordon\", charset=\"UTF-8\"";

/// Serves one client connection to its end.
pub(crate) async fn serve(who: Who, stream: TcpStream) {
    // A tunnel needs the connection's place too.
    let _place = who.clone();
    let client = Arc::new(Client {
        connection: Arc::new(Connection::new(
            Arc::clone(who.recording()),
            Reached::of(&who, &stream),
            who.made_by(),
        )),
        known: OnceLock::new(),
        who,
    });
    // Boxed, so that a tunnel does not carry the memory of the HTTP side along.
    let left = Box::pin(converse(Arc::clone(&client), stream)).await;
    match left {
        Left::Upgraded => {
            let connection = Arc::clone(client.connection());
            drop(client);
            match connection.take_tunnel() {
                Some(tunnel) => {
                    let session = Arc::clone(&connection.session);
                    drop(connection);
                    let buffers = session.egress().buffers();
                    // Boxed, so that what it takes to stand is gone once it stands.
                    let standing = Box::pin(hand_over(tunnel, buffers)).await;
                    if let Some(relaying) = standing {
                        relaying.await;
                    }
                }
                None => Box::pin(go_on(connection)).await,
            }
        }
        Left::Http2(stream, preface) => {
            let who = client.who.clone();
            drop(client);
            Box::pin(http2::serve(who, stream, preface)).await;
        }
        Left::Over(stream) => Box::pin(linger::close(stream)).await,
        Left::Idle => {}
    }
}

/// Carries what goes on as another protocol to its end.
async fn go_on(connection: Arc<Connection>) {
    let upstreams = &connection.upstreams;
    let mut aside = pin!(upstreams.finish());
    poll_fn(|cx| drive(upstreams, aside.as_mut(), cx)).await;
}

/// One client connection: whose it is, as soon as that is known.
struct Client {
    who: Who,
    /// For what is recorded before anybody is known; where the listener tells, the session's own.
    connection: Arc<Connection>,
    /// Once credentials have told.
    known: OnceLock<Arc<Connection>>,
}

impl Client {
    fn connection(&self) -> &Arc<Connection> {
        self.known.get().unwrap_or(&self.connection)
    }

    /// Grows unless it rests.
    fn activity(&self) -> u64 {
        let connection = self.connection();
        connection.upstreams.activity(&connection.session)
    }

    /// The connection of whoever asks, where that needs no asking.
    fn known<B>(&self, request: &Request<B>) -> Option<&Arc<Connection>> {
        if self.who.is_known() {
            return Some(&self.connection);
        }
        self.known.get().filter(|known| {
            // Who may not start any more is asked for anew, and told so.
            self.who.is_again(request) && !known.session.is_draining()
        })
    }

    /// The connection of whoever asks.
    async fn identify<B>(&self, request: &Request<B>) -> Result<&Arc<Connection>, Refusal> {
        // Each request brings its credentials; all are the same caller's, or refused.
        let session = self.who.of_request(request).await?;
        Ok(self.known.get_or_init(|| {
            let (reached, made_by) = (self.connection.reached.clone(), self.who.made_by());
            Arc::new(Connection::new(session, reached, made_by))
        }))
    }
}

/// What the requests of one client connection share.
pub(crate) struct Connection {
    session: Arc<Session>,
    /// Where the client reaches us, on TCP.
    reached: Option<Reached>,
    /// Which process inside the session made it.
    made_by: MadeBy,
    /// What its last request named.
    named: Named,
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
    fn new(session: Arc<Session>, reached: Option<Reached>, made_by: MadeBy) -> Self {
        Self {
            session,
            reached,
            made_by,
            named: Named::default(),
            upstreams: Upstreams::default(),
            tunnel: Mutex::new(None),
        }
    }

    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// What comes about beside a client's requests.
enum Aside {
    /// The session takes no further request.
    Drain,
    /// Nobody waits for anything any more.
    Over,
}

/// What a client connection has come to.
enum Left {
    /// The tunnel has the socket.
    Upgraded,
    /// It goes on in HTTP/2, with these bytes.
    Http2(TcpStream, Vec<u8>),
    /// All is said.
    Over(TcpStream),
    /// Nothing happened for too long, or nobody waits for an answer any more.
    Idle,
}

/// Speaks HTTP/1 with the client until it ends.
async fn converse(client: Arc<Client>, stream: TcpStream) -> Left {
    let serving = Arc::clone(&client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&serving);
        let request = Box::new(request);
        async move { Ok::<_, Infallible>(answer_on(&client, request).await) }
    });
    let limits = client.who.recording().limits();
    let (head_deadline, idle_limit, half_closed) = (limits.head, limits.idle, limits.half_closed);
    let socket = Socket::new(stream);
    let leaving = socket.leaving();
    let mut talk = http1::Builder::new()
        // A client may shut its side down after its request and still wait for the answer; how
        // long is for `leaving` to say.
        .half_close(true)
        .timer(Clock::default())
        .header_read_timeout(head_deadline)
        // The screen has seen to it; beyond it `hyper` would answer without a record.
        .max_buf_size(limits::HEAD_BYTES + 4)
        .serve_connection(TokioIo::new(Screen::new(socket)), service)
        .with_upgrades();
    let done = {
        let mut draining = pin!(client.who.recording().draining());
        let mut idle = pin!(idle_client(&client, idle_limit));
        let mut gone = pin!(leaving.gone(|| client.activity(), half_closed));
        let mut closing = false;
        let aside = pin!(poll_fn(|cx| {
            if !closing && draining.as_mut().poll(cx).is_ready() {
                closing = true;
                return Poll::Ready(Aside::Drain);
            }
            if idle.as_mut().poll(cx).is_ready() || gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Aside::Over);
            }
            Poll::Pending
        }));
        let mut aside = Seldom::new(aside);
        let turn = Turn::new();
        let mut work = |cx: &mut Context<'_>| {
            let mut over = false;
            while !over && let Poll::Ready(came) = aside.poll(cx) {
                match came {
                    // The request in hand is still answered; no further one is taken.
                    Aside::Drain => Pin::new(&mut talk).graceful_shutdown(),
                    Aside::Over => over = true,
                }
            }
            match Pin::new(&mut talk).poll(cx) {
                Poll::Pending if over => Poll::Ready(None),
                done => done.map(Some),
            }
        };
        // Those of whatever connection the client has by now.
        let upstreams = |cx: &mut Context<'_>, woken| {
            client.connection().upstreams.drive_woken(cx, woken);
        };
        poll_fn(|cx| turn.poll(cx, &mut work, upstreams)).await
    };
    let Some(done) = done else {
        return Left::Idle;
    };
    // None after an upgrade: the tunnel has the socket.
    let Some(parts) = talk.into_parts() else {
        return Left::Upgraded;
    };
    let mut screen = parts.io.into_inner();
    let flaw = match (screen.take_flaw(), done) {
        (None, Err(error)) => unread(&error, head_deadline, &screen, &parts.read_buf),
        (flaw, _) => flaw,
    };
    let (socket, _not_given_on) = screen.into_parts();
    // Nobody watches it any more.
    let Some(mut stream) = socket.into_inner() else {
        return Left::Idle;
    };
    match flaw {
        None => {}
        Some(Flaw::Http2(preface)) => return Left::Http2(stream, preface),
        Some(Flaw::Answered(problem, seen)) => {
            refuse_raw(&client.connection().session, &seen, problem).await;
        }
        Some(Flaw::Refused(problem, seen)) => {
            let accept = accept_of(&seen);
            let session = &client.connection().session;
            let refusal = refuse_raw(session, &seen, problem).await;
            // A client that is gone needs no answer.
            let _gone = stream
                .write_all(&refusal.http_answer(session.contact(), accept.as_ref()))
                .await;
        }
    }
    Left::Over(stream)
}

/// What `hyper` could not read although the screen let it through, or waited for in vain. A client
/// that left in silence asked for nothing.
pub(crate) fn unread<S>(
    error: &hyper::Error,
    head_deadline: Duration,
    screen: &Screen<S>,
    buffered: &[u8],
) -> Option<Flaw> {
    let seen = [buffered, screen.unfinished()].concat();
    if error.is_timeout() && !seen.is_empty() {
        let seconds = head_deadline.as_secs_f64();
        let problem = format!("the request head was not complete within {seconds} s");
        return Some(Flaw::Refused(Problem::new(Fault::Late, problem), seen));
    }
    if error.is_parse() {
        let problem = Problem::malformed(format!("not a well-formed HTTP/1.1 request: {error}"));
        // It has been answered by `hyper`.
        return Some(Flaw::Answered(problem, seen));
    }
    None
}

/// The `Accept` field of a head that was refused, as far as it can be told.
pub(crate) fn accept_of(head: &[u8]) -> Option<HeaderValue> {
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked(7)?;
        let is_accept = name.eq_ignore_ascii_case(b"accept:");
        HeaderValue::from_bytes(value.trim_ascii())
            .ok()
            .filter(|_| is_accept)
    })
}

pub(crate) async fn refuse_raw(session: &Session, seen: &[u8], problem: Problem) -> Refusal {
    tunnel::fault(session, DOOR, seen, problem.fault, problem.text).await
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

/// Resolves when no byte has moved upstream for `limit`, at the latest twice that.
pub(crate) async fn idle(upstreams: &Upstreams, session: &Session, limit: Duration) {
    resting(|| upstreams.activity(session), limit).await;
}

/// As [`idle`], by whatever connection the client has by now.
async fn idle_client(client: &Client, limit: Duration) {
    resting(|| client.activity(), limit).await;
}

pub(crate) async fn resting(activity: impl Fn() -> u64, limit: Duration) {
    loop {
        let before = activity();
        tokio::time::sleep(limit).await;
        if activity() == before {
            return;
        }
    }
}

/// Answers one request of an HTTP/1 connection.
async fn answer_on(client: &Client, request: Box<Request<Incoming>>) -> Response<Body> {
    // The screen takes what follows for the first bytes of another protocol. Where it was not
    // granted, nobody reads them as a request.
    let changes =
        request.method() == Method::CONNECT || !matches!(inside::upgrade(&request), Ok(None));
    let with_body = !request.body().is_end_stream();
    let identified = match client.known(&request) {
        Some(known) => Ok(known),
        // Boxed, because it is done once.
        None => Box::pin(client.identify(&request)).await,
    };
    let connection = match identified {
        Ok(connection) => connection,
        Err(refusal) => {
            let accept = request.headers().get(header::ACCEPT);
            return closing(refused(client.who.recording(), &refusal, accept));
        }
    };
    let connect = request.method() == Method::CONNECT;
    let response = answer(connection, request).await;
    let status = response.status();
    let changed = status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success());
    let unread = with_body && !status.is_success() && matches!(response.body(), Body::Own(_));
    if (changes && !changed) || unread {
        return closing(response);
    }
    response
}

/// Says that the connection closes after this answer.
pub(crate) fn closing(mut response: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn answer(connection: &Connection, mut request: Box<Request<Incoming>>) -> Response<Body> {
    let accept = request.headers().get(header::ACCEPT).cloned();
    // Boxed, what most requests are not.
    let answered = if request.method() == Method::CONNECT {
        Box::pin(connect(connection, request)).await
    } else if normalize::is_own(&request) {
        Ok(status::answer(
            &connection.session,
            &request,
            connection.reached.as_ref(),
        ))
    } else {
        match hops::count(&mut request) {
            Ok(Hops::On) => forward(connection, request).await,
            Ok(Hops::Last) => Ok(options()),
            Err(problem) => Err(Box::pin(malformed(&connection.session, &request, problem)).await),
        }
    };
    answered.unwrap_or_else(|refusal| refused(&connection.session, &refusal, accept.as_ref()))
}

/// The answer to an OPTIONS that may go no further.
pub(crate) fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let methods = HeaderValue::from_static(normalize::METHODS);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

async fn connect(
    connection: &Connection,
    mut request: Box<Request<Incoming>>,
) -> Result<Response<Body>, Refusal> {
    let session = &connection.session;
    let destination = match normalize::connect_target(&request) {
        Ok(destination) => destination,
        Err(problem) => return Err(malformed(session, &request, problem).await),
    };
    let made_by = &connection.made_by;
    let opened = tunnel::open(session, destination, Transport::HttpConnect, made_by).await;
    let (upstream, flow) = opened?;
    let decision = of_allow(flow.decision());
    let tunnel = Tunnel {
        client: hyper::upgrade::on(&mut *request),
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

/// Takes the client's side of a tunnel over from `hyper`; what remains to be done.
///
/// None: the client left before the tunnel stood; dropping the flow says so.
async fn hand_over(tunnel: Tunnel, buffers: &Buffers) -> Option<Relaying<'_>> {
    let Tunnel {
        client,
        upstream,
        flow,
    } = tunnel;
    let upgraded = client.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Screen<Socket>>>().ok()?;
    let (socket, rest) = parts.io.into_inner().into_parts();
    let client = socket.into_inner()?;
    let preface = [parts.read_buf.as_ref(), &rest].concat();
    Some(Box::pin(relay(client, upstream, preface, buffers, flow)))
}

type Relaying<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Records a request that may not be asked.
pub(crate) async fn malformed(
    session: &Session,
    request: &Request<Incoming>,
    problem: Problem,
) -> Refusal {
    let raw = format!("{} {}", request.method(), request.uri());
    tunnel::fault(session, DOOR, raw.as_bytes(), problem.fault, problem.text).await
}

pub(crate) fn refused(
    session: &Session,
    refusal: &Refusal,
    accept: Option<&HeaderValue>,
) -> Response<Body> {
    let (media, body) = refusal.body(session.contact(), accept);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = refusal.status();
    // HTTP/1.1 shows it; HTTP/2 has no place for it.
    if let Ok(phrase) = ReasonPhrase::try_from(refusal.phrase()) {
        response.extensions_mut().insert(phrase);
    }
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    if let Ok(decision) = HeaderValue::from_str(&refusal.field(session.contact())) {
        fields.insert(DECISION_FIELD, decision);
    }
    if refusal.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        fields.insert(
            header::PROXY_AUTHENTICATE,
            HeaderValue::from_static(CHALLENGE),
        );
    }
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(header::ALLOW, HeaderValue::from_static(normalize::METHODS));
    }
    response
}
