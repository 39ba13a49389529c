//! The client's side as Streamable HTTP on loopback: one endpoint, one client, one server.
//!
//! Requests in, lines for the relay out, and its lines back as server-sent events. Whoever asks shows
//! the endpoint's token; no page of a browser gets through.
//!
//! Source: MCP 2025-11-25, "Transports", "Streamable HTTP".

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use cordon_runtime::mcp::{Id, Message, code, error};
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, split},
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};

use crate::error::Failure;

/// An endpoint that is bound and not yet served.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

/// What all its connections share.
struct Shared {
    token: String,
    /// As the `Host` of a request may name it.
    hosts: [String; 2],
    front: Mutex<Front>,
    /// Lines to the relay.
    lines: mpsc::Sender<String>,
    over: watch::Sender<bool>,
}

#[derive(Default)]
struct Front {
    /// The client's session of the protocol, once it has said who it is.
    session: Option<String>,
    /// Who waits for which answer.
    waiting: HashMap<Id, mpsc::Sender<String>>,
    /// The stream for what the server says by itself.
    stream: Option<mpsc::Sender<String>>,
}

impl Endpoint {
    /// Binds it, with a token of its own.
    ///
    /// # Errors
    /// The address is not this machine's own, or is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            let why = format!("`{address}` can be reached from elsewhere");
            return Err(Failure::new(why)
                .help("`--listen 127.0.0.1:0` is this machine's own, on any free port")
                .usage());
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| Failure::new(error.to_string()))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            listener,
            address,
            token,
        })
    }

    /// Where it is, for the client's settings.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What the client shows as `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Serves until the client has ended its session, or `lines`, the relay's end, is closed.
    pub async fn serve(self, lines: DuplexStream) {
        let (from_relay, mut to_relay) = split(lines);
        let (sender, mut for_relay) = mpsc::channel::<String>(WAITING);
        let name = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = self.address.port();
        let shared = Arc::new(Shared {
            token: self.token,
            hosts: [format!("{name}:{port}"), format!("localhost:{port}")],
            front: Mutex::default(),
            lines: sender,
            over: watch::Sender::new(false),
        });
        let router = Router::new()
            .route("/mcp", post(posted).get(listened).delete(ended))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(Arc::clone(&shared));
        let mut over = shared.over.subscribe();
        let written = async {
            while let Some(mut line) = for_relay.recv().await {
                line.push('\n');
                if to_relay.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = accept(&self.listener, router) => {}
            () = written => {}
            () = deliver(&shared, BufReader::new(from_relay)) => {}
            _ended = over.wait_for(|over| *over) => {}
        }
    }
}

async fn accept(listener: &TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            // A client that breaks off asks again.
            let _gone = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

/// Brings what the relay has for the client to whoever waits for it.
async fn deliver(shared: &Shared, mut lines: BufReader<impl tokio::io::AsyncRead + Unpin>) {
    let mut line = String::new();
    loop {
        line.clear();
        // Bounded by the relay, which writes them.
        if !matches!(lines.read_line(&mut line).await, Ok(read) if read > 0) {
            return;
        }
        let text = line.trim_end().to_owned();
        match Message::read(text.as_bytes()) {
            Ok(Message::Response { id, .. }) => {
                let waiting = shared.front().waiting.remove(&id);
                if let Some(waiting) = waiting {
                    // It may have gone; then nobody wants it.
                    let _gone = waiting.try_send(text);
                }
            }
            Ok(Message::Request { id, .. }) if !shared.tell(&text) => {
                let outcome = Err(error(code::INTERNAL, "no client listens", None));
                let _over = shared
                    .lines
                    .try_send(Message::Response { id, outcome }.line());
            }
            Ok(Message::Request { .. }) => {}
            Ok(Message::Notification { .. }) => {
                let _told = shared.tell(&text);
            }
            // An answer to what had no id: whoever sent it was told already.
            Err(_malformed) => {}
        }
    }
}

impl Shared {
    fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something that is no answer: on the client's own stream, or with the answer that
    /// somebody waits for. False when nobody listens.
    fn tell(&self, text: &str) -> bool {
        let front = self.front();
        let mut places = front.stream.iter().chain(front.waiting.values());
        places.any(|place| place.try_send(text.to_owned()).is_ok())
    }

    /// Whether whoever asks may.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        // Only browsers send one, for pages that know no token, or should not.
        if headers.contains_key(header::ORIGIN) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "no page of a browser asks here",
            ));
        }
        let host = text(header::HOST).unwrap_or_default();
        if !self.hosts.iter().any(|known| known == host) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "the request names another host",
            ));
        }
        let shown = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let shown = shown.unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(self.token.as_bytes())) {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "`Authorization: Bearer` with the endpoint's token is missing",
            ));
        }
        match headers.get(VERSION) {
            Some(version) if !VERSIONS.iter().any(|known| version == known) => Err(Refusal(
                StatusCode::BAD_REQUEST,
                "the protocol's version is not known here",
            )),
            _known => Ok(()),
        }
    }

    fn check_session(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let asked = headers.get(SESSION).map(HeaderValue::as_bytes);
        match (asked, &self.front().session) {
            (None, _) => Err(Refusal(
                StatusCode::BAD_REQUEST,
                "`Mcp-Session-Id` is missing",
            )),
            (Some(asked), Some(known)) if asked == known.as_bytes() => Ok(()),
            (Some(_), _) => Err(Refusal(StatusCode::NOT_FOUND, "there is no such session")),
        }
    }
}

/// A message of the client.
async fn posted(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    shared.check(&headers)?;
    let media = headers.get_all(header::CONTENT_TYPE);
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    if media.iter().next().is_none() || !media.iter().all(is_json) {
        return Err(Refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a message is `application/json`",
        ));
    }
    let message = match Message::read(&body) {
        Ok(message) => message,
        Err(malformed) => {
            // The relay records it; line breaks of JSON outside of texts are only space.
            let line = String::from_utf8_lossy(&body).replace(['\n', '\r'], " ");
            let _recorded = shared.lines.send(line).await;
            return Ok((StatusCode::BAD_REQUEST, malformed.line()).into_response());
        }
    };
    let line = message.line();
    let Message::Request { id, method, .. } = message else {
        shared.check_session(&headers)?;
        let sent = shared.lines.send(line).await;
        return sent
            .map(|()| StatusCode::ACCEPTED.into_response())
            .map_err(|_| GONE);
    };
    let begun = if method == "initialize" {
        Some(begin(&shared)?)
    } else {
        shared.check_session(&headers)?;
        None
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    {
        let mut front = shared.front();
        front.waiting.retain(|_, waiting| !waiting.is_closed());
        if front.waiting.len() >= MOST_WAITING || front.waiting.contains_key(&id) {
            let why = "another request with this id waits, or too many do";
            return Err(Refusal(StatusCode::CONFLICT, why));
        }
        front.waiting.insert(id, sender);
    }
    shared.lines.send(line).await.map_err(|_| GONE)?;
    let mut response = events(receiver);
    if let Some(value) = begun.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(SESSION, value);
    }
    Ok(response)
}

/// The one session of an endpoint.
fn begin(shared: &Shared) -> Result<String, Refusal> {
    let mut front = shared.front();
    if front.session.is_some() {
        let why = "this endpoint has its client: `cordon mcp wrap --listen` opens another";
        return Err(Refusal(StatusCode::CONFLICT, why));
    }
    let id = uuid::Uuid::new_v4().to_string();
    front.session = Some(id.clone());
    Ok(id)
}

/// The client's own stream.
async fn listened(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    shared.check(&headers)?;
    shared.check_session(&headers)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    // The newest counts: a client that lost its stream opens another.
    shared.front().stream = Some(sender);
    Ok(events(receiver))
}

/// The client is done.
async fn ended(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    shared.check(&headers)?;
    shared.check_session(&headers)?;
    shared.over.send_replace(true);
    Ok(StatusCode::NO_CONTENT)
}

/// Lines as server-sent events, until nobody sends any more.
fn events(receiver: mpsc::Receiver<String>) -> Response {
    let events = stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        let event = format!("event: message\ndata: {line}\n\n");
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, Body::from_stream(events)).into_response()
}

/// A request that is not taken, and why.
struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

const GONE: Refusal = Refusal(StatusCode::BAD_GATEWAY, "the server has ended");

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// Revisions with this transport that pass through the relay.
const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// Largest message of a client, in bytes: what the relay takes as a line.
const BODY_BYTES: usize = 4 * 1024 * 1024;

/// Messages that wait for one reader.
const WAITING: usize = 64;

/// Requests that wait for their answers.
const MOST_WAITING: usize = 256;

/// Open connections.
const CONNECTIONS: usize = 64;

/// Time for one request head.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
